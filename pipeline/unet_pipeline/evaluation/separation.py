"""V_rand and V_info: whether the parts of a label that thin borders separate, such as cells behind their membranes, are told apart.

A gap of a few voxels in a border joins two parts and changes Dice hardly at all; these two count it by the voxels of the parts.

Reference: Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, the measures of the ISBI 2012 challenge. There the borders of a
submission were thinned and the best of many thresholds counted; here a predicted border voxel belongs to the nearest predicted part,
and the label map counts as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse

from unet_pipeline.evaluation.metrics import check_masks
from unet_pipeline.evaluation.parts import label_parts

if TYPE_CHECKING:
    from unet_pipeline.types import Mask


@dataclass(frozen=True)
class Separation:
    """How the parts of the prediction agree with those of the reference, over the voxels of the reference's parts.

    Both are 1 for the same parts and NaN where neither mask has a voxel; where one alone has none, they are 0.

    Attributes:
        v_rand: F score of two shares: of the pairs of voxels that the prediction joins, those that belong together (fewer where parts
            are merged), and of the pairs that belong together, those that it joins (fewer where parts are split).
        v_info: F score of the same two kinds by information: mutual information by the entropy of each side. Where both have one part
            only, there is nothing to tell apart, and it is 1.
    """

    v_rand: float
    v_info: float


def score_separation(reference: Mask, prediction: Mask) -> Separation:
    """Compare the connected parts (faces) of two masks.

    Args:
        reference: of the label whose parts are separated by the rest, bool, shape (i, j) or (i, j, k).
        prediction: bool, same shape and grid.

    Raises:
        ValueError: shapes differ, or a mask is not bool.
    """
    check_masks(reference, prediction)
    if not reference.any() or not prediction.any():
        worst = math.nan if not reference.any() and not prediction.any() else 0.0
        return Separation(worst, worst)
    joint = _count_together(label_parts(reference, corners=False), _fill_borders(prediction), reference)
    of_reference, of_prediction = (np.asarray(joint.sum(axis=axis)).ravel() for axis in (1, 0))
    pairs = float((joint.data**2).sum())
    v_rand = 2 * pairs / float((of_reference**2).sum() + (of_prediction**2).sum())
    entropies = _compute_entropy(of_reference) + _compute_entropy(of_prediction)
    shared = entropies - _compute_entropy(joint.data)
    return Separation(v_rand, max(0.0, 2 * shared / entropies) if entropies > 0 else 1.0)


def _fill_borders(mask: Mask) -> np.ndarray:
    """Numbers of the parts of a mask; each voxel outside has that of the nearest one."""
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    parts: np.ndarray = label_parts(mask, corners=False)[tuple(nearest)]
    return parts


def _count_together(first: np.ndarray, second: np.ndarray, where: Mask) -> sparse.csr_matrix:
    """Share of the voxels that lie in part i of the first and part j of the second."""
    rows, columns = first[where], second[where]
    counts = sparse.coo_matrix((np.ones(len(rows)), (rows, columns))).tocsr()  # equal places are summed
    return counts / len(rows)


def _compute_entropy(shares: np.ndarray) -> float:
    """In nats; a share of 0 adds nothing."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
