"""Overlap and volume of two masks; every function says what an empty mask gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unet_pipeline.types import Mask


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


def compute_sensitivity(reference: Mask, prediction: Mask) -> float:
    """Share of the reference's voxels that were found, also called recall.

    Returns:
        0 to 1. Empty reference: NaN, nothing was to be found. Empty prediction alone: 0.

    Arguments and errors as in `compute_dice`.
    """
    shared, in_reference, _ = _count_voxels(reference, prediction)
    return shared / in_reference if in_reference else math.nan


def compute_precision(reference: Mask, prediction: Mask) -> float:
    """Share of the predicted voxels that are right, also called positive predictive value.

    Returns:
        0 to 1. Both empty: NaN. Empty prediction alone: 0 and not 0 / 0, so that a prediction of nothing is never better than
        one that is wrong. Empty reference alone: 0.

    Arguments and errors as in `compute_dice`.
    """
    shared, in_reference, in_prediction = _count_voxels(reference, prediction)
    if not in_reference + in_prediction:
        return math.nan
    return shared / in_prediction if in_prediction else 0.0


def compute_volume_error(reference: Mask, prediction: Mask, voxel_size: float) -> float:
    """Size of the prediction less that of the reference; above 0 the prediction is too large.

    Args:
        reference: bool, any shape.
        prediction: bool, same shape and grid.
        voxel_size: of one voxel, in the unit of the result.

    Returns:
        In the unit of `voxel_size`. Both empty: NaN. One empty: the size of the other one, with its sign.

    Errors as in `compute_dice`.
    """
    _, in_reference, in_prediction = _count_voxels(reference, prediction)
    return (in_prediction - in_reference) * voxel_size if in_reference + in_prediction else math.nan


def compute_relative_volume_error(reference: Mask, prediction: Mask) -> float:
    """Size of the prediction less that of the reference, in percent of the mean of both.

    The mean of both and not the reference, so that a false alarm has a finite value, and twice too large weighs as much as twice too
    small; the same as the axis of a relative Bland-Altman plot, and as ITK's volume similarity.

    Returns:
        -200 (missed) to 200 (false alarm). Both empty: NaN.

    Arguments and errors as in `compute_dice`.

    Reference: Bland and Altman 1999, Statistical Methods in Medical Research 8:135-160.
    """
    _, in_reference, in_prediction = _count_voxels(reference, prediction)
    total = in_reference + in_prediction
    return 200 * (in_prediction - in_reference) / total if total else math.nan


def check_masks(reference: Mask, prediction: Mask) -> None:
    """Refuse what is no pair of masks.

    Raises:
        ValueError: shapes differ, or a mask is not bool.
    """
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != np.bool_:
            raise ValueError(f"{name} has the type {mask.dtype}; expected bool")
    if reference.shape != prediction.shape:
        raise ValueError(f"reference has shape {reference.shape}, prediction {prediction.shape}; expected the same")


def _count_voxels(reference: Mask, prediction: Mask) -> tuple[int, int, int]:
    check_masks(reference, prediction)
    shared = int(np.count_nonzero(reference & prediction))
    return shared, int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
