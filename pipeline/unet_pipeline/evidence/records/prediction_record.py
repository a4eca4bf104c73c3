"""The records of `predict` and `tune`: which weights, inputs and machine a label map or a choice came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import (
    LabelMapEntry,
    PredictionRecord,
    TunedCase,
    TuningRecord,
    TuningResult,
    UsedWeights,
    read_record,
)
from unet_pipeline.cohort.record import RECORD as JOBS_RECORD
from unet_pipeline.dataset.image_files import hash_image_files
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.evidence.records.record import describe_bundle, describe_weights, hash_splits, keep_record
from unet_pipeline.files import compute_sha256
from unet_pipeline.locks import hold_lock
from unet_pipeline.prediction.reuse import Ledger, Origin

PREDICTIONS_RECORD, TUNING_RECORD = "predictions_run.json", "tuning_run.json"
PREDICTIONS_LOCK = ".predictions.lock"


def open_ledger(
    folder: BundleFolder,
    out: Path,
    weights: Sequence[Path],
    options: Mapping[str, object],
    earlier: PredictionRecord | None = None,
) -> Ledger:
    """The ledger of the label maps in `out`, for predictions of a bundle.

    Args:
        out: of the label maps; its record, if there is one, has the entries.
        weights: state_dict files that predict; of an external bundle all that it has.
        options: that reach the label values.
        earlier: the record, where it has been read already.
    """
    origin = Origin(
        weights_sha256=tuple(map(compute_sha256, weights)),
        configs_sha256=hash_configs(folder),
        options=dict(options),
    )
    known = earlier or _read_earlier(out / PREDICTIONS_RECORD)
    return Ledger(out, origin, known.images if known else {})


def hash_configs(folder: BundleFolder) -> dict[str, str]:
    """SHA-256 of the files of a bundle that decide about a label map beside the weights, by path in the bundle."""
    return {path.relative_to(folder.root).as_posix(): compute_sha256(path) for path in _list_deciding(folder)}


def _list_deciding(folder: BundleFolder) -> list[Path]:
    if folder.is_planned:
        modules = sorted(folder.modules.rglob("*.py")) if folder.modules.is_dir() else []
        return [folder.plan, folder.config("inference"), *modules]
    # any config may name another one, and any module of the bundle
    configs = (path for path in folder.configs.rglob("*") if path.is_file())
    return sorted({*configs, *folder.root.rglob("*.py")})


def _read_earlier(path: Path) -> PredictionRecord | None:
    """The record of an earlier call; None where there is none, or one that is no record."""
    try:
        return read_record(path, PredictionRecord)
    except (OSError, ValueError):
        return None


def read_entries(out: Path) -> dict[str, LabelMapEntry | object]:
    """What each label map in a folder was made of, by the image's name; nothing where there is no record."""
    record = _read_earlier(out / PREDICTIONS_RECORD)
    return dict(record.images) if record is not None else {}


@contextmanager
def record_predictions(
    folder: BundleFolder,
    out: Path,
    weights: Sequence[Path],
    settings: Mapping[str, object],
    options: Mapping[str, object],
    announce: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[PredictionRecord, Ledger]]:
    """Keep `out`/predictions_run.json while images are predicted, so that a call that is cut off leaves one too.

    `images` has an entry for every label map: SHA-256 of the image's files, of the label map, of the weights and of the configs, and the
    options. Label maps of earlier calls keep theirs. A call that leaves no label map leaves no record.

    Args:
        weights: state_dict files that predict them; of an external bundle all that it has.
        settings: options of the call, as given.
        options: those that reach the label values, with what they come to.
        announce: called with why label maps that are there are made again.

    Yields:
        The record, and the ledger that decides which label maps are kept and adds the others.

    Raises:
        InUseError: another process predicts into the same folder.
    """
    is_new_folder, lock = not out.exists(), out / PREDICTIONS_LOCK
    try:
        with (
            hold_lock(lock, f"The output folder {out.resolve().name}", stays=False),  # results of others lie there
            _keep_predictions(folder, out, weights, settings, options, announce) as kept,
        ):
            yield kept
    finally:
        with suppress(OSError):  # what went wrong is told, not what fails after it
            if is_new_folder and not any(out.iterdir()):
                out.rmdir()


@contextmanager
def _keep_predictions(
    folder: BundleFolder,
    out: Path,
    weights: Sequence[Path],
    settings: Mapping[str, object],
    options: Mapping[str, object],
    announce: Callable[[str], None],
) -> Iterator[tuple[PredictionRecord, Ledger]]:
    path = out / PREDICTIONS_RECORD
    earlier = _read_earlier(path)
    ledger = open_ledger(folder, out, weights, options, earlier)
    files = zip(weights, ledger.origin.weights_sha256, strict=True)
    content = {
        "id": out.resolve().name,
        "kind": "predict",
        "bundle": {"name": folder.name, "version": folder.read_metadata().get("version")},
        "weights": [
            UsedWeights(file=file.relative_to(folder.root).as_posix(), sha256=sha256) for file, sha256 in files
        ],
        **describe_bundle(folder),
        "settings": dict(settings),
        "images": ledger.entries,
    }
    try:
        with keep_record(path, folder.root, PredictionRecord, content) as keeper:
            record = keeper.record
            record.images = ledger.entries  # the same, which grow
            ledger.save, ledger.announce, ledger.started = keeper.beat, announce, record.started
            try:
                yield record, ledger
            finally:
                record.images = {name: entry for name, entry in ledger.entries.items() if _has_label_map(out, entry)}
    finally:
        with suppress(OSError):  # what went wrong is told, not what fails after it
            if earlier is None and {entry.name for entry in out.iterdir()} <= {
                path.name,
                PREDICTIONS_LOCK,
                JOBS_RECORD,
            }:
                path.unlink(missing_ok=True)


def _has_label_map(out: Path, entry: object) -> bool:
    """Whether the label map of an entry is there, be it one of another version."""
    if isinstance(entry, LabelMapEntry):
        return (out / entry.label_map).is_file()
    name = entry.get("label_map") if isinstance(entry, dict) else None
    return isinstance(name, str) and (out / name).is_file()


@contextmanager
def record_tuning(
    folder: BundleFolder, groups: Sequence[Group], settings: Mapping[str, object]
) -> Iterator[TuningRecord]:
    """Keep evidence/tuning_run.json while a bundle is tuned.

    Args:
        folder: the bundle; its plan and configs are described as they are before.
        groups: cases and the weights that predict them.
        settings: options of the call.

    Yields:
        The record; at the end it binds evidence/tuning.json and the plan that was written.
    """
    weights = {path: group.fold for group in groups for path in group.weights}
    content = {
        "id": "tuning",
        "kind": "tune",
        "weights": [describe_weights(folder, path, fold) for path, fold in weights.items()],
        "settings": dict(settings),
        **describe_bundle(folder),
        "split_sha256": hash_splits(folder, (group.fold for group in groups)),
        "cases": {
            case.source.name: TunedCase(
                files_sha256=hash_image_files(case.source.files), label_sha256=compute_sha256(case.label)
            )
            for group in groups
            for case in group.cases
        },
    }
    with keep_record(folder.evidence / TUNING_RECORD, folder.root, TuningRecord, content) as keeper:
        yield keeper.record
        keeper.record.result = TuningResult(
            tuning_sha256=compute_sha256(folder.tuning),
            plan_sha256=compute_sha256(folder.plan),
            inference_config_sha256=compute_sha256(folder.config("inference")),
        )
