"""Closed contours of one plane -> its mask, by the even-odd rule at the centres of the pixels.

A pixel belongs to the structure if its centre lies within an odd number of the contours, or on one of them: programs that trace pixels
lay their contours through the centres of the outermost ones, and those of a hole through the pixels around it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ON_CONTOUR_PIXELS = 0.01  # contours are texts with few decimals


def fill_contours(contours: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The mask of closed contours; holes are contours within others, or joined to them by a cut of no width.

    Args:
        contours: points (i, j) in pixels, whole numbers at the centres, each of shape (points, 2); the last point is joined to the first.
        shape: (i, j) of the mask. What lies beyond it is left out.

    Returns:
        Booleans of that shape; none is true without a contour.
    """
    edges = [np.concatenate([points, np.roll(points, -1, axis=0)], axis=1) for points in contours if len(points)]
    if not edges:
        return np.zeros(shape, bool)
    joined = np.concatenate(edges).astype(float)
    swapped = joined[:, [1, 0, 3, 2]]
    return _fill(joined, shape) | _touch(joined, shape) | _touch(swapped, shape[::-1]).T


def _fill(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Centres with an odd number of edges beyond them along the first axis; an edge holds its lower end and not its upper one."""
    lower, upper = edges[:, [1, 3]].min(axis=1), edges[:, [1, 3]].max(axis=1)
    edge, columns = _list_columns(np.ceil(lower), np.ceil(upper) - 1, shape[1])
    crossed = _cross(edges[edge], columns)
    crossings = np.zeros((shape[0] + 1, shape[1]), np.int64)
    np.add.at(crossings, (np.clip(np.ceil(crossed), 0, shape[0]).astype(int), columns), 1)
    return np.cumsum(crossings, axis=0)[:-1] % 2 == 1


def _touch(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Centres that lie on an edge where it crosses their column."""
    touched = np.zeros(shape, bool)
    lower, upper = edges[:, [1, 3]].min(axis=1), edges[:, [1, 3]].max(axis=1)
    edge, columns = _list_columns(np.ceil(lower - ON_CONTOUR_PIXELS), np.floor(upper + ON_CONTOUR_PIXELS), shape[1])
    is_steep = np.abs(edges[edge, 3] - edges[edge, 1]) >= np.abs(edges[edge, 2] - edges[edge, 0])
    edge, columns = edge[is_steep], columns[is_steep]
    crossed = _cross(edges[edge], np.clip(columns, lower[edge], upper[edge]))
    rows = np.rint(crossed).astype(int)
    near = (np.abs(crossed - rows) <= ON_CONTOUR_PIXELS) & (rows >= 0) & (rows < shape[0])
    touched[rows[near], columns[near]] = True
    return touched


def _list_columns(first: np.ndarray, last: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of edges, and for each of the whole columns from its first to its last that the mask has."""
    first, last = np.clip(first, 0, size).astype(int), np.clip(last, -1, size - 1).astype(int)
    counts = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    return edge, first[edge] + within


def _cross(edges: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Where edges meet columns, along the first axis."""
    along = edges[:, 3] - edges[:, 1]
    share = np.divide(columns - edges[:, 1], along, out=np.zeros_like(along), where=along != 0)
    return edges[:, 0] + share * (edges[:, 2] - edges[:, 0])
