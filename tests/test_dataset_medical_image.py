"""The grid that a header gives is that of the image, in every format, and no voxel is read for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image as PillowImage

from unet_pipeline.dataset.case_reading import read_case_grid, read_case_image
from unet_pipeline.dataset.dataset import Case, image_suffix
from unet_pipeline.dataset.formats import FORMAT_OF, FORMATS
from unet_pipeline.dataset.image import READERS, read_grid, read_image
from unet_pipeline.dataset.medical_image import ImageGrid
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import ImageFileError

from . import dicom_phantoms

VOLUME = np.arange(60 * 50 * 40, dtype=np.int16).reshape(60, 50, 40)
AFFINE = np.array([[0, 0, 1.3, 4], [-0.9, 0, 0, 9], [0, 2.0, 0, -7], [0, 0, 0, 1]])


def write_nifti(path: Path, array: np.ndarray, slope: float | None = None) -> Path:
    image = nib.Nifti1Image(array, AFFINE)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


def write_itk(path: Path, components: int = 1) -> Path:
    array = np.repeat(VOLUME[..., None], components, axis=-1) if components > 1 else VOLUME
    image = SimpleITK.GetImageFromArray(array, isVector=components > 1)
    image.SetSpacing((0.5, 0.75, 2))
    image.SetOrigin((1, 2, 3))
    SimpleITK.WriteImage(image, str(path), components == 1)
    return path


def write_picture(path: Path, mode: str) -> Path:
    rows = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
    picture = PillowImage.fromarray(rows.astype(np.uint16) * 200) if mode == "I;16" else PillowImage.fromarray(rows)
    (picture if mode == "I;16" else picture.convert(mode)).save(path)
    return path


def write_frames(folder: Path) -> Path:
    return dicom_phantoms.write_frames(folder / "frames.dcm", VOLUME)


def write_x_ray(folder: Path) -> Path:
    header = dicom_phantoms.build_header(VOLUME[:, :, 0].T, None)
    header.Modality = "DX"
    return dicom_phantoms.save(header, folder / "x_ray.dcm")


FILES: dict[str, Callable[[Path], Path]] = {
    "nii": lambda folder: write_nifti(folder / "a.nii", VOLUME),
    "nii.gz": lambda folder: write_nifti(folder / "a.nii.gz", VOLUME.astype(np.float64)),
    "nii.gz scaled": lambda folder: write_nifti(folder / "a.nii.gz", VOLUME, slope=0.5),
    "nii.gz channels": lambda folder: write_nifti(folder / "a.nii.gz", np.stack([VOLUME] * 3, axis=-1)),
    "nii.gz plane": lambda folder: write_nifti(folder / "a.nii.gz", VOLUME[..., 0]),
    "nrrd": lambda folder: write_itk(folder / "a.nrrd"),
    "mha": lambda folder: write_itk(folder / "a.mha"),
    "mhd components": lambda folder: write_itk(folder / "a.mhd", components=2),
    "png": lambda folder: write_picture(folder / "a.png", "L"),
    "png 16 bit": lambda folder: write_picture(folder / "a.png", "I;16"),
    "png colour": lambda folder: write_picture(folder / "a.png", "RGB"),
    "tif": lambda folder: write_picture(folder / "a.tif", "L"),
    "jpg": lambda folder: write_picture(folder / "a.jpg", "RGB"),
    "dicom series": lambda folder: dicom_phantoms.write_series(folder / "series", VOLUME[:, :, :5]),
    "dicom frames": write_frames,
    "dicom x-ray": write_x_ray,
}


def assert_equal(found: ImageGrid, expected: ImageGrid) -> None:
    np.testing.assert_allclose(found.affine, expected.affine, rtol=0, atol=1e-12)
    assert found.spacing_mm == pytest.approx(expected.spacing_mm, abs=1e-12)
    assert (found.num_channels, found.spatial_shape) == (expected.num_channels, expected.spatial_shape)
    assert found.value_bytes == expected.value_bytes


def test_every_format_of_the_table_is_written_here(tmp_path: Path) -> None:
    written = [build(tmp_path) for name, build in FILES.items() if not name.startswith("dicom")]
    assert {FORMAT_OF[image_suffix(path)] for path in written} == set(FORMATS) == set(READERS)


def test_formats_have_suffixes_of_their_own() -> None:
    suffixes = [suffix for row in FORMATS.values() for suffix in row.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    assert all(set(row.stock_suffixes) <= set(row.suffixes) for row in FORMATS.values())


@pytest.mark.parametrize("name", FILES)
def test_read_grid_is_that_of_the_image(tmp_path: Path, name: str) -> None:
    path = FILES[name](tmp_path)
    assert_equal(read_grid(path), read_image(path).grid)


@pytest.mark.parametrize("name", ["nii.gz", "nrrd", "png", "tif"])
def test_read_grid_reads_no_voxels(tmp_path: Path, name: str) -> None:
    path = FILES[name](tmp_path)
    expected = read_image(path).grid
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(ImageFileError):
        read_image(path)
    assert_equal(read_grid(path), expected)


@pytest.mark.parametrize("content", [b"", b"no image at all" * 100])
@pytest.mark.parametrize("name", ["nii", "nii.gz", "nrrd", "mha", "png", "tif", "jpg", "dicom x-ray"])
def test_read_grid_of_a_damaged_header_is_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = FILES[name](tmp_path)
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=path.name):
        read_grid(path)
    path.unlink()
    with pytest.raises(ImageFileError, match="does not exist"):
        read_grid(path)


def test_read_case_grid_counts_the_channels_and_compares_them(tmp_path: Path) -> None:
    for channel in range(2):
        write_nifti(tmp_path / f"a_{channel:04d}.nii.gz", VOLUME)
    case = Case("a", Path("a_0000.nii.gz"), None, further_channels=(Path("a_0001.nii.gz"),))
    assert_equal(read_case_grid(tmp_path, case), read_case_image(tmp_path, case, ReadOptions()).grid)
    write_nifti(tmp_path / "a_0001.nii.gz", VOLUME[1:])
    with pytest.raises(ImageFileError, match=r"a_0001\.nii\.gz has shape \(59, 50, 40\)"):
        read_case_grid(tmp_path, case)
