"""Pictures of a training in a few kilobytes: a slice of some validation cases with outlines, and the patches of a batch."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.contact_sheet import COLOURS
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.tiles import pick_slice

TILE_PIXELS = 144
_GAP_PIXELS, _TEXT_PIXELS, _MAX_LETTERS = 4, 14, 24
_BYTES_PER_PIXEL = 0.08  # at most, but for noise at the last of the qualities
_JPEG_QUALITIES = (80, 65, 50, 35, 20)
_CODE = 256  # more than there are classes: two label maps in one


@dataclass(frozen=True)
class Slice:
    """The slice of a case with most of its labels, as it is shown.

    Attributes:
        title: of the case.
        rows: grey levels or colours, uint8, shape (height, width) or (height, width, 3).
        reference: classes, shape (height, width).
        prediction: classes, likewise; None where nothing was predicted.
        pixel_mm: height and width of a pixel.
    """

    title: str
    rows: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray | None
    pixel_mm: tuple[float, float]


def take_slice(
    title: str,
    image: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray | None,
    spacing_mm: Sequence[float],
    axcodes: str | None,
) -> Slice:
    """The slice to show of a case; an image that is larger than its labels is cut to them.

    Args:
        title: of the case.
        image: shape (channels, i, j) or (channels, i, j, k).
        reference: classes, shape (1, i, j) or (1, i, j, k).
        prediction: classes, likewise.
        spacing_mm: of a voxel along each axis.
        axcodes: of the axes, such as "RAS"; None where they are not known.
    """
    shape = reference.shape[1:]
    codes = reference.astype(np.int32)
    if prediction is not None:
        codes = codes + _CODE * _cut_middle(prediction, shape).astype(np.int32)
    affine = _build_affine(spacing_mm, axcodes)
    grid = affine, tuple(map(float, spacing_mm))
    rows, shown, pixel_mm = pick_slice(MedicalImage(_cut_middle(image, shape), *grid), MedicalImage(codes, *grid))
    classes = np.zeros(rows.shape[:2], np.int32) if shown is None else shown
    predicted = None if prediction is None else classes // _CODE
    return Slice(title, _to_levels(rows), classes % _CODE, predicted, pixel_mm)


def draw_cases(slices: Sequence[Slice]) -> np.ndarray:
    """One column per case, the reference's outlines above the prediction's, each class in its own colour; RGB, uint8."""
    corner = np.zeros((_TEXT_PIXELS, _TEXT_PIXELS, 3), np.uint8)
    columns = [[corner, _write_side("reference"), _write_side("prediction")]]
    for each in slices:
        column = [_write_text(each.title), _draw_tile(each, each.reference)]
        columns.append(column if each.prediction is None else [*column, _draw_tile(each, each.prediction)])
    return _stack(columns)


def draw_patches(slices: Sequence[Slice]) -> np.ndarray:
    """The patches in a block with the outlines of their labels, as what the network is trained on; RGB, uint8."""
    num_columns = math.ceil(math.sqrt(len(slices)))
    tiles = [_draw_tile(each, each.reference) for each in slices]
    return _stack([tiles[first::num_columns] for first in range(num_columns)])


def encode_jpeg(picture: np.ndarray) -> bytes:
    """The picture as JPEG of a few kilobytes; colours as fine as the rest, so that outlines stay sharp."""
    content = b""
    for quality in _JPEG_QUALITIES:
        stream = io.BytesIO()
        PillowImage.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=0)
        content = stream.getvalue()
        if len(content) <= _BYTES_PER_PIXEL * picture.shape[0] * picture.shape[1]:
            break
    return content


def _build_affine(spacing_mm: Sequence[float], axcodes: str | None) -> np.ndarray:
    if len(spacing_mm) == 2 or axcodes is None:
        return np.diag([*spacing_mm, *([1.0] * (4 - len(spacing_mm)))])
    affine = np.eye(4)
    for axis, (target, direction) in enumerate(nib.orientations.axcodes2ornt(tuple(axcodes))):
        affine[:3, axis] = 0
        affine[int(target), axis] = direction * spacing_mm[axis]
    return affine


def _cut_middle(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of an array, shape (channels, *shape): a network without padding gets more than it gives."""
    starts = [(size - kept) // 2 for size, kept in zip(array.shape[1:], shape, strict=True)]
    return array[(slice(None), *(slice(start, start + kept) for start, kept in zip(starts, shape, strict=True)))]


def _to_levels(rows: np.ndarray) -> np.ndarray:
    """Normalised values to 0 to 255, from the 1st to the 99th percentile."""
    values = np.nan_to_num(rows.astype(np.float32))
    low, high = np.percentile(values, [1, 99])
    return ((values - low) / max(high - low, 1e-6) * 255).clip(0, 255).astype(np.uint8)


def _draw_tile(shown: Slice, classes: np.ndarray) -> np.ndarray:
    """The slice in a square, a line of one pixel along the inner border of each class."""
    height, width = (size * pixel for size, pixel in zip(classes.shape, shown.pixel_mm, strict=True))
    scale = TILE_PIXELS / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.asarray(PillowImage.fromarray(shown.rows).convert("RGB").resize(size)).copy()
    nearest = PillowImage.Resampling.NEAREST
    large = np.asarray(PillowImage.fromarray(classes.astype(np.uint8)).resize(size, nearest))
    padded = np.pad(large, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([neighbour != large for neighbour in beside], axis=0)
    for value in np.unique(large[border]):
        if value:
            picture[border & (large == value)] = COLOURS[(value - 1) % len(COLOURS)]
    tile = np.zeros((TILE_PIXELS, TILE_PIXELS, 3), np.uint8)
    top, left = (TILE_PIXELS - size[1]) // 2, (TILE_PIXELS - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = picture
    return tile


def _write_text(text: str) -> np.ndarray:
    """A line of text, as wide as a tile, in its middle."""
    from PIL import ImageDraw  # loads fonts

    line = PillowImage.new("RGB", (TILE_PIXELS, _TEXT_PIXELS))
    ImageDraw.Draw(line).text((TILE_PIXELS // 2, 0), text[-_MAX_LETTERS:], fill="white", anchor="ma")
    return np.asarray(line)


def _write_side(text: str) -> np.ndarray:
    """A line of text beside a tile, running upwards."""
    return np.rot90(_write_text(text))


def _stack(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Columns of tiles with gaps, filled up with black below."""

    def join(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
        gap = list(parts[0].shape)
        gap[axis] = _GAP_PIXELS
        between = np.zeros(gap, np.uint8)
        return np.concatenate([part for each in parts for part in (each, between)][:-1], axis=axis)

    stacked = [join(column, 0) for column in columns]
    tallest = max(len(column) for column in stacked)
    filled = [np.pad(column, ((0, tallest - len(column)), (0, 0), (0, 0))) for column in stacked]
    return join(filled, 1)
