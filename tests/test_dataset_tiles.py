"""Tiles: cases as a radiologist sees them, masks where they are, also those that were refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.tiles import (
    EMPTY_MASK,
    IMAGE_UNREADABLE,
    LEAST_PIXELS,
    MASK_UNREADABLE,
    MOST_PIXELS,
    NO_IMAGE,
    NO_MASK,
    Tile,
    choose_tile_pixels,
    make_tile,
    pick_slice,
)
from unet_pipeline.messages import ERROR, Problem

from .conftest import draw_picture, save_picture

CASE = Case("a", Path("images/a.png"), Path("labels/a.png"), split="test")


def volume(array: np.ndarray, affine: np.ndarray | None = None) -> MedicalImage:
    grid = np.eye(4) if affine is None else affine
    return MedicalImage(array[None], grid, tuple(np.linalg.norm(grid[:3, :3], axis=0)))


def picture(array: np.ndarray) -> MedicalImage:
    return MedicalImage(array, np.eye(4), (1.0, 1.0))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_pick_slice_right_front_is_top_left(signs: tuple[int, int, int]) -> None:
    """In RAS, index 0 along the first axis is left; the patient's right front must appear at the upper left."""
    array = np.zeros((4, 6, 3), np.float32)
    array[-1, -1, :] = 9  # right and front
    flips = tuple(slice(None, None, sign) for sign in signs)
    affine = np.diag([*signs, 1.0]).astype(float)
    rows, labels, _ = pick_slice(volume(array[flips], affine), None)
    assert rows.shape == (6, 4)
    assert rows[0, 0] == 9
    assert rows.sum() == 9
    assert labels is None


def test_pick_slice_takes_the_level_with_most_foreground() -> None:
    array = np.arange(5 * 5 * 4, dtype=np.float32).reshape(5, 5, 4)
    label = np.zeros((5, 5, 4), np.uint8)
    label[2, 2, 1:] = 1
    label[2, 3, 3] = 1
    rows, labels, _ = pick_slice(volume(array), volume(label))
    assert labels is not None
    assert labels.sum() == 2
    assert set(rows.ravel()) == set(array[:, :, 3].ravel())


def test_make_tile_picture_keeps_its_sides_and_its_mask() -> None:
    label = np.zeros((1, 40, 20), np.uint8)
    label[0, 30:, :] = 255  # the right quarter
    tile = make_tile(CASE, picture(np.zeros((1, 40, 20), np.uint8)), picture(label), most_pixels=160)
    assert tile.read_picture().shape == (80, 160, 3)
    assert tile.values == (255,)
    mask = tile.read_mask()
    assert (mask[:, 120:] == 1).all()
    assert not mask[:, :120].any()
    assert (tile.files, tile.split, tile.shape) == (("images/a.png", "labels/a.png"), "test", (40, 20))


def test_make_tile_thick_slices_are_not_squeezed() -> None:
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    tile = make_tile(CASE, volume(np.random.default_rng(0).random((10, 10, 3)), affine), None)
    assert tile.size == (MOST_PIXELS // 2, MOST_PIXELS)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5)])
def test_make_tile_image_without_contrast_does_not_fail(value: float, shape: tuple[int, ...]) -> None:
    tile = make_tile(CASE, volume(np.full(shape, value, np.float32)), volume(np.zeros(shape, np.uint8)))
    assert tile.read_picture().dtype == np.uint8
    assert np.isfinite(tile.samples).all()


def test_make_tile_colour_picture_keeps_its_colours() -> None:
    red = np.zeros((3, 8, 8), np.uint8)
    red[0] = 200
    pixels = make_tile(CASE, picture(red), None).read_picture().astype(int)
    assert np.abs(pixels - (200, 0, 0)).max() <= 3  # JPEG


def test_make_tile_mask_of_another_shape_is_stretched_and_marked() -> None:
    label = np.zeros((1, 10, 10), np.uint8)
    label[0, 5:] = 1
    tile = make_tile(CASE, picture(np.zeros((1, 40, 20), np.uint8)), picture(label), most_pixels=40)
    assert tile.marks == ("mask of 10x10 stretched over image of 40x20",)
    assert (tile.read_mask()[:, 20:] == 1).all()
    assert not tile.read_mask()[:, :20].any()


def test_make_tile_smoothed_mask_is_kept_as_brightness() -> None:
    ramp = np.linspace(0, 1, 100, dtype=np.float32)[None, :, None].repeat(10, axis=2)
    tile = make_tile(CASE, picture(np.zeros((1, 100, 10), np.uint8)), picture(ramp), most_pixels=100)
    assert tile.values == ()
    mask = tile.read_mask()
    assert (mask.min(), mask.max()) == (0, 255)
    assert (np.diff(mask[0].astype(int)) >= 0).all()


def test_make_tile_without_anything_has_its_marks() -> None:
    tile = make_tile(CASE, None, None, (IMAGE_UNREADABLE, MASK_UNREADABLE))
    assert (tile.picture, tile.mask, tile.marks) == (b"", b"", (IMAGE_UNREADABLE, MASK_UNREADABLE))
    assert not tile.read_picture().any()
    assert not tile.read_mask().any()


@pytest.mark.parametrize(
    ("num_cases", "pixels"), [(0, MOST_PIXELS), (20, MOST_PIXELS), (1000, LEAST_PIXELS), (9**9, LEAST_PIXELS)]
)
def test_choose_tile_pixels_is_bounded(num_cases: int, pixels: int) -> None:
    assert abs(choose_tile_pixels(num_cases) - pixels) <= 10


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("series", True),
        ("series/slice_3.dcm", True),
        ("a.zip!inside", True),
        ("a", True),
        ("series_2", False),
        ("b", False),
    ],
)
def test_is_about_files_folders_and_names(file: str, expected: bool) -> None:
    assert Tile("a", ("series", "a.zip")).is_about(Problem(ERROR, file, "is odd", "Mend it.")) is expected


def test_check_dataset_tiles_mark_what_is_missing_and_draw_what_was_refused(png_folders: Path) -> None:
    images, labels = png_folders / "images", png_folders / "labels"
    (labels / "case_01.png").unlink()
    (images / "case_02.png").unlink()
    (labels / "case_03.png").write_bytes(b"no picture")
    (images / "case_04.png").write_bytes(b"no picture")
    tiles = {tile.title: tile for tile in check_dataset(read_dataset(png_folders), with_tiles=True).tiles}
    assert {title: tile.marks for title, tile in tiles.items()} == {
        "images/case_01.png": (NO_MASK,),
        "labels/case_02.png": (NO_IMAGE,),
        "case_03": (MASK_UNREADABLE,),
        "case_04": (IMAGE_UNREADABLE,),
    }
    for title in ("labels/case_02.png", "case_04"):  # the mask is to be seen all the same
        assert tiles[title].read_mask().any()
        assert not tiles[title].picture
    for title in ("images/case_01.png", "case_03"):
        assert tiles[title].picture


def test_check_dataset_tile_of_an_empty_mask_is_marked(png_folders: Path) -> None:
    _, label = draw_picture(0)
    save_picture(png_folders / "labels" / "case_03.png", np.zeros_like(label))
    tiles = check_dataset(read_dataset(png_folders), with_tiles=True).tiles
    assert {tile.title for tile in tiles if EMPTY_MASK in tile.marks} == {"case_03"}
    assert tiles[0].title == "case_03"  # a warning comes before none
