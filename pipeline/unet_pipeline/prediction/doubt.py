"""What is known of a label map without a reference, for the record: confidence and shape of each label, and its size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

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

    def as_record(self) -> dict[str, Any]:
        """Plain values; what is not known is None."""
        labels = {
            str(value): {key: _round(number) for part in parts for key, number in asdict(part).items()}
            for value, parts in self.labels.items()
        }
        return {
            "mean_entropy": _round(self.mean_entropy),
            "voxel_size": _round(self.voxel_size),
            "size_unit": self.size_unit,
            "labels": labels,
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Doubt:
        """The same from plain values."""
        labels: dict[int, tuple[LabelConfidence, ShapeFacts]] = {}
        for value, numbers in record["labels"].items():
            known: dict[str, Any] = {key: math.nan if number is None else number for key, number in numbers.items()}
            of_confidence, of_shape = (
                {field.name: known[field.name] for field in fields(kind)} for kind in (LabelConfidence, ShapeFacts)
            )
            labels[int(value)] = LabelConfidence(**of_confidence), ShapeFacts(**of_shape)
        return cls(record["mean_entropy"], record["voxel_size"], record["size_unit"], labels)


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


def _round(number: float) -> float | None:
    return None if math.isnan(number) else float(f"{number:.{_DIGITS}g}")
