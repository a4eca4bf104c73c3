"""`train --jobs`: every fold, or seed, is an item; its worker trains it as without workers, and this process alone publishes weights.

What is finished stands in `jobs.sqlite` beside the run folders. A training that was cut off goes on from its checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import TrainingRecord, read_record
from unet_pipeline.cohort.items import (
    Arguments,
    Function,
    Item,
    Share,
    State,
    Work,
    hash_parts,
    read_values,
    write_values,
)
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.cohort.record import Row, open_record
from unet_pipeline.cohort.run import Run, run_items
from unet_pipeline.device.cores import count_cores
from unet_pipeline.errors import PreemptedError
from unet_pipeline.evidence.records.continuation import find_resumable, is_same_training
from unet_pipeline.evidence.records.record import RECORD
from unet_pipeline.files import compute_sha256
from unet_pipeline.progress import show_progress
from unet_pipeline.verbs.train import TrainingJob, find_start, open_store, publish_weights, say_lone_patient, train_one

if TYPE_CHECKING:
    from unet_pipeline.training.run import TrainingRun


class TrainingWork(BaseModel):
    """What `open_training` needs: the bundle, and options of `train`."""

    bundle: Path
    resume: bool
    tracking: str | None
    check_data: bool


class TrainingItem(BaseModel):
    """A training for a worker; see `TrainingJob`."""

    fold: int
    overrides: dict[str, object]
    further_seed: int | None


OPENER = "unet_pipeline.verbs.train_jobs:open_training"
_GRACE_S = 60.0  # for the step that runs and its checkpoint


def train_by_jobs(
    folder: BundleFolder,
    trainings: Sequence[TrainingJob],
    workers: JobOptions,
    resume: bool,
    tracking: str | None,
    check_data: bool,
    announce: Callable[[str], None],
) -> tuple[TrainingRun, ...]:
    """Train folds and seeds by workers; what is finished with the same settings is kept, what was cut off goes on.

    Raises:
        CohortError: workers cannot be had, or trainings failed (the message lists them; the others are done).
    """
    for fold in dict.fromkeys(job.fold for job in trainings):
        say_lone_patient(folder, fold, announce)
    by_name = {job.name: job for job in trainings}
    items = [_build_item(job) for job in trainings]
    root = folder.root.absolute()
    work = TrainingWork(bundle=root, resume=resume, tracking=tracking, check_data=check_data)
    folder.runs.mkdir(parents=True, exist_ok=True)
    with open_record(folder.runs) as record:
        record.release([State.BAD_INPUT])  # its cause, such as a file that was gone, is no part of the key
        share = workers.share(count_cores())
        engine = workers.build(share, len(items), folder.runs)
        announce(f"workers  {engine.num_workers} ({workers.engine}) with {share.num_threads} thread(s) each")
        run = run_items(
            items,
            Work(OPENER, write_values(work), _GRACE_S),
            engine,
            record,
            "train",
            is_there=lambda item, row: _is_there(folder, row),
            describe=lambda: _describe(by_name.values()),
        )
        return _gather(run, by_name, announce)


def _build_item(job: TrainingJob) -> Item:
    folder, start = job.folder, find_start(job.folder, job.overrides)
    files = [folder.config("train"), folder.plan, folder.split(job.fold), folder.dataset_manifest]
    inputs = {path.relative_to(folder.root).as_posix(): compute_sha256(path) for path in files}
    if start is not None and start.is_file():
        inputs["initial weights"] = compute_sha256(start)
    values = {name: value for name, value in job.overrides.items() if name != "initial_weights"}
    key = hash_parts([job.name, values, inputs])
    item = TrainingItem(fold=job.fold, overrides=dict(job.overrides), further_seed=job.further_seed)
    return Item(job.name, key, write_values(item), inputs_sha256=inputs)


def _is_there(folder: BundleFolder, row: Row) -> bool:
    weights = _read_result(folder, row).weights
    return weights.is_file() and compute_sha256(weights) in row.outputs.values()


def _describe(trainings: Iterable[TrainingJob]) -> str:
    """Epochs of the trainings that are not over, from their run records."""
    shown = []
    for job in trainings:
        run_dir = max(job.folder.runs.glob(f"{job.name}-*"), default=None)
        record = None if run_dir is None else read_record(run_dir / RECORD, TrainingRecord)
        if record is not None and record.result is None and record.epochs:
            shown.append(f"{job.name} epoch {record.epochs[-1].epoch}")
    return ", ".join(shown)


def _gather(run: Run, by_name: Mapping[str, TrainingJob], announce: Callable[[str], None]) -> tuple[TrainingRun, ...]:
    """The trainings in their order; the bundle gets its weights as it would one after another."""
    runs = []
    for settled in run.iterate():
        if settled.is_finished:
            job = by_name[settled.item.name]
            runs.append(_read_result(job.folder, settled.row))
            if settled.is_kept:
                announce(f"kept     {settled.item.name}: finished before with the same settings")
            if not _is_published(job, runs[-1]):
                publish_weights(job, runs[-1])
    run.require_all("trainings")
    return tuple(runs)


def _is_published(job: TrainingJob, run: TrainingRun) -> bool:
    published = job.folder.weights
    return published.is_file() and run.weights.is_file() and compute_sha256(published) == compute_sha256(run.weights)


def _read_result(folder: BundleFolder, row: Row) -> TrainingRun:
    from unet_pipeline.training.run import TrainingRun

    run = row.read(TrainingRun)
    return replace(run, weights=folder.root / run.weights, run_dir=folder.root / run.run_dir)


# in a worker


def open_training(arguments: Arguments, share: Share) -> Function:
    """Make the process ready for trainings; see `Work`.

    Args:
        arguments: bundle (folder), resume, tracking, check_data.
        share: of this worker.
    """
    if share.device and share.device.startswith("cuda:"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        number = int(share.device.partition(":")[2])
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number] if visible else str(number)
    show_progress(False)
    work = read_values(arguments, TrainingWork, "What a worker of `train` was given")
    folder = BundleFolder(work.bundle)

    def train_item(item: Arguments, smaller: bool) -> Arguments:
        asked = read_values(item, TrainingItem, "What a worker of `train` was given of a training")
        job = TrainingJob(folder, asked.fold, asked.overrides, asked.further_seed)
        resume = work.resume or _is_begun(job)
        store = open_store(folder, [job], resume, work.tracking, _say_nothing, must_answer=False)
        run = train_one(job, resume, True, _say_nothing, store, work.check_data, publishes=False)
        if run.stopped_by is not None:
            raise PreemptedError(run.stopped_by)  # ends the process: everything is saved, the next attempt goes on
        return _describe_run(folder, run)

    return train_item


def _say_nothing(line: str) -> None:
    pass


def _is_begun(job: TrainingJob) -> bool:
    """Whether the latest run is of the same training, so that it is kept, or goes on."""
    from unet_pipeline.training.checkpoint import has_checkpoint
    from unet_pipeline.training.run import build_settings

    run_dir = find_resumable(job.folder, job.name)
    if run_dir is None:
        return False
    start = find_start(job.folder, job.overrides)
    start_sha256 = compute_sha256(start) if start is not None and start.is_file() else None
    settings = build_settings(job.folder, job.fold, run_dir, has_checkpoint(run_dir), job.overrides, job.further_seed)
    return is_same_training(job.folder, run_dir, job.fold, settings, start_sha256)


def _describe_run(folder: BundleFolder, run: TrainingRun) -> Arguments:
    root = folder.root.resolve()
    paths = {name: os.path.relpath(getattr(run, name).resolve(), root) for name in ("weights", "run_dir")}
    values = {**vars(run), **paths, "profile": run.profile.model_dump(mode="json")}
    return {**values, "outputs": {run.weights.name: compute_sha256(run.weights)}}
