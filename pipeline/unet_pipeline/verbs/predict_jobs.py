"""`predict --jobs`: every image is an item; workers write the label maps, this process alone keeps both records.

The record of predictions is what it is without workers. `jobs.sqlite` has every label map the moment that it is there, so that what is
finished stays so when this process is killed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.cohort.engines import LOCAL, SLURM
from unet_pipeline.cohort.items import Item, Outcome, State, Work, hash_parts, read_values, write_values
from unet_pipeline.cohort.options import SLURM_STAGING, JobOptions
from unet_pipeline.cohort.record import RUNNING, Record, Row, open_record
from unet_pipeline.cohort.run import Run, run_items
from unet_pipeline.device.cores import count_cores
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import compute_sha256, remove_partial, stage_folder
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.inputs import PredictionInput, measure_input
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.progress import LARGE_BYTES, progress_bar
from unet_pipeline.remote.outputs import OutputFolder
from unet_pipeline.verbs.predict_worker import OPENER, ImageItem, PredictedImage, describe_work, list_outputs

if TYPE_CHECKING:
    from unet_pipeline.prediction.outputs import ResultFormat
    from unet_pipeline.prediction.reuse import Ledger
    from unet_pipeline.prediction.run import Predictions

_HASHING_THREADS = 8  # more would only wait for the disk


@dataclass(frozen=True)
class PredictionJob:
    """Images to predict, by whom; as for `predict_images`."""

    folder: BundleFolder
    inputs: Sequence[PredictionInput]
    out: Path
    weights: Sequence[Path]
    files_used: Sequence[Path]
    options: PredictOptions
    jobs: JobOptions
    result_format: ResultFormat
    announce: Callable[[str], None] = lambda line: None


def settle_remote_options(options: PredictOptions, jobs: JobOptions) -> dict[str, object]:
    """The options that reach the label values; a device that only the workers have is taken by its name.

    Raises:
        PredictionError: as `settle_options`.
    """
    import torch

    from unet_pipeline.prediction.device_choice import choose_precision
    from unet_pipeline.prediction.reuse import settle_options

    try:
        return settle_options(options)
    except PredictionError:
        if jobs.engine == LOCAL or options.device is None or options.precision == "auto":
            raise
    precision = choose_precision(options.precision, torch.device("cpu"), options.runtime)
    return options.settle(precision, options.device.partition(":")[0])


def predict_by_jobs(job: PredictionJob, ledger: Ledger) -> Predictions:
    """Predict images by workers; the ledger has all label maps afterwards, as if one process had made them.

    Raises:
        CohortError: workers cannot be had, or the disk is full.
        PredictionError: `out` is the folder of an image; or an image failed (the message names each; the others are done).
    """
    from unet_pipeline.prediction.engines import build_engines
    from unet_pipeline.prediction.run import find_suffix, refuse_own_folder, sort_inputs

    refuse_own_folder(job.inputs, job.out)
    is_planned = job.folder.is_planned
    engines = None if is_planned else build_engines(job.folder, job.weights, job.out, job.options)
    suffix = job.result_format.suffix or find_suffix(job.folder, engines)
    del engines
    _hash_images(job.inputs, ledger)
    with open_record(job.out) as record, _stage(job) as staging:
        keys = {source.name: _compute_key(source, ledger, job.options) for source in job.inputs}
        _restore(job, ledger, record, keys, suffix)
        finals, todo, kept = sort_inputs(job.inputs, job.out, suffix, job.options, ledger)
        items = [_build_item(source, keys[source.name], ledger) for source in job.inputs]
        _adopt(items, record, ledger, {source.name for source in todo})
        if type(ledger.folder) is not OutputFolder:  # workers do not know the store behind the folder
            for source in todo:
                _make_room(job, ledger, source, finals[source], suffix)
        run = _run(job, ledger, record, items, staging, suffix, todo)
        return _gather(job, ledger, run, finals, todo, kept, suffix)


def _make_room(job: PredictionJob, ledger: Ledger, source: PredictionInput, final: Path, suffix: str) -> None:
    from unet_pipeline.prediction.outputs import probabilities_path

    ledger.make_room(source, final, probabilities_path(final, suffix) if job.options.probabilities else None)


@contextmanager
def _stage(job: PredictionJob) -> Iterator[Path]:
    """A folder that goes away, for what workers write on the way; tasks of Slurm outlive a process that is killed, and keep theirs."""
    if job.jobs.engine != SLURM:
        remove_partial(job.out)
        try:
            with stage_folder(job.out) as staging:
                yield staging
        finally:  # the engine is closed, and a worker that was killed has left what it was writing
            remove_partial(job.out)
        return
    staging = job.out / SLURM_STAGING
    staging.mkdir(parents=True, exist_ok=True)
    try:
        yield staging
    finally:  # the engine is closed
        shutil.rmtree(staging, ignore_errors=True)
        remove_partial(job.out)


def _hash_images(inputs: Sequence[PredictionInput], ledger: Ledger) -> None:
    """Hash all images; one that cannot be read is for its worker to name."""
    num_bytes = sum(file.stat().st_size for source in inputs for file in source.list_files() if file.is_file())

    def hash_image(source: PredictionInput) -> str:
        with suppress(OSError):
            ledger.note_image(source)
        return source.name

    with (
        ThreadPoolExecutor(min(_HASHING_THREADS, count_cores())) as pool,
        progress_bar("hash images", len(inputs), num_bytes > LARGE_BYTES) as bar,
    ):
        for name in pool.map(hash_image, inputs):
            bar.advance(note=name)


def _hash_of(source: PredictionInput, ledger: Ledger) -> Mapping[str, str]:
    try:
        return ledger.note_image(source)
    except OSError:
        return {}


def _compute_key(source: PredictionInput, ledger: Ledger, options: PredictOptions) -> str:
    origin = ledger.origin
    files = list(_hash_of(source, ledger).items())  # their order is that of the channels
    return hash_parts(
        [files, list(origin.weights_sha256), origin.configs_sha256, origin.options, options.probabilities]
    )


def _build_item(source: PredictionInput, key: str, ledger: Ledger) -> Item:
    entry = ledger.find(source.name)
    image = ImageItem(source=source.absolute(), entry=entry, started=ledger.started, begun=time.time())
    return Item(source.name, key, write_values(image), measure_input(source), _hash_of(source, ledger))


def _restore(job: PredictionJob, ledger: Ledger, record: Record, keys: Mapping[str, str], suffix: str) -> None:
    """Give the ledger the label maps that were finished before this process's predecessor was killed.

    One that got its name from an attempt whose answer nobody heard is taken away: that attempt is made again. Not on Slurm, whose tasks
    leave their answers in files.
    """
    from unet_pipeline.prediction.outputs import output_path

    for source, (item, row) in zip(
        job.inputs, record.pair([Item(name, key, {}) for name, key in keys.items()]), strict=True
    ):
        if row is None or row.key != item.key:
            continue
        path, entry = output_path(source, job.out, suffix), ledger.find(item.name)
        is_unheard = row.state == RUNNING and job.jobs.engine != SLURM
        if is_unheard and entry is None and path.is_file() and path.stat().st_mtime >= row.started:
            path.unlink()
        sha256 = row.outputs.get(path.name)
        if not row.is_finished or sha256 is None:
            continue
        is_known = entry is not None and entry.label_map_sha256 == sha256
        if not is_known and path.is_file() and compute_sha256(path) == sha256:
            ledger.enter(item.name, ledger.build_entry(item.name, row.read(PredictedImage).as_result()))


def _adopt(items: Sequence[Item], record: Record, ledger: Ledger, todo: set[str]) -> None:
    """Let the record have the label maps that were kept, whoever made them."""
    for item, row in record.pair(items):
        entry = ledger.find(item.name)
        is_known = row is not None and row.is_finished and row.key == item.key
        if item.name not in todo and not is_known and entry is not None:
            result = {"files_sha256": entry.files_sha256, "started": entry.started, "seen": write_values(entry.seen)}
            record.adopt(item, {"outputs": list_outputs(entry), **result})
    record.commit()


def _run(
    job: PredictionJob,
    ledger: Ledger,
    record: Record,
    items: Sequence[Item],
    staging: Path,
    suffix: str,
    todo: Sequence[PredictionInput],
) -> Run:
    # of all images, so that the work of a call that goes on is the same
    largest = max(job.inputs, key=measure_input) if todo else PredictionInput("", ())
    arguments = describe_work(
        folder=job.folder,
        out=job.out,
        staging=staging,
        weights=job.weights,
        files_used=job.files_used,
        options=job.options,
        origin=ledger.origin,
        suffix=suffix,
        contract_sha256=ledger.contract_sha256,
        largest=largest,
    )
    share = job.jobs.share(count_cores(), job.options.device)
    engine = job.jobs.build(share, len(todo), job.out)
    if todo:
        job.announce(f"workers  {engine.num_workers} ({job.jobs.engine}) with {share.num_threads} thread(s) each")
    left = {source.name for source in todo}

    def enter(outcome: Outcome) -> None:
        name = outcome.attempt.item.name
        predicted = read_values(outcome.result, PredictedImage, f"The results of a worker for {name}")
        ledger.bind(name, predicted.as_result())

    def is_there(item: Item, row: Row) -> bool:
        return item.name not in left

    origin = ledger.origin.as_settings()
    return run_items(items, Work(OPENER, arguments), engine, record, "predict", origin, is_there, enter)


def _gather(
    job: PredictionJob,
    ledger: Ledger,
    run: Run,
    finals: Mapping[PredictionInput, Path],
    todo: Sequence[PredictionInput],
    kept: tuple[Path, ...],
    suffix: str,
) -> Predictions:
    """What `predict_images` returns."""
    from unet_pipeline.prediction.overlap import Outcome as CaseOutcome
    from unet_pipeline.prediction.run import Predictions, require_all
    from unet_pipeline.prediction.stopwatch import Stopwatch

    rows = {settled.item.name: settled.row for settled in run.iterate()}
    nothing: tuple[Problem, ...] = ()
    outcomes = [CaseOutcome(source, nothing, _explain(rows[source.name])) for source in todo]
    stopwatch, notes, precision = Stopwatch(), list(job.result_format.notes), "float32"
    told = {name: row.read(PredictedImage) for name, row in rows.items() if row.is_finished}
    for predicted in (told[source.name] for source in todo if source.name in told):
        notes += predicted.notes
        precision = predicted.precision or precision
        for stage, taken_s in predicted.seconds.items():
            stopwatch.add(stage, taken_s)
    for line in dict.fromkeys(line for predicted in told.values() for line in predicted.device_notes):
        job.announce(f"device   {line}")
    ledger.put_last(source.name for source in todo)  # in the order of the images, whatever finished first
    require_all(outcomes, finals, suffix, ledger)
    written = tuple(finals[source] for source in todo)
    images = {final: source.files[0] for source, final in finals.items()}
    shares = stopwatch.list_shares()
    return Predictions(job.out, written, kept, tuple(notes), precision, shares, dict(ledger.again), images)


def _explain(row: Row) -> PredictionError | None:
    """Why an image has no label map; a bad image is named by its reader."""
    if row.is_finished:
        return None
    return PredictionError(row.message if row.state == State.BAD_INPUT else f"{row.name} ({row.state}): {row.message}")
