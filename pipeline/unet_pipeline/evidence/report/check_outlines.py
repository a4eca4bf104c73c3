"""Outlines of a tile's labels as paths of an SVG, sharp at every zoom; a mask that is no label map as a veil."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.contact_sheet import COLOURS
from unet_pipeline.dataset.tiles import Tile
from unet_pipeline.evidence.report.pictures import embed, trace_outline

_VEIL_COLOUR, _VEIL_OPACITY = (220, 30, 30), 0.6


def trace_labels(tile: Tile, numbers: Mapping[int, int]) -> list[tuple[int, str]]:
    """Number of the colour and path of each label in the slice, in half pixels of the tile's picture.

    Args:
        tile: whose mask is traced.
        numbers: number of each label value.
    """
    if not tile.values:
        return []
    mask = tile.read_mask()
    return [
        (numbers[value] % len(COLOURS), path)
        for position, value in enumerate(tile.values, 1)
        if (path := trace_outline(mask == position))
    ]


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
