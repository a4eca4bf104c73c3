"""The contact sheet: cases as a radiologist sees them, outlines where the labels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.contact_sheet import (
    COLOURS,
    MAX_TILES,
    TILE_PIXELS,
    Tile,
    make_tile,
    pick_slice,
    write_contact_sheet,
)
from unet_pipeline.dataset.medical_image import MedicalImage


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


def test_make_tile_picture_keeps_its_sides_and_outlines_its_label() -> None:
    image = np.zeros((1, 40, 20), np.uint8)
    label = np.zeros((1, 40, 20), np.uint8)
    label[0, 30:, :] = 255  # the right quarter
    tile = make_tile("a", picture(image), picture(label))
    assert tile.picture.shape == (TILE_PIXELS // 2, TILE_PIXELS, 3)
    border = (tile.picture == COLOURS[0]).all(axis=-1)
    assert border[:, 120].all()
    assert not border[:, :119].any()


def test_make_tile_thick_slices_are_not_squeezed() -> None:
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    tile = make_tile("a", volume(np.random.default_rng(0).random((10, 10, 3)), affine), None)
    assert tile.picture.shape == (TILE_PIXELS, TILE_PIXELS // 2, 3)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5)])
def test_make_tile_image_without_contrast_does_not_fail(value: float, shape: tuple[int, ...]) -> None:
    tile = make_tile("a", volume(np.full(shape, value, np.float32)), volume(np.zeros(shape, np.uint8)))
    assert tile.picture.dtype == np.uint8


def test_make_tile_colour_picture_keeps_its_colours() -> None:
    red = np.zeros((3, 8, 8), np.uint8)
    red[0] = 200
    tile = make_tile("a", picture(red), None)
    assert (tile.picture == (200, 0, 0)).all()


@pytest.mark.parametrize("num_tiles", [1, 7, MAX_TILES + 5])
def test_write_contact_sheet_holds_the_first_tiles(tmp_path: Path, num_tiles: int) -> None:
    tiles = [Tile(f"case_{number}", np.full((10, 20, 3), (77, 7, 177), np.uint8)) for number in range(num_tiles)]
    write_contact_sheet(tmp_path / "sheet.png", tiles)
    sheet = np.asarray(PillowImage.open(tmp_path / "sheet.png"))
    assert (sheet == (77, 7, 177)).all(axis=-1).sum() == min(num_tiles, MAX_TILES) * 200


def test_write_contact_sheet_problem_has_a_red_frame(tmp_path: Path) -> None:
    write_contact_sheet(tmp_path / "sheet.png", [Tile("a", np.zeros((10, 10, 3), np.uint8), "is constant")])
    sheet = np.asarray(PillowImage.open(tmp_path / "sheet.png"))
    assert (sheet == (220, 30, 30)).all(axis=-1).sum() > 4 * TILE_PIXELS
