"""What a network can take: said from the header, before its grid is allocated; and warnings about what it was not made for."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd

from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.input_check import check_size, check_values, find_network_grid, is_box, note_content

SHAPE = (36, 40, 32)


def build_grid(spacing_mm: float = 1.0, shape: tuple[int, ...] = SHAPE, lean: float = 0.0) -> ImageGrid:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[0, 1] = lean * spacing_mm
    return ImageGrid(1, shape, affine, (spacing_mm,) * 3, 4)


def build_preprocessing(spacing_mm: float = 1.0) -> Compose:
    """As `plan` begins it."""
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=[spacing_mm] * 3, mode="bilinear"),
        ]
    )


def test_check_size_ordinary_image_passes() -> None:
    check_size(build_grid(), build_preprocessing(), "a.nii.gz")
    check_size(build_grid(3.0), build_preprocessing(), "a.nii.gz")


@pytest.mark.parametrize("free_bytes", [1 << 34, 1 << 60])
def test_check_size_voxel_of_60_mm_is_refused_with_its_sizes(free_bytes: int) -> None:
    with pytest.raises(PredictionError) as caught:
        check_size(build_grid(60.0), build_preprocessing(), "a.nii.gz", free_bytes)
    words = str(caught.value)
    assert (
        "a.nii.gz is too large on the network's grid: 36x40x32 voxels of 60x60x60 mm become 2101x2341x1861 of 1x1x1 mm"
        in words
    )
    assert "34.1 GiB at least" in words
    assert f"{free_bytes / 2**30:.1f} GiB are free" in words
    assert "spacing in its header" in words


def test_check_size_is_about_what_is_free() -> None:
    grid, bytes_at_least = build_grid(), 2 * 4 * 36 * 40 * 32
    check_size(grid, build_preprocessing(), "a", bytes_at_least)
    with pytest.raises(PredictionError, match=r"0\.0 GiB are free"):
        check_size(grid, build_preprocessing(), "a", bytes_at_least - 1)


def test_check_size_large_image_at_its_own_size_is_only_a_matter_of_memory() -> None:
    check_size(build_grid(shape=(2000, 2000, 2000)), build_preprocessing(), "a", 1 << 40)


def test_find_network_grid_of_a_huge_grid_allocates_nothing() -> None:
    shape, _ = find_network_grid(build_grid(1e4), build_preprocessing())
    assert shape == (350001, 390001, 310001)


@pytest.mark.parametrize(("lean", "box"), [(0.0, True), (1e-7, True), (0.002, False), (0.4, False)])
def test_is_box_sheared_grid_is_none(lean: float, box: bool) -> None:
    assert is_box(build_grid(lean=lean), build_preprocessing()) is box


def build_image(array: np.ndarray, modality: str = "") -> MedicalImage:
    return MedicalImage(array[None], np.eye(4), (1.0, 1.0, 1.0), (), modality)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("value", [0, 7])
def test_note_content_constant_image_is_a_warning_with_its_value(dtype: type, value: int) -> None:
    (problem,) = note_content(build_image(np.full((3, 4, 5), value, dtype)), "a.nii.gz")
    assert problem.severity == "warning"
    assert f"a.nii.gz has the value {value} everywhere" in str(problem)


def test_note_content_ordinary_image_has_none() -> None:
    array = np.zeros((3, 4, 5), np.int16)
    array[0, 0, 0] = 1
    assert note_content(build_image(array, "MR"), "a", ("MR",)) == ()


def test_note_content_other_modality_names_both() -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    (problem,) = note_content(build_image(array, "CT"), "series", ("MR",))
    assert "series is of the DICOM modality CT, and the network was trained on MR" in str(problem)


@pytest.mark.parametrize("spacing_mm", [0.001, 0.01])
def test_check_size_image_of_which_nothing_is_left_is_refused_with_its_sizes(spacing_mm: float) -> None:
    with pytest.raises(PredictionError) as caught:
        check_size(build_grid(spacing_mm), build_preprocessing(), "a.nii.gz")
    words = str(caught.value)
    assert f"a.nii.gz is too small on the network's grid: 36x40x32 voxels of {spacing_mm:g}" in words
    assert "become 1x1x1 of 1x1x1 mm" in words
    assert "spacing in its header is right, and in mm" in words


def test_check_size_image_that_is_small_itself_passes() -> None:
    check_size(build_grid(0.01, shape=(2, 2, 2)), build_preprocessing(), "a.nii.gz")


def test_check_size_refinement_without_end_is_refused_whatever_the_memory() -> None:
    with pytest.raises(PredictionError, match="too large on the network's grid"):
        check_size(build_grid(20.0), build_preprocessing(), "a.nii.gz", 1 << 60)


@pytest.mark.parametrize("value", [3e38, -1e20, 1e300])
def test_check_values_beyond_what_can_be_normalised_are_refused_with_the_largest(value: float) -> None:
    array = np.zeros((1, 4, 4, 4))
    array[0, 1, 1, 1] = value
    with pytest.raises(PredictionError, match=r"a\.nii has values up to \d") as caught:
        check_values(build_image(array), "a.nii")
    assert "scl_slope" in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int16, np.uint64, np.float64])
def test_check_values_of_any_type_pass(dtype: type) -> None:
    check_values(build_image(np.arange(64).reshape(1, 4, 4, 4).astype(dtype)), "a.nii")


def test_note_content_values_that_float32_takes_for_one_are_constant() -> None:
    image = build_image(np.linspace(1e-300, 2e-300, 64).reshape(1, 4, 4, 4))
    assert [note.code for note in note_content(image, "a")] == ["constant-input"]
