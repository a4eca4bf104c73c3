"""Forms of NIfTI and Analyze: versions, pairs, compression under any name, and which axes are channels."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from monai.transforms import EnsureChannelFirst, LoadImage

from unet_pipeline.dataset.image import read_grid, read_image, read_label_map
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.nifti_file import VECTOR_INTENT, is_plain_nifti
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.errors import ImageFileError

AFFINE = np.array([[-0.8, 0, 0, 30], [0, 1.0, 0, -20], [0, 0, 2.5, 7], [0, 0, 0, 1]])
VOLUME = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.int16)
COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def read(path: Path) -> MedicalImage:
    """The image, whose header alone must tell the same grid."""
    image, grid = read_image(path), read_grid(path)
    assert (grid.num_channels, grid.spatial_shape) == (image.array.shape[0], image.spatial_shape)
    assert grid.value_bytes == image.array.dtype.itemsize
    np.testing.assert_array_equal(grid.affine, image.affine)
    assert grid.spacing_mm == image.spacing_mm
    return image


def refuse(path: Path, reader: Callable = read_image) -> ImageFileError:
    with pytest.raises(ImageFileError) as caught:
        reader(path)
    assert "Copy it again" not in caught.value.remedy
    return caught.value


# versions, pairs, compression


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_read_nifti_both_versions_give_voxels_and_grid(tmp_path: Path, kind: type, name: str, big_endian: bool) -> None:
    header = kind.header_class(endianness=">" if big_endian else "<")
    header.set_data_dtype(np.int16)
    nib.save(kind(VOLUME, AFFINE, header), tmp_path / name)
    image = read(tmp_path / name)
    np.testing.assert_array_equal(image.array[0], VOLUME)
    np.testing.assert_allclose(image.affine, AFFINE)
    assert not image.notes
    np.testing.assert_array_equal(read_label_map(tmp_path / name).array[0], VOLUME)


def test_read_nifti_second_version_is_read_alike_by_monai(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(VOLUME, AFFINE), tmp_path / "a.nii.gz")
    assert is_plain_nifti(tmp_path / "a.nii.gz")
    loaded = EnsureChannelFirst()(LoadImage(image_only=True)(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(loaded.numpy(), read(tmp_path / "a.nii.gz").array)
    np.testing.assert_allclose(loaded.affine.numpy(), AFFINE)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("named", ["hdr", "img"])
def test_read_nifti_pair_is_read_by_either_name(tmp_path: Path, kind: type, ending: str, named: str) -> None:
    nib.save(kind(VOLUME, AFFINE), tmp_path / f"a.img{ending}")
    image = read(tmp_path / f"a.{named}{ending}")
    np.testing.assert_array_equal(image.array[0], VOLUME)
    np.testing.assert_allclose(image.affine, AFFINE)
    assert not image.notes
    assert not is_plain_nifti(tmp_path / f"a.{named}{ending}")


def test_read_nifti_pair_of_one_compressed_file_and_a_plain_one_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "a.img")
    (tmp_path / "a.img.gz").write_bytes(gzip.compress((tmp_path / "a.img").read_bytes()))
    (tmp_path / "a.img").unlink()
    np.testing.assert_array_equal(read(tmp_path / "a.hdr").array[0], VOLUME)


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
def test_read_nifti_analyze_has_nibabels_grid_and_a_warning_about_the_side(tmp_path: Path, kind: type) -> None:
    nib.save(kind(VOLUME, np.diag([-0.8, 1, 2.5, 1])), tmp_path / "a.img")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    image = read(tmp_path / "a.hdr")
    np.testing.assert_array_equal(image.array[0], VOLUME)
    np.testing.assert_allclose(image.affine, nib.load(tmp_path / "a.hdr").affine)
    assert image.affine[0, 0] == pytest.approx(-0.8)
    (warning,) = image.notes
    assert (warning.code, warning.severity) == ("analyze-orientation", "warning")
    assert "does not say which side is left" in warning.cause


@pytest.mark.parametrize("missing", ["hdr", "img"])
def test_read_nifti_half_a_pair_names_the_other_half(tmp_path: Path, missing: str) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "a.img")
    (tmp_path / f"a.{missing}").unlink()
    problem = refuse(tmp_path / ("a.img" if missing == "hdr" else "a.hdr"))
    assert f"half of a pair of files (.hdr and .img), and a.{missing} is not beside it" in problem.cause


def test_read_nifti_header_of_a_pair_under_the_name_of_one_file_is_named(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "b.nii")
    assert "is the header of a pair of files" in refuse(tmp_path / "b.nii").cause


@pytest.mark.parametrize("cut", [1, 100])
def test_read_nifti_truncated_pair_is_refused(tmp_path: Path, cut: int) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, AFFINE), tmp_path / "a.img")
    content = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(content[:-cut])
    with pytest.raises(ImageFileError, match=f"the header claims 240 bytes, the file can hold {240 - cut}"):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_read_nifti_compression_is_found_by_content(tmp_path: Path, kind: type) -> None:
    content = kind(VOLUME, AFFINE).to_bytes()
    (tmp_path / "a.nii").write_bytes(gzip.compress(content))
    (tmp_path / "b.nii.gz").write_bytes(content)
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(content))
    for name, plain in (("a.nii", False), ("b.nii.gz", False), ("c.nii.gz", True)):
        np.testing.assert_array_equal(read(tmp_path / name).array[0], VOLUME)
        assert is_plain_nifti(tmp_path / name) == plain


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "PNG"),
        (b"NRRD0004\n" + bytes(400), "NRRD"),
        (b"ObjectType = Image\n" + bytes(400), "MetaImage"),
        (bytes(128) + b"DICM" + bytes(400), "DICOM"),
        (b"PK\x03\x04" + bytes(400), "ZIP"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_read_nifti_other_content_is_named(tmp_path: Path, content: bytes, found: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refuse(tmp_path / name).cause == f"is named as NIfTI and holds {found}"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_read_nifti_web_page_is_to_be_downloaded_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<!DOCTYPE html><p>404")
    problem = refuse(tmp_path / name)
    assert problem.code == "web-page"
    assert "download that failed" in problem.cause
    assert problem.remedy == "Download the file again."


@pytest.mark.parametrize("offset", [0.0, 100.0, float("nan"), 1e30])
def test_read_nifti_voxels_that_begin_nowhere_are_said(tmp_path: Path, offset: float) -> None:
    nib.save(nib.Nifti1Image(VOLUME, AFFINE), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[108:112] = np.array([offset], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    cause = refuse(tmp_path / "a.nii").cause
    assert "has voxels that begin at byte" in cause
    assert "expected 348 to" in cause
    assert "vox_offset" in cause


@pytest.mark.parametrize(("at", "value"), [(280, np.nan), (292, np.inf), (280, 0.0)])
def test_read_nifti_affine_that_is_no_grid_is_named_as_such(tmp_path: Path, at: int, value: float) -> None:
    nib.save(nib.Nifti1Image(VOLUME, np.diag([2.0, 2, 2, 1])), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[at : at + 4] = np.array([value], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    problem = refuse(tmp_path / "a.nii")
    assert problem.code == "nifti-affine"
    assert "no grid" in problem.cause
    assert "Correct the header" in problem.remedy
    assert "Copy it again" not in problem.remedy


def test_read_nifti_tiny_voxels_are_a_grid(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(VOLUME, np.diag([1e-5, 1e-5, 1e-5, 1])), tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").spacing_mm == pytest.approx((1e-5,) * 3)


def test_read_nifti_quaternion_that_is_no_rotation_is_named(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOLUME, AFFINE)
    image.set_sform(None, 0)
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[256:268] = np.array([5, 5, 5], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    problem = refuse(tmp_path / "a.nii")
    assert problem.code == "nifti-quaternion"
    assert "quaternion is no rotation" in problem.cause


def test_read_nifti_one_axis_is_named(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.arange(5, dtype=np.int16), AFFINE), tmp_path / "a.nii")
    assert "has 1 axes (5,); expected 2 or 3 axes in space" in refuse(tmp_path / "a.nii").cause


# axes


def save(path: Path, array: np.ndarray, intent: int = 0, units: tuple[str, str] | None = None, step: float = 1) -> Path:
    image = nib.Nifti1Image(array, AFFINE)
    image.header["intent_code"] = intent
    if units:
        image.header.set_xyzt_units(*units)
    if array.ndim > 3:
        image.header["pixdim"][4] = step
    nib.save(image, path)
    return path


CHANNELS = np.random.default_rng(1).integers(0, 9, (4, 5, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("intent", [0, VECTOR_INTENT, 1006, 2003])
@pytest.mark.parametrize("axis", [4, 5])
def test_read_nifti_channels_along_the_fourth_or_fifth_axis_are_alike(tmp_path: Path, intent: int, axis: int) -> None:
    array = CHANNELS if axis == 4 else CHANNELS[..., None, :]
    image = read(save(tmp_path / "a.nii.gz", array, intent))
    np.testing.assert_array_equal(image.array, np.moveaxis(CHANNELS, -1, 0))
    assert len(image.spacing_mm) == 3
    assert is_plain_nifti(tmp_path / "a.nii.gz") == (axis == 4)


@pytest.mark.parametrize("dims", [2, 3])
def test_read_nifti_vector_image_of_itk_is_read_with_its_channels(tmp_path: Path, dims: int) -> None:
    array = CHANNELS if dims == 3 else CHANNELS[:, :, 0]
    made = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.swapaxes(0, dims - 1)), isVector=True)
    made.SetSpacing((0.8, 1.0, 2.5)[:dims])
    SimpleITK.WriteImage(made, str(tmp_path / "a.nii.gz"))
    image = read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))
    assert image.spacing_mm == pytest.approx((0.8, 1.0, 2.5)[:dims])


@pytest.mark.parametrize("axes", [(4,), (4, 5), (4, 5, 6)])
def test_read_nifti_further_axes_of_length_one_are_dropped(tmp_path: Path, axes: tuple[int, ...]) -> None:
    path = save(tmp_path / "a.nii.gz", VOLUME.reshape(*VOLUME.shape, *(1 for _ in axes)))
    np.testing.assert_array_equal(read(path).array[0], VOLUME)
    assert is_plain_nifti(path) == (len(axes) == 1)


@pytest.mark.parametrize(("stored", "expected"), [((4, 5), (4, 5)), ((4, 5, 1), (4, 5, 1)), ((4, 5, 1, 1), (4, 5))])
def test_read_nifti_two_dimensions_are_kept_with_and_without_further_axes(
    tmp_path: Path, stored: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    image = read(save(tmp_path / "a.nii.gz", VOLUME[:, :, 0].reshape(stored)))
    np.testing.assert_array_equal(image.array[0], VOLUME[:, :, 0].reshape(expected))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6)])
def test_read_nifti_colours_become_three_channels_with_a_note(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).integers(0, 255, (*shape, 3)).astype(np.uint8)
    path = save(tmp_path / "a.nii.gz", np.ascontiguousarray(values).view(COLOUR)[..., 0])
    image = read(path)
    np.testing.assert_array_equal(image.array, np.moveaxis(values, -1, 0))
    assert [note.code for note in image.notes] == ["nifti-colours"]
    assert not is_plain_nifti(path)
    assert "holds colours (RGB); expected a label map" in refuse(path, read_label_map).cause


@pytest.mark.parametrize("alpha", [255, 254])
def test_read_nifti_alpha_is_dropped_where_it_is_opaque(tmp_path: Path, alpha: int) -> None:
    values = np.random.default_rng(2).integers(0, 255, (4, 5, 6, 4)).astype(np.uint8)
    values[..., 3] = 255
    values[0, 0, 0, 3] = alpha
    array = np.ascontiguousarray(values).view(np.dtype([*COLOUR.descr, ("A", "u1")]))[..., 0]
    path = save(tmp_path / "a.nii.gz", array)
    if alpha < 255:
        assert "colours with transparency in 1 of them (RGBA) as voxels" in refuse(path).cause
        return
    image = read(path)
    np.testing.assert_array_equal(image.array, np.moveaxis(values[..., :3], -1, 0))
    assert [note.code for note in image.notes] == ["nifti-opaque-alpha", "nifti-colours"]


@pytest.mark.parametrize(
    ("kwargs", "count", "words"),
    [
        ({"units": ("mm", "sec"), "step": 2.5}, 3, "is a time series of 3 volumes, 2.5 s apart"),
        ({"units": ("mm", "msec"), "step": 800}, 3, "is a time series of 3 volumes, 800 ms apart"),
        ({"units": ("mm", "sec")}, 40, "is a time series of 40 volumes, 1 s apart"),
        ({"intent": 2001}, 3, "is a time series of 3 volumes;"),
        ({"units": ("mm", "ppm")}, 3, "has 3 volumes along a fourth axis in ppm (a spectrum)"),
    ],
)
def test_read_nifti_times_and_spectra_are_named(tmp_path: Path, kwargs: dict, count: int, words: str) -> None:
    array = np.zeros((3, 4, 5, count), np.uint8)
    assert words in refuse(save(tmp_path / "a.nii.gz", array, **kwargs)).cause
    assert words in refuse(save(tmp_path / "a.nii.gz", array, **kwargs), read_grid).cause


@pytest.mark.parametrize("kwargs", [{}, {"units": ("mm", "sec")}, {"units": ("mm", "sec"), "step": 0}, {"step": 2.5}])
def test_read_nifti_unit_of_time_that_programs_set_always_leaves_channels(tmp_path: Path, kwargs: dict) -> None:
    assert read(save(tmp_path / "a.nii.gz", CHANNELS, **kwargs)).array.shape == (3, 4, 5, 6)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4, 5), np.complex64), "has complex numbers as voxels"),
        (np.zeros((3, 4, 5), np.complex128), "has complex numbers as voxels"),
        (np.zeros((3, 4, 5, 2, 3), np.uint8), "has 2 volumes of 3 channels each (3, 4, 5, 2, 3)"),
        (np.zeros((3, 4, 5, 1, 1, 2), np.uint8), "has 6 axes (3, 4, 5, 1, 1, 2)"),
        (np.zeros((3, 4, 5, 2), COLOUR), "has colours (RGB) and 4 axes (3, 4, 5, 2)"),
    ],
)
def test_read_nifti_what_no_image_has_is_named(tmp_path: Path, array: np.ndarray, words: str) -> None:
    assert words in refuse(save(tmp_path / "a.nii.gz", array)).cause


def test_write_image_two_dimensions_with_channels_are_read_back_by_us_and_by_monai(tmp_path: Path) -> None:
    image = MedicalImage(np.moveaxis(CHANNELS[:, :, 0], -1, 0), AFFINE, (0.8, 1.0))
    write_image(tmp_path / "a.nii.gz", image)
    again = read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.array, image.array)
    assert again.spacing_mm == pytest.approx((0.8, 1.0))
    assert is_plain_nifti(tmp_path / "a.nii.gz")
    loaded = EnsureChannelFirst(channel_dim=-1)(LoadImage(image_only=True)(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(loaded.numpy(), image.array)
