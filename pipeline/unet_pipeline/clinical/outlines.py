"""Closed outlines of a mask, in the indices of its pixels, with the holes joined to them.

An outline passes halfway between a pixel's centre that is inside and one that is outside, so that every centre lies on its own side: whoever
fills it by the centres of the pixels has the mask again. Its area is that of the pixels but half a pixel, which four corners cost.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_INSIDE, _ABOVE_ALL = 0.5, 2.0
_BESIDE_CENTRES = 0.25  # a channel passes no pixel's centre and no corner of an outline


def trace_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines of a mask, one for each part that is connected; a part inside of a hole has its own.

    Args:
        mask: shape (i, j), boolean.

    Returns:
        Corners of each in turn, shape (corners, 2), without the first one again; indices, of which whole ones are centres. A hole is part
        of its outline by a channel of no width (PS3.3, C.8.8.6.3), so that outlines neither overlap nor have to be subtracted.
    """
    if not mask.any():
        return []
    from contourpy import FillType, contour_generator

    (first_i, last_i), (first_j, last_j) = ((np.flatnonzero(mask.any(axis))[[0, -1]]) for axis in (1, 0))
    corner = np.array([first_i - 1, first_j - 1])
    padded = np.pad(mask[first_i : last_i + 1, first_j : last_j + 1], 1).astype(np.float64)
    generator = contour_generator(z=padded, name="serial", fill_type=FillType.OuterOffset)
    outlines = []
    for points, offsets in zip(*generator.filled(_INSIDE, _ABOVE_ALL), strict=True):
        # contourpy's x is the second axis; the last point is the first one again
        rings = [points[start : end - 1, ::-1] for start, end in pairwise(offsets)]
        outer, *holes = (_drop_straight(ring) for ring in rings)
        outlines.append(_join_holes(outer, holes) + corner)
    return outlines


def _drop_straight(ring: np.ndarray) -> np.ndarray:
    """The corners of a ring, without points on its straight lines."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _join_holes(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One ring of an outline and its holes.

    From the far end of each hole a channel goes on to what comes next, which is the outline or a hole that is joined already.
    """
    ring = outer
    for hole in sorted(holes, key=lambda corners: float(corners[:, 0].max()), reverse=True):
        level = hole[np.argmax(hole[:, 0]), 1] + _BESIDE_CENTRES
        edges, places = _cross(hole, level)
        start, begin = edges[np.argmax(places)], places.max()
        edges, places = _cross(ring, level)
        ahead = places > begin
        end, stop = edges[ahead][np.argmin(places[ahead])], places[ahead].min()
        channel = np.array([[stop, level], [begin, level]])
        around = np.roll(hole, -(start + 1), axis=0)
        ring = np.concatenate([ring[: end + 1], channel, around, channel[::-1], ring[end + 1 :]])
    return ring


def _cross(ring: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The edges of a ring that a line along the first axis crosses, by their first corner, and where."""
    following = np.roll(ring, -1, axis=0)
    edges = np.flatnonzero((ring[:, 1] < level) != (following[:, 1] < level))
    start, end = ring[edges], following[edges]
    share = (level - start[:, 1]) / (end[:, 1] - start[:, 1])
    return edges, start[:, 0] + share * (end[:, 0] - start[:, 0])
