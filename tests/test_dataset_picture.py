"""Pictures as images and as label maps, or one clear error."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw

from unet_pipeline.dataset.picture import measure_in_between, read_picture, read_picture_grid, read_picture_labels
from unet_pipeline.errors import ImageFileError

read_picture_stack = partial(read_picture, pages_as_slices=True)
read_picture_label_stack = partial(read_picture_labels, pages_as_slices=True)

NOISE = np.random.default_rng(0).integers(0, 255, (40, 70)).astype(np.uint8)
COLOURS = np.stack([NOISE, NOISE.T.reshape(40, 70), 255 - NOISE], axis=-1)
REFUSAL_MIB = 8
MASK_FOLDERS = (
    "em_membrane/labels",
    "fetal_head_ultrasound/labels",
    "nuclei_fluorescence/labels",
    "nuclei_histology/labels",
    "Dataset101_LungXray/labelsTr",
)


def save(path: Path, rows: np.ndarray, **options: object) -> Path:
    PillowImage.fromarray(rows).save(path, **options)
    return path


def save_pages(path: Path, pages: list[np.ndarray]) -> Path:
    first, *others = (PillowImage.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others)
    return path


def read_problem(path: Path, read: Callable = read_picture) -> ImageFileError:
    with pytest.raises(ImageFileError) as caught:
        read(path, f"images/{path.name}")
    assert str(caught.value).startswith(f"images/{path.name} ")
    assert str(path.parent) not in str(caught.value)
    assert caught.value.remedy
    return caught.value


def build_png(width: int, height: int, depth: int, colour_type: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def build_tiff(tags: dict[int, tuple[int, ...]], pixels: bytes) -> bytes:
    """Little-endian TIFF with one strip; every tag is 16 bit, offsets and lengths are filled in."""
    values = {**tags, 273: (8,), 279: (len(pixels),)}
    directory, further = b"", b""
    start = 8 + len(pixels)
    end = start + 2 + 12 * len(values) + 4
    for tag, items in sorted(values.items()):
        content = struct.pack(f"<{len(items)}H", *items).ljust(4, b"\0")
        if len(content) > 4:
            further, content = further + content, struct.pack("<I", end + len(further))
        directory += struct.pack("<HHI", tag, 3, len(items)) + content
    return (
        b"II*\0" + struct.pack("<I", start) + pixels + struct.pack("<H", len(values)) + directory + bytes(4) + further
    )


def draw_discs(values: tuple[int, ...]) -> np.ndarray:
    """A disc per value on 0, shape (96, 160), uint8."""
    picture = PillowImage.new("L", (160, 96))
    for index, value in enumerate(values):
        left = 4 + 38 * index
        ImageDraw.Draw(picture).ellipse((left, 20 + 5 * index, left + 34, 54 + 5 * index), fill=value)
    return np.asarray(picture)


def pass_jpeg(rows: np.ndarray, quality: int = 75) -> np.ndarray:
    stream = BytesIO()
    PillowImage.fromarray(rows).save(stream, "JPEG", quality=quality)
    return np.asarray(PillowImage.open(stream))


def resize(rows: np.ndarray, factor: float, method: PillowImage.Resampling) -> np.ndarray:
    size = [max(1, round(length * factor)) for length in rows.shape[::-1]]
    return np.asarray(PillowImage.fromarray(rows).resize((size[0], size[1]), method))


# values


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_read_picture_grey_keeps_values_with_i_along_the_width(tmp_path: Path, suffix: str, dtype: type) -> None:
    rows = NOISE.astype(dtype) * (200 if dtype is np.uint16 else 1)
    image = read_picture(save(tmp_path / f"case{suffix}", rows), "case")
    assert image.array.dtype == dtype
    np.testing.assert_array_equal(image.array, rows.T[None])
    assert image.notes == ()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize(
    "rows", [NOISE, COLOURS, NOISE > 100, NOISE * np.float32(0.5)], ids=["8bit", "rgb", "1bit", "real"]
)
def test_read_picture_tiff_of_any_kind_keeps_values(tmp_path: Path, compression: str, rows: np.ndarray) -> None:
    image = read_picture(save(tmp_path / "case.tif", rows, compression=compression), "case")
    np.testing.assert_array_equal(image.array, rows.T if rows.ndim == 3 else rows.T[None])
    assert image.array.dtype == (np.uint8 if rows.dtype == bool else rows.dtype)


def test_read_picture_big_endian_tiff_has_native_values(tmp_path: Path) -> None:
    (tmp_path / "case.tif").write_bytes(
        b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 8)
        + b"".join(
            struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
            for tag, kind, value in (
                (256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 110), (277, 3, 1), (279, 4, 4)
            )
        )
        + bytes(4) + struct.pack(">HH", 1, 40_000)
    )  # fmt: skip
    image = read_picture(tmp_path / "case.tif", "case")
    assert image.array.ravel().tolist() == [1, 40_000]
    assert image.array.dtype.isnative


def test_read_picture_jpeg_has_a_warning(tmp_path: Path) -> None:
    image = read_picture(save(tmp_path / "case.jpg", COLOURS), "images/case.jpg")
    assert image.array.shape == (3, 70, 40)
    (note,) = image.notes
    assert (note.severity, note.code, note.file) == ("warning", "picture-lossy", "images/case.jpg")


def test_read_picture_jpeg_inside_a_tiff_has_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path / "case.tif", NOISE, compression="jpeg")
    assert [note.code for note in read_picture(path, "case").notes] == ["picture-lossy"]
    assert "lossy" in read_problem(path, read_picture_labels).cause


def test_read_picture_opaque_alpha_is_dropped_with_a_note(tmp_path: Path) -> None:
    rows = np.dstack([COLOURS, np.full_like(NOISE, 255)])
    image = read_picture(save(tmp_path / "case.png", rows), "case")
    np.testing.assert_array_equal(image.array, COLOURS.transpose(2, 1, 0))
    assert [note.severity for note in image.notes] == ["note"]


def test_read_picture_alpha_that_hides_pixels_is_refused_with_their_number(tmp_path: Path) -> None:
    rows = np.dstack([COLOURS, np.full_like(NOISE, 255)])
    rows[:2, :3, 3] = 254
    assert "RGBA, and 6 pixels" in read_problem(save(tmp_path / "case.png", rows)).cause


@pytest.mark.parametrize("num_samples", [2, 3, 4])
@pytest.mark.parametrize("hidden", [0, 5])
def test_read_picture_png_of_sixteen_bit_keeps_its_colours_and_drops_opaque_alpha(
    tmp_path: Path, num_samples: int, hidden: int
) -> None:
    rows = np.random.default_rng(3).integers(0, 65535, (3, 4, num_samples)).astype(np.uint16)
    if has_alpha := num_samples != 3:
        rows[..., -1] = 65535
        rows.reshape(-1, num_samples)[:hidden, -1] = 65534
    pixels = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    (tmp_path / "case.png").write_bytes(build_png(4, 3, 16, {2: 4, 3: 2, 4: 6}[num_samples], pixels))
    if has_alpha and hidden:
        assert "and 5 pixels are not opaque" in read_problem(tmp_path / "case.png").cause
        return
    image, grid = read_picture(tmp_path / "case.png", "case"), read_picture_grid(tmp_path / "case.png", "case")
    np.testing.assert_array_equal(image.array, rows.transpose(2, 1, 0)[: num_samples - has_alpha])
    assert (grid.num_channels, grid.spatial_shape, grid.value_bytes) == (num_samples - has_alpha, (4, 3), 2)
    assert [note.code for note in image.notes] == ["picture-opaque-alpha"] * has_alpha


def test_read_picture_grey_with_opaque_alpha_is_grey(tmp_path: Path) -> None:
    path = tmp_path / "case.png"
    PillowImage.fromarray(NOISE).convert("LA").save(path)
    np.testing.assert_array_equal(read_picture(path, "case").array[0].T, NOISE)
    np.testing.assert_array_equal(read_picture_labels(save(path, NOISE // 100), "case").array[0].T, NOISE // 100)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
def test_read_picture_turned_by_a_tag_is_refused(tmp_path: Path, suffix: str) -> None:
    exif = PillowImage.Exif()
    exif[274] = 6
    path = save(tmp_path / f"case{suffix}", NOISE, exif=exif)
    assert "orientation tag 6" in read_problem(path).cause


# pages


@pytest.mark.parametrize("page", [NOISE, COLOURS], ids=["grey", "rgb"])
def test_read_picture_stack_has_pages_along_k(tmp_path: Path, page: np.ndarray) -> None:
    pages = [page, page // 2, page // 3]
    path = save_pages(tmp_path / "case.tif", pages)
    image = read_picture_stack(path, "case")
    assert image.array.shape == ((3 if page.ndim == 3 else 1), 70, 40, 3)
    assert image.spacing_mm == (1.0, 1.0, 1.0)
    for k, rows in enumerate(pages):
        np.testing.assert_array_equal(image.array[..., k], rows.T if rows.ndim == 3 else rows.T[None])


def test_read_picture_several_pages_are_refused_with_number_and_option(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "case.tif", [NOISE] * 3)
    for read in (read_picture, read_picture_labels):
        problem = read_problem(path, read)
        assert "3 pages" in problem.cause
        assert "--pages-as-slices" in problem.remedy


@pytest.mark.parametrize("other", [NOISE[:-1], NOISE.astype(np.uint16), COLOURS], ids=["size", "depth", "colour"])
def test_read_picture_stack_of_unequal_pages_is_refused(tmp_path: Path, other: np.ndarray) -> None:
    problem = read_problem(save_pages(tmp_path / "case.tif", [NOISE, NOISE, other]), read_picture_stack)
    assert "page 3" in problem.cause


def test_read_picture_stack_of_one_page_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    assert read_picture_stack(save(tmp_path / "case.tif", NOISE), "case").array.shape == (1, 70, 40, 1)


def test_read_picture_label_stack_has_one_mapping_for_all_pages(tmp_path: Path) -> None:
    pages = [np.zeros((6, 8, 3), np.uint8) for _ in range(2)]
    pages[0][2:4] = (0, 255, 0)
    pages[1][2:4] = (255, 0, 0)
    image = read_picture_label_stack(save_pages(tmp_path / "case.tif", pages), "case")
    assert image.array[0, 0, 2].tolist() == [1, 2]
    assert "1=#00ff00, 2=#ff0000" in image.notes[0].cause


# damage


@pytest.mark.parametrize("missing", [1, 12, 13, 16, 100, 1500])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_read_picture_truncated_is_refused(tmp_path: Path, suffix: str, missing: int) -> None:
    path = save(tmp_path / f"case{suffix}", NOISE)
    path.write_bytes(path.read_bytes()[:-missing])
    assert "truncated" in read_problem(path).cause


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("missing", [1, 12, 200])
def test_read_picture_truncated_compressed_tiff_is_refused(tmp_path: Path, compression: str, missing: int) -> None:
    path = save(tmp_path / "case.tif", NOISE, compression=compression)
    path.write_bytes(path.read_bytes()[:-missing])
    assert "truncated" in read_problem(path).cause


def test_read_picture_png_with_too_few_rows_is_refused_where_pillow_fills_in(tmp_path: Path) -> None:
    (tmp_path / "case.png").write_bytes(build_png(80, 64, 8, 0, bytes(81 * 32)))
    assert f"{81 * 32} bytes, its size needs {81 * 64}" in read_problem(tmp_path / "case.png").cause


def test_read_picture_interlaced_png_is_complete(tmp_path: Path) -> None:
    passes = ((8, 8, 0, 0), (8, 8, 4, 0), (4, 8, 0, 4), (4, 4, 2, 0), (2, 4, 0, 2), (2, 2, 1, 0), (1, 2, 0, 1))
    rows = NOISE[:13, :11]
    content = b"".join(
        b"\0" + line.tobytes()
        for i, j, first_i, first_j in passes
        for line in rows[first_j::j, first_i::i]
        if line.size
    )
    png = build_png(11, 13, 8, 0, content)
    png = png[:28] + b"\1" + struct.pack(">I", zlib.crc32(png[12:28] + b"\1")) + png[33:]
    (tmp_path / "case.png").write_bytes(png)
    np.testing.assert_array_equal(read_picture(tmp_path / "case.png", "case").array[0].T, rows)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_read_picture_trailing_garbage_is_fine(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"case{suffix}", NOISE)
    expected = read_picture(path, "case").array
    path.write_bytes(path.read_bytes() + b"garbage" * 20)
    np.testing.assert_array_equal(read_picture(path, "case").array, expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_read_picture_decompression_bomb_is_refused_before_allocating(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"case{suffix}"
    if suffix == ".png":
        path.write_bytes(build_png(30_000, 30_000, 8, 0, b""))
    elif suffix == ".tif":
        tags = {256: (30_000,), 257: (30_000,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (30_000,)}
        path.write_bytes(build_tiff(tags, bytes(100)))
    else:
        content = save(path, NOISE).read_bytes()
        frame = content.index(b"\xff\xc0") + 5
        path.write_bytes(content[:frame] + struct.pack(">HH", 30_000, 30_000) + content[frame + 4 :])
    tracemalloc.start()
    try:
        assert "30000 x 30000" in read_problem(path).cause
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < REFUSAL_MIB


@pytest.mark.parametrize(("content", "suffix"), [("JPEG", ".png"), ("PNG", ".jpg"), ("TIFF", ".png"), ("GIF", ".tif")])
def test_read_picture_content_of_another_format_names_both(tmp_path: Path, content: str, suffix: str) -> None:
    path = save(tmp_path / f"case{suffix}", NOISE, format=content)
    expected = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}[suffix]
    assert f"holds {content} data, but its name says {expected}" in read_problem(path).cause


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_read_picture_damaged_files_give_a_file_problem_or_an_image(tmp_path: Path, suffix: str) -> None:
    intact = save(tmp_path / f"case{suffix}", NOISE).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = bytearray(intact)
        for position in [*generator.integers(0, 300, size=2), -generator.integers(1, 100)]:
            content[position] = generator.choice([0, 1, 127, 128, 255])
        (tmp_path / f"case{suffix}").write_bytes(content)
        try:
            read_picture(tmp_path / f"case{suffix}", "case")
        except ImageFileError:
            refused += 1
    assert refused > 10


# label maps


def test_read_picture_labels_one_bit_is_zero_and_one(tmp_path: Path) -> None:
    array = read_picture_labels(save(tmp_path / "case.png", NOISE > 100), "case").array
    np.testing.assert_array_equal(array[0].T, NOISE > 100)


def test_read_picture_labels_palette_gives_indices_and_states_them(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(draw_discs((1, 7)), mode=None).convert("L")
    indexed = PillowImage.frombytes("P", picture.size, picture.tobytes())
    indexed.putpalette([0, 0, 0, 255, 0, 0, *[0] * 15, 16, 32, 64])
    indexed.save(tmp_path / "case.png")
    image = read_picture_labels(tmp_path / "case.png", "case")
    assert np.unique(image.array).tolist() == [0, 1, 7]
    (note,) = image.notes
    assert (note.severity, note.code) == ("note", "label-palette")
    assert "0=#000000, 1=#ff0000, 7=#102040" in note.cause


def test_read_picture_labels_equal_colours_are_grey(tmp_path: Path) -> None:
    rows = draw_discs((85, 170))
    image = read_picture_labels(save(tmp_path / "case.png", np.dstack([rows] * 3)), "case")
    np.testing.assert_array_equal(image.array[0].T, rows)
    assert image.notes == ()


def test_read_picture_labels_colours_are_numbered_from_black(tmp_path: Path) -> None:
    rows = np.zeros((6, 8, 3), np.uint8)
    rows[0], rows[1], rows[2] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    image = read_picture_labels(save(tmp_path / "case.png", rows), "case")
    assert image.array[0, 0].tolist() == [3, 1, 2, 0, 0, 0]
    assert "0=#000000, 1=#0000ff, 2=#00ff00, 3=#ff0000" in image.notes[0].cause


def test_read_picture_labels_without_black_have_no_zero(tmp_path: Path) -> None:
    rows = np.full((6, 8, 3), (255, 0, 0), np.uint8)
    assert np.unique(read_picture_labels(save(tmp_path / "case.png", rows), "case").array).tolist() == [1]


def test_read_picture_labels_photograph_is_refused(tmp_path: Path) -> None:
    assert "colours; expected at most 16" in read_problem(save(tmp_path / "a.png", COLOURS), read_picture_labels).cause


def test_read_picture_labels_jpeg_is_refused(tmp_path: Path) -> None:
    assert "lossy" in read_problem(save(tmp_path / "case.jpg", draw_discs((255,))), read_picture_labels).cause


def test_read_picture_labels_smoothed_mask_is_refused_with_numbers(tmp_path: Path) -> None:
    rows = resize(draw_discs((255,)), 2, PillowImage.Resampling.BILINEAR)
    problem = read_problem(save(tmp_path / "case.png", rows), read_picture_labels)
    found = measure_in_between(rows)
    assert f"{found.num_values} in-between values on {100 * found.num_pixels / rows.size:.2g} %" in problem.cause
    assert "Threshold" in problem.remedy


# the criterion for smoothing


@pytest.mark.parametrize(
    "rows",
    [
        draw_discs((255,)),
        draw_discs((1, 2, 3, 4)),
        draw_discs((85, 170, 255)),
        np.add.outer(np.arange(64) // 8, np.arange(64) // 8).astype(np.uint8),  # 15 regions side by side
        np.kron(np.diag(range(10)), np.diag([1, 0, 0])).astype(np.uint8),  # lesions of one pixel, apart
        np.zeros((5, 5), np.uint8),
        np.zeros((1, 1), np.uint8),
        np.arange(9, dtype=np.uint8).repeat(9).reshape(9, 9).repeat(3, axis=0),
    ],
)
def test_measure_in_between_label_maps_are_not_smoothed(rows: np.ndarray) -> None:
    assert not measure_in_between(rows).is_smoothed


@pytest.mark.parametrize("values", [(255,), (85, 170, 255), (60, 120, 180, 240)])
@pytest.mark.parametrize(
    "damage",
    [
        pass_jpeg,
        lambda rows: pass_jpeg(rows, 95),
        *(
            lambda rows, factor=factor, method=method: resize(rows, factor, method)
            for factor, method in [
                (0.5, PillowImage.Resampling.BILINEAR),
                (1.3, PillowImage.Resampling.BILINEAR),
                (2, PillowImage.Resampling.BILINEAR),
                (0.7, PillowImage.Resampling.BICUBIC),
                (0.5, PillowImage.Resampling.BOX),
            ]
        ),
    ],
)
def test_measure_in_between_damaged_masks_are_smoothed(values: tuple[int, ...], damage: Callable) -> None:
    assert measure_in_between(damage(draw_discs(values))).is_smoothed


def test_measure_in_between_counts_by_hand() -> None:
    rows = np.array([[0, 0, 50, 255], [0, 10, 200, 255], [0, 30, 255, 255], [0, 0, 90, 255]], np.uint8)
    found = measure_in_between(rows)
    assert found.num_pixels == 5
    assert found.num_values == 5
    assert found.border_fraction == 5 / 16


@pytest.mark.real_data
@pytest.mark.parametrize("folder", MASK_FOLDERS)
def test_read_picture_labels_real_masks_are_accepted_and_their_copies_refused(pipeline_data: Path, folder: str) -> None:
    paths = sorted((pipeline_data / folder).glob("*.png"))
    assert paths
    for index, path in enumerate(paths):
        image = read_picture_labels(path, path.name)
        assert image.notes == ()
        if index % 8:
            continue
        rows = image.array[0].T
        rows = rows * np.uint8(255 // rows.max())  # 0/1 survives JPEG and rounding; as 0/255 it is smoothed visibly
        assert measure_in_between(pass_jpeg(rows)).is_smoothed
        for factor in (0.5, 0.73, 1.3, 2):
            assert measure_in_between(resize(rows, factor, PillowImage.Resampling.BILINEAR)).is_smoothed


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["nuclei_fluorescence/instances", "nuclei_histology/instances"])
def test_read_picture_labels_real_instances_are_accepted(pipeline_data: Path, folder: str) -> None:
    paths = sorted((pipeline_data / folder).glob("*.png"))
    assert paths
    for path in paths:
        read_picture_labels(path, path.name)
