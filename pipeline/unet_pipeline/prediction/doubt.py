"""What is known of a label map without a reference, for the record: confidence and shape of each label, and its size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from unet_pipeline.bundle.run_record import LabelDoubt, LabelMapDoubt
from unet_pipeline.prediction.confidence import LabelConfidence
from unet_pipeline.prediction.engine import Case, CasePrediction
from unet_pipeline.prediction.parts import Parts
from unet_pipeline.prediction.shape_facts import ShapeFacts, describe_shapes

_MM3_PER_ML = 1000
_DIGITS = 7


@dataclass(frozen=True)
class Doubt:
    """Of one image.

    Attributes:
        mean_entropy: see `ConfidenceSums`.
        voxel_size: in `size_unit`.
        size_unit: ml, or pixel of a picture.
        labels: confidence and shape of each label but the background, by its value in the label map.
    """

    mean_entropy: float
    voxel_size: float
    size_unit: str
    labels: Mapping[int, tuple[LabelConfidence, ShapeFacts]]

    def as_record(self) -> LabelMapDoubt:
        """Plain values; what is not known is None."""
        labels = {str(value): _describe_label(*parts) for value, parts in self.labels.items()}
        return LabelMapDoubt(
            mean_entropy=_round(self.mean_entropy),
            voxel_size=_round(self.voxel_size),
            size_unit=self.size_unit,
            labels=labels,
        )

    @classmethod
    def of_record(cls, record: LabelMapDoubt) -> Doubt:
        """The same from plain values."""
        labels = {int(value): _read_label(label) for value, label in record.labels.items()}
        return cls(_restore(record.mean_entropy), _restore(record.voxel_size), record.size_unit, labels)


def measure_doubt(case: Case, prediction: CasePrediction, parts: Parts) -> Doubt | None:
    """What is known of a label map; None where the probabilities were not added up, or are not those of `plan`'s labels.

    Args:
        case: behind the network.
        prediction: of it.
        parts: of the bundle.
    """
    if case.confidence is None or not parts.label_values:
        return None
    values = np.asarray(prediction.values)
    values = values.reshape(values.shape[-len(case.spatial_shape) :]).astype(np.uint8)
    labels = parts.label_values[1:]
    confidences, shapes = case.confidence.describe()[1:], describe_shapes(values, labels)
    is_picture = parts.expected.counts_pixels
    voxel_size = 1.0 if is_picture else abs(float(np.linalg.det(case.affine[:3, :3]))) / _MM3_PER_ML
    both = dict(zip(labels, zip(confidences, shapes, strict=True), strict=True))
    return Doubt(case.confidence.mean_entropy, voxel_size, "pixel" if is_picture else "ml", both)


def _describe_label(confidence: LabelConfidence, shape: ShapeFacts) -> LabelDoubt:
    return LabelDoubt(
        **{name: _round(number) for name, number in asdict(confidence).items()},
        num_voxels=_shorten(shape.num_voxels),
        num_parts=_shorten(shape.num_parts),
        largest_share=_round(shape.largest_share),
        filled_share=_round(shape.filled_share),
        touches_border=_round(shape.touches_border),
    )


def _read_label(label: LabelDoubt) -> tuple[LabelConfidence, ShapeFacts]:
    confidence = LabelConfidence(
        _restore(label.predicted_voxels),
        _restore(label.expected_voxels),
        _restore(label.soft_dice),
        _restore(label.mean_probability),
        _restore(label.unsure_surface),
    )
    shares = map(_restore, (label.largest_share, label.filled_share, label.touches_border))
    return confidence, ShapeFacts(int(label.num_voxels), int(label.num_parts), *shares)


def _restore(number: float | None) -> float:
    return math.nan if number is None else number


def _round(number: float) -> float | None:
    return None if math.isnan(number) else _shorten(number)


def _shorten(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
