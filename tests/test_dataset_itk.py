"""NRRD and MetaImage files -> array and grid, or one clear error."""

from __future__ import annotations

import gzip
import tempfile
import tracemalloc
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from unet_pipeline.dataset.itk import read_itk
from unet_pipeline.dataset.nifti import read_nifti
from unet_pipeline.errors import ImageFileError

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
REFUSAL_MIB = 16


def number_voxels(shape: tuple[int, ...], dtype: type = np.int16, components: int = 1) -> sitk.Image:
    """Voxels numbered from 0, first axis fastest; shape (i, j) or (i, j, k)."""
    size = (*reversed(shape), components) if components > 1 else tuple(reversed(shape))
    return sitk.GetImageFromArray(np.arange(np.prod(size)).reshape(size).astype(dtype), isVector=components > 1)


def save(path: Path, image: sitk.Image | None = None, compressed: bool = False) -> Path:
    sitk.WriteImage(number_voxels((5, 4, 3)) if image is None else image, str(path), compressed)
    return path


def read_problem(path: Path) -> ImageFileError:
    with pytest.raises(ImageFileError) as caught:
        read_itk(path, f"images/{path.name}")
    assert str(caught.value).startswith(f"images/{path.name} ")
    assert str(path.parent) not in str(caught.value)
    assert caught.value.remedy
    return caught.value


def patch(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


# values and grid


@given(data=st.data())
def test_read_itk_any_image_keeps_values_and_world_positions(data: st.DataObject) -> None:
    dims = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.tuples(*[st.integers(2, 6)] * dims))
    dtype = data.draw(st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64]))
    image = number_voxels(shape, dtype)
    image.SetSpacing(data.draw(st.tuples(*[st.floats(0.125, 8)] * dims)))
    image.SetOrigin(data.draw(st.tuples(*[st.floats(-300, 300)] * dims)))
    angles = data.draw(st.tuples(*[st.floats(-180, 180)] * 3))
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    if dims == 2:
        rotation = Rotation.from_euler("z", angles[0], degrees=True).as_matrix()
    elif data.draw(st.booleans()):
        rotation[:, 2] *= -1  # left-handed
    image.SetDirection(rotation[:dims, :dims].ravel())
    suffix = data.draw(st.sampled_from(SUFFIXES))
    with tempfile.TemporaryDirectory() as folder:
        read = read_itk(save(Path(folder) / f"case{suffix}", image, data.draw(st.booleans())), "case")
        nifti = read_nifti(save(Path(folder) / "case.nii.gz", image), "case")
    np.testing.assert_array_equal(read.array[0], sitk.GetArrayFromImage(image).T)
    np.testing.assert_array_equal(read.array, nifti.array)
    assert read.array.dtype == dtype
    assert read.spacing_mm == pytest.approx(image.GetSpacing(), rel=1e-6)
    assert read.notes == ()
    for corner in product(*((0, size - 1) for size in shape)):
        index = np.array([*corner, 0, 0][:3])
        expected = np.array([*image.TransformIndexToPhysicalPoint(corner), 0][:3]) * (-1, -1, 1)
        np.testing.assert_allclose((read.affine @ [*index, 1])[:3], expected, atol=1e-3)
        np.testing.assert_allclose((nifti.affine @ [*index, 1])[:3], expected, atol=2e-2)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_read_itk_components_become_channels(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    read = read_itk(save(tmp_path / f"case{suffix}", number_voxels(shape, components=2)), "case")
    assert read.array.shape == (2, *shape)
    assert read.array[(slice(None), *([0] * len(shape)))].tolist() == [0, 1]
    assert read.array[(slice(None), 1, *([0] * (len(shape) - 1)))].tolist() == [2, 3]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_itk_nan_and_infinity_are_kept(tmp_path: Path, suffix: str) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[0, 1, 2], array[2, 3, 4] = np.nan, -np.inf
    read = read_itk(save(tmp_path / f"case{suffix}", sitk.GetImageFromArray(array)), "case")
    assert np.isnan(read.array[0, 2, 1, 0])
    assert read.array[0, 4, 3, 2] == -np.inf
    assert np.isfinite(read.array).sum() == 58


def test_read_itk_two_dimensions_are_embedded_in_the_affine(tmp_path: Path) -> None:
    image = number_voxels((5, 4))
    image.SetSpacing((0.5, 2))
    image.SetOrigin((10, 20))
    read = read_itk(save(tmp_path / "case.mha", image), "case")
    np.testing.assert_allclose(read.affine, [[-0.5, 0, 0, -10], [0, -2, 0, -20], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert read.spacing_mm == (0.5, 2.0)


def test_read_itk_nrrd_in_ras_space_lies_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "case.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 3 4\n"
        b"space directions: (1,0,0) (0,2,0) (0,0,3)\nencoding: raw\nspace origin: (7,8,9)\n\n" + bytes(24)
    )
    read = read_itk(tmp_path / "case.nrrd", "case")
    np.testing.assert_allclose(read.affine, [[1, 0, 0, 7], [0, 2, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]])


def test_read_itk_without_voxel_size_is_read_with_a_warning(tmp_path: Path) -> None:
    path = patch(save(tmp_path / "case.mha"), b"ElementSpacing = 1 1 1\n", b"")
    (note,) = read_itk(path, "case").notes
    assert (note.severity, note.code) == ("warning", "itk-no-spacing")


# damage


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("missing", [1, 9, 20])
def test_read_itk_truncated_voxels_are_refused(tmp_path: Path, suffix: str, compressed: bool, missing: int) -> None:
    path = save(tmp_path / f"case{suffix}", compressed=compressed)
    path.write_bytes(path.read_bytes()[:-missing])
    assert "truncated" in read_problem(path).cause


@pytest.mark.parametrize(("suffix", "data"), [(".nhdr", "case.raw"), (".mhd", "case.raw")])
def test_read_itk_truncated_data_file_is_refused_with_both_lengths(tmp_path: Path, suffix: str, data: str) -> None:
    path = save(tmp_path / f"case{suffix}")
    (tmp_path / data).write_bytes((tmp_path / data).read_bytes()[:-10])
    cause = read_problem(path).cause
    assert "110 bytes" in cause
    assert "120 bytes" in cause


@pytest.mark.parametrize(
    ("suffix", "old", "new"),
    [(".nrrd", b"sizes: 5 4 3", b"sizes: 9000 9000 900"), (".mha", b"DimSize = 5 4 3", b"DimSize = 9000 9000 900")],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_read_itk_impossible_claim_is_refused_before_allocating(
    tmp_path: Path, suffix: str, old: bytes, new: bytes, compressed: bool
) -> None:
    path = patch(save(tmp_path / f"case{suffix}", compressed=compressed), old, new)
    tracemalloc.start()
    try:
        assert str(9000 * 9000 * 900 * 2) in read_problem(path).cause
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < REFUSAL_MIB


def test_read_itk_gzip_bomb_is_refused(tmp_path: Path) -> None:
    header = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: gzip\n\n"
    (tmp_path / "case.nrrd").write_bytes(header + gzip.compress(bytes(50_000_000)))
    assert "more than 8 bytes" in read_problem(tmp_path / "case.nrrd").cause


def test_read_itk_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "case.nrrd", compressed=True)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    assert "damaged" in read_problem(path).cause


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 400, b"NRRD0004\n", b"NDims = 3\n", b"NRRD0004\n\n"])
def test_read_itk_file_without_header_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"case{suffix}").write_bytes(content)
    assert "header" in read_problem(tmp_path / f"case{suffix}").cause


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_read_itk_damaged_headers_give_a_file_problem_or_an_image(tmp_path: Path, suffix: str) -> None:
    intact = save(tmp_path / f"case{suffix}").read_bytes()
    end = len(intact) - 120
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = bytearray(intact)
        for position in generator.integers(0, end, size=2):
            content[position] = generator.choice(list(b"0-9 \n:=xA"))
        (tmp_path / f"case{suffix}").write_bytes(content)
        try:
            read_itk(tmp_path / f"case{suffix}", "case")
        except ImageFileError:
            refused += 1
    assert refused > 20


# data files


@pytest.mark.parametrize(("suffix", "key"), [(".nhdr", b"data file: "), (".mhd", b"ElementDataFile = ")])
@pytest.mark.parametrize(
    "name", [b"/etc/passwd", b"../case.raw", b"below/../../case.raw", b"C:\\case.raw", b"..\\case.raw"]
)
def test_read_itk_data_file_outside_of_the_folder_is_refused(
    tmp_path: Path, suffix: str, key: bytes, name: bytes
) -> None:
    path = patch(save(tmp_path / f"case{suffix}"), key + b"case.raw", key + name)
    assert "outside of its own folder" in read_problem(path).cause


def test_read_itk_data_file_that_is_a_link_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    path = save(tmp_path / "dataset" / "case.mhd")
    (tmp_path / "dataset" / "case.raw").rename(tmp_path / "elsewhere.raw")
    (tmp_path / "dataset" / "case.raw").symlink_to(tmp_path / "elsewhere.raw")
    assert "outside of its own folder" in read_problem(path).cause


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_read_itk_missing_data_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"case{suffix}")
    (tmp_path / "case.raw").unlink()
    assert "case.raw, which does not exist" in read_problem(path).cause


# what is not supported


def test_read_itk_four_dimensions_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False)
    assert "4 dimensions" in read_problem(save(tmp_path / "case.nrrd", image)).cause


@pytest.mark.parametrize(
    ("suffix", "old", "new", "found"),
    [
        (".nrrd", b"encoding: raw", b"encoding: hex", "encoding hex"),
        (".nrrd", b"type: short", b"type: block", "type block"),
        (".mha", b"BinaryData = True", b"BinaryData = False", "text"),
        (".mha", b"MET_SHORT", b"MET_STRING", "MET_STRING"),
        (".mha", b"ElementType", b"ElementToIntensityFunctionSlope = 2\nElementType", "intensity function"),
        (".mhd", b"= case.raw", b"= case%02d.raw 1 3 1", "list of data files"),
    ],
)
def test_read_itk_unsupported_header_is_named(tmp_path: Path, suffix: str, old: bytes, new: bytes, found: str) -> None:
    assert found in read_problem(patch(save(tmp_path / f"case{suffix}"), old, new)).cause
