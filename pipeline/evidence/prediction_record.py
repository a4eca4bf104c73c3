"""The records of `predict` and `tune`: which weights, inputs and machine a label map or a choice came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.bundle_folder import BundleFolder
from pipeline.evaluation.groups import Group
from pipeline.evidence.record import RunRecord, describe_bundle, keep_record, read_record
from pipeline.files import compute_sha256
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.outputs import find_any_output, find_output

PREDICTIONS_RECORD, TUNING_RECORD = "predictions_run.json", "tuning_run.json"


@contextmanager
def record_predictions(
    folder: BundleFolder,
    out: Path,
    inputs: Sequence[PredictionInput],
    weights: Sequence[Path],
    suffix: str | None,
    settings: Mapping[str, Any],
) -> Iterator[RunRecord]:
    """Keep `out`/predictions_run.json while images are predicted.

    At the end "images" has an entry for every label map: SHA-256 of the image's files, of the label map and of the weights. A label map that
    was there before keeps its entry as long as it is the same file; without one its weights are None. A call that leaves no label map
    leaves no record.

    Args:
        folder: the bundle.
        out: of the label maps.
        inputs: the images.
        weights: state_dict files that predict them; of a bundle of others all that it has.
        suffix: of the label maps; None where only the bundle knows it.
        settings: options of the call.

    Yields:
        The record.
    """
    path, is_new_folder = out / PREDICTIONS_RECORD, not out.exists()
    earlier = read_record(path)
    metadata = folder.read_metadata()
    content = {
        "id": out.resolve().name,
        "kind": "predict",
        "bundle": {"name": folder.name, "version": metadata.get("version")},
        "weights": [
            {"file": file.relative_to(folder.root).as_posix(), "sha256": compute_sha256(file)} for file in weights
        ],
        **_hash_bundle(folder),
        "settings": dict(settings),
        "images": (earlier or {}).get("images", {}),
    }
    before = {source.name: find_label_map(source, out, suffix) for source in inputs}
    kept = {name: compute_sha256(file) for name, file in before.items() if file is not None}
    try:
        with keep_record(path, folder.root, content) as record:
            try:
                yield record
            finally:
                record["images"] = _describe_images(record, out, inputs, suffix, kept)
    finally:
        with suppress(OSError):  # what went wrong is told, not what fails after it
            if earlier is None and not any(entry.name != path.name for entry in out.iterdir()):
                path.unlink(missing_ok=True)
                if is_new_folder:
                    out.rmdir()


def _hash_bundle(folder: BundleFolder) -> dict[str, Any]:
    """Hashes of what decides about a label map beside the weights."""
    if not folder.is_planned:
        return {"inference_config_sha256": compute_sha256(folder.find_config("inference"))}
    return {key: value for key, value in describe_bundle(folder).items() if key.endswith("_sha256")}


def find_label_map(source: PredictionInput, out: Path, suffix: str | None) -> Path | None:
    """The label map of an image; None when there is none."""
    path = find_any_output(source, out) if suffix is None else find_output(source, out, suffix)
    return path if path.is_file() else None


def _describe_images(
    record: RunRecord, out: Path, inputs: Sequence[PredictionInput], suffix: str | None, kept: Mapping[str, str]
) -> dict[str, Any]:
    """Entries of all label maps that are in `out` now."""
    images = {name: entry for name, entry in record["images"].items() if (out / entry["label_map"]).is_file()}
    for source in inputs:
        path = find_label_map(source, out, suffix)
        if path is None:
            continue
        sha256 = compute_sha256(path)
        is_kept = kept.get(source.name) == sha256
        if is_kept and images.get(source.name, {}).get("label_map_sha256") == sha256:
            continue
        images[source.name] = {
            "files_sha256": {} if is_kept else {file.name: compute_sha256(file) for file in source.list_files()},
            "label_map": path.name,
            "label_map_sha256": sha256,
            "weights_sha256": None if is_kept else [entry["sha256"] for entry in record["weights"]],
            "started": record["started"],
        }
    return images


@contextmanager
def record_tuning(folder: BundleFolder, groups: Sequence[Group], settings: Mapping[str, Any]) -> Iterator[RunRecord]:
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
        "weights": [
            {"fold": fold, "file": path.relative_to(folder.root).as_posix(), "sha256": compute_sha256(path)}
            for path, fold in weights.items()
        ],
        "settings": dict(settings),
        **describe_bundle(folder),
        "split_sha256": {
            str(group.fold): compute_sha256(folder.split(group.fold)) for group in groups if group.fold is not None
        },
        "cases": {
            case.source.name: {
                "files_sha256": {file.name: compute_sha256(file) for file in case.source.list_files()},
                "label_sha256": compute_sha256(case.label),
            }
            for group in groups
            for case in group.cases
        },
    }
    with keep_record(folder.evidence / TUNING_RECORD, folder.root, content) as record:
        yield record
        record["result"] = {
            "tuning_sha256": compute_sha256(folder.tuning),
            "plan_sha256": compute_sha256(folder.plan),
            "inference_config_sha256": compute_sha256(folder.config("inference")),
        }
