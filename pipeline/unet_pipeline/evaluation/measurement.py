"""All metrics of one label in one case: masks in, a value for every metric that is asked for out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_pipeline.evaluation import metrics
from unet_pipeline.evaluation.centreline import compute_cldice
from unet_pipeline.evaluation.instances import IOU_THRESHOLDS, score_instances
from unet_pipeline.evaluation.lesions import detect_lesions
from unet_pipeline.evaluation.surface import compute_assd, compute_hd95, compute_nsd, compute_surface_distances

if TYPE_CHECKING:
    from unet_pipeline.types import LabelMap, Mask

DEFAULT_TOLERANCE = 1.0


@dataclass(frozen=True)
class Request:
    """What is measured for one label beside the metrics that every label gets.

    Attributes:
        tolerance: of the normalised surface dice, in the unit of the spacing.
        lesions: lesion-wise detection.
        thin: clDice.
    """

    tolerance: float = DEFAULT_TOLERANCE
    lesions: bool = False
    thin: bool = False


def measure_masks(
    reference: Mask, prediction: Mask, spacing: Sequence[float], voxel_size: float, request: Request
) -> dict[str, float]:
    """Every metric of the masks, and the numbers of lesions where those are asked for.

    Args:
        reference: bool, shape (i, j) or (i, j, k).
        prediction: bool, same shape and grid.
        spacing: size of a voxel along each axis, in the unit of lengths.
        voxel_size: of one voxel, in the unit of sizes.
        request: for this label.

    Raises:
        ValueError: shapes differ, a mask is not bool, or the spacing or tolerance is not positive.
    """
    distances = compute_surface_distances(reference, prediction, spacing)
    volume_error = metrics.compute_volume_error(reference, prediction, voxel_size)
    values = {
        "dice": metrics.compute_dice(reference, prediction),
        "iou": metrics.compute_iou(reference, prediction),
        "hd95": compute_hd95(distances),
        "assd": compute_assd(distances),
        "nsd": compute_nsd(distances, request.tolerance),
        "volume_error": volume_error,
        "absolute_volume_error": abs(volume_error),
        "relative_volume_error": metrics.compute_relative_volume_error(reference, prediction),
        "sensitivity": metrics.compute_sensitivity(reference, prediction),
        "precision": metrics.compute_precision(reference, prediction),
    }
    if request.lesions:
        values |= _measure_lesions(reference, prediction)
    if request.thin:
        values["cldice"] = compute_cldice(reference, prediction)
    return values


def _measure_lesions(reference: Mask, prediction: Mask) -> dict[str, float]:
    lesions = detect_lesions(reference, prediction)
    return {
        "lesion_sensitivity": lesions.sensitivity,
        "lesion_precision": lesions.precision,
        "lesion_f1": lesions.f1,
        "num_lesions_reference": lesions.num_reference,
        "num_lesions_prediction": lesions.num_prediction,
    }


def measure_instances(instances: LabelMap, prediction: Mask) -> dict[str, float]:
    """Every metric of instances, and their numbers.

    Args:
        instances: the reference's instance map, shape (i, j) or (i, j, k); 0 outside, one value per object.
        prediction: bool, same shape and grid.

    Raises:
        ValueError: shapes differ.
    """
    scores = score_instances(instances, prediction)
    return {
        "mean_ap": scores.mean_average_precision,
        "panoptic_quality": scores.panoptic_quality,
        **{
            f"ap_{round(100 * threshold)}": precision
            for threshold, precision in zip(IOU_THRESHOLDS, scores.average_precisions, strict=True)
        },
        "num_instances_reference": scores.num_reference,
        "num_instances_prediction": scores.num_prediction,
    }
