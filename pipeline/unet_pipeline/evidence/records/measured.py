"""Whether a label map is the one that an evaluation measured, asked before it is shown beside the numbers.

Predictions of several networks lie side by side in an evaluation's folder, and label maps of a data set change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.pages import read_label_pages
from unet_pipeline.evidence.records.case_files import Labels
from unet_pipeline.evidence.records.evaluation_record import hash_label_map

if TYPE_CHECKING:
    import pandas as pd


def is_measured_reference(path: Path, rows: pd.DataFrame, labels: Labels) -> bool:
    """Whether a reference has the voxels that metrics.csv counted.

    Args:
        path: of the label map.
        rows: of the case in metrics.csv.
        labels: what the values mean.
    """
    return _has_counts(path, rows, "num_voxels_reference", labels)


def is_measured_prediction(path: Path, rows: pd.DataFrame, labels: Labels, sha256: str | None) -> bool:
    """Whether a prediction is the one that was measured: by its hash, or where none was recorded by its voxel counts.

    Args:
        path: of the label map.
        rows: of the case in metrics.csv.
        labels: what the values mean; with voxels without annotation the counts say nothing, and any prediction passes.
        sha256: of the evaluation's record, None for a case that it does not list.
    """
    if sha256 is not None:
        return hash_label_map(path) == sha256
    return labels.ignore_value is not None or _has_counts(path, rows, "num_voxels_prediction", labels)


def _has_counts(path: Path, rows: pd.DataFrame, column: str, labels: Labels) -> bool:
    array = read_label_pages(path, labels.spatial_dims, known_values=None).array
    values: dict[str, Sequence[int]] = {**labels.regions, **{name: (value,) for name, value in labels.table.items()}}
    return all(
        int(np.isin(array, values[label]).sum()) == int(count)
        for label, count in zip(rows["label"], rows[column], strict=True)
        if label in values
    )


def hide_unmeasured(label_map: MedicalImage, rows: pd.DataFrame, labels: Labels) -> MedicalImage:
    """The label map without labels that the case is not annotated with: metrics.csv has no row of them."""
    measured = set(rows["label"])
    unknown = [value for name, value in labels.table.items() if name not in measured]
    if not unknown:
        return label_map
    background = next(iter(labels.table.values()))
    return replace(label_map, array=np.where(np.isin(label_map.array, unknown), background, label_map.array))
