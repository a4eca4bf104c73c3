"""Overlap of two masks; every function says what an empty mask gives."""

from __future__ import annotations

import math

import numpy as np

from pipeline.types import Mask


def compute_dice(reference: Mask, prediction: Mask) -> float:
    """Twice the shared voxels by the voxels of both (Dice 1945).

    Args:
        reference: bool, any shape.
        prediction: bool, same shape and grid.

    Returns:
        0 (no voxel shared) to 1 (identical). Both empty: NaN, nothing was to be found. One empty: 0.

    Raises:
        ValueError: shapes differ, or a mask is not bool.
    """
    shared, in_reference, in_prediction = _count_voxels(reference, prediction)
    total = in_reference + in_prediction
    return 2 * shared / total if total else math.nan


def compute_iou(reference: Mask, prediction: Mask) -> float:
    """Shared voxels by the voxels of either, the Jaccard index.

    Arguments, range, empty masks and errors as in `compute_dice`.
    """
    shared, in_reference, in_prediction = _count_voxels(reference, prediction)
    union = in_reference + in_prediction - shared
    return shared / union if union else math.nan


def _count_voxels(reference: Mask, prediction: Mask) -> tuple[int, int, int]:
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != np.bool_:
            raise ValueError(f"{name} has the type {mask.dtype}; expected bool")
    if reference.shape != prediction.shape:
        raise ValueError(f"reference has shape {reference.shape}, prediction {prediction.shape}; expected the same")
    shared = int(np.count_nonzero(reference & prediction))
    return shared, int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
