"""Channels and label map of one case, put on one grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.case_reading import read_case_image, read_case_label
from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import DatasetError, ImageFileError

PLAIN = ReadOptions()
VOLUME = np.random.default_rng(0).integers(0, 100, (4, 5, 6)).astype(np.int16)


def test_read_case_image_channels_are_in_the_order_of_the_files(tmp_path: Path, write_nifti: Callable) -> None:
    for number in range(3):
        write_nifti(tmp_path / f"{number}.nii.gz", VOLUME + 1000 * number)
    case = Case("a", Path("2.nii.gz"), None, further_channels=(Path("0.nii.gz"), Path("1.nii.gz")))
    array = read_case_image(tmp_path, case, PLAIN).array
    np.testing.assert_array_equal(array, np.stack([VOLUME + 2000, VOLUME, VOLUME + 1000]))


def test_read_case_image_channel_elsewhere_is_named(tmp_path: Path, write_nifti: Callable) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    write_nifti(tmp_path / "b.nii.gz", VOLUME, spacing_mm=(0.8, 1.0, 3.0))
    case = Case("a", Path("a.nii.gz"), None, further_channels=(Path("b.nii.gz"),))
    with pytest.raises(ImageFileError, match=r"b\.nii\.gz lies up to 7\.5 mm away from the first channel a\.nii\.gz"):
        read_case_image(tmp_path, case, PLAIN)


def test_read_case_label_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Case a has no label map"):
        read_case_label(tmp_path, Case("a", Path("a.nii.gz"), None), None, PLAIN)


def test_read_case_label_says_whether_it_was_changed(tmp_path: Path, write_nifti: Callable) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    write_nifti(tmp_path / "same.nii.gz", (VOLUME > 50).astype(np.uint8))
    moved = np.diag([0.8, 1.0, 1.5, 1.0])
    moved[0, 3] = 40
    write_nifti(tmp_path / "moved.nii.gz", (VOLUME > 50).astype(np.uint8), affine=moved)
    image = read_case_image(tmp_path, Case("a", Path("a.nii.gz"), None), PLAIN)
    _, changed = read_case_label(tmp_path, Case("a", Path("a.nii.gz"), Path("same.nii.gz")), image, PLAIN)
    assert not changed
    case = Case("a", Path("a.nii.gz"), Path("moved.nii.gz"))
    with pytest.raises(ImageFileError, match=r"origin shifted by \(40, 0, 0\) mm"):
        read_case_label(tmp_path, case, image, PLAIN)
    label, changed = read_case_label(tmp_path, case, image, ReadOptions(copy_header=True))
    assert changed
    np.testing.assert_array_equal(label.affine, image.affine)
    assert [note.code for note in label.notes] == ["header-copied"]


def test_read_case_label_cropped_or_rounded_is_changed(tmp_path: Path, write_nifti: Callable) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    label = (VOLUME > 50).astype(np.uint8)
    image = read_case_image(tmp_path, Case("a", Path("a.nii.gz"), None), PLAIN)
    moved = image.affine.copy()
    moved[:3, 3] += image.affine[:3, :3] @ [1, 2, 0]
    write_nifti(tmp_path / "cropped.nii.gz", label[1:, 2:4], affine=moved)
    write_nifti(tmp_path / "near.nii.gz", (label * 0.999).astype(np.float32))
    cropped, changed = read_case_label(tmp_path, Case("a", Path("a.nii.gz"), Path("cropped.nii.gz")), image, PLAIN)
    expected = np.zeros_like(label)
    expected[1:, 2:4] = label[1:, 2:4]
    assert changed
    np.testing.assert_array_equal(cropped.array[0], expected)
    near, changed = read_case_label(tmp_path, Case("a", Path("a.nii.gz"), Path("near.nii.gz")), image, PLAIN)
    assert changed
    np.testing.assert_array_equal(near.array[0], label)


def test_read_case_pages_are_slices_of_image_and_label(tmp_path: Path) -> None:
    pages = [np.full((5, 8), level, np.uint8) for level in (10, 20, 30)]
    masks = [(page > 15).astype(np.uint8) for page in pages]
    for name, stack in (("a.tif", pages), ("b.tif", masks)):
        first, *others = (PillowImage.fromarray(page) for page in stack)
        first.save(tmp_path / name, save_all=True, append_images=others)
    options = ReadOptions(pages_as_slices=True)
    case = Case("a", Path("a.tif"), Path("b.tif"))
    image = read_case_image(tmp_path, case, options)
    label, changed = read_case_label(tmp_path, case, image, options)
    assert image.array.shape == label.array.shape == (1, 8, 5, 3)
    np.testing.assert_array_equal(label.array[0, 0, 0], [0, 1, 1])
    assert not changed
