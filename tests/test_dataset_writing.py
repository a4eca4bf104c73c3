"""What is written can be read back: the same voxels at the same places of the world."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import LoadImage

from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import fits_png, write_image
from unet_pipeline.errors import DatasetError


def draw_affine(permutation: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, list(permutation)] * signs
    affine[:3, 3] = (-31.5, 12.25, 100)
    return affine


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    num_channels=st.integers(1, 3),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64", "int64", "bool"]),
    permutation=st.permutations(range(3)).map(tuple),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    spacing=st.tuples(*[st.floats(0.1, 5)] * 3),
)
def test_write_image_any_volume_is_read_back(
    shape: tuple[int, ...],
    num_channels: int,
    dtype: str,
    permutation: tuple[int, ...],
    signs: tuple[int, ...],
    spacing: tuple[float, ...],
) -> None:
    array = np.random.default_rng(0).integers(0, 2, (num_channels, *shape)).astype(dtype)
    affine = draw_affine(permutation, signs, spacing)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii.gz"
        write_image(path, MedicalImage(array, affine, spacing))
        found = read_image(path)
    assert found.spatial_shape == shape
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    assert found.notes == ()


@pytest.mark.parametrize(("dtype", "num_channels"), [("uint8", 1), ("uint8", 3), ("uint16", 1)])
def test_write_image_picture_is_read_back_by_us_and_by_monai(tmp_path: Path, dtype: str, num_channels: int) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (num_channels, 7, 4)).astype(dtype)
    path = tmp_path / "image.png"
    write_image(path, MedicalImage(array, np.eye(4), (1.0, 1.0)))
    np.testing.assert_array_equal(read_image(path).array, array)
    loaded = LoadImage(image_only=True, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(np.asarray(loaded), array)


def test_write_image_form_without_place_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2 channel\(s\) of uint8 do not fit into a PNG"):
        write_image(tmp_path / "a.png", MedicalImage(np.zeros((2, 4, 4), np.uint8), np.eye(4), (1.0, 1.0)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "num_channels", "expected"),
    [("uint8", 1, True), ("uint8", 3, True), ("uint16", 1, True), ("uint16", 3, False), ("float32", 1, False)],
)
def test_fits_png_known_forms(dtype: str, num_channels: int, expected: bool) -> None:
    assert fits_png(np.dtype(dtype), num_channels) is expected
