"""Instance metrics: how many objects were found and told apart.

The reference's instances come from an instance map, in which every object has a value of its own, and so do those of a bundle that was
trained for them. Where a bundle gives classes only, the predicted instances are the connected parts of the predicted mask; parts that touch
at a corner only are two, because cells touch. Two cells whose predicted masks grow together are then one instance, and count as an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.evaluation.parts import compute_part_ious, label_parts, match_parts

if TYPE_CHECKING:
    from unet_pipeline.types import LabelMap, Mask

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True)
class InstanceScores:
    """Instances of one image. Without any on either side all scores are NaN; with one side empty they are 0.

    Attributes:
        num_reference: instances of the reference.
        num_prediction: instances of the prediction.
        average_precisions: for each of `IOU_THRESHOLDS`, matched pairs by pairs and unmatched instances of both sides, 0 to 1. Without
            confidences this is what the Data Science Bowl 2018 and StarDist call average precision.
        panoptic_quality: sum of the IoU of the pairs of IoU over 0.5, by the mean number of instances of both sides, 0 to 1
            (Kirillov et al. 2019, CVPR, arXiv:1801.00868).
    """

    num_reference: int
    num_prediction: int
    average_precisions: tuple[float, ...]
    panoptic_quality: float

    @property
    def mean_average_precision(self) -> float:
        """Mean over the thresholds."""
        return float(np.mean(self.average_precisions))

    @property
    def count_error(self) -> float:
        """Predicted instances less those of the reference."""
        return float(self.num_prediction - self.num_reference) if self.num_prediction + self.num_reference else math.nan


def score_instances(instances: LabelMap, prediction: Mask) -> InstanceScores:
    """Compare an instance map with the connected parts of a predicted mask.

    Args:
        instances: shape (i, j) or (i, j, k); 0 outside, one value per object.
        prediction: bool, same shape and grid.

    Raises:
        ValueError: shapes differ.
    """
    return score_instance_maps(instances, label_parts(prediction, corners=False))


def score_instance_maps(reference: LabelMap, prediction: LabelMap) -> InstanceScores:
    """Compare two instance maps, as `score_instances`."""
    ious = compute_part_ious(reference, prediction)
    num_reference, num_prediction = ious.shape
    total = num_reference + num_prediction
    if not total:
        return InstanceScores(0, 0, (math.nan,) * len(IOU_THRESHOLDS), math.nan)
    precisions = []
    for threshold in IOU_THRESHOLDS:
        num_matched = len(match_parts(ious, _just_above(threshold)))
        precisions.append(num_matched / (total - num_matched))
    quality = 2 * float(match_parts(ious, _just_above(0.5)).sum()) / total
    return InstanceScores(num_reference, num_prediction, tuple(precisions), quality)


def _just_above(threshold: float) -> float:
    """Above 0.5 each instance has one partner at most; an IoU of exactly 0.5 does not count."""
    return math.nextafter(threshold, 1)
