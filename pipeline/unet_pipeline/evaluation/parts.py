"""Connected parts of masks, and which part of the prediction is which of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from unet_pipeline.types import LabelMap, Mask


def label_parts(mask: Mask, corners: bool) -> LabelMap:
    """Number the connected parts of a mask 1, 2, ...; 0 outside.

    Args:
        mask: bool, any shape.
        corners: voxels that touch at an edge or a corner only are one part too.
    """
    structure = ndimage.generate_binary_structure(mask.ndim, mask.ndim if corners else 1)
    return ndimage.label(mask, structure)[0]


def compute_part_ious(reference: LabelMap, prediction: LabelMap) -> np.ndarray:
    """IoU of every part of the reference with every part of the prediction.

    Args:
        reference: 0 outside; each other value is one part, whether or not it is connected.
        prediction: same shape and grid.

    Returns:
        Shape (parts of the reference, parts of the prediction), in the order of the values; either may be 0.

    Raises:
        ValueError: shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference has shape {reference.shape}, prediction {prediction.shape}; expected the same")
    anywhere = (reference != 0) | (prediction != 0)
    first, of_reference = np.unique(reference[anywhere], return_inverse=True)
    second, of_prediction = np.unique(prediction[anywhere], return_inverse=True)
    shared = np.zeros((len(first), len(second)))
    np.add.at(shared, (of_reference, of_prediction), 1)
    unions = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    ious = shared / unions if shared.size else shared
    return ious[np.ix_(first != 0, second != 0)]


def match_parts(ious: np.ndarray, least_iou: float) -> np.ndarray:
    """IoU of the matched pairs: each part belongs to one pair at most, as many pairs as possible, then those of the largest IoU.

    Args:
        ious: from `compute_part_ious`.
        least_iou: of a pair, itself included.

    Returns:
        One value per pair; its length is the number of true positives.
    """
    possible = ious >= least_iou
    # an IoU is at most 1, so that one pair more always outweighs all the others' overlap
    worth = np.where(possible, ious + min(ious.shape, default=0), 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return ious[rows, columns][possible[rows, columns]]
