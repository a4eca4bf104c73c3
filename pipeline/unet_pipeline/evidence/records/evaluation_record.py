"""The record of an evaluation: which weights, config and machine its numbers came from, and the label maps' hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationResult, EvaluationRunRecord
from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.formats import FORMATS
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.nifti_file import read_stored_shape
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE
from unet_pipeline.evidence.records.record import (
    RECORD,
    RecordKeeper,
    describe_bundle,
    describe_weights,
    hash_splits,
    keep_record,
)
from unet_pipeline.files import compute_sha256, find_relative


@contextmanager
def record_evaluation(
    folder: BundleFolder,
    target: Path,
    weights: Sequence[tuple[Path, int | None]],
    is_given: bool,
    mirror: bool = False,
    by: Sequence[str] = (),
) -> Iterator[RecordKeeper[EvaluationRunRecord]]:
    """Write `target`/run.json at the end of an evaluation, behind its results.

    Args:
        folder: the bundle; an external one has neither plan nor splits.
        weights: files that predict, each with its fold.
        is_given: the label maps were made before, by nobody knows which weights; then none are named.
        mirror: whether predictions are averaged over mirrored copies.
        by: columns of the subgroups.

    Yields:
        The record with its file, for `add_result`.
    """
    folds = sorted({fold for _, fold in weights if fold is not None})
    is_outside = not target.resolve().is_relative_to(folder.root.resolve())
    content = {
        "kind": "evaluate",
        "weights": [] if is_given else [describe_weights(folder, path, fold) for path, fold in weights],
        **({"mirror": mirror, "by": list(by)} if folder.is_planned else {}),
        "predictions_given": is_given,
        "bundle_place": find_relative(folder.root, target) if is_outside else None,
        **describe_bundle(folder),
        **({"split_sha256": hash_splits(folder, folds)} if folder.is_planned else {}),
    }
    with keep_record(target / RECORD, folder.root, EvaluationRunRecord, content, only_finished=True) as keeper:
        yield keeper


def add_result(record: EvaluationRunRecord, target: Path, title: str, label_maps: Mapping[str, Path]) -> None:
    """Bind the files of an evaluation to its record.

    Args:
        target: folder of metrics.csv and summary.json, which are written already.
        title: which cases, which folds.
        label_maps: the predicted file of every case.
    """
    record.result = EvaluationResult(
        title=title,
        metrics_sha256=compute_sha256(target / METRICS_FILE),
        summary_sha256=compute_sha256(target / SUMMARY_FILE),
        label_maps_sha256={case: hash_label_map(path) for case, path in label_maps.items()},
    )


def hash_label_map(path: Path) -> str:
    """SHA-256 of a label map's shape and values.

    Not of the file, whose bytes depend on the version of the compression too.
    """
    several = (
        image_suffix(path) in FORMATS["NIfTI"].suffixes and len(read_stored_shape(path)) > 3
    )  # structures that may overlap
    label_map = read_image(path) if several else read_label_map(path, known_values=None)
    array = label_map.array.astype("uint8")
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes(order="C")).hexdigest()
