"""The contact sheet: frames, marks, whole texts, outlines in the labels' colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.contact_sheet import (
    COLOURS,
    FRAMES,
    MAX_TILES,
    TILE_PIXELS,
    _load_font,
    _wrap,
    draw_mask,
    number_values,
    write_contact_sheet,
)
from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.tiles import Tile, make_tile
from unet_pipeline.messages import ERROR, NOTE, WARNING, Problem

MARK = (255, 224, 102)


def build_tile(title: str, mask: np.ndarray | None = None, marks: tuple[str, ...] = ()) -> Tile:
    image, label = (
        None if array is None else MedicalImage(array[None], np.eye(4), (1.0, 1.0))
        for array in (np.zeros((TILE_PIXELS, TILE_PIXELS), np.uint8), mask)
    )
    case = Case(title, Path(f"images/{title}.png"), Path(f"labels/{title}.png"))
    return make_tile(case, image, label, marks, most_pixels=TILE_PIXELS)


def read_sheet(path: Path) -> np.ndarray:
    with PillowImage.open(path) as sheet:
        return np.asarray(sheet)


def count(sheet: np.ndarray, colour: tuple[int, ...]) -> int:
    return int((sheet == colour).all(axis=-1).sum())


@pytest.mark.parametrize("num_tiles", [1, 7, MAX_TILES + 5])
def test_write_contact_sheet_holds_the_first_tiles(tmp_path: Path, num_tiles: int) -> None:
    write_contact_sheet(tmp_path / "sheet.png", [build_tile(f"case_{number}") for number in range(num_tiles)])
    black = count(read_sheet(tmp_path / "sheet.png"), (0, 0, 0))
    assert black == min(num_tiles, MAX_TILES) * TILE_PIXELS**2


@pytest.mark.parametrize(("severity", "is_framed"), [(ERROR, True), (WARNING, True), (NOTE, False)])
@pytest.mark.parametrize("file", ["images/a.png", "labels/a.png", "a"])
def test_write_contact_sheet_problem_of_any_file_frames_its_case(
    tmp_path: Path, severity: str, is_framed: bool, file: str
) -> None:
    problem = Problem(severity, file, "is odd", "Mend it.")
    write_contact_sheet(tmp_path / "sheet.png", [build_tile("a"), build_tile("b")], [problem])
    sheet = read_sheet(tmp_path / "sheet.png")
    for other, colour in FRAMES.items():
        framed = count(sheet, colour) > 4 * 4 * TILE_PIXELS
        assert framed is (is_framed and other == severity)


def test_write_contact_sheet_error_goes_before_warning(tmp_path: Path) -> None:
    problems = [Problem(ERROR, "labels/a.png", "is odd", ""), Problem(WARNING, "images/a.png", "is rare", "")]
    write_contact_sheet(tmp_path / "sheet.png", [build_tile("a")], problems)
    assert count(read_sheet(tmp_path / "sheet.png"), FRAMES[ERROR]) > 4 * 4 * TILE_PIXELS


def test_write_contact_sheet_long_texts_make_the_sheet_higher(tmp_path: Path) -> None:
    heights = []
    for words in (5, 50):
        problem = Problem(ERROR, "a", "is odd " * words, "Mend it.")
        write_contact_sheet(tmp_path / "sheet.png", [build_tile("a")], [problem])
        heights.append(read_sheet(tmp_path / "sheet.png").shape[0])
    assert heights[1] > heights[0] + 100


@pytest.mark.parametrize(
    "text", ["a b c", "word " * 40, "x" * 300, "Пациент_é_" * 20, "short " + "y" * 90 + " end", ""]
)
def test_wrap_loses_nothing_and_fits(text: str) -> None:
    font = _load_font()
    lines = _wrap(text, font, TILE_PIXELS)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(font.getlength(line) <= TILE_PIXELS for line in lines)


def test_write_contact_sheet_marks_are_drawn(tmp_path: Path) -> None:
    write_contact_sheet(
        tmp_path / "sheet.png", [build_tile("a", marks=("mask is empty",)), Tile("b", (), marks=("no image",))]
    )
    sheet = read_sheet(tmp_path / "sheet.png")
    left, right = np.array_split(sheet, 2, axis=1)
    assert count(left, MARK) > 300
    assert count(right, MARK) > 300


def test_draw_mask_labels_have_the_colours_of_the_table() -> None:
    mask = np.zeros((TILE_PIXELS, TILE_PIXELS), np.uint8)
    mask[20:60, 20:60] = 5  # this case has the second label only
    tile = build_tile("a", mask)
    numbers = number_values([tile], {"background": 0, "liver": 2, "spleen": 5})
    drawn = np.zeros((TILE_PIXELS, TILE_PIXELS, 3), np.uint8)
    draw_mask(drawn, tile.read_mask(), tile, numbers)
    assert numbers == {2: 0, 5: 1}
    assert count(drawn, COLOURS[1]) == 4 * 39
    assert count(drawn, COLOURS[0]) == 0


def test_draw_mask_brightness_is_a_red_veil() -> None:
    ramp = np.linspace(0, 200, TILE_PIXELS).repeat(TILE_PIXELS).reshape(TILE_PIXELS, TILE_PIXELS)
    tile = build_tile("a", ramp)
    drawn = np.zeros((TILE_PIXELS, TILE_PIXELS, 3), np.uint8)
    draw_mask(drawn, tile.read_mask(), tile, {})
    assert not drawn[:, 0].any()
    assert drawn[0, -1, 0] > 100 > drawn[0, -1, 1]


def test_number_values_further_values_come_behind_the_table() -> None:
    assert number_values([Tile("a", (), values=(7, 1))], {"background": 0, "cell": 9}) == {9: 0, 1: 1, 7: 2}
