"""Whether pictures of a data set lie one way round, as X-rays do and tiles of tissue do not: asked of the pictures themselves.

Each picture is reduced to a few grey cells. If it is more like the mean of the others than like that mean mirrored or turned, in the
mean over all pictures, then the way round matters. Slices of one specimen say nothing, because they are alike anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_CELLS = 8  # per axis
_LEAST_PICTURES = 5
# of two correlations: on chest X-rays 0.51 upside down and 0.03 mirrored in the width, on fetal heads 0.64 after a quarter turn and
# 0.11 mirrored, on nuclei below 0.02 (docs/experiments.md)
_LEAST_DIFFERENCE = 0.3
_STANDARD_ERRORS = 3.0
_LEAST_LIKENESS_OF_NEIGHBOURS = (
    0.2  # above that of any two pictures; on slices of one specimen 0.55, on the others 0.05 at most
)


def compute_coarse_map(image: np.ndarray) -> np.ndarray:
    """Mean of each of 8 x 8 cells, with mean 0 and standard deviation 1.

    Args:
        image: shape (channels, width, height), at least 8 pixels along both.

    Returns:
        Zeros for a picture without differences, or one that is too small.
    """
    if min(image.shape[1:]) < _CELLS:
        return np.zeros((_CELLS, _CELLS))
    grey = image.mean(axis=0, dtype=np.float64)
    for axis in (0, 1):
        edges = np.linspace(0, grey.shape[axis], _CELLS + 1).astype(int)
        sums = np.add.reduceat(grey, edges[:-1], axis=axis)
        grey = sums / np.expand_dims(np.diff(edges), 1 - axis)
    deviation = grey.std()
    return (grey - grey.mean()) / deviation if deviation > 0 else np.zeros((_CELLS, _CELLS))


def find_mirroring_that_matters(maps: Sequence[np.ndarray]) -> tuple[bool, bool]:
    """For each axis, whether a mirrored picture is unlike the others. `maps` come from `compute_coarse_map`."""
    return tuple(_matters(maps, lambda mean, axis=axis: np.flip(mean, axis)) for axis in (0, 1))  # type: ignore[return-value, misc]


def find_turning_that_matters(maps: Sequence[np.ndarray]) -> bool:
    """Whether a picture after a quarter turn to either side is unlike the others."""
    return all(_matters(maps, lambda mean, turns=turns: np.rot90(mean, turns)) for turns in (1, 3))  # type: ignore[misc]


def _matters(maps: Sequence[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether pictures are surely more like the mean of the others as they lie than changed."""
    if len(maps) < _LEAST_PICTURES or _are_of_one_specimen(maps):
        return False
    total = np.sum(maps, axis=0)
    differences = np.array([_correlate(own, total - own) - _correlate(own, change(total - own)) for own in maps])
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() > max(_LEAST_DIFFERENCE, _STANDARD_ERRORS * error))


def _are_of_one_specimen(maps: Sequence[np.ndarray]) -> bool:
    """Whether neighbours are far more alike than any two pictures, as slices of a stack are: they cannot tell of other specimens."""
    flat = np.array([one.reshape(-1) for one in maps])
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = (flat / np.where(norms > 0, norms, 1)) @ (flat / np.where(norms > 0, norms, 1)).T
    count = len(maps)
    of_any_two = (likeness.sum() - np.trace(likeness)) / (count * (count - 1))
    return bool(np.diag(likeness, 1).mean() - of_any_two > _LEAST_LIKENESS_OF_NEIGHBOURS)


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation; 0 with a constant map."""
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 0 else 0.0
