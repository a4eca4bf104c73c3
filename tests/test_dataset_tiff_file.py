"""TIFF: what the tags of ImageJ, OME and others say a page is, more than colours of 8 bit, and what stays refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet_pipeline.dataset.image import read_grid, read_image, read_label_map
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import ImageFileError

HEIGHT, WIDTH = 12, 17


def draw(*before: int, dtype: type = np.uint8, after: int = 0) -> np.ndarray:
    shape = (*before, HEIGHT, WIDTH, after) if after else (*before, HEIGHT, WIDTH)
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write(path: Path, array: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, array, **{"photometric": "minisblack", **options})
    return path


def read(path: Path, **options: bool) -> MedicalImage:
    """The image, of which the tags alone must tell the same grid."""
    image = read_image(path, **options)
    if not options:
        grid = read_grid(path)
        assert (grid.num_channels, grid.spatial_shape) == (image.array.shape[0], image.spatial_shape)
        assert grid.value_bytes == image.array.dtype.itemsize
    return image


def refuse(path: Path, **options: bool) -> ImageFileError:
    with pytest.raises(ImageFileError) as caught:
        read_image(path, **options)
    return caught.value


@pytest.mark.parametrize("writer", [{"imagej": True}, {"ome": True}, {}], ids=["ImageJ", "OME", "tifffile"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_read_tiff_channels_by_tags_are_channels(
    tmp_path: Path, writer: dict, dtype: type, compression: str | None
) -> None:
    array = draw(4, dtype=dtype)
    options = {**writer, "metadata": {"axes": "CYX"}}
    if compression:
        options["compression"] = compression
    image = read(write(tmp_path / "a.tif", array, **options))
    np.testing.assert_array_equal(image.array, array.swapaxes(1, 2))
    assert image.array.dtype == dtype
    assert image.spacing_mm == (1.0, 1.0)


@pytest.mark.parametrize("writer", [{"imagej": True}, {"ome": True}, {}], ids=["ImageJ", "OME", "tifffile"])
def test_read_tiff_slices_by_tags_are_a_volume(tmp_path: Path, writer: dict) -> None:
    array = draw(5, dtype=np.uint16)
    path = write(tmp_path / "a.tif", array, **writer, metadata={"axes": "ZYX"})
    for image in (read(path), read(path, pages_as_slices=True)):
        np.testing.assert_array_equal(image.array[0], array.transpose(2, 1, 0))
    write(path, array // 100, **writer, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(read_label_map(path).array[0], array.transpose(2, 1, 0) // 100)


@pytest.mark.parametrize(
    ("writer", "axes"), [({"imagej": True}, "ZCYX"), ({"ome": True}, "ZCYX"), ({"ome": True}, "CZYX")]
)
def test_read_tiff_slices_and_channels_are_told_apart(tmp_path: Path, writer: dict, axes: str) -> None:
    array = draw(*(5 if axis == "Z" else 3 for axis in axes[:2]))
    image = read(write(tmp_path / "a.tif", array, **writer, metadata={"axes": axes}))
    np.testing.assert_array_equal(
        image.array, array.transpose(1, 3, 2, 0) if axes[0] == "Z" else array.transpose(0, 3, 2, 1)
    )


@pytest.mark.parametrize("num_samples", [2, 5])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_read_tiff_samples_are_channels(tmp_path: Path, num_samples: int, layout: str, compression: str | None) -> None:
    array = draw(after=num_samples) if layout == "contig" else draw(num_samples)
    path = write(tmp_path / "a.tif", array, planarconfig=layout, compression=compression, metadata=None)
    expected = array.transpose(2, 1, 0) if layout == "contig" else array.swapaxes(1, 2)
    np.testing.assert_array_equal(read(path).array, expected)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize(
    "options", [{}, {"predictor": True}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}]
)
def test_read_tiff_colours_of_sixteen_bit_keep_their_values(
    tmp_path: Path, compression: str | None, options: dict
) -> None:
    array = draw(after=3, dtype=np.uint16) * 300
    if compression is None:
        options.pop("predictor", None)
    image = read(write(tmp_path / "a.tif", array, photometric="rgb", compression=compression, **options))
    np.testing.assert_array_equal(image.array, array.transpose(2, 1, 0))
    assert image.array.dtype == np.uint16
    assert image.array.dtype.isnative


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
@pytest.mark.parametrize("num_samples", [2, 4])
def test_read_tiff_opaque_alpha_is_dropped_with_a_note(
    tmp_path: Path, dtype: type, kind: str, num_samples: int
) -> None:
    if num_samples == 2 and kind == "unspecified":
        return  # two channels
    array = draw(after=num_samples, dtype=dtype)
    array[..., -1] = np.iinfo(dtype).max
    photometric = "rgb" if num_samples == 4 else "minisblack"
    image = read(write(tmp_path / "a.tif", array, photometric=photometric, extrasamples=[kind]))
    np.testing.assert_array_equal(image.array, array[..., :-1].transpose(2, 1, 0))
    (note,) = image.notes
    assert note.code == "picture-opaque-alpha"
    assert f"is {np.iinfo(dtype).max} everywhere" in note.cause


def test_read_tiff_alpha_that_hides_pixels_is_refused_and_a_further_sample_is_a_channel(tmp_path: Path) -> None:
    array = draw(after=4)
    array[..., -1] = 255
    array[0, :3, -1] = 7
    problem = refuse(write(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha"]))
    assert "RGBA, and 3 pixels are not opaque" in problem.cause
    image = read(write(tmp_path / "b.tif", array, photometric="rgb", extrasamples=["unspecified"]))
    np.testing.assert_array_equal(image.array, array.transpose(2, 1, 0))
    assert "4 samples per pixel, of which the last has no stated meaning" in image.notes[0].cause


@pytest.mark.parametrize("writer", [{"imagej": True}, {"ome": True}], ids=["ImageJ", "OME"])
def test_read_tiff_time_series_is_named_and_may_be_slices(tmp_path: Path, writer: dict) -> None:
    array = draw(6)
    path = write(tmp_path / "a.tif", array, **writer, metadata={"axes": "TYX"})
    problem = refuse(path)
    assert f"is a time series of 6 frames by its {'ImageJ' if 'imagej' in writer else 'OME'} tags" in problem.cause
    assert "--pages-as-slices" in problem.remedy
    np.testing.assert_array_equal(read(path, pages_as_slices=True).array[0], array.transpose(2, 1, 0))
    both = write(tmp_path / "b.tif", draw(2, 3), **writer, metadata={"axes": "TZYX"})
    assert "time series of 2 frames" in refuse(both, pages_as_slices=True).cause


@pytest.mark.parametrize("options", [{}, {"metadata": None}])
def test_read_tiff_pages_of_no_stated_kind_need_a_choice(tmp_path: Path, options: dict) -> None:
    array = draw(4)
    path = write(tmp_path / "a.tif", array, **options)
    problem = refuse(path)
    assert "has 4 pages; expected one" in problem.cause
    assert "ImageJ or OME-TIFF" in problem.remedy
    np.testing.assert_array_equal(read(path, pages_as_slices=True).array[0], array.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (draw(dtype=np.complex64), {}, "complex numbers"),
        (draw(after=4), {"photometric": "separated"}, "its colour mode is CMYK"),
        (draw(), {"photometric": "miniswhite"}, "8-bit grey with white as 0"),
        (
            draw(2, after=3),
            {"imagej": True, "photometric": "rgb", "metadata": {"axes": "CYXS"}},
            "3 samples in each of 2 channels",
        ),
        (draw(), {"compression": "webp", "photometric": "rgb"}, "the compression WEBP"),
    ],
)
def test_read_tiff_pixels_that_are_no_image_are_named(
    tmp_path: Path, array: np.ndarray, options: dict, words: str
) -> None:
    if options.get("compression") == "webp":
        array = draw(after=3)
    assert words in refuse(write(tmp_path / "a.tif", array, **options)).cause


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.float64])
def test_read_tiff_other_numbers_keep_their_values(tmp_path: Path, dtype: type) -> None:
    array = (draw(dtype=np.int64) - 100).astype(dtype)
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", array)).array[0].T, array)


def test_read_tiff_levels_of_a_pyramid_do_not_count(tmp_path: Path) -> None:
    array = draw()
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(array, subifds=1, photometric="minisblack")
        writer.write(array[::2, ::2], subfiletype=1, photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").array[0].T, array)


def test_read_tiff_no_other_file_that_ome_names_is_read(tmp_path: Path) -> None:
    write(tmp_path / "other.tif", draw() * 0 + 77)
    write(tmp_path / "a.tif", draw(), ome=True, metadata={"axes": "YX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        xml = tiff.ome_metadata
    xml = xml.replace('SizeC="1"', 'SizeC="2"')
    planes = '<UUID FileName="{}">urn:uuid:{}</UUID></TiffData>'
    start = xml.index("<TiffData")
    xml = (
        xml[:start]
        + f'<TiffData IFD="0" FirstC="0" PlaneCount="1">{planes.format("a.tif", 1)}'
        + f'<TiffData IFD="0" FirstC="1" PlaneCount="1">{planes.format("other.tif", 2)}'
        + xml[xml.index("/>", start) + 2 :]
    )
    tifffile.imwrite(tmp_path / "a.tif", draw(), photometric="minisblack", description=xml, metadata=None)
    try:
        assert 77 not in read_image(tmp_path / "a.tif").array[1:]
    except ImageFileError:
        return


@pytest.mark.parametrize("cut", [40, 200, 900])
def test_read_tiff_truncated_stack_is_refused(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.tif", draw(5), imagej=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes()[:-cut])
    assert "truncated" in refuse(path).cause


@pytest.mark.parametrize("num_channels", [2, 5])
def test_read_label_map_tiff_with_channels_is_refused(tmp_path: Path, num_channels: int) -> None:
    path = write(tmp_path / "a.tif", draw(num_channels), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ImageFileError, match=f"has {num_channels} channels; expected a label map with one"):
        read_label_map(path)


def test_read_label_map_tiff_palette_gives_indices(tmp_path: Path) -> None:
    array = draw() // 70
    colours = np.zeros((3, 256), np.uint16)
    colours[0, 1], colours[1, 2] = 65535, 65535
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="palette", colormap=colours)
    label = read_label_map(path)
    np.testing.assert_array_equal(label.array[0].T, array)
    assert "1=#ff0000, 2=#00ff00" in label.notes[0].cause
