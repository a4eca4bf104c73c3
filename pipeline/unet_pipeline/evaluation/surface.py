"""Distances between the surfaces of two masks.

The surface of a mask is the set of centres of its border voxels: voxels of the mask with at least one of the 4 (2D) or 6
(3D) face neighbours outside of it; beyond the edge of the image is outside. Every border voxel counts the same, whatever the
area that it stands for. This is the definition of MedPy and MONAI; Google's surface-distance places elements between the voxels and
weighs them by their area, which gives similar but not equal values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from unet_pipeline.evaluation.metrics import check_masks

if TYPE_CHECKING:
    from unet_pipeline.types import Mask


@dataclass(frozen=True)
class SurfaceDistances:
    """For every border voxel of one mask the distance to the nearest border voxel of the other.

    Attributes:
        reference_to_prediction: one value per border voxel of the reference, in the unit of the spacing.
        prediction_to_reference: one value per border voxel of the prediction. Both are empty where one mask is.
        num_reference: border voxels of the reference.
        num_prediction: border voxels of the prediction.
        diagonal: of the image's field of view; no distance between two of its voxels is longer.
    """

    reference_to_prediction: np.ndarray
    prediction_to_reference: np.ndarray
    num_reference: int
    num_prediction: int
    diagonal: float

    @property
    def instead(self) -> float | None:
        """What a distance is where it cannot be measured: NaN with no surface, the diagonal with one, None with both."""
        if self.num_reference and self.num_prediction:
            return None
        return self.diagonal if self.num_reference + self.num_prediction else math.nan


def compute_surface_distances(reference: Mask, prediction: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Distances from each surface to the other.

    Only the box that holds both masks is looked at, and memory grows with the surfaces, so that a large image costs little.

    Args:
        reference: bool, shape (i, j) or (i, j, k).
        prediction: bool, same shape and grid.
        spacing: size of a voxel along each axis, in mm or 1 for pixels.

    Raises:
        ValueError: shapes differ, a mask is not bool, or the spacing is not one positive number per axis.
    """
    check_masks(reference, prediction)
    if len(spacing) != reference.ndim or min(spacing) <= 0:
        raise ValueError(f"spacing is {tuple(spacing)}; expected {reference.ndim} positive numbers")
    diagonal = math.hypot(*(size * step for size, step in zip(reference.shape, spacing, strict=True)))
    box = find_box(reference | prediction)
    of_reference, of_prediction = find_border(reference[box]), find_border(prediction[box])
    forth = _measure(of_reference, of_prediction, spacing)
    back = _measure(of_prediction, of_reference, spacing)
    return SurfaceDistances(forth, back, int(of_reference.sum()), int(of_prediction.sum()), diagonal)


def find_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds every voxel of a mask; of size 0 for an empty one."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return tuple(box)


def find_border(mask: Mask) -> Mask:
    """Border voxels of a mask as the module defines them; what is beyond the array is outside."""
    inner = mask.copy(order="K")  # of the same order in memory, or every voxel is looked for
    for axis in range(mask.ndim):
        along, of_mask = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        along[1:] &= of_mask[:-1]
        along[:-1] &= of_mask[1:]
        along[:1] = False
        along[-1:] = False
    return mask & ~inner


def _measure(start: Mask, target: Mask, spacing: Sequence[float]) -> np.ndarray:
    """Distance of every voxel of `start` to the nearest of `target`; empty where one of them is."""
    if not start.any() or not target.any():
        return np.empty(0)
    places = list_places(start)
    distances = np.zeros(len(places))
    apart = ~target[tuple(places.T)]  # border voxels of both masks are at distance 0
    if apart.any():
        step = np.asarray(spacing, float)
        tree = KDTree(list_places(target) * step)
        distances[apart] = tree.query(places[apart] * step)[0]
    return distances


def list_places(mask: Mask) -> np.ndarray:
    """Indices of a mask's voxels, last axis fastest, shape (voxels, axes): `np.argwhere`, read as the mask lies in memory."""
    if not mask.flags.f_contiguous or mask.flags.c_contiguous:
        return np.argwhere(mask)
    places = np.argwhere(mask.T)[:, ::-1]
    return places[np.ravel_multi_index(tuple(places.T), mask.shape).argsort()]


def compute_hd95(distances: SurfaceDistances) -> float:
    """95th percentile of the Hausdorff distance: the larger of the two directions' 95th percentiles.

    Returns:
        In the unit of the spacing. Both empty: NaN. One empty: the diagonal of the image's field of view.

    Reference: Maier-Hein et al. 2024, Metrics reloaded, Nature Methods 21:195-212 (one percentile for each direction; percentiles are
    interpolated linearly).
    """
    if distances.instead is not None:
        return distances.instead
    return float(
        max(
            np.percentile(distances.reference_to_prediction, 95),
            np.percentile(distances.prediction_to_reference, 95),
        )
    )


def compute_assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: the mean over all border voxels of both masks together.

    Returns:
        In the unit of the spacing. Both empty: NaN. One empty: the diagonal of the image's field of view.

    Reference: Heimann et al. 2009, IEEE Transactions on Medical Imaging 28:1251-1265.
    """
    if distances.instead is not None:
        return distances.instead
    total = distances.reference_to_prediction.sum() + distances.prediction_to_reference.sum()
    return float(total / (distances.num_reference + distances.num_prediction))


def compute_nsd(distances: SurfaceDistances, tolerance: float) -> float:
    """Normalised surface dice: share of both surfaces that lies within a tolerance of the other.

    Args:
        distances: from `compute_surface_distances`.
        tolerance: the longest distance that counts as agreement, in the unit of the spacing.

    Returns:
        0 (no agreement) to 1. Both empty: NaN. One empty: 0.

    Raises:
        ValueError: the tolerance is not positive.

    Reference: Nikolov et al. 2018, arXiv:1809.04430, on border voxels.
    """
    if tolerance <= 0:
        raise ValueError(f"tolerance is {tolerance:g}; expected a positive number")
    total = distances.num_reference + distances.num_prediction
    if not total:
        return math.nan
    # distances come from floating-point spacings, such as 3 x 0.1 for 0.3
    longest = tolerance * (1 + 1e-9)
    within = np.count_nonzero(distances.reference_to_prediction <= longest)
    within += np.count_nonzero(distances.prediction_to_reference <= longest)
    return within / total
