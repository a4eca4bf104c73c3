"""`train`: the weights of one fold, of all folds or of further seeds, one after another or by workers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.audit.trust import open_trusted, require_trusted
from unet_pipeline.bundle.data_state import find_dataset, require_unchanged_data
from unet_pipeline.bundle.earlier import require_current_config
from unet_pipeline.bundle.folder import BundleFolder, open_bundle, require_weights
from unet_pipeline.bundle.run_record import TrainingRecord
from unet_pipeline.bundle.seal import break_seal
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.dataset.fingerprint import read_fingerprint
from unet_pipeline.errors import PlanError, TrainingError
from unet_pipeline.evidence.records.continuation import (
    check_unchanged,
    describe_result,
    find_finished,
    find_never_begun,
    find_resumable,
    recall_overrides,
    recall_start,
)
from unet_pipeline.evidence.records.epochs import EpochRecorder
from unet_pipeline.evidence.records.record import PREEMPTED, record_run
from unet_pipeline.evidence.records.tracking import (
    NO_TRACKING,
    TrackingStore,
    open_tracking,
    recall_tracking,
    track_run,
)
from unet_pipeline.files import compute_sha256, write_atomically, write_json
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.verbs.train_processes import follow_first, joins_as_secondary, train_together

if TYPE_CHECKING:
    from ignite.engine import Engine

    from unet_pipeline.training.forecast import TrainingForecast
    from unet_pipeline.training.run import TrainingRun


# arguments of `train` that are no business of one of several processes
_NOT_OF_A_PROCESS = ("announce", "processes", "workers", "jobs", "engine", "threads", "address", "sbatch")


def train(
    bundle: Path | str,
    fold: int | str | None = None,
    resume: bool = False,
    overrides: Mapping[str, object] | None = None,
    announce: Any = lambda line: None,
    initial: Path | str | None = None,
    trust: bool = False,
    deterministic: bool = False,
    seeds: int = 1,
    tracking: str | None = None,
    check_data: bool = True,
    processes: int = 1,
    jobs: int = 1,
    engine: str = "local",
    threads: int | None = None,
    address: str | None = None,
    sbatch: Mapping[str, str] | None = None,
) -> tuple[TrainingRun, ...]:
    """Train one fold, or all of them; processes that torchrun has started train together, and the first one does the writing.

    Args:
        bundle: from `plan`.
        fold: a number, "all", or None for the plan's fold.
        resume: continue the latest interrupted training of the fold with its own overrides. Of several folds or seeds, what is
            finished stays and what was never begun begins.
        overrides: ids of train.json and their values.
        announce: called with a line about each training before it starts.
        initial: a trained bundle, or a file of weights, to start from, instead of those that the bundle was planned from, if any;
            what does not fit starts anew.
        trust: run the bundle, and start from `initial`, although the audit finds a danger.
        deterministic: the same bits every time on a CPU with the same number of threads; as far as the kernels allow on a GPU.
        seeds: train the plan's seed and the ones after it; only the first gives the bundle its weights.
        tracking, check_data: "mlflow" or "none", as the interrupted run was if None; whether files are compared with the dataset manifest.
        jobs: folds or seeds at a time, each in a process of its own; what the same settings have finished or begun is kept or continued.
        engine, threads, address, sbatch: of these processes, as in `predict`.
        processes: of this machine that train a fold together, one GPU each where there are any; the result differs in rounding only.

    Returns:
        One for each training; a training that a signal stopped is the last.

    Raises:
        CohortError: workers cannot be had; or trainings failed (the message lists them; the others are done).
        BundleError, PlanError, DatasetError: the bundle, or `initial`, needs trust; unknown id; the data changed since it was planned.
        InUseError: another process trains the same fold.
        TrainingError: a data file is gone, nothing to resume, resumed with other settings, the initial weights do not fit, a
            checkpoint cannot be written, the loss is not finite, MLflow does not answer, or one of several processes died.
    """
    workers = JobOptions(jobs, engine, threads, address, sbatch or {}).workers()
    if processes != 1:
        asked = {name: value for name, value in locals().items() if name not in _NOT_OF_A_PROCESS}
        return train_together(processes, workers, asked, announce)
    if joins_as_secondary():
        return follow_first(bundle)
    folder = open_trusted(bundle, "train", trust, sealed=False)
    folder.require_data()
    overrides = gather_overrides(folder, find_initial_weights(initial, trust), deterministic, overrides)
    return train_all(
        folder, _list_jobs(folder, fold, seeds, overrides), workers, resume, tracking, check_data, announce
    )


def train_all(
    folder: BundleFolder,
    trainings: list[TrainingJob],
    workers: JobOptions | None,
    resume: bool,
    tracking: str | None,
    check_data: bool,
    announce: Any,
) -> tuple[TrainingRun, ...]:
    """Trainings of a bundle one after another, or by `workers`; arguments and errors as of `train`."""
    store = open_store(folder, trainings, resume, tracking, announce)
    if workers is not None:
        from unet_pipeline.verbs.train_jobs import train_by_jobs

        return train_by_jobs(folder, trainings, workers, resume, tracking, check_data, announce)
    return _train_in_turn(trainings, resume, announce, store, check_data)


def _train_in_turn(
    trainings: list[TrainingJob], resume: bool, announce: Any, store: TrackingStore | None, check_data: bool
) -> tuple[TrainingRun, ...]:
    """One after another; a training that a signal stopped is the last."""
    from unet_pipeline.training.processes import take_from_first

    runs = list[Any]()
    for job in trainings:
        runs.append(train_one(job, resume, len(trainings) > 1, announce, store, check_data))
        if runs[-1].stopped_by is not None:
            break
    take_from_first(None)  # to the others: that was all
    return tuple(runs)


def gather_overrides(
    folder: BundleFolder, start: Path | None, deterministic: bool, overrides: Mapping[str, object] | None
) -> dict[str, object]:
    """What options set, and over it what the user set by id; all of it known to train.json."""
    from unet_pipeline.training.run import check_overrides

    gathered = {
        **({"initial_weights": str(start)} if start else {}),
        **({"deterministic": True} if deterministic else {}),
        **(overrides or {}),
    }
    check_overrides(folder, gathered)
    return gathered


@dataclass(frozen=True)
class TrainingJob:
    """One training that is asked for; `further_seed` is None for the seed that gives the bundle its weights."""

    folder: BundleFolder
    fold: int
    overrides: Mapping[str, object]
    further_seed: int | None

    @property
    def name(self) -> str:
        """Of its run folders, before their number."""
        from unet_pipeline.training.run import name_run

        return name_run(self.fold, self.further_seed)


def _list_jobs(
    folder: BundleFolder, fold: int | str | None, seeds: int, overrides: Mapping[str, object]
) -> list[TrainingJob]:
    effective = read_plan(folder.plan)
    folds = range(effective.num_folds) if fold == "all" else [effective.fold if fold is None else int(fold)]
    first = int(str(overrides.get("seed", effective.seed)))
    return [
        TrainingJob(
            folder, number, {**overrides, "seed": seed} if seeds > 1 else overrides, seed if seed > first else None
        )
        for number in folds
        for seed in range(first, first + seeds)
    ]


def open_store(
    folder: BundleFolder,
    jobs: list[TrainingJob],
    resume: bool,
    tracking: str | None,
    announce: Any,
    must_answer: bool = True,
) -> TrackingStore | None:
    """Where the trainings are tracked; an interrupted one goes on although its server does not answer."""
    names = [tracking] if tracking else []
    if resume and tracking is None:
        names = [recall_tracking(find_resumable(folder, job.name)) for job in jobs]
    store = open_tracking(folder, min(names, default=NO_TRACKING), must_answer=must_answer and not resume)
    if store is not None:
        announce(f"Tracked by MLflow at {store.shown_uri}, experiment {store.experiment_name}{store.hint}")
    return store


def train_one(
    job: TrainingJob,
    resume: bool,
    is_one_of_several: bool,
    announce: Any,
    store: TrackingStore | None,
    check_data: bool,
    publishes: bool = True,
) -> TrainingRun:
    """Train one fold with one seed, as `train` does; one of several begins where there is nothing to resume, and with `publishes` the bundle
    gets its weights when it is their turn.
    """
    from unet_pipeline.training.checkpoint import has_checkpoint
    from unet_pipeline.training.claim import hold_outputs
    from unet_pipeline.training.events import drop_later_events
    from unet_pipeline.training.processes import num_processes, take_from_first
    from unet_pipeline.training.run import build_settings, build_stock_command, next_run_dir, run_training

    folder, fold, overrides = job.folder, job.fold, job.overrides
    say_lone_patient(folder, fold, announce)
    run_dir = find_resumable(folder, job.name) if resume else None
    if resume and run_dir is None and not is_one_of_several:
        raise TrainingError(f"Nothing to resume for fold {fold} of {folder.name}. Train without --resume.")
    if run_dir is not None:
        overrides = recall_overrides(run_dir, overrides)
    continues = run_dir is not None and has_checkpoint(run_dir)
    if run_dir is not None and not continues:
        overrides = recall_start(run_dir, overrides)
    run_dir = run_dir or find_never_begun(folder, job.name) or next_run_dir(folder, job.name)
    settings = build_settings(folder, fold, run_dir, continues, overrides, job.further_seed)
    if check_data:
        require_unchanged_data(folder, find_dataset(folder, settings))
    with hold_outputs(run_dir, Path(str(settings["weights_path"]))):
        if continues:
            check_unchanged(folder, run_dir, fold, settings)
            if (finished := find_finished(folder, run_dir, settings)) is not None:
                announce(
                    f"{run_dir.name} is finished: {finished.num_epochs} epochs. Nothing is changed; num_epochs=N with a larger N "
                    "continues it."
                )
                return finished
        else:
            _check_planned_start(folder, overrides)
        if resume and not continues:
            drop_later_events(run_dir, 0, 0)  # it was cut off before its first checkpoint
        command = build_stock_command(folder, settings)
        announce(f"The same with stock MONAI:\n  {command}")
        with track_run(store, folder) as tracker, record_run(folder, run_dir, command, settings, fold) as keeper:
            start, record = find_start(folder, overrides), keeper.record
            if start is not None and start.is_file():
                record.initial_weights_sha256 = compute_sha256(start)
            tracker.begin(keeper)
            record.num_processes = num_processes()
            take_from_first(settings)
            run = run_training(folder, settings, _join(EpochRecorder(keeper).watch, tracker.watch))
            _note_run(record, run)
            if run.stopped_by is None and publishes:
                publish_weights(job, run)
    return replace(run, cut_short=record.cut_short)


def _note_run(record: TrainingRecord, run: TrainingRun) -> None:
    """Let the record have what is known at the end."""
    record.profile, record.num_threads = run.profile, run.num_threads
    record.nondeterministic_kernels = list(run.nondeterministic_kernels)
    record.device_choices, record.precision = list(run.device_choices), run.precision
    record.memory_format = run.memory_format
    if run.stopped_by is None:
        record.result = describe_result(run)
    else:
        record.state, record.stopped_by = PREEMPTED, run.stopped_by


def say_lone_patient(folder: BundleFolder, fold: int, announce: Any) -> None:
    """Whether the validation shows what is trained on, as it does for a single case or patient."""
    split = folder.read_split(fold)
    trained = {case.case for case in split.training}
    if shown := [case.case for case in split.validation if case.case in trained]:
        announce(
            f"warning: fold {fold} validates on {len(shown)} case(s) that it is trained on ({shown[0]}), because the dataset has one "
            "patient. Its Dice says nothing about others; add cases of other patients for a result."
        )


def _join(*watchers: Any) -> Any:
    """One function that gives trainer and evaluator to each watcher, in this order."""

    def watch(trainer: Engine, evaluator: Engine) -> None:
        for watcher in watchers:
            watcher(trainer, evaluator)

    return watch


def publish_weights(job: TrainingJob, run: TrainingRun) -> None:
    """Make the weights of the plan's fold, or of the first one, those of the bundle."""
    folder = job.folder
    own_place = run.weights == folder.fold_weights(job.fold)  # no further seed, and not sent elsewhere by an override
    if own_place and (job.fold == read_plan(folder.plan).fold or not folder.weights.is_file()):
        break_seal(folder)
        copy_weights(run.weights, folder.weights)
        write_json(folder.weights_origin, {"fold": job.fold, "sha256": compute_sha256(folder.weights)})


def find_initial_weights(initial: Path | str | None, trust: bool) -> Path | None:
    """The file of weights that a training is to start from: that of a bundle which passes its audit, or the file itself."""
    if initial is None:
        return None
    if not Path(initial).is_dir():
        return Path(initial).resolve()
    folder = open_bundle(initial)
    require_trusted(folder, trust)
    return require_weights(folder).resolve()


def find_start(folder: BundleFolder, overrides: Mapping[str, object]) -> Path | None:
    """The weights that a training starts from, named for it or planned; None for random ones."""
    if "initial_weights" in overrides:
        named = overrides["initial_weights"]
        return None if named is None else Path(str(named))
    return None if read_plan(folder.plan).initial_weights_sha256 is None else folder.initial_weights


def _check_planned_start(folder: BundleFolder, overrides: Mapping[str, object]) -> None:
    """Whether the weights that the bundle was planned from are there, if the training starts from them."""
    planned = read_plan(folder.plan).initial_weights_sha256
    if planned is None or "initial_weights" in overrides:
        return
    is_there = folder.initial_weights.is_file()
    if not is_there or compute_sha256(folder.initial_weights) != planned:
        raise TrainingError(
            f"models/initial.pt of {folder.name} is {'another file than was planned' if is_there else 'missing'}; expected the weights with "
            f"SHA-256 {planned[:12]}... of its plan.yaml. Name them with `train --from`, or start from random ones with "
            "initial_weights=null."
        )


def copy_weights(source: Path, target: Path) -> None:
    """Copy a file of weights, whole or not at all."""
    with write_atomically(target) as partial:
        shutil.copyfile(source, partial)


def forecast_training(bundle: Path | str, read_case_s: float = 0.0) -> TrainingForecast:
    """How long the planned training of a fold will take on this machine; a step is timed for a few seconds, nothing is written.

    Args:
        bundle: from `plan`; its data are not read.
        read_case_s: of reading one image and its label, such as `PlannedFolder.read_case_s`.

    Raises:
        BundleError: no bundle.
        PlanError: a step cannot be timed; says why.
    """
    folder = open_bundle(bundle)
    plan = read_plan(folder.plan)
    shape, spacing_mm = plan.patch_size, tuple(plan.spacing_mm)
    if folder.fingerprint.is_file():
        shape = read_fingerprint(folder.fingerprint).median_shape(spacing_mm)
    split = folder.read_split(plan.fold)
    from unet_pipeline.training.forecast import forecast_training as add_up
    from unet_pipeline.training.probe import time_step

    try:
        require_current_config(folder)
        step = time_step(folder, plan)
    except PlanError:
        raise
    except TrainingError as error:  # memory ran out, and it says what helps
        raise PlanError(str(error)) from error
    except Exception as error:  # a machine may fail in many ways, and the plan is good without its time
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise PlanError(f"A step of the training cannot be timed on this machine ({cause}).") from error
    sizes = len(split.training), len(split.validation)
    return add_up(plan, step, *sizes, shape, read_case_s)
