"""NIfTI: what the header says about the grid, and the memory that reading takes."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.nifti import read_nifti, read_nifti_grid, uses_mm
from unet_pipeline.errors import ImageFileError

# offsets of the NIfTI-1 standard
PIXDIM, SLOPE_INTERCEPT, XYZT_UNITS, QFORM_CODE, SFORM_CODE = 76, 112, 123, 252, 254
SHAPE = (3, 4, 5)


def save(path: Path, affine: np.ndarray, qform: np.ndarray | None = None, sform_code: int = 1) -> Path:
    """3 x 4 x 5 voxels; with a qform where one is given."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(SHAPE), affine)
    image.set_sform(affine, sform_code)
    image.set_qform(qform, 0 if qform is None else 1)
    nib.save(image, path)
    return path


def patch(path: Path, offset: int, layout: str, *values: float) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def list_codes(image: MedicalImage) -> list[str]:
    assert {note.severity for note in image.notes} <= {"warning"}
    assert {note.file for note in image.notes} <= {"case"}
    return [note.code for note in image.notes]


def build_affine(angles: tuple[float, ...], spacing_mm: tuple[float, ...], origin: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing_mm
    affine[:3, 3] = origin
    return affine


# the two affines


@given(
    angles=st.tuples(*[st.one_of(st.floats(-180, 180), st.sampled_from([0, 90, 180, 179.99]))] * 3),
    spacing_mm=st.tuples(*[st.floats(0.125, 8)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    flipped=st.booleans(),
    shift_mm=st.sampled_from([0, 0.01, 5]),
)
def test_read_nifti_equal_forms_have_no_note_and_shifted_ones_have(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, ...],
    spacing_mm: tuple[float, ...],
    origin: tuple[float, ...],
    flipped: bool,
    shift_mm: float,
) -> None:
    affine = build_affine(angles, spacing_mm, origin)
    affine[:3, 2] *= -1 if flipped else 1
    qform = affine.copy()
    qform[0, 3] += shift_mm
    image = read_nifti(save(tmp_path_factory.getbasetemp() / "forms.nii", affine, qform), "case")
    assert list_codes(image) == (["nifti-forms-differ"] if shift_mm else [])
    np.testing.assert_allclose(image.affine, affine, atol=1e-3)


def test_read_nifti_different_forms_are_named_with_the_distance(tmp_path: Path) -> None:
    qform = np.diag([1.0, 1, 1, 1])
    qform[1, 3] = 7.5
    (note,) = read_nifti(save(tmp_path / "case.nii", np.eye(4), qform), "case").notes
    assert "7.5 mm" in note.cause
    assert "sform is used" in note.cause


def test_read_nifti_rotated_qform_is_named(tmp_path: Path) -> None:
    qform = build_affine((0, 0, 2), (1, 1, 1), (0, 0, 0))  # moves the far corners by 0.13 mm, the first voxel not
    assert list_codes(read_nifti(save(tmp_path / "case.nii", np.eye(4), qform), "case")) == ["nifti-forms-differ"]


def test_read_nifti_without_forms_says_that_orientation_is_a_guess(tmp_path: Path) -> None:
    path = patch(save(tmp_path / "case.nii", np.eye(4)), SFORM_CODE, "h", 0)
    (note,) = read_nifti(path, "case").notes
    assert note.code == "nifti-no-affine"
    assert "guess" in note.cause


@pytest.mark.parametrize("sign", [1, -1])
def test_read_nifti_either_handedness_is_no_problem(tmp_path: Path, sign: int) -> None:
    image = read_nifti(save(tmp_path / "case.nii", np.diag([sign, 1.0, 1, 1])), "case")
    assert image.notes == ()
    assert np.sign(np.linalg.det(image.affine)) == sign


@pytest.mark.parametrize(("lean", "noted"), [(0.0, False), (0.0005, False), (0.01, True), (-0.5, True)])
def test_read_nifti_shear_is_named_from_a_thousandth_on(tmp_path: Path, lean: float, noted: bool) -> None:
    affine = np.eye(4)
    affine[0, 1] = lean
    image = read_nifti(save(tmp_path / "case.nii", affine), "case")
    assert list_codes(image) == (["nifti-shear"] if noted else [])
    if noted:
        assert f"{90 - np.degrees(np.arctan(abs(lean))):.2f} degrees" in image.notes[0].cause


# voxel size and unit


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_read_nifti_impossible_voxel_size_is_refused_where_the_grid_is_made_from_it(
    tmp_path: Path, size: float
) -> None:
    for qform in (None, np.eye(4)):
        path = save(tmp_path / "case.nii", np.eye(4), qform, sform_code=0)
        with pytest.raises(ImageFileError, match=f"1 x {size:g} x 1 mm"):
            read_nifti(patch(path, PIXDIM + 8, "f", size), "case")


@pytest.mark.parametrize("size", [0.0, float("nan"), -1.0])
def test_read_nifti_odd_voxel_size_beside_an_sform_is_a_warning(tmp_path: Path, size: float) -> None:
    path = patch(save(tmp_path / "case.nii", np.diag([1, 2, 3, 1.0])), PIXDIM + 8, "f", size)
    image = read_nifti(path, "case")
    assert list_codes(image) == ["nifti-odd-voxel-size"]
    assert image.spacing_mm == (1.0, 2.0, 3.0)


def test_read_nifti_negative_voxel_size_is_taken_as_positive(tmp_path: Path) -> None:
    path = save(tmp_path / "case.nii", np.diag([1, 2, 3, 1.0]), np.diag([1, 2, 3, 1.0]), sform_code=0)
    image = read_nifti(patch(path, PIXDIM + 8, "f", -2.0), "case")
    assert list_codes(image) == ["nifti-odd-voxel-size"]
    assert image.spacing_mm == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("code", "unit", "size", "size_mm"),
    [
        (0, "", 2.0, 2.0),
        (2, "", 2.0, 2.0),
        (10, "", 2.0, 2.0),
        (4, "", 2.0, 2.0),
        (1, "metre", 0.002, 2.0),
        (9, "metre", 0.002, 2.0),
        (3, "micrometre", 2000.0, 2.0),
        (11, "micrometre", 500.0, 0.5),
    ],
)
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_read_nifti_other_unit_is_converted_to_mm_and_named(
    tmp_path: Path, code: int, unit: str, size: float, size_mm: float, form: str
) -> None:
    affine = np.diag([size, size, size, 1])
    affine[:3, 3] = size * np.array([5, -7, 9])
    path = save(tmp_path / "case.nii", affine, affine if form == "qform" else None, int(form == "sform"))
    image = read_nifti(patch(path, XYZT_UNITS, "B", code), "case")
    assert list_codes(image) == (["nifti-unit"] if unit else [])
    assert (
        not unit or f"are in {unit}s; they were converted, which makes voxels of {size_mm:g}x" in image.notes[0].cause
    )
    assert image.spacing_mm == pytest.approx((size_mm,) * 3)
    np.testing.assert_allclose(image.affine[:3, 3], size_mm * np.array([5, -7, 9]), rtol=1e-5)
    grid = read_nifti_grid(path, "case")
    np.testing.assert_array_equal(grid.affine, image.affine)
    assert grid.spacing_mm == image.spacing_mm
    assert uses_mm(path) == (unit == "")


def test_read_nifti_metres_beside_numbers_in_mm_are_refused(tmp_path: Path) -> None:
    path = patch(save(tmp_path / "case.nii", np.diag([2.0, 2, 2, 1])), XYZT_UNITS, "B", 1)
    with pytest.raises(ImageFileError, match="in metres, which would make voxels of 2000x2000x2000 mm"):
        read_nifti(path, "case")


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [
        (float("inf"), 0.0),
        (float("-inf"), 0.0),
        (2.0, float("nan")),
        (1.0, float("inf")),
        (1e38, 0.0),
        (1.0, 1e38),
        (1.0, -1e38),
        (-1e19, 0.0),
    ],
)
def test_read_nifti_scaling_that_is_no_number_is_refused(tmp_path: Path, slope: float, intercept: float) -> None:
    path = patch(save(tmp_path / "case.nii", np.eye(4)), SLOPE_INTERCEPT, "ff", slope, intercept)
    with pytest.raises(ImageFileError, match=r"has the scaling .* x value .*; expected numbers up to 1e"):
        read_nifti(path, "case")


@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.0, 0.0), (float("nan"), float("nan")), (0.0, float("inf")), (0.0, 1e38)]
)
def test_read_nifti_no_scaling_in_its_usual_forms_is_none(tmp_path: Path, slope: float, intercept: float) -> None:
    path = patch(save(tmp_path / "case.nii", np.eye(4)), SLOPE_INTERCEPT, "ff", slope, intercept)
    assert read_nifti(path, "case").array.dtype == np.int16


@pytest.mark.parametrize(("slope", "intercept"), [(1e15, 0.0), (1.0, -1e17), (1e-9, 0.0)])
def test_read_nifti_large_and_small_scaling_is_taken(tmp_path: Path, slope: float, intercept: float) -> None:
    path = patch(save(tmp_path / "case.nii", np.eye(4)), SLOPE_INTERCEPT, "ff", slope, intercept)
    assert read_nifti(path, "case").array.dtype == np.float32


# values and memory


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_read_nifti_without_slope_keeps_the_type_in_native_order(
    tmp_path: Path, write_nifti: Callable, dtype: str
) -> None:
    array = np.arange(60).reshape(SHAPE).astype(dtype)
    read = read_nifti(write_nifti(tmp_path / "case.nii.gz", array), "case")
    assert read.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.array.dtype.isnative
    np.testing.assert_array_equal(read.array[0], array)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("slope", "expected"), [((1.0, 0.0), np.int16), ((0.5, -1000.0), np.float32)])
def test_read_nifti_large_volume_takes_at_most_twice_its_voxels(
    tmp_path: Path, write_nifti: Callable, compressed: bool, slope: tuple[float, float], expected: type
) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (128, 128, 128)).astype(np.int16)
    path = patch(write_nifti(tmp_path / "case.nii", array), SLOPE_INTERCEPT, "2f", *slope)
    if compressed:
        (tmp_path / "case.nii.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path = tmp_path / "case.nii.gz"
    tracemalloc.start()
    try:
        read = read_nifti(path, "case")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert read.array.dtype == expected
    np.testing.assert_array_equal(read.array[0], array * np.float32(slope[0]) + np.float32(slope[1]))
    assert peak_bytes <= 2 * read.array.nbytes


@pytest.mark.real_data
def test_read_nifti_real_volumes_equal_nibabels(pipeline_data: Path) -> None:
    paths = sorted((pipeline_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))[:10]
    assert paths
    for path in [*paths, pipeline_data / "ct_abdomen" / "example_ct_sm.nii.gz"]:
        read, expected = read_nifti(path, "case"), nib.load(path)
        np.testing.assert_allclose(read.array[0], expected.get_fdata(), rtol=1e-6)
        np.testing.assert_array_equal(read.affine, expected.affine)
