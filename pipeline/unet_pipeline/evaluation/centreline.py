"""clDice: overlap of thin structures, such as vessels and membranes, by their centre lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from skimage.morphology import skeletonize

from unet_pipeline.evaluation.metrics import check_masks
from unet_pipeline.evaluation.parts import label_parts
from unet_pipeline.evaluation.surface import find_box

if TYPE_CHECKING:
    from unet_pipeline.types import Mask


def compute_cldice(reference: Mask, prediction: Mask) -> float:
    """Harmonic mean of two shares: of the prediction's centre line inside the reference, and of the reference's inside the prediction.

    Args:
        reference: bool, shape (i, j) or (i, j, k).
        prediction: bool, same shape and grid.

    Returns:
        0 (no centre line inside the other mask) to 1. Both empty: NaN. One empty: 0.

    Raises:
        ValueError: shapes differ, or a mask is not bool.

    Reference: Shit et al. 2021, CVPR, arXiv:2003.07311.
    """
    check_masks(reference, prediction)
    if not reference.any() or not prediction.any():
        return math.nan if not reference.any() and not prediction.any() else 0.0
    box = find_box(reference | prediction)
    reference, prediction = reference[box], prediction[box]
    precise = float(reference[find_centre_line(prediction)].mean())
    sensitive = float(prediction[find_centre_line(reference)].mean())
    return 2 * precise * sensitive / (precise + sensitive) if precise + sensitive else 0.0


def find_centre_line(mask: Mask) -> Mask:
    """Skeleton of a mask (Zhang 1984 in 2D, Lee 1994 in 3D, scikit-image).

    Lee's thinning leaves nothing of some compact parts, such as a cube of 2 voxels; such a part is its own centre line, so that it
    still counts.
    """
    line = skeletonize(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim].astype(bool)
    parts = label_parts(mask, corners=True)
    lost = np.setdiff1d(np.unique(parts), np.append(np.unique(parts[line]), 0))
    return line | np.isin(parts, lost) if len(lost) else line
