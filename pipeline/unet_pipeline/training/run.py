"""Runs the training that the bundle's train.json describes; there is no second assembly of it here."""

from __future__ import annotations

import ast
import errno
import logging
import logging.config
import os
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.boundary import is_out_of_memory, list_causes
from unet_pipeline.bundle.earlier import require_current_config
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import Profile
from unet_pipeline.config_values import PATH_IDS, quote_argument, quote_paths
from unet_pipeline.device.memory import read_peak_gib
from unet_pipeline.errors import PipelineError, PlanError, TrainingError, suggest
from unet_pipeline.progress import preparing
from unet_pipeline.results import Result
from unet_pipeline.training.determinism import NondeterministicKernels

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

_FAILED_TRANSFORM = "applying transform"  # in the words of MONAI
_JOINT_CONFIGS = ("train", "multi_gpu_train")
_JOINT_NETWORK = "unet_pipeline.training.joint_step.JointNetwork"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, repr=False)
class TrainingRun(Result):
    """Outcome of the training of one fold.

    `best_dice` is the mean Dice on the resampled grid that picked the weights; it is not a result to report, and None, as `best_epoch`,
    where no validation was made. `cut_short` says how it fell short of its plan, empty when it did not. `profile` says where
    the time went (`profile.ProfileHandler`). `stopped_by` names the signal that ended it early, and `nondeterministic_kernels` what
    could not be made to give the same bits every time. `device_choices` are lines about what was done for the device, and
    `precision` and `memory_format` (`memory_format.CONTIGUOUS` or `CHANNELS_LAST`) are those of the steps; empty when there was none.
    """

    fold: int
    weights: Path
    run_dir: Path
    num_epochs: int
    best_epoch: int | None
    best_dice: float | None
    duration_s: float
    profile: Profile = field(default_factory=Profile)
    seed: int = 0
    stopped_by: str | None = None
    num_threads: int = 1
    nondeterministic_kernels: tuple[str, ...] = ()
    device_choices: tuple[str, ...] = ()
    precision: str = ""
    memory_format: str = ""
    num_iterations: int = 0
    cut_short: str = ""


def check_overrides(folder: BundleFolder, overrides: Mapping[str, object]) -> None:
    """Whether every id exists in train.json; MONAI ignores an unknown one in silence.

    Raises:
        PlanError: names the nearest id; or an earlier version wrote the config.
    """
    require_current_config(folder)
    config = folder.read_config("train")
    for key in overrides:
        place: Any = config
        for depth, part in enumerate(key.split("#")):
            choices = list(place) if isinstance(place, dict) else [str(index) for index in range(len(place))]
            if part not in choices:
                shown = "#".join(key.split("#")[: depth + 1])
                raise PlanError(f"configs/train.json has no id {shown!r}; {suggest(part, choices)}.")
            place = place[part] if isinstance(place, dict) else place[int(part)]
            if not isinstance(place, (dict, list)):
                place = {}


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`; the value is a Python literal when it is one and no path, otherwise a string.

    Raises:
        PlanError: there is no "=".
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise PlanError(f"{text!r} is no override; expected KEY=VALUE, such as num_epochs=5.")
    if key in PATH_IDS and value not in ("null", "None"):
        return key, value
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, {"true": True, "false": False, "null": None}.get(value, value)


def name_run(fold: int, further_seed: int | None = None) -> str:
    """Name of the run folders of a fold before their number; a further seed has folders of its own."""
    return f"fold_{fold}" if further_seed is None else f"fold_{fold}_seed_{further_seed}"


def next_run_dir(folder: BundleFolder, name: str) -> Path:
    """Folder for a training: the next number."""
    runs = sorted(folder.runs.glob(f"{name}-*"))
    number = int(runs[-1].name.rpartition("-")[2]) + 1 if runs else 1
    return folder.runs / f"{name}-{number:03d}"


def build_settings(
    folder: BundleFolder,
    fold: int,
    run_dir: Path,
    resume: bool,
    overrides: Mapping[str, object],
    further_seed: int | None = None,
) -> dict[str, object]:
    """Ids of train.json that one run sets; the weights of a further seed lie beside those of the fold."""
    weights = folder.fold_weights(fold)
    if further_seed is not None:
        weights = weights.with_stem(f"{weights.stem}_seed_{further_seed}")
    return {
        "bundle_root": str(folder.root),
        "fold": fold,
        "output_dir": str(run_dir),
        "weights_path": str(weights),
        "resume": resume,
        **overrides,
    }


def build_stock_command(folder: BundleFolder, settings: Mapping[str, object]) -> str:
    """The command of stock MONAI that does the same, run in the bundle's folder; `BUNDLE` there is its path in a shell's quotes."""
    from unet_pipeline.training.processes import num_processes

    words = ["python", "-m", "monai.bundle", "run", "--config_file", "configs/train.json"]
    if (processes := num_processes()) > 1:
        words = ["torchrun", "--standalone", f"--nproc_per_node={processes}", *words[1:5]]
        words.append(str([f"configs/{name}.json" for name in _JOINT_CONFIGS]))
    for key, value in settings.items():
        if key != "bundle_root":
            is_path = key in PATH_IDS and isinstance(value, str)
            words += [f"--{key}", quote_argument(_start_at(folder.root, str(value)) if is_path else value, is_path)]
    return f"cd {shlex.quote(str(folder.root))} && {shlex.join(words)}"


def _start_at(root: Path, path: str) -> str:
    """A path that leads to the same place from the bundle's folder."""
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return Path(path).resolve().as_posix()


def run_training(folder: BundleFolder, settings: Mapping[str, object], watch: Any = None) -> TrainingRun:
    """Train one fold with MONAI's ConfigWorkflow.

    Args:
        settings: from `build_settings`.
        watch: called with trainer and evaluator before the training, to attach to them.

    Raises:
        TrainingError: a data file is gone, or the loss is not finite.
    """
    import torch

    from unet_pipeline.training.checkpoint import read_best
    from unet_pipeline.training.lack_of_memory import FewerWindows
    from unet_pipeline.training.loading import end_loader_processes
    from unet_pipeline.training.processes import is_secondary

    started_s, cases = time.monotonic(), list[dict[str, str]]()
    folder.make_modules_importable()  # MONAI does it later, in `run`; the trainer is asked for before
    with warnings.catch_warnings(), NondeterministicKernels() as kernels, _own_errors(cases), end_loader_processes():
        warnings.filterwarnings("ignore", message="parsing config_file")
        warnings.filterwarnings("ignore", category=FutureWarning)
        # it announces logging.conf on stderr, over the progress bar
        logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)
        # what ended it is told once, by the error
        logging.getLogger("ignite.engine.engine.SupervisedTrainer").setLevel(logging.CRITICAL)
        logging.getLogger("ignite.engine.engine.SupervisedEvaluator").setLevel(logging.CRITICAL)
        logging.getLogger("dev_collate").disabled = True  # MONAI's search for what a batch could not be made of
        with nullcontext() if is_secondary() else preparing("train"):
            workflow, trainer, evaluator = _prepare(folder, settings, cases)
        evaluator.inferer = inferer = FewerWindows(evaluator.inferer)
        if watch is not None:
            watch(trainer, evaluator)
        workflow.run()
        workflow.finalize()
    if getattr(trainer.state, "stopped_by", None) == "SIGINT":
        raise KeyboardInterrupt
    best_dice, best_epoch = read_best(evaluator.state.best_metric, evaluator.state.best_metric_epoch)
    return TrainingRun(
        fold=int(str(settings["fold"])),
        weights=Path(str(settings["weights_path"])),
        run_dir=Path(str(settings["output_dir"])),
        num_epochs=trainer.state.epoch,
        best_epoch=best_epoch,
        best_dice=best_dice,
        duration_s=time.monotonic() - started_s,
        profile=getattr(trainer.state, "profile", Profile()),
        seed=int(workflow.parser.get_parsed_content("seed")),
        stopped_by=getattr(trainer.state, "stopped_by", None),
        num_threads=torch.get_num_threads(),
        nondeterministic_kernels=tuple(kernels.messages),
        device_choices=_describe_choices(trainer, inferer.notes),
        precision=getattr(trainer.state, "precision", ""),
        memory_format=getattr(trainer.state, "memory_format", ""),
        num_iterations=trainer.state.iteration,
    )


def _prepare(
    folder: BundleFolder, settings: Mapping[str, object], cases: list[dict[str, str]]
) -> tuple[ConfigWorkflow, Any, Any]:
    """Workflow, trainer and evaluator, ready to run; `cases` gets those of both sides."""
    workflow = _build_workflow(folder, settings)
    for side in ("training_cases", "validation_cases"):
        cases += workflow.parser.get_parsed_content(side)
    _check_files(cases)
    workflow.initialize()
    return workflow, workflow.trainer, workflow.evaluator


def _describe_choices(trainer: Any, notes: list[str]) -> tuple[str, ...]:
    """What was done for the device, in lines; of a GPU with the most memory that was used at once."""
    from unet_pipeline.training.progress import list_choices

    peak_gib = read_peak_gib(trainer.state.device)
    peak = [] if peak_gib is None else [f"memory: at most {peak_gib:.2f} GiB of {trainer.state.device} at once"]
    return (*list_choices(trainer), *notes, *peak)


def _build_workflow(folder: BundleFolder, settings: Mapping[str, object]) -> ConfigWorkflow:
    from monai.bundle import ConfigWorkflow

    from unet_pipeline.training.processes import num_processes

    folder.require_stock_text(int(str(settings["fold"])))
    _check_logging(folder)
    is_joint = num_processes() > 1
    if is_joint:
        _require_joint_config(folder)
    return ConfigWorkflow(
        config_file=[str(folder.config(name)) for name in (_JOINT_CONFIGS if is_joint else _JOINT_CONFIGS[:1])],
        meta_file=str(folder.metadata),
        logging_file=str(folder.logging),
        workflow_type="train",
        **quote_paths(settings),
    )


def _require_joint_config(folder: BundleFolder) -> None:
    """Refuse the overlay of an earlier version, which trained another training with every number of processes."""
    network: Any = folder.read_config("multi_gpu_train").get("network", {})
    target = network.get("_target_") if isinstance(network, dict) else network
    if target != _JOINT_NETWORK:
        raise PlanError(
            f"configs/multi_gpu_train.json builds the network with {target}; several processes need {_JOINT_NETWORK}. If an earlier "
            f"version wrote it, write the configs again with `unet-pipeline plan --refresh {shlex.quote(str(folder.root))}`."
        )


def _check_logging(folder: BundleFolder) -> None:
    """Whether logging.conf can be used; MONAI takes it for sure."""
    try:
        logging.config.fileConfig(str(folder.logging), disable_existing_loggers=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # it builds what the file names, which can be anything
        cause = " ".join(f"{type(error).__name__}: {error}".split()).replace(str(folder.logging), "it")[:120]
        raise TrainingError(
            f"configs/logging.conf of {folder.name} is no configuration of Python's logging ({cause}). Write it again with "
            f"`unet-pipeline plan --refresh {folder.root}`."
        ) from error


@contextmanager
def _own_errors(cases: list[dict[str, str]]) -> Iterator[None]:
    """Errors of this package as they were raised; MONAI wraps whatever a config's expression raises.

    A transform of MONAI that failed, in a config from before `CaseCompose`, does not say on which of the cases it did.
    """
    from unet_pipeline.training.loading import find_damage

    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        if (own := _find_own_error(error)) is not None:
            raise own from error
        in_transform = any(_FAILED_TRANSFORM in str(cause) for cause in list_causes(error))
        if in_transform and (damage := find_damage(cases)):
            raise TrainingError(damage) from error
        raise


def _find_own_error(error: BaseException) -> PipelineError | None:
    """The error of this package that another one was raised from; a full disk, and the end of a loader's process, become one."""
    from unet_pipeline.training.lack_of_memory import explain_elsewhere
    from unet_pipeline.training.loading import LoadingError, explain_loading
    from unet_pipeline.training.processes import explain_lost_process

    for cause in list_causes(error):
        if isinstance(cause, LoadingError):
            return TrainingError(str(cause))
        if isinstance(cause, PipelineError):
            return cause
        if (explained := explain_loading(cause) or explain_lost_process(cause)) is not None:
            return explained
        if is_out_of_memory(cause):
            return explain_elsewhere(cause)
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return TrainingError(
                f"Cannot write {Path(str(cause.filename or 'a file')).name}: {cause.strerror}. The checkpoints before it are whole. "
                "Free some space, then continue with `unet-pipeline train BUNDLE --resume`."
            )
    return None


def _check_files(cases: list[dict[str, str]]) -> None:
    for case in cases:
        for key in ("image", "label"):
            if not Path(case[key]).is_file():
                raise TrainingError(
                    f"The {key} of case {case['case']} is gone: {'/'.join(Path(case[key]).parts[-3:])} does not exist. Restore the "
                    "dataset, or say where it is with dataset_dir=PATH."
                )
