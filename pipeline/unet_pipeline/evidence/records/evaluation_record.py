"""The record of an evaluation: which weights, config and machine its numbers came from, and the label maps' hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationResult, EvaluationRunRecord
from unet_pipeline.dataset.dataset import NIFTI_SUFFIXES, image_suffix
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.nifti_file import read_stored_shape
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.evidence.records.record import (
    RECORD,
    RecordKeeper,
    describe_bundle,
    describe_weights,
    keep_record,
)
from unet_pipeline.files import compute_sha256


@contextmanager
def record_evaluation(
    folder: BundleFolder, target: Path, groups: Sequence[Group], mirror: bool, given: bool, by: Sequence[str] = ()
) -> Iterator[RecordKeeper[EvaluationRunRecord]]:
    """Write `target`/run.json at the end of an evaluation, behind its results.

    Args:
        folder: the bundle.
        target: folder of the evaluation.
        groups: cases and the weights that predict them.
        mirror: whether predictions are averaged over mirrored copies.
        given: the label maps were made before, by nobody knows which weights; then none are named.
        by: columns of the subgroups.

    Yields:
        The record with its file, for `add_result`.
    """
    used = [] if given else groups
    weights = [describe_weights(folder, path, group.fold) for group in used for path in group.weights]
    folds = sorted({group.fold for group in groups if group.fold is not None})
    content = {
        "kind": "evaluate",
        "weights": weights,
        "mirror": mirror,
        "by": list(by),
        "predictions_given": given,
        **describe_bundle(folder),
        "split_sha256": {str(fold): compute_sha256(folder.split(fold)) for fold in folds},
    }
    with keep_record(target / RECORD, folder.root, EvaluationRunRecord, content, only_finished=True) as keeper:
        yield keeper


@contextmanager
def record_external_evaluation(
    folder: BundleFolder, target: Path, given: bool
) -> Iterator[RecordKeeper[EvaluationRunRecord]]:
    """The same for a bundle of others: the hashes of its config and of the weights in models/, unless label maps were given."""
    weights = () if given else folder.list_model_files()
    content = {
        "kind": "evaluate",
        "weights": [describe_weights(folder, path, None) for path in weights],
        "predictions_given": given,
        "inference_config_sha256": compute_sha256(folder.find_config("inference")),
    }
    with keep_record(target / RECORD, folder.root, EvaluationRunRecord, content, only_finished=True) as keeper:
        yield keeper


def add_result(record: EvaluationRunRecord, target: Path, title: str, label_maps: Mapping[str, Path]) -> None:
    """Bind the files of an evaluation to its record.

    Args:
        record: of the evaluation.
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
    several = image_suffix(path) in NIFTI_SUFFIXES and len(read_stored_shape(path)) > 3  # structures that may overlap
    array = (read_image if several else read_label_map)(path).array.astype("uint8")
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes(order="C")).hexdigest()
