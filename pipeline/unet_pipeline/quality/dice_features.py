"""The numbers that Dice is expected from: one row for each label of an image, known without a reference."""

from __future__ import annotations

import numpy as np

from unet_pipeline.prediction.confidence import LabelConfidence
from unet_pipeline.prediction.shape_facts import ShapeFacts

NAMES = (
    "soft_dice_logit",
    "mean_probability_logit",
    "unsure_surface_log",
    "size_log",
    "size_deviation",
    "parts_log",
    "largest_share_log",
    "filled_share_log",
    "border_share",
    "mean_entropy_log",
)
_LEAST, _MOST = 1e-3, 1 - 1e-3


def build_features(
    confidence: LabelConfidence, shape: ShapeFacts, mean_entropy: float, usual_size: float, voxel_size: float
) -> np.ndarray:
    """Features of one label, shape (len(NAMES),); NaN where nothing was predicted as the label.

    Args:
        confidence: of the label, on the network's grid.
        shape: of the label, in the label map.
        mean_entropy: of the image.
        usual_size: median size of the label in the training's predictions, in the unit of `voxel_size` times voxels.
        voxel_size: of the label map.
    """
    if not shape.num_voxels or not confidence.predicted_voxels:
        return np.full(len(NAMES), np.nan)
    size = np.log(shape.num_voxels * voxel_size)
    deviation = size - np.log(usual_size)
    return np.array(
        [
            to_logit(confidence.soft_dice),
            to_logit(confidence.mean_probability),
            np.log(confidence.unsure_surface + _LEAST),
            size,
            abs(deviation),
            np.log(shape.num_parts),
            np.log(shape.largest_share),
            np.log(shape.filled_share),
            shape.touches_border,
            np.log(mean_entropy + _LEAST / 10),
        ]
    )


def to_logit(share: float | np.ndarray) -> float | np.ndarray:
    """Logit of a share, which is kept away from 0 and 1 by a thousandth."""
    kept = np.clip(share, _LEAST, _MOST)
    return np.log(kept / (1 - kept))


def from_logit(value: float | np.ndarray) -> float | np.ndarray:
    """The share whose logit is `value`; 0 and 1 for infinite ones."""
    return 1 / (1 + np.exp(-np.asarray(value, dtype=float)))
