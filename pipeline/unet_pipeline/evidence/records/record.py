"""The record of a run: written when it starts, at every epoch, and when it ends, so that a crash leaves one too."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import (
    FINISHED,
    Epoch,
    Process,
    Record,
    RunRecord,
    Session,
    TrainingRecord,
    UsedWeights,
    read_record,
)
from unet_pipeline.config_values import PATH_IDS, quote_paths
from unet_pipeline.errors import PreemptedError
from unet_pipeline.evidence.records.energy import EnergyMeter
from unet_pipeline.evidence.records.machine import (
    describe_machine,
    identify_boot,
    read_code_version,
    read_environment,
    read_peak_gpu_memory_gib,
    read_peak_memory_gib,
    read_peak_memory_of_worker_gib,
    read_versions,
)
from unet_pipeline.evidence.records.shortfall import describe_shortfall
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.planning.plan import read_plan

RECORD = "run.json"
RESOLVED_CONFIG = "config.json"
RUNNING, FAILED, INTERRUPTED, CRASHED = "running", "failed", "interrupted", "crashed"
PREEMPTED = "preempted"  # a batch system asked for the machine; everything is saved
_SILENCE_S = 600.0  # a run elsewhere that has been silent for so long, beside three of its longest epochs, has crashed


class RecordKeeper(Generic[Record]):
    """Keeps the file of a record up to date.

    Args:
        path: of the file.
        record: what is known at the start.
        earlier: record of the run that this one continues.
    """

    def __init__(self, path: Path, record: Record, earlier: RunRecord | None = None) -> None:
        self.path, self.record = path, record
        self._started_s, self._started_processor_s = time.monotonic(), time.process_time()
        self._before_s = (earlier.duration_s if earlier else None) or 0.0
        self._before_processor_s = (earlier.processor_s if earlier else None) or 0.0
        self._meter = EnergyMeter()

    def beat(self) -> None:
        """Write the record with what has passed until now."""
        record = self.record
        record.heartbeat = now()
        record.duration_s = round(self._before_s + time.monotonic() - self._started_s, 1)
        # of all threads: what the clock would have shown on a quiet machine, times the cores that were busy
        used_s = time.process_time() - self._started_processor_s
        record.processor_s = round(self._before_processor_s + used_s, 1)
        record.peak_memory_gib = round(read_peak_memory_gib(), 2)
        record.peak_memory_of_worker_gib = round(read_peak_memory_of_worker_gib(), 2)
        gpu = read_peak_gpu_memory_gib()
        record.peak_gpu_memory_gib = None if gpu is None else round(gpu, 2)
        record.energy = self._meter.report()
        self.write()

    def write(self) -> None:
        """Write the record as it is."""
        write_json(self.path, self.record.as_data())


def add_epoch(keeper: RecordKeeper[TrainingRecord], epoch: Epoch) -> None:
    """Keep what is known about an epoch; one of the same number, from before an interruption, gives way."""
    kept = [entry for entry in keeper.record.epochs if entry.epoch < epoch.epoch]
    epoch.ended = now()
    keeper.record.epochs = [*kept, epoch]
    keeper.beat()


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def keep_record(
    path: Path,
    root: Path,
    kind: type[Record],
    content: Mapping[str, object],
    earlier: RunRecord | None = None,
    only_finished: bool = False,
) -> Iterator[RecordKeeper[Record]]:
    """Keep a record while something runs.

    Args:
        root: of the bundle, whose path no record names.
        kind: of the record.
        content: what is known at the start, beside code, versions, environment and machine.
        earlier: record of the run that this one continues.
        only_finished: write it at the end and only then, where results of an earlier run lie beside it until they are replaced.

    Yields:
        The record with its file; what the caller sets is kept. A caller that sets the state decides about it.
    """
    started = now()
    described = {
        "id": path.parent.name,
        "state": RUNNING,
        "started": (earlier.started if earlier else "") or started,
        **content,
        "code": read_code_version(),
        "versions": read_versions(),
        "environment": read_environment(),
        "machine": describe_machine(),
        "process": Process(boot=identify_boot(), id=os.getpid(), started=started),
    }
    record = kind(**described)
    keeper = RecordKeeper(path, record, earlier)
    try:
        if not only_finished:
            keeper.beat()
        yield keeper
        if record.state == RUNNING:
            record.state = FINISHED
    except PreemptedError as error:
        record.state, record.stopped_by = PREEMPTED, error.signal_name
        error.is_recorded = True
        raise
    except BaseException as error:
        record.state = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
        record.error = hide_root(f"{type(error).__name__}: {error}", root)
        raise
    finally:
        record.ended = now()
        if not only_finished or record.state == FINISHED:
            # a full disk must not hide the error that it caused
            with suppress(*((OSError,) if record.error is not None else ())):
                keeper.beat()


@contextmanager
def record_run(
    folder: BundleFolder, run_dir: Path, command: str, settings: Mapping[str, object], fold: int
) -> Iterator[RecordKeeper[TrainingRecord]]:
    """Keep `run_dir`/run.json while a training runs; the config with all settings lies beside it.

    A continued training keeps the times and epochs of the run before; `sessions` lists how each ended.

    Args:
        folder: the bundle; paths below it are written relative to it.
        command: the stock command that does the same.
        settings: ids of the config that this run sets.

    Yields:
        The record with its file; what the caller sets as `result` is kept, and `cut_short` says how it falls short of the plan.
    """
    earlier = read_record(run_dir / RECORD, TrainingRecord)
    config = resolve_config(folder, settings)
    write_json(run_dir / RESOLVED_CONFIG, config)
    split = folder.read_split(fold)
    content = {
        "kind": "train",
        "command": _hide_paths(command, settings, folder.root),
        "settings": {key: str(hide_setting(key, value, folder.root)) for key, value in settings.items()},
        "overrides": {key: hide_setting(key, value, folder.root) for key, value in settings.items()},
        "fold": fold,
        "seeds": {"seed": config.get("seed"), "fold": fold},
        "resolved_config": RESOLVED_CONFIG,
        "resolved_config_sha256": compute_sha256(run_dir / RESOLVED_CONFIG),
        **describe_bundle(folder),
        "split_sha256": compute_sha256(folder.split(fold)),
        "split": {side: [case.case for case in cases] for side, cases in split},
        "sessions": [*earlier.sessions, _end_session(earlier)] if earlier else [],
        "epochs": earlier.epochs if earlier else [],
        **({"tracking": earlier.tracking} if earlier and earlier.tracking else {}),
    }
    with keep_record(run_dir / RECORD, folder.root, TrainingRecord, content, earlier) as keeper:
        try:
            yield keeper
        finally:
            keeper.record.cut_short = describe_shortfall(keeper.record)


def describe_bundle(folder: BundleFolder) -> dict[str, object]:
    """The plan with its hash, and the hashes of what else in the bundle decides about a result; of an external bundle that of its config.

    The manifest's is None in a bundle that was imported without its dataset.
    """
    inference = compute_sha256(folder.find_config("inference"))
    if not folder.is_planned:
        return {"inference_config_sha256": inference}
    manifest = folder.dataset_manifest
    return {
        "plan": read_plan(folder.plan).model_dump(mode="json"),
        "plan_sha256": compute_sha256(folder.plan),
        "config_sha256": compute_sha256(folder.config("train")),
        "inference_config_sha256": inference,
        "dataset_manifest_sha256": compute_sha256(manifest) if manifest.is_file() else None,
    }


def hash_splits(folder: BundleFolder, folds: Iterable[int | None]) -> dict[str, str]:
    """SHA-256 of the lists of each fold, by its number."""
    return {str(fold): compute_sha256(folder.split(fold)) for fold in folds if fold is not None}


def describe_weights(folder: BundleFolder, path: Path, fold: int | None = None) -> UsedWeights:
    """A file of weights of a bundle in a record."""
    return UsedWeights(fold=fold, file=path.relative_to(folder.root).as_posix(), sha256=compute_sha256(path))


def resolve_config(folder: BundleFolder, settings: Mapping[str, object]) -> dict[str, object]:
    """train.json with the settings of a run; paths below the bundle start at its root, where stock MONAI runs it."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(folder.read_config("train"))
    parser.update(quote_paths({key: hide_setting(key, value, folder.root, ".") for key, value in settings.items()}))
    return parser.get()


def hide_root(text: str, root: Path, name: str = "BUNDLE") -> str:
    """A text in which the bundle's folder, which has another place elsewhere, has a name instead."""
    shown = {root.resolve().as_posix(), str(root.resolve()), *([str(root)] if root.is_absolute() else [])}
    for place in sorted(shown - {"/"}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w./-]){re.escape(place)}(?![\w-])", lambda _: name, text)
    return text


def hide_setting(key: str, value: object, root: Path, name: str = "BUNDLE") -> object:
    """The value of an id without the bundle's folder: a path starts at the bundle's root, wherever it leads."""
    if not isinstance(value, (str, Path)):
        return value
    if key not in PATH_IDS:
        return hide_root(str(value), root, name)
    try:
        inside = Path(os.path.relpath(Path(value).resolve(), root.resolve())).as_posix()
    except ValueError:  # another drive
        inside = Path(value).name
    return name if inside == "." else f"{name}/{inside}"


def _hide_paths(command: str, settings: Mapping[str, object], root: Path) -> str:
    command = command.replace(f"cd {shlex.quote(str(root))} && ", "cd BUNDLE && ")
    for key, value in settings.items():
        if isinstance(value, str) and Path(value).is_absolute():
            command = command.replace(value, str(hide_setting(key, value, root)))
    return hide_root(command, root)


def _end_session(earlier: TrainingRecord) -> Session:
    """How the run that is continued ended."""
    started = earlier.process.started or earlier.started
    last = earlier.ended or earlier.heartbeat
    return Session(started=started, last=last, state=find_state(earlier), num_processes=earlier.num_processes)


def find_state(record: RunRecord) -> str:
    """State of a run: a record that says "running" although nothing runs is that of a crash.

    On the machine of the run its process is asked for; elsewhere a long silence decides.
    """
    if record.state != RUNNING:
        return record.state
    if record.process.boot == identify_boot():
        return RUNNING if _is_alive(record.process) else CRASHED
    last = datetime.fromisoformat(record.heartbeat or record.started)
    epochs = record.epochs if isinstance(record, TrainingRecord) else []
    longest_s = max((epoch.duration_s for epoch in epochs), default=0.0)
    silent_s = (datetime.now(UTC) - last).total_seconds()
    return CRASHED if silent_s > _SILENCE_S + 3 * longest_s else RUNNING


def _is_alive(process: Process) -> bool:
    import psutil

    try:
        running = psutil.Process(process.id)
        started = datetime.fromisoformat(process.started).timestamp()
        # a later process may have got the number
        return (
            running.is_running() and running.status() != psutil.STATUS_ZOMBIE and running.create_time() <= started + 1
        )
    except psutil.Error:
        return False


def list_training_records(folder: BundleFolder, fold: int) -> list[TrainingRecord]:
    """Records of the trainings of a fold, the earliest first; `state` says "crashed" where one did."""
    paths = sorted(folder.runs.glob(f"fold_{fold}-*/{RECORD}"))
    records = [record for path in paths if (record := read_record(path, TrainingRecord)) is not None]
    for record in records:
        record.state = find_state(record)
    return records


def find_latest_training(folder: BundleFolder, fold: int) -> TrainingRecord | None:
    """Record of the latest finished training of a fold."""
    finished = [record for record in list_training_records(folder, fold) if record.state == FINISHED]
    return finished[-1] if finished else None
