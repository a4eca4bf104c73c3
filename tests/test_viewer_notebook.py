"""The view of an image in a notebook: the widget holds the voxels and the names, and without it a picture stands there."""

from __future__ import annotations

import gzip
import sys
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import unet_pipeline
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.viewer.notebook import view_image

LABELS = {"background": 0, "grey": 1, "white": 4}
AFFINE = np.array([[-2.0, 0, 0, 7], [0, 3, 0, -5], [0, 0, 1, 2], [0, 0, 0, 1]])


def build_image(array: np.ndarray) -> MedicalImage:
    return MedicalImage(array[None], AFFINE, (2.0, 3.0, 1.0))


@pytest.fixture
def image() -> MedicalImage:
    return build_image(np.random.default_rng(0).normal(50, 9, (12, 9, 7)).astype(np.float32))


@pytest.fixture
def label_map() -> MedicalImage:
    labels = np.zeros((12, 9, 7), np.uint8)
    labels[3:7, 2:6, 2:5], labels[5:9, 3:7, 2:5] = 1, 4
    return build_image(labels)


def read_volume(volume: object) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(volume.data))  # type: ignore[attr-defined]


def test_view_image_the_widget_holds_the_voxels_and_the_names(image: MedicalImage, label_map: MedicalImage) -> None:
    pytest.importorskip("ipyniivue")
    view = view_image(image, {"reference": label_map, "prediction": label_map}, LABELS)
    shown, reference, prediction = view.widget.volumes
    for volume, expected in ((shown, image), (reference, label_map), (prediction, label_map)):
        np.testing.assert_array_equal(read_volume(volume).get_fdata(dtype=np.float32), expected.array[0])
        np.testing.assert_allclose(read_volume(volume).affine, AFFINE)
    named = [label for label in reference.colormap_label.labels if label not in ("", "?")]  # "?" lies between them
    assert named == ["reference grey", "reference white"]
    table = np.reshape(reference.colormap_label.lut, (-1, 4)).tolist()
    assert table[1] == [0x56, 0xB4, 0xE9, 255]
    assert table[4] == [0x00, 0x9E, 0x73, 255]
    assert [colour[3] for colour in table] == [0, 255, 0, 0, 255]
    assert prediction.colormap_label.lut != reference.colormap_label.lut


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a cell would show."""
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    return shown


def test_view_image_shows_the_widget_and_a_picture(
    image: MedicalImage, label_map: MedicalImage, displayed: list[Any]
) -> None:
    pytest.importorskip("ipyniivue")
    view = view_image(image, {"reference": label_map})
    view._ipython_display_()
    assert displayed[0] is view.widget
    assert displayed[1].data.startswith(b"\xff\xd8\xff")


def test_view_image_without_ipyniivue_is_a_picture(
    image: MedicalImage, label_map: MedicalImage, displayed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    view = view_image(image, {"reference": label_map}, LABELS)
    view._ipython_display_()
    assert view.widget is None
    assert [type(one).__name__ for one in displayed] == ["Image"]


def test_view_image_of_a_picture_has_no_third_axis() -> None:
    picture = MedicalImage(np.zeros((1, 8, 9), np.uint8), np.eye(4), (1.0, 1.0))
    assert view_image(picture).widget is None


def test_view_image_label_map_of_another_shape_is_refused(image: MedicalImage) -> None:
    small = build_image(np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(unet_pipeline.PipelineError, match=r"'reference' has shape \(3, 3, 3\)"):
        unet_pipeline.view_image(image, {"reference": small})
