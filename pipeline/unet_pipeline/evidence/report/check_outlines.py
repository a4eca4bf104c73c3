"""Outlines of a tile's labels as paths of an SVG, sharp at every zoom; a mask that is no label map as a veil."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.contact_sheet import COLOURS
from unet_pipeline.dataset.tiles import Tile

_VEIL_COLOUR, _VEIL_OPACITY = (220, 30, 30), 0.6


def trace_labels(tile: Tile, numbers: Mapping[int, int]) -> list[tuple[int, str]]:
    """Number of the colour and path of each label in the slice, in half pixels of the tile's picture.

    Args:
        tile: whose mask is traced.
        numbers: number of each label value.
    """
    if not tile.values:
        return []
    mask = np.pad(tile.read_mask(), 1)
    return [
        (numbers[value] % len(COLOURS), path)
        for position, value in enumerate(tile.values, 1)
        if (path := _trace(mask == position))
    ]


def _trace(inside: np.ndarray) -> str:
    """Closed lines around the pixels of a mask that has a border of one pixel without any."""
    from contourpy import contour_generator  # Matplotlib's own

    drawn = []
    for line in contour_generator(z=inside.astype(np.float32)).lines(0.5):
        points = (
            np.round(2 * np.asarray(line)).astype(int) - 1
        )  # the border shifts by a pixel, its centre lies half a pixel in
        steps = np.diff(points, axis=0)
        steps = steps[steps.any(axis=1)]
        turns = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
        starts = np.concatenate([[0], turns, [len(steps)]])
        sums = np.add.reduceat(steps, starts[:-1], axis=0)
        drawn.append(f"M{points[0][0]} {points[0][1]}l" + " ".join(f"{x} {y}" for x, y in sums[:-1].tolist()) + "z")
    return "".join(drawn)


def draw_veil(tile: Tile) -> str:
    """A mask of brightness values as a red PNG in a data address, the more opaque the brighter; empty for a label map."""
    if not tile.mask or tile.values:
        return ""
    mask = tile.read_mask()
    if not mask.any():
        return ""
    colours = np.empty((*mask.shape, 4), np.uint8)
    colours[..., :3], colours[..., 3] = _VEIL_COLOUR, mask * _VEIL_OPACITY
    stream = io.BytesIO()
    PillowImage.fromarray(colours).save(stream, "PNG")
    return embed(stream.getvalue(), "png")


def embed(content: bytes, form: str) -> str:
    """A picture as an address that needs no network."""
    return f"data:image/{form};base64,{base64.b64encode(content).decode('ascii')}"
