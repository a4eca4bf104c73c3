"""The figure of an image with outlines shows a volume the way radiologists look at it, however the file stores it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.evidence.report.overlay import draw_overlay

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])  # to the patient's right, front and head
SPACING_MM = (1.0, 2.0, 3.0)


def store(array: np.ndarray, axcodes: str) -> MedicalImage:
    """The volume, given in RAS, with its voxels in another order."""
    turn = nib.orientations.axcodes2ornt(axcodes)
    stored = nib.orientations.apply_orientation(
        array, nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    )
    affine = AFFINE @ nib.orientations.inv_ornt_aff(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn), array.shape
    )
    return MedicalImage(stored[None], affine, tuple(map(float, nib.affines.voxel_sizes(affine))))


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAL", "PIR"])
def test_draw_overlay_volume_is_radiological_in_every_order_of_its_file(axcodes: str) -> None:
    array = np.zeros((7, 9, 5), np.int16)
    array[6, 4, 2], array[3, 8, 2], array[3, 4, 4] = 1, 2, 3  # rightmost, foremost, uppermost
    label = np.zeros_like(array)
    label[3, 4, 2] = 1
    figure = draw_overlay(store(array, axcodes), {"reference": store(label, axcodes)}, {"rest": 0, "core": 1})
    sagittal, coronal, axial = figure.axes
    assert [axes.get_title() for axes in figure.axes] == [
        f"reference, {plane}" for plane in ("sagittal", "coronal", "axial")
    ]
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["A", "R", "R"]
    assert locate(sagittal, 2) == (0, 0.5)
    assert locate(sagittal, 3) == (0.5, 1)
    assert locate(coronal, 1) == (0, 0.5)
    assert locate(coronal, 3) == (0.5, 1)
    assert locate(axial, 1) == (0, 0.5)
    assert locate(axial, 2) == (0.5, 1)
    assert [round(axes.get_aspect(), 6) for axes in figure.axes] == [1.5, 3.0, 2.0]


def locate(axes, value: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Where a voxel is seen, from 0 at the left and the bottom to 1."""
    (image,) = axes.images
    ((row, column),) = np.argwhere(image.get_array() == value)
    height, width = (size - 1 for size in image.get_array().shape)
    upright = row if image.origin == "lower" else height - row
    return float(column / width), float(upright / height)


def test_draw_overlay_without_a_reference_goes_through_the_prediction() -> None:
    array = np.zeros((7, 9, 5), np.int16)
    predicted = array.copy()
    predicted[1:3, 1:3, 1:3] = 1
    maps = {"reference": store(array, "RAS"), "prediction": store(predicted, "RAS")}
    figure = draw_overlay(store(array, "RAS"), maps, {"rest": 0, "core": 1})
    assert [len(axes.collections) for axes in figure.axes] == [0, 0, 0, 1, 1, 1]


def test_draw_overlay_picture_has_its_label_maps_side_by_side() -> None:
    picture = MedicalImage(np.zeros((1, 12, 10), np.uint8), np.eye(4), (1.0, 1.0))
    left, right = (axes.get_subplotspec() for axes in draw_overlay(picture, {"a": picture, "b": picture}).axes)
    assert (left.rowspan.start, right.rowspan.start) == (0, 0)
    assert (left.colspan.start, right.colspan.start) == (0, 1)
