"""Runs the training that the bundle's train.json describes; there is no second assembly of it here."""

from __future__ import annotations

import ast
import errno
import json
import logging
import shlex
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle_folder import BundleFolder
from pipeline.errors import PipelineError, PlanError, TrainingError, suggest
from pipeline.training.determinism import NondeterministicKernels

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class TrainingRun:
    """Outcome of the training of one fold.

    `best_dice` is the mean Dice on the resampled grid that picked the weights; it is not a result to report, and None, as `best_epoch`,
    where no validation was made. `cut_short` says how it fell short of its plan, empty when it did not. `profile` says where
    the time went (`profile.ProfileHandler`). `stopped_by` names the signal that ended it early, and `nondeterministic_kernels` what
    could not be made to give the same bits every time. `device_choices` are lines about what was done for the device, and
    `precision` is that of the steps; empty when there was none.
    """

    fold: int
    weights: Path
    run_dir: Path
    num_epochs: int
    best_epoch: int | None
    best_dice: float | None
    duration_s: float
    profile: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    stopped_by: str | None = None
    num_threads: int = 1
    nondeterministic_kernels: tuple[str, ...] = ()
    device_choices: tuple[str, ...] = ()
    precision: str = ""
    num_iterations: int = 0
    cut_short: str = ""


def check_overrides(folder: BundleFolder, overrides: Mapping[str, Any]) -> None:
    """Whether every id exists in train.json; MONAI ignores an unknown one in silence.

    Raises:
        PlanError: names the nearest id.
    """
    config = json.loads(folder.config("train").read_text(encoding="utf-8"))
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
    """Key and value of `KEY=VALUE`; the value is a Python literal when it is one, otherwise a string.

    Raises:
        PlanError: there is no "=".
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise PlanError(f"{text!r} is no override; expected KEY=VALUE, such as num_epochs=5.")
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
    overrides: Mapping[str, Any],
    further_seed: int | None = None,
) -> dict[str, Any]:
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


def build_stock_command(folder: BundleFolder, settings: Mapping[str, Any]) -> str:
    """The command of stock MONAI that does the same."""
    words = ["python", "-m", "monai.bundle", "run", "--config_file", str(folder.config("train"))]
    for key, value in settings.items():
        words += [f"--{key}", value if isinstance(value, str) else repr(value)]
    return shlex.join(words)


def run_training(folder: BundleFolder, settings: Mapping[str, Any], watch: Any = None) -> TrainingRun:
    """Train one fold with MONAI's ConfigWorkflow.

    Args:
        folder: the bundle.
        settings: from `build_settings`.
        watch: called with trainer and evaluator before the training, to attach to them.

    Raises:
        TrainingError: a data file is gone, or the loss is not finite.
    """
    import torch

    from pipeline.training.checkpoint import read_best
    from pipeline.training.progress import list_choices

    started_s = time.monotonic()
    folder.make_modules_importable()  # MONAI does it later, in `run`; the trainer is asked for before
    with warnings.catch_warnings(), NondeterministicKernels() as kernels:
        warnings.filterwarnings("ignore", message="parsing config_file")
        warnings.filterwarnings("ignore", category=FutureWarning)
        # it announces logging.conf on stderr, over the progress bar
        logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)
        workflow = _build_workflow(folder, settings)
        _check_files(workflow.parser.get_parsed_content("training_cases"))
        _check_files(workflow.parser.get_parsed_content("validation_cases"))
        workflow.initialize()
        trainer, evaluator = workflow.trainer, workflow.evaluator
        if watch is not None:
            watch(trainer, evaluator)
        try:
            workflow.run()
        except (RuntimeError, OSError) as error:  # MONAI wraps whatever a config's expression raises
            if (own := _find_own_error(error)) is not None:
                raise own from error
            raise
        workflow.finalize()
    if getattr(trainer.state, "stopped_by", None) == "SIGINT":
        raise KeyboardInterrupt
    best_dice, best_epoch = read_best(evaluator.state.best_metric, evaluator.state.best_metric_epoch)
    return TrainingRun(
        fold=settings["fold"],
        weights=Path(settings["weights_path"]),
        run_dir=Path(settings["output_dir"]),
        num_epochs=trainer.state.epoch,
        best_epoch=best_epoch,
        best_dice=best_dice,
        duration_s=time.monotonic() - started_s,
        profile=getattr(trainer.state, "profile", {}),
        seed=int(workflow.parser.get_parsed_content("seed")),
        stopped_by=getattr(trainer.state, "stopped_by", None),
        num_threads=torch.get_num_threads(),
        nondeterministic_kernels=tuple(kernels.messages),
        device_choices=tuple(list_choices(trainer)),
        precision=getattr(trainer.state, "precision", ""),
        num_iterations=trainer.state.iteration,
    )


def _build_workflow(folder: BundleFolder, settings: Mapping[str, Any]) -> ConfigWorkflow:
    from monai.bundle import ConfigWorkflow

    return ConfigWorkflow(
        config_file=str(folder.config("train")),
        meta_file=str(folder.metadata),
        logging_file=str(folder.logging),
        workflow_type="train",
        **settings,
    )


def _find_own_error(error: BaseException) -> PipelineError | None:
    """The error of this package that another one was raised from; a full disk becomes one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PipelineError):
            return cause
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return TrainingError(
                f"Cannot write {Path(str(cause.filename or 'a file')).name}: {cause.strerror}. The checkpoints before it are whole. "
                "Free some space, then continue with `unet-pipeline train BUNDLE --resume`."
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _check_files(cases: list[dict[str, str]]) -> None:
    for case in cases:
        for key in ("image", "label"):
            if not Path(case[key]).is_file():
                raise TrainingError(
                    f"The {key} of case {case['case']} is gone: {'/'.join(Path(case[key]).parts[-3:])} does not exist. Restore the "
                    "dataset, or say where it is with dataset_dir=PATH."
                )
