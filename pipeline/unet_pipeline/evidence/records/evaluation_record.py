"""The record of an evaluation: which weights, config and machine its numbers came from, and the label maps' hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.dataset import NIFTI_SUFFIXES, image_suffix
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.nifti_file import read_stored_shape
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.evidence.records.record import RECORD, RunRecord, describe_bundle, keep_record
from unet_pipeline.files import compute_sha256


@contextmanager
def record_evaluation(
    folder: BundleFolder, target: Path, groups: Sequence[Group], mirror: bool, is_given: bool, by: Sequence[str] = ()
) -> Iterator[RunRecord]:
    """Write `target`/run.json at the end of an evaluation, behind its results.

    Args:
        groups: cases and the weights that predict them.
        mirror: whether predictions are averaged over mirrored copies.
        is_given: the label maps were made before, by nobody knows which weights; then none are named.
        by: columns of the subgroups.

    Yields:
        The record, for `add_result`.
    """
    weights = [
        {"fold": group.fold, "file": path.relative_to(folder.root).as_posix(), "sha256": compute_sha256(path)}
        for group in ([] if is_given else groups)
        for path in group.weights
    ]
    folds = sorted({group.fold for group in groups if group.fold is not None})
    content = {
        "kind": "evaluate",
        "weights": weights,
        "mirror": mirror,
        "by": list(by),
        "predictions_given": is_given,
        **describe_bundle(folder),
        "split_sha256": {str(fold): compute_sha256(folder.split(fold)) for fold in folds},
    }
    with keep_record(target / RECORD, folder.root, content, only_finished=True) as record:
        yield record


@contextmanager
def record_external_evaluation(folder: BundleFolder, target: Path, is_given: bool) -> Iterator[RunRecord]:
    """The same for an external bundle: the hashes of its config and of the weights in models/, unless label maps were given."""
    weights = () if is_given else folder.list_model_files()
    content = {
        "kind": "evaluate",
        "weights": [
            {"fold": None, "file": path.relative_to(folder.root).as_posix(), "sha256": compute_sha256(path)}
            for path in weights
        ],
        "predictions_given": is_given,
        "inference_config_sha256": compute_sha256(folder.find_config("inference")),
    }
    with keep_record(target / RECORD, folder.root, content, only_finished=True) as record:
        yield record


def add_result(record: RunRecord, target: Path, title: str, label_maps: Mapping[str, Path]) -> None:
    """Bind the files of an evaluation to its record.

    Args:
        target: folder of metrics.csv and summary.json, which are written already.
        title: which cases, which folds.
        label_maps: the predicted file of every case.
    """
    record["result"] = {
        "title": title,
        "metrics_sha256": compute_sha256(target / METRICS_FILE),
        "summary_sha256": compute_sha256(target / SUMMARY_FILE),
        "label_maps_sha256": {case: hash_label_map(path) for case, path in label_maps.items()},
    }


def hash_label_map(path: Path) -> str:
    """SHA-256 of a label map's shape and values.

    Not of the file, whose bytes depend on the version of the compression too.
    """
    several = image_suffix(path) in NIFTI_SUFFIXES and len(read_stored_shape(path)) > 3  # structures that may overlap
    array = (read_image if several else read_label_map)(path).array.astype("uint8")
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes(order="C")).hexdigest()


def list_label_maps(record: Mapping[str, Any] | None) -> dict[str, str]:
    """Case and hash of every label map that a record names; empty without a record."""
    return dict((record or {}).get("result", {}).get("label_maps_sha256", {}))
