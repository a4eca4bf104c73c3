"""DICOM series: the same voxels at the same places, or what is wrong with which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from scipy.spatial.transform import Rotation

from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import ImageFileError

from . import dicom_phantoms as phantoms

VOLUME = np.random.default_rng(0).integers(0, 1000, (6, 4, 5)).astype(np.int16)


def problem_of(path: Path) -> ImageFileError:
    with pytest.raises(ImageFileError) as caught:
        read_image(path, "images/a")
    for secret in (*phantoms.SECRETS, "1.2.3", "knee"):
        assert secret not in str(caught.value)
    return caught.value


def by_position(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))


# what is read


def test_read_dicom_axial_series_lies_where_its_headers_say(tmp_path: Path) -> None:
    image = read_image(phantoms.write_series(tmp_path / "a", VOLUME))
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.array.dtype == np.int16
    assert image.spacing_mm == pytest.approx((0.5, 0.75, 2.0))
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [-10, 20, 30, 1])
    np.testing.assert_allclose(image.affine @ [1, 2, 3, 1], [-10 - 0.5, 20 - 1.5, 30 + 6, 1])
    assert image.notes == ()


@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), gap_mm=st.floats(0.3, 9), backwards=st.booleans())
@settings(max_examples=25)
def test_read_dicom_any_orientation_has_every_voxel_in_its_place(
    angles: tuple[float, ...], gap_mm: float, backwards: bool
) -> None:
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    step = turn[:, 2] * gap_mm * (-1 if backwards else 1)
    orientation = [*turn[:, 0], *turn[:, 1]]
    with TemporaryDirectory() as folder:
        image = read_image(phantoms.write_series(Path(folder) / "a", VOLUME, step.tolist(), orientation))
    for index in ((0, 0, 0), (5, 3, 4), (2, 1, 3)):
        expected = (
            np.array([10, -20, 30]) + turn[:, 0] * 0.5 * index[0] + turn[:, 1] * 0.75 * index[1] + step * index[2]
        )
        inverse = np.linalg.inv(image.affine) @ [*(expected * (-1, -1, 1)), 1]
        found = tuple(np.rint(inverse[:3]).astype(int))
        np.testing.assert_allclose(inverse[:3], found, atol=1e-3)
        assert image.array[0][found] == VOLUME[index]


def test_read_dicom_one_file_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    (path,) = phantoms.write_series(tmp_path / "a", VOLUME[:, :, :1]).iterdir()
    image = read_image(path)
    assert image.array.shape == (1, 6, 4, 1)
    assert image.spacing_mm[2] == pytest.approx(2.0)


def test_read_dicom_file_without_suffix_is_known_by_its_mark(tmp_path: Path) -> None:
    (path,) = phantoms.write_series(tmp_path / "a", VOLUME[:, :, :1]).iterdir()
    assert read_image(path.rename(tmp_path / "IM00001")).array.shape == (1, 6, 4, 1)


def test_read_dicom_slope_and_intercept_count_slice_by_slice(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for number, path in enumerate(by_position(folder)):
        phantoms.edit(path, RescaleSlope=number + 1, RescaleIntercept=-1000)
    expected = VOLUME.astype(int) * np.arange(1, 6) - 1000
    np.testing.assert_array_equal(read_image(folder).array[0], expected)


def test_read_dicom_slope_that_is_no_whole_number_gives_float(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        phantoms.edit(path, RescaleSlope=0.5, RescaleIntercept=0)
    image = read_image(folder)
    assert image.array.dtype == np.float32
    np.testing.assert_allclose(image.array[0], VOLUME * 0.5)


def test_read_dicom_multi_frame_object_is_the_same_volume(tmp_path: Path) -> None:
    image = read_image(phantoms.write_frames(tmp_path / "a.dcm", VOLUME))
    np.testing.assert_array_equal(image.array[0], VOLUME)
    np.testing.assert_allclose(image.affine @ [1, 2, 3, 1], [-10 - 0.5, 20 - 1.5, 30 + 6, 1])


def test_read_dicom_run_length_compression_is_read(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.compress(RLELossless)
        header.save_as(path)
    np.testing.assert_array_equal(read_image(folder).array[0], VOLUME)


def test_read_dicom_x_ray_is_a_picture_with_spacing(tmp_path: Path) -> None:
    header = phantoms.build_header(VOLUME[:, :, 0].T, None)
    header.Modality, header.ImagerPixelSpacing = "DX", [0.2, 0.1]
    del header.PixelSpacing
    image = read_image(phantoms.save(header, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.array[0], VOLUME[:, :, 0])
    assert image.spacing_mm == (0.1, 0.2)


def test_read_dicom_inverted_grey_is_turned_and_said(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        phantoms.edit(path, PhotometricInterpretation="MONOCHROME1")
    image = read_image(folder)
    np.testing.assert_array_equal(image.array[0], -1 - VOLUME)  # of signed 16 bit
    assert [note.code for note in image.notes] == ["dicom-inverted"]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["hippocampus_crop_mr", "t1_post_mr"])
def test_read_dicom_real_series_is_what_itk_reads(pipeline_data: Path, name: str, tmp_path: Path) -> None:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(pipeline_data / "dicom" / name)))
    SimpleITK.WriteImage(reader.Execute(), str(tmp_path / "a.nii.gz"))
    found, expected = read_image(pipeline_data / "dicom" / name), read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=2e-3)


# what is set aside


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "1 secondary capture(s)"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "1 localizer(s)"),
        ({"Modality": "SEG"}, "1 SEG object(s)"),
        ({"Modality": "SR"}, "1 SR object(s)"),
        ({"ImagePositionPatient": None}, "1 MR picture(s) without position"),
    ],
)
def test_read_dicom_other_objects_are_set_aside_with_a_note(tmp_path: Path, changes: dict, words: str) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    other = phantoms.save(phantoms.build_header(VOLUME[:, :, 0].T, (0, 0, 0), uid="9.9"), folder / "other.dcm")
    phantoms.edit(other, **changes)
    image = read_image(folder)
    np.testing.assert_array_equal(image.array[0], VOLUME)
    (note,) = image.notes
    assert f"holds {words} beside series" in note.cause
    assert "9.9" not in str(note)


def test_read_dicom_other_files_are_counted(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    (folder / "notes.txt").write_text("x" * 500)
    (folder / "DICOMDIR").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"x")
    (note,) = read_image(folder).notes
    assert note.severity == "warning"
    assert "holds 1 file(s) that are no DICOM and are passed over: notes.txt" in note.cause


# what is refused


def remove_one(files: list[Path]) -> None:
    files[2].unlink()


def repeat_one(files: list[Path]) -> None:
    phantoms.edit(files[2], ImagePositionPatient=list(pydicom.dcmread(files[1]).ImagePositionPatient))


def turn_one(files: list[Path]) -> None:
    phantoms.edit(files[2], ImageOrientationPatient=[0, 1, 0, 0, 0, 1])


def rescale_one(files: list[Path]) -> None:
    phantoms.edit(files[2], PixelSpacing=[1.0, 1.0])


def shrink_one(files: list[Path]) -> None:
    smaller = phantoms.build_header(VOLUME[:-1, :, 2].T, pydicom.dcmread(files[2]).ImagePositionPatient)
    phantoms.save(smaller, files[2])


def tilt(files: list[Path]) -> None:
    for number, path in enumerate(files):
        phantoms.edit(path, ImagePositionPatient=[10, -20 + 0.1 * number, 30 + 2 * number])


def forget_spacing(files: list[Path]) -> None:
    phantoms.edit(files[2], PixelSpacing=None)


def cut_one(files: list[Path]) -> None:
    files[2].write_bytes(files[2].read_bytes()[:-10])


def damage_one(files: list[Path]) -> None:
    content = files[2].read_bytes()
    files[2].write_bytes(content[:140] + b"\xff" * 300)


def claim_too_much(files: list[Path]) -> None:
    for path in files:
        phantoms.edit(path, Rows=60000, Columns=60000)


def mix_series(files: list[Path]) -> None:
    for path in files[2:]:
        phantoms.edit(path, SeriesInstanceUID="1.2.3.4")


def colour_all(files: list[Path]) -> None:
    for path in files:
        phantoms.edit(path, SamplesPerPixel=3, PhotometricInterpretation="RGB")


def drop_pixels(files: list[Path]) -> None:
    phantoms.edit(files[2], PixelData=None)


@pytest.mark.parametrize(
    ("change", "words", "names_file"),
    [
        (remove_one, "has a gap of 4.00 mm between", False),
        (repeat_one, "lies at 32.00 mm along the normal, where", True),
        (turn_one, "has another orientation", True),
        (rescale_one, "has pixels of 1x1 mm instead of 0.75x0.5", True),
        (shrink_one, "has 5x4 pixels instead of 6x4", True),
        (tilt, "was taken with a tilted gantry, its slices are shifted by 2.9 degrees", False),
        (forget_spacing, "lacks PixelSpacing", True),
        (cut_one, "is truncated, 38 bytes of pixels of 48", True),
        (claim_too_much, "is truncated, 48 bytes of pixels of 7200000000", True),
        (mix_series, "holds 2 series: series", False),
        (colour_all, "is a colour picture (RGB)", True),
        (drop_pixels, "is truncated, 0 bytes of pixels", True),
    ],
)
def test_read_dicom_what_is_wrong_is_said(
    tmp_path: Path, change: Callable[[list[Path]], None], words: str, names_file: bool
) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    change(by_position(folder))
    problem = problem_of(folder)
    assert words in problem.cause
    assert problem.file.startswith("images/a/" if names_file else "images/a")
    assert problem.code.startswith("dicom-")


def test_read_dicom_damaged_file_is_named(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    files = by_position(folder)
    damage_one(files)
    assert files[2].name in str(problem_of(folder))


def test_read_dicom_empty_folder_and_folder_of_localizers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert problem_of(tmp_path / "empty").cause == "has no DICOM file"
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        phantoms.edit(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert problem_of(folder).cause == "has no series of images, only 5 localizer(s)"


def test_read_dicom_frames_without_positions_are_refused(tmp_path: Path) -> None:
    path = phantoms.write_frames(tmp_path / "a.dcm", VOLUME)
    phantoms.edit(path, PerFrameFunctionalGroupsSequence=None)
    assert "has 5 frames without positions" in problem_of(path).cause


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_read_dicom_lossless_jpeg_is_read(tmp_path: Path, compressor: str) -> None:
    rows = np.random.default_rng(0).integers(-500, 1000, (40, 60)).astype(np.int16)
    image = SimpleITK.GetImageFromArray(rows[None])
    tags = {
        "0008|0016": phantoms.MR_IMAGE,
        "0008|0060": "MR",
        "0020|000e": "1.2.3",
        "0020|0032": "10\\-20\\30",
        "0020|0037": "1\\0\\0\\0\\1\\0",
    }
    for tag, value in tags.items():
        image.SetMetaData(tag, value)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    writer.Execute(image)
    assert pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").array[0, :, :, 0], rows.T)


# headers that are no grid


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"PixelSpacing": [0, 0]}, "pixels of 0x0 mm"),
        ({"PixelSpacing": [-0.75, 0.5]}, "pixels of -0.75x0.5 mm"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "rows and columns that are not at right angles"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.866, 0]}, "rows and columns that are not at right angles"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "rows and columns that are not at right angles"),
    ],
)
def test_read_dicom_geometry_that_is_no_grid_is_named(tmp_path: Path, changes: dict, found: str) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        phantoms.edit(path, **changes)
    problem = problem_of(folder)
    assert problem.code == "dicom-bad-geometry"
    assert found in problem.cause


def test_read_dicom_slice_of_another_modality_is_named(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    strange = sorted(folder.iterdir())[-1]
    phantoms.edit(strange, Modality="CT")
    problem = problem_of(folder)
    assert problem.file == f"images/a/{strange.name}"
    assert "has the modality CT instead of MR" in problem.cause


def test_read_dicom_gap_names_the_files_that_may_be_the_slice(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    inner = by_position(folder)[2]
    inner.write_bytes(b"")
    problem = problem_of(folder)
    assert problem.code == "dicom-missing-slice"
    assert "has a gap of 4.00 mm" in problem.cause
    assert f"passed over: {inner.name}" in problem.cause


def test_read_dicom_deflated_series_has_the_same_voxels(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        header.save_as(path)
    np.testing.assert_array_equal(read_image(folder).array[0], VOLUME)


@pytest.mark.parametrize("modality", ["DX", "CR", "MG"])
def test_read_dicom_xray_with_a_position_is_a_picture(tmp_path: Path, modality: str) -> None:
    rows = np.arange(12, dtype=np.uint16).reshape(3, 4)
    path = phantoms.save(phantoms.build_header(rows, (0, 0, 0)), tmp_path / "a.dcm")
    phantoms.edit(path, Modality=modality)
    image = read_image(path)
    np.testing.assert_array_equal(image.array[0], rows.T)
    assert image.array.shape == (1, 4, 3)
