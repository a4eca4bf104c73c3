"""One file -> array and grid, or one clear error."""

from __future__ import annotations

import gzip
import logging
import struct
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage

from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.errors import ImageFileError

# offsets of the NIfTI-1 standard
DIM, DATATYPE, BITPIX, VOX_OFFSET, SLOPE_INTERCEPT = 40, 70, 72, 108, 112
REFUSAL_MIB = 16  # a refused file may not take more


def patch_header(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrite header fields of an uncompressed NIfTI file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def compress(path: Path) -> Path:
    """The file as .nii.gz, byte for byte."""
    compressed = path.with_name(path.name + ".gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    return compressed


def build_png(width: int, height: int, pixels: bytes) -> bytes:
    """A grey 8-bit PNG whose header says `width` x `height`, whatever the pixels are."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def read_problem(path: Path, read: Callable = read_image) -> ImageFileError:
    """The problem that reading gives; its message names the file as asked and never where it lies."""
    with pytest.raises(ImageFileError) as caught:
        read(path, f"images/{path.name}")
    message = str(caught.value)
    assert message.startswith(f"images/{path.name} ")
    assert str(path.parent) not in message
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def volume(tmp_path: Path, write_nifti: Callable) -> Path:
    """3 x 4 x 5 voxels, int16, numbered from 0; not compressed."""
    return write_nifti(tmp_path / "case.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5))


@pytest.fixture
def noisy_gz(tmp_path: Path, write_nifti: Callable) -> Path:
    """Noise, so that half of the stream is about half of the voxels."""
    noise = np.random.default_rng(0).integers(0, 30_000, (16, 16, 16)).astype(np.int16)
    return write_nifti(tmp_path / "case.nii.gz", noise)


# NIfTI


@given(data=st.data())
def test_read_image_written_nifti_comes_back_unchanged(write_nifti: Callable, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.int32, np.float32]))
    shape = data.draw(st.one_of(st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.integers(2, 9)] * 2)))
    finite = {"allow_nan": False, "allow_infinity": False} if dtype is np.float32 else {}
    array = data.draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), **finite)))
    spacing_mm = data.draw(st.tuples(*[st.floats(0.125, 8, width=32)] * 3))
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    with tempfile.TemporaryDirectory() as folder:
        image = read_image(write_nifti(Path(folder) / f"case{suffix}", array, spacing_mm))
    np.testing.assert_array_equal(image.array, array[None])
    assert image.spatial_shape == shape
    assert image.spacing_mm == pytest.approx(spacing_mm[: len(shape)], rel=1e-6)
    np.testing.assert_allclose(image.affine, np.diag([*spacing_mm, 1]), rtol=1e-6)


def test_read_image_compressed_and_plain_nifti_are_equal(volume: Path) -> None:
    plain, compressed = read_image(volume), read_image(compress(volume))
    np.testing.assert_array_equal(plain.array, compressed.array)
    assert plain.spacing_mm == compressed.spacing_mm


def test_read_image_nifti_keeps_the_files_axis_order(volume: Path) -> None:
    assert read_image(volume).array[0, 2, 3, 4] == 59
    assert read_image(volume).array[0, 1, 0, 2] == 22


def test_read_image_scaled_nifti_gives_scaled_values(volume: Path) -> None:
    patch_header(volume, SLOPE_INTERCEPT, "2f", 0.5, -1000)
    np.testing.assert_array_equal(read_image(volume).array.ravel(), np.arange(60) * 0.5 - 1000)


def test_read_image_big_endian_nifti_gives_the_same_values(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(array, np.eye(4), nib.Nifti1Header(endianness=">")), tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "case.nii.gz").array[0], array)


def test_read_image_four_dimensions_put_channels_first(tmp_path: Path, write_nifti: Callable) -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    image = read_image(write_nifti(tmp_path / "multi.nii.gz", array))
    assert image.array.shape == (5, 2, 3, 4)
    assert image.spatial_shape == (2, 3, 4)
    np.testing.assert_array_equal(image.array[3], array[..., 3])
    assert len(image.spacing_mm) == 3


def test_read_image_trailing_axes_of_length_one_are_dropped(tmp_path: Path, write_nifti: Callable) -> None:
    image = read_image(write_nifti(tmp_path / "case.nii.gz", np.zeros((3, 4, 5, 1, 1), dtype=np.int16)))
    assert image.array.shape == (1, 3, 4, 5)


def test_read_image_flipped_axes_have_positive_spacing(tmp_path: Path, write_nifti: Callable) -> None:
    affine = np.array([[0, -2.0, 0, 9], [-0.5, 0, 0, 9], [0, 0, 3, 9], [0, 0, 0, 1]])
    image = read_image(write_nifti(tmp_path / "case.nii.gz", np.ones((3, 4, 5), np.uint8), affine=affine))
    assert image.spacing_mm == pytest.approx((0.5, 2.0, 3.0))
    np.testing.assert_allclose(image.affine, affine)


def test_read_image_rotated_grid_keeps_its_spacing(tmp_path: Path, write_nifti: Callable) -> None:
    cosine, sine = np.cos(0.3), np.sin(0.3)
    affine = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ np.diag(
        [0.7, 0.9, 2, 1]
    )
    image = read_image(write_nifti(tmp_path / "case.nii.gz", np.ones((3, 4, 5), np.uint8), affine=affine))
    assert image.spacing_mm == pytest.approx((0.7, 0.9, 2.0), rel=1e-5)


# NIfTI that cannot be used


def test_read_image_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in read_problem(tmp_path / "case.nii.gz").cause


def test_read_image_name_not_given_uses_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"^case\.nii\.gz does not exist"):
        read_image(tmp_path / "case.nii.gz")


def test_read_image_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "case.xyz").touch()
    assert (
        "NIfTI (.nii, .nii.gz, .hdr with .img), NRRD, MHA/MHD, PNG, TIFF, JPEG"
        in read_problem(tmp_path / "case.xyz").cause
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_read_image_truncated_gzip_is_refused(noisy_gz: Path, share: float) -> None:
    content = noisy_gz.read_bytes()
    noisy_gz.write_bytes(content[: int(len(content) * share)])
    assert "ended before" in read_problem(noisy_gz).cause


def test_read_image_wrong_gzip_checksum_is_refused(noisy_gz: Path) -> None:
    content = bytearray(noisy_gz.read_bytes())
    content[-8] ^= 0xFF  # the trailer is CRC-32 and length, four bytes each
    noisy_gz.write_bytes(content)
    assert "CRC" in read_problem(noisy_gz).cause


def test_read_image_flipped_bit_in_the_stream_is_refused(noisy_gz: Path) -> None:
    content = bytearray(noisy_gz.read_bytes())
    content[len(content) // 2] ^= 0x10
    noisy_gz.write_bytes(content)
    read_problem(noisy_gz)


def test_read_image_truncated_before_compression_is_refused(volume: Path) -> None:
    volume.write_bytes(volume.read_bytes()[:-10])
    compressed = compress(volume)
    assert f"truncated, {352 + 110} bytes of {352 + 120}" in read_problem(compressed).cause


def test_read_image_truncated_plain_nifti_is_refused(volume: Path) -> None:
    volume.write_bytes(volume.read_bytes()[:-1])
    read_problem(volume)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b", b"\0" * 400])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_read_image_file_that_is_no_nifti_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"case{suffix}"
    path.write_bytes(content)
    read_problem(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("offset", "layout", "values"),
    [
        pytest.param(DIM, "4h", (3, 1000, 1000, 500), id="one gigabyte"),
        pytest.param(DIM, "8h", (7, *[32767] * 7), id="more than any machine has"),
        pytest.param(DIM, "4h", (3, -1000, -1000, 500), id="negative sizes"),
        pytest.param(VOX_OFFSET, "f", (2e9,), id="voxels behind the end"),
    ],
)
def test_read_image_impossible_claim_is_refused_before_allocating(
    volume: Path, compressed: bool, offset: int, layout: str, values: tuple
) -> None:
    path = patch_header(volume, offset, layout, *values)
    path = compress(path) if compressed else path
    tracemalloc.start()
    try:
        read_problem(path)
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < REFUSAL_MIB


def test_read_image_claim_is_counted_with_the_data_type_not_with_bitpix(volume: Path) -> None:
    patch_header(volume, DIM, "4h", 3, 1000, 1000, 50)
    patch_header(volume, BITPIX, "h", 0)  # nibabel allocates by the data type
    tracemalloc.start()
    try:
        read_problem(volume)
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < REFUSAL_MIB


@pytest.mark.parametrize("offset", [float("inf"), float("-inf"), float("nan"), -400.0])
def test_read_image_offset_that_is_no_place_is_refused(volume: Path, offset: float) -> None:
    read_problem(patch_header(volume, VOX_OFFSET, "f", offset))


def test_read_image_unknown_data_type_is_refused(volume: Path) -> None:
    assert "999" in read_problem(patch_header(volume, DATATYPE, "h", 999)).cause


def test_read_image_five_dimensions_are_refused_with_shape(tmp_path: Path, write_nifti: Callable) -> None:
    path = write_nifti(tmp_path / "case.nii.gz", np.zeros((2, 3, 4, 2, 2), np.uint8))
    assert "2 volumes of 2 channels each (2, 3, 4, 2, 2)" in read_problem(path).cause


def test_read_image_no_voxels_is_refused(volume: Path) -> None:
    read_problem(patch_header(volume, DIM, "4h", 3, 3, 0, 5))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_read_image_affine_without_inverse_is_refused(tmp_path: Path, value: float) -> None:
    volume = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    volume.header["sform_code"] = 2
    volume.header["qform_code"] = 0
    for row in ("srow_x", "srow_y", "srow_z"):
        volume.header[row] = value
    content = bytearray(volume.to_bytes())
    content[280:328] = struct.pack("<12f", *[value] * 12)
    (tmp_path / "case.nii").write_bytes(content)
    assert "affine that is no grid: it has no inverse" in read_problem(tmp_path / "case.nii").cause


def test_read_image_complex_nifti_is_refused(tmp_path: Path, write_nifti: Callable) -> None:
    path = write_nifti(tmp_path / "case.nii.gz", np.full((3, 4, 5), 1j, dtype=np.complex64))
    assert "complex numbers as voxels" in read_problem(path).cause


def test_read_image_damaged_headers_give_a_file_problem_or_an_image(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("nibabel.global"), "disabled", True)
    intact = volume.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(intact)
        for position in generator.integers(0, 352, size=2):
            content[position] = generator.choice([0, 1, 127, 128, 255])
        volume.write_bytes(content)
        try:
            read_image(volume)
        except ImageFileError:
            refused += 1
    assert refused > 0


# pictures


def test_read_image_grey_picture_has_i_along_the_width(tmp_path: Path, write_picture: Callable) -> None:
    rows = np.zeros((4, 7), dtype=np.uint8)
    rows[1, 5] = 200  # second row from the top, sixth column
    image = read_image(write_picture(tmp_path / "case.png", rows))
    assert image.array.shape == (1, 7, 4)
    assert image.array[0, 5, 1] == 200
    assert image.array.sum() == 200
    assert image.spacing_mm == (1.0, 1.0)
    np.testing.assert_array_equal(image.affine, np.eye(4))


def test_read_image_colour_picture_has_channels_first(tmp_path: Path, write_picture: Callable) -> None:
    rows = np.zeros((4, 7, 3), dtype=np.uint8)
    rows[1, 5] = (10, 20, 30)
    image = read_image(write_picture(tmp_path / "case.png", rows))
    assert image.array.shape == (3, 7, 4)
    assert image.array[:, 5, 1].tolist() == [10, 20, 30]


def test_read_image_sixteen_bit_picture_keeps_values(tmp_path: Path, write_picture: Callable) -> None:
    image = read_image(write_picture(tmp_path / "case.png", np.full((4, 7), 40_000, dtype=np.uint16)))
    assert np.unique(image.array).tolist() == [40_000]


def test_read_image_black_and_white_picture_is_zero_and_one(tmp_path: Path, write_picture: Callable) -> None:
    image = read_image(write_picture(tmp_path / "case.png", np.eye(4, 7) > 0))
    assert np.issubdtype(image.array.dtype, np.integer)
    assert np.unique(image.array).tolist() == [0, 1]


def test_read_image_suffix_in_capitals_is_read(tmp_path: Path, write_picture: Callable) -> None:
    assert read_image(write_picture(tmp_path / "CASE.PNG", np.ones((4, 7), np.uint8))).spatial_shape == (7, 4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_read_image_picture_mode_that_hides_values_is_refused(tmp_path: Path, mode: str) -> None:
    picture = PillowImage.new(mode, (7, 4))
    picture.save(tmp_path / "case.png")
    assert f"colour mode is {mode}" in read_problem(tmp_path / "case.png").cause


def test_read_image_truncated_picture_is_refused(tmp_path: Path, write_picture: Callable) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 70)).astype(np.uint8)
    path = write_picture(tmp_path / "case.png", noise)
    path.write_bytes(path.read_bytes()[:1000])
    read_problem(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_read_image_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "case.png"
    path.write_bytes(content)
    read_problem(path)


def test_read_image_picture_that_claims_billions_of_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "case.png"
    path.write_bytes(build_png(60_000, 60_000, b""))
    read_problem(path)


# label maps


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_read_label_map_whole_numbers_are_integers(tmp_path: Path, write_nifti: Callable, dtype: type) -> None:
    label = np.array([0, 1, 2, 200], dtype=dtype).reshape(2, 2, 1)
    array = read_label_map(write_nifti(tmp_path / "case.nii.gz", label)).array
    assert np.issubdtype(array.dtype, np.integer)
    assert array.ravel().tolist() == [0, 1, 2, 200]


def test_read_label_map_picture_keeps_255(tmp_path: Path, write_picture: Callable, picture_phantom: Callable) -> None:
    _, label = picture_phantom()
    array = read_label_map(write_picture(tmp_path / "case.png", label)).array
    np.testing.assert_array_equal(array[0].T, label)


@pytest.mark.parametrize("value", [0.5, 1.06, float("nan"), float("inf"), 1e12])
def test_read_label_map_value_that_is_no_label_is_named(tmp_path: Path, write_nifti: Callable, value: float) -> None:
    label = np.zeros((3, 4, 5), dtype=np.float64)
    label[1, 1, 1] = value
    problem = read_problem(write_nifti(tmp_path / "case.nii.gz", label), read_label_map)
    assert f"{value:g}" in problem.cause


def test_read_label_map_several_channels_are_refused(tmp_path: Path, write_nifti: Callable) -> None:
    path = write_nifti(tmp_path / "case.nii.gz", np.zeros((4, 7, 5, 3), np.uint8))
    assert "3 channels" in read_problem(path, read_label_map).cause


def test_read_label_map_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in read_problem(tmp_path / "case.nii.gz", read_label_map).cause


def test_read_label_map_colour_nifti_is_refused(tmp_path: Path, write_nifti: Callable) -> None:
    colours = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    problem = read_problem(write_nifti(tmp_path / "case.nii.gz", colours), read_label_map)
    assert "holds colours (RGB); expected a label map" in problem.cause
