"""Whether a label map is the one that was measured: by its hash, or by what was counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.evidence.records.case_files import Labels
from unet_pipeline.evidence.records.evaluation_record import hash_label_map
from unet_pipeline.evidence.records.measured import hide_unmeasured, is_measured_prediction, is_measured_reference

TABLE = {"rest": 0, "core": 1, "rim": 2}
LABELS = Labels(TABLE, {"whole": (1, 2)}, ("whole",), spatial_dims=2)
ROWS = pd.DataFrame(
    {
        "label": ["rest", "core", "rim", "whole"],
        "num_voxels_reference": [10, 4, 2, 6],
        "num_voxels_prediction": [9, 4, 3, 7],
    }
)


def write(path: Path, num_core: int, num_rim: int) -> Path:
    values = np.zeros(16, np.uint8)
    values[:num_core], values[num_core : num_core + num_rim] = 1, 2
    PillowImage.fromarray(values.reshape(4, 4)).save(path)
    return path


@pytest.mark.parametrize(
    ("num_core", "num_rim", "expected"), [(4, 2, True), (2, 4, False), (4, 3, False), (0, 0, False)]
)
def test_is_measured_reference_counts_labels(tmp_path: Path, num_core: int, num_rim: int, expected: bool) -> None:
    assert is_measured_reference(write(tmp_path / "a.png", num_core, num_rim), ROWS, LABELS) is expected


def test_is_measured_prediction_a_hash_tells_more_than_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", 4, 3)
    sha256 = hash_label_map(path)
    assert is_measured_prediction(path, ROWS, LABELS, None)
    assert is_measured_prediction(path, ROWS, LABELS, sha256)
    turned = np.asarray(PillowImage.open(path))[::-1]
    PillowImage.fromarray(turned.copy()).save(path)
    assert is_measured_prediction(path, ROWS, LABELS, None)
    assert not is_measured_prediction(path, ROWS, LABELS, sha256)


def test_is_measured_prediction_counts_say_nothing_where_voxels_lack_annotation(tmp_path: Path) -> None:
    labels = Labels(TABLE, {}, ("core",), ignore_value=255, spatial_dims=2)
    path = write(tmp_path / "a.png", 1, 1)
    assert is_measured_prediction(path, ROWS, labels, None)
    assert not is_measured_prediction(path, ROWS, labels, "0" * 64)


def test_hide_unmeasured_leaves_out_labels_without_a_row() -> None:
    label_map = MedicalImage(np.array([[[0, 1], [2, 2]]], np.uint8), np.eye(4), (1.0, 1.0))
    assert hide_unmeasured(label_map, ROWS, LABELS) is label_map
    assert hide_unmeasured(label_map, ROWS[ROWS["label"] != "rim"], LABELS).array.tolist() == [[[0, 1], [0, 0]]]
