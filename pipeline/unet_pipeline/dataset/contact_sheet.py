"""Contact sheet: one small picture per case with the outlines of its labels, worst cases first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.files import write_atomically

TILE_PIXELS = 160
MAX_TILES = 60
_TEXT_PIXELS = 28
_GAP_PIXELS = 6
_NOTE_LETTERS = 26
# Okabe and Ito's colours, which people with any colour vision tell apart; black and white are left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_PROBLEM_COLOUR = (220, 30, 30)


@dataclass(frozen=True)
class Tile:
    """A case on the sheet: RGB picture of at most `TILE_PIXELS` a side, shape (rows, columns, 3), uint8."""

    title: str
    picture: np.ndarray
    note: str = ""


def make_tile(title: str, image: MedicalImage, label: MedicalImage | None, note: str = "") -> Tile:
    """The slice with most foreground, grey values from the 1st to the 99th percentile, with label outlines.

    Args:
        title: of the case.
        image: 2D or 3D; three channels are shown as colours, otherwise the first channel counts.
        label: on the image's grid; None shows the middle slice without outlines.
        note: the problem of the case, if any.
    """
    rows, labels, pixel_mm = pick_slice(image, label)
    height, width = rows.shape[:2]
    scale = TILE_PIXELS / max(height * pixel_mm[0], width * pixel_mm[1])
    size = (max(1, round(width * pixel_mm[1] * scale)), max(1, round(height * pixel_mm[0] * scale)))
    picture = np.asarray(PillowImage.fromarray(_to_grey_levels(rows)).convert("RGB").resize(size)).copy()
    if labels is not None:
        _draw_outlines(picture, _resize_labels(labels, size))
    return Tile(title, picture, note)


def pick_slice(
    image: MedicalImage, label: MedicalImage | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float]]:
    """A 2D view as it is shown: pictures upright; volumes axial in radiological orientation (patient's right on the left).

    Returns:
        Pixels of shape (rows, columns) or (rows, columns, 3); labels of shape (rows, columns); height and width of a pixel.
    """
    colours = image.array.shape[0] == 3
    if len(image.spatial_shape) == 2:
        rows = image.array.transpose(2, 1, 0) if colours else image.array[0].T
        labels = None if label is None else label.array[0].T
        return rows, labels, (image.spacing_mm[1], image.spacing_mm[0])
    orientation = nib.io_orientation(image.affine)
    # to left, posterior, superior: columns run to the patient's left, rows to the back
    turn = nib.orientations.ornt_transform(orientation, nib.orientations.axcodes2ornt("LPS"))
    voxels = nib.orientations.apply_orientation(image.array[0], turn)
    labels = None if label is None else nib.orientations.apply_orientation(label.array[0], turn)
    spacing = [0.0] * 3
    for axis, (target, _) in enumerate(turn):
        spacing[int(target)] = image.spacing_mm[axis]
    level = voxels.shape[2] // 2
    if labels is not None and labels.any():
        level = int(np.count_nonzero(labels, axis=(0, 1)).argmax())
    shown = None if labels is None else labels[:, :, level].T
    return voxels[:, :, level].T, shown, (spacing[1], spacing[0])


def _to_grey_levels(rows: np.ndarray) -> np.ndarray:
    """Values to 0 to 255, from the 1st to the 99th percentile of what is finite."""
    if rows.ndim == 3 and rows.dtype == np.uint8:
        return np.ascontiguousarray(rows)
    values = rows.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 1.0)
    scaled = (values - low) / max(high - low, 1e-6)
    return (np.nan_to_num(scaled, nan=0, posinf=1, neginf=0).clip(0, 1) * 255).astype(np.uint8)


def _resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = np.minimum((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1], labels.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0], labels.shape[1] - 1).astype(int)
    return labels[np.ix_(rows, columns)]


def _draw_outlines(picture: np.ndarray, labels: np.ndarray) -> None:
    """Colour the pixels of each label that have a neighbour of another value."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([neighbour != middle for neighbour in neighbours], axis=0)
    for position, value in enumerate(value for value in np.unique(labels) if value != 0):
        picture[border & (labels == value)] = COLOURS[position % len(COLOURS)]


def write_contact_sheet(path: Path, tiles: Sequence[Tile], num_columns: int = 6) -> None:
    """Write the first `MAX_TILES` tiles as one PNG; a last line counts the others."""
    from PIL import ImageDraw  # loads fonts, and most verbs draw nothing

    shown = tiles[:MAX_TILES]
    num_columns = max(1, min(num_columns, len(shown)))
    num_rows = math.ceil(len(shown) / num_columns)
    width = num_columns * (TILE_PIXELS + _GAP_PIXELS) + _GAP_PIXELS
    height = num_rows * (TILE_PIXELS + _TEXT_PIXELS + _GAP_PIXELS) + _GAP_PIXELS + _TEXT_PIXELS
    sheet = PillowImage.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for position, tile in enumerate(shown):
        row, column = divmod(position, num_columns)
        left = _GAP_PIXELS + column * (TILE_PIXELS + _GAP_PIXELS)
        top = _GAP_PIXELS + row * (TILE_PIXELS + _TEXT_PIXELS + _GAP_PIXELS)
        picture = PillowImage.fromarray(tile.picture)
        sheet.paste(picture, (left + (TILE_PIXELS - picture.width) // 2, top + (TILE_PIXELS - picture.height) // 2))
        draw.text((left, top + TILE_PIXELS + 1), tile.title[-_NOTE_LETTERS:], fill="black")
        if tile.note:
            box = (left - 2, top - 2, left + TILE_PIXELS + 1, top + TILE_PIXELS + 1)
            draw.rectangle(box, outline=_PROBLEM_COLOUR, width=2)
            draw.text((left, top + TILE_PIXELS + 13), tile.note[:_NOTE_LETTERS], fill=_PROBLEM_COLOUR)
    rest = f"and {len(tiles) - len(shown)} more cases" if len(tiles) > len(shown) else f"{len(tiles)} cases"
    draw.text((_GAP_PIXELS, height - _TEXT_PIXELS + 6), rest, fill="black")
    with write_atomically(path) as partial:
        sheet.save(partial)
