"""What stock MONAI reads must be the same voxels that this package reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage
from PIL import Image as PillowImage

from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.stock import stock_reads

ROWS = np.random.default_rng(0).integers(0, 255, (5, 8, 4)).astype(np.uint8)


def save(path: Path, mode: str) -> Path:
    PillowImage.fromarray(ROWS).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "as_image", "as_label"),
    [
        ("a.png", "L", True, True),
        ("a.png", "1", True, True),
        ("a.png", "RGB", True, False),
        ("a.png", "RGBA", False, False),
        ("a.png", "P", False, False),
        ("a.jpg", "L", True, True),
        ("a.tif", "L", False, False),
    ],
)
def test_stock_reads_pictures_by_suffix_and_mode(
    tmp_path: Path, name: str, mode: str, as_image: bool, as_label: bool
) -> None:
    path = save(tmp_path / name, mode)
    assert stock_reads(path) is as_image
    assert stock_reads(path, as_label=True) is as_label


@pytest.mark.parametrize(("name", "mode"), [("a.png", "L"), ("a.png", "RGB"), ("a.png", "1"), ("a.jpg", "L")])
def test_stock_reads_pictures_as_we_do(tmp_path: Path, name: str, mode: str) -> None:
    path = save(tmp_path / name, mode)
    loaded = LoadImage(image_only=True, ensure_channel_first=True)(path)
    np.testing.assert_array_equal(np.asarray(loaded), read_image(path).array)


def test_stock_reads_volumes_as_we_do(tmp_path: Path, write_nifti: Callable) -> None:
    for name, shape in (("a.nii", (4, 5, 6)), ("b.nii.gz", (4, 5, 6, 3)), ("c.nii.gz", (4, 5))):
        path = write_nifti(tmp_path / name, np.random.default_rng(0).random(shape).astype(np.float32))
        assert stock_reads(path)
        loaded = LoadImage(image_only=True, ensure_channel_first=True)(path)
        found = read_image(path)
        np.testing.assert_array_equal(np.asarray(loaded), found.array)
        np.testing.assert_allclose(np.asarray(loaded.affine), found.affine)


def test_stock_reads_no_series_and_no_other_format(tmp_path: Path) -> None:
    assert not stock_reads(tmp_path)
    assert not stock_reads(tmp_path / "a.mha")


def test_stock_reads_no_volume_in_another_unit(tmp_path: Path, write_nifti: Callable) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros((4, 5, 6), np.float32))
    content = bytearray(path.read_bytes())
    for code, readable in ((0, True), (2, True), (1, False), (3, False)):
        content[123] = code
        path.write_bytes(content)
        assert stock_reads(path) is stock_reads(path, as_label=True) is readable
