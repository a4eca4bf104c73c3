"""Contact sheet: one small picture per case with the outlines of its labels, worst cases first, errors framed in red."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.tiles import Tile
from unet_pipeline.files import write_atomically
from unet_pipeline.messages import ERROR, WARNING, Problem

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    Font = FreeTypeFont

TILE_PIXELS = 200
MAX_TILES = 60
_GAP_PIXELS, _FRAME_PIXELS = 12, 4
_FONT_PIXELS, _LINE_PIXELS = 12, 15
# Okabe and Ito's colours, which people with any colour vision tell apart; black and white are left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
FRAMES = {ERROR: (220, 30, 30), WARNING: (178, 107, 0)}
_PLAIN_FRAME, _INK = (205, 210, 216), (27, 31, 36)


@dataclass(frozen=True)
class _Entry:
    """A tile with its lines of text, each with a colour, and its frame."""

    tile: Tile
    lines: tuple[tuple[str, tuple[int, int, int]], ...]
    frame: tuple[int, int, int]

    @property
    def height(self) -> int:
        return TILE_PIXELS + 2 * _FRAME_PIXELS + len(self.lines) * _LINE_PIXELS + _GAP_PIXELS


def number_values(tiles: Sequence[Tile], labels: Mapping[str, int] | None) -> dict[int, int]:
    """A number from 0 on for each label value, of which the colour follows; what the table does not have comes behind it."""
    declared = sorted({value for value in (labels or {}).values() if value})
    others = sorted({value for tile in tiles for value in tile.values} - set(declared))
    return {value: number for number, value in enumerate([*declared, *others])}


def draw_mask(picture: np.ndarray, mask: np.ndarray, tile: Tile, numbers: Mapping[int, int]) -> None:
    """Draw the outlines of the labels into a picture; a mask that is no label map as a red veil.

    Args:
        picture: shape (rows, columns, 3), uint8; changed.
        mask: of the same rows and columns, as `Tile.read_mask` gives it.
        tile: of which it is.
        numbers: as of `number_values`.
    """
    if not tile.values:
        share = mask[..., None] / 255 * 0.6
        picture[:] = ((1 - share) * picture + share * np.array(FRAMES[ERROR])).astype(np.uint8)
        return
    border = find_borders(mask)
    for position, value in enumerate(tile.values, 1):
        picture[border & (mask == position)] = COLOURS[numbers[value] % len(COLOURS)]


def find_borders(mask: np.ndarray) -> np.ndarray:
    """Pixels that have a neighbour of another value."""
    padded = np.pad(mask, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.any([neighbour != middle for neighbour in neighbours], axis=0)


def write_contact_sheet(
    path: Path,
    tiles: Sequence[Tile],
    problems: Sequence[Problem] = (),
    labels: Mapping[str, int] | None = None,
    num_columns: int = 6,
) -> None:
    """Write the first `MAX_TILES` tiles as one PNG; the last lines name the labels' colours and count the other cases.

    Args:
        path: of the PNG.
        tiles: worst first.
        problems: errors frame their case in red, warnings in amber; both stand below it, none is cut.
        labels: names and values.
    """
    from PIL import ImageDraw  # loads fonts, and most verbs draw nothing

    font, numbers = _load_font(), number_values(tiles, labels)
    entries = [_describe(tile, problems, font) for tile in tiles[:MAX_TILES]]
    num_columns = max(1, min(num_columns, len(entries)))
    grid = [entries[start : start + num_columns] for start in range(0, len(entries), num_columns)]
    column_pixels = TILE_PIXELS + 2 * _FRAME_PIXELS + _GAP_PIXELS
    width = num_columns * column_pixels + _GAP_PIXELS
    rest = f"and {len(tiles) - len(entries)} more" if len(tiles) > len(entries) else f"{len(tiles)} pictures"
    names = {value: name for name, value in (labels or {}).items()}
    legend = [(names.get(value, f"value {value}"), COLOURS[number % len(COLOURS)]) for value, number in numbers.items()]
    last = [(line, colour) for text, colour in (*legend, (rest, None)) for line in _wrap(text, font, width - 40)]
    height = _GAP_PIXELS + sum(max(entry.height for entry in row) for row in grid) + (len(last) + 1) * _LINE_PIXELS
    sheet = PillowImage.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP_PIXELS
    for row in grid:
        for column, entry in enumerate(row):
            _draw_entry(sheet, draw, font, entry, (_GAP_PIXELS + column * column_pixels, top), numbers)
        top += max(entry.height for entry in row)
    for line, colour in last:
        if colour is not None:
            draw.rectangle((_GAP_PIXELS, top + 2, _GAP_PIXELS + 10, top + 12), fill=colour, outline=_INK)
        draw.text((_GAP_PIXELS + (16 if colour else 0), top), line, fill=_INK, font=font)
        top += _LINE_PIXELS
    with write_atomically(path) as partial:
        sheet.save(partial)


def _describe(tile: Tile, problems: Sequence[Problem], font: Font) -> _Entry:
    """Title and problems of a case, wrapped to the width of a tile."""
    own = [problem for problem in problems if problem.severity in FRAMES and tile.is_about(problem)]
    texts = [(tile.title, _INK), *((problem.cause, FRAMES[problem.severity]) for problem in own)]
    lines = tuple((line, colour) for text, colour in texts for line in _wrap(text, font, TILE_PIXELS))
    return _Entry(tile, lines, FRAMES[own[0].severity] if own else _PLAIN_FRAME)


def _draw_entry(
    sheet: PillowImage.Image,
    draw: ImageDraw,
    font: Font,
    entry: _Entry,
    corner: tuple[int, int],
    numbers: Mapping[int, int],
) -> None:
    left, top = corner
    side, frame = TILE_PIXELS + 2 * _FRAME_PIXELS, entry.frame
    draw.rectangle((left, top, left + side - 1, top + side - 1), outline=frame, width=_FRAME_PIXELS)
    inner_left, inner_top = left + _FRAME_PIXELS, top + _FRAME_PIXELS
    scale = TILE_PIXELS / max(entry.tile.size)
    size = max(1, round(entry.tile.size[0] * scale)), max(1, round(entry.tile.size[1] * scale))
    if entry.tile.picture or entry.tile.mask:
        picture = np.array(PillowImage.fromarray(entry.tile.read_picture()).resize(size))
        mask = np.array(PillowImage.fromarray(entry.tile.read_mask()).resize(size, PillowImage.Resampling.NEAREST))
        draw_mask(picture, mask, entry.tile, numbers)
        place = (inner_left + (TILE_PIXELS - size[0]) // 2, inner_top + (TILE_PIXELS - size[1]) // 2)
        sheet.paste(PillowImage.fromarray(picture), place)
    else:
        draw.rectangle((inner_left, inner_top, left + side - 5, top + side - 5), fill=(238, 240, 243))
    bottom = inner_top
    for line in (line for mark in entry.tile.marks for line in _wrap(mark, font, TILE_PIXELS - 8)):
        box = (inner_left, bottom, inner_left + round(font.getlength(line)) + 8, bottom + _LINE_PIXELS)
        draw.rectangle(box, fill=(255, 224, 102))
        draw.text((inner_left + 4, bottom), line, fill=(0, 0, 0), font=font)
        bottom += _LINE_PIXELS
    for number, (line, colour) in enumerate(entry.lines):
        draw.text((left, top + side + 1 + number * _LINE_PIXELS), line, fill=colour, font=font)


def _load_font() -> Font:
    """DejaVu Sans, which Matplotlib brings and which has the letters of most scripts; Pillow's own without it."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")  # its import would take longer than the sheet
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), _FONT_PIXELS)
    return ImageFont.load_default(_FONT_PIXELS)  # type: ignore[return-value]


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken at blanks, and within a word only where it is longer than a line."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
