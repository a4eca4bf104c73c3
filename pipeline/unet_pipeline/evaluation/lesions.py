"""Lesion-wise detection: how many of the reference's lesions were found, and how many findings are lesions.

A lesion is a connected part of a mask; voxels that touch at a corner are connected. A lesion of the reference and one of the
prediction are the same if their IoU is at least `LEAST_IOU`; each belongs to one pair at most, so that one large finding does not find
all lesions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_pipeline.evaluation.metrics import check_masks
from unet_pipeline.evaluation.parts import compute_part_ious, label_parts, match_parts
from unet_pipeline.evaluation.surface import find_box

if TYPE_CHECKING:
    from unet_pipeline.types import Mask

LEAST_IOU = 0.1  # of a hit in PI-CAI (Saha et al. 2024, Lancet Oncology 25:879-887) and nnDetection


@dataclass(frozen=True)
class LesionDetection:
    """Lesions of one case.

    Attributes:
        num_reference: lesions of the reference.
        num_prediction: lesions of the prediction.
        num_found: pairs.
    """

    num_reference: int
    num_prediction: int
    num_found: int

    @property
    def sensitivity(self) -> float:
        """Share of the reference's lesions that were found. No lesion in the reference: NaN. None predicted: 0."""
        return self.num_found / self.num_reference if self.num_reference else math.nan

    @property
    def precision(self) -> float:
        """Share of the findings that are lesions. No lesion on either side: NaN. One side without any: 0."""
        if not self.num_reference + self.num_prediction:
            return math.nan
        return self.num_found / self.num_prediction if self.num_prediction else 0.0

    @property
    def f1(self) -> float:
        """Twice the pairs by the lesions of both sides. No lesion on either side: NaN. One side without any: 0."""
        total = self.num_reference + self.num_prediction
        return 2 * self.num_found / total if total else math.nan


def detect_lesions(reference: Mask, prediction: Mask) -> LesionDetection:
    """Count and match the lesions of two masks.

    Args:
        reference: bool, shape (i, j) or (i, j, k).
        prediction: bool, same shape and grid.

    Raises:
        ValueError: shapes differ, or a mask is not bool.
    """
    check_masks(reference, prediction)
    box = find_box(reference | prediction)
    of_reference, of_prediction = (label_parts(mask[box], corners=True) for mask in (reference, prediction))
    ious = compute_part_ious(of_reference, of_prediction)
    num_reference, num_prediction = ious.shape
    return LesionDetection(num_reference, num_prediction, len(match_parts(ious, LEAST_IOU)))
