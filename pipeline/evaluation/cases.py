"""Prediction and reference files -> one row per case and label, on the image's native grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.dataset.dataset import PICTURE_SUFFIXES, image_suffix
from pipeline.dataset.image import MedicalImage, read_label_map
from pipeline.errors import EvaluationError
from pipeline.evaluation.metric_table import METRICS
from pipeline.evaluation.metrics import compute_dice, compute_iou
from pipeline.progress import progress_bar

_AFFINE_TOLERANCE_MM = 1e-3
KEYS = ("fold", "case", "patient", "label")
FACTS = (
    "missed",
    "false_alarm",
    "num_voxels_reference",
    "num_voxels_prediction",
    "voxel_volume",
    "length_unit",
    "size_unit",
)
COLUMNS = (*KEYS, *METRICS, *FACTS)


@dataclass(frozen=True)
class Pair:
    """Two label map files of one case.

    Attributes:
        fold: the fold that validates the case; None for a test set.
        pixel_spacing_mm: of a picture, where the dataset knows it; one value counts for every axis.
        patient: whose image it is; None for a patient with this case only.
    """

    case: str
    reference: Path
    prediction: Path
    fold: int | None = None
    pixel_spacing_mm: tuple[float, ...] | None = None
    patient: str | None = None


def evaluate_pairs(
    pairs: Sequence[Pair],
    label_table: Mapping[str, int],
    ignore_value: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> pd.DataFrame:
    """Compare every pair.

    Args:
        pairs: files on the same grid.
        label_table: name and file value of each label; each gets a row per case, the first label too.
        regions: name and file values of labels that join several; each gets a row per case too.
        ignore_value: of the reference, for voxels without annotation: they count for nothing, whatever was predicted.

    Returns:
        One row per case and label with `COLUMNS`: every metric of `METRICS`, NaN where it is undefined; `missed` where the
        reference has the label and the prediction does not, `false_alarm` the other way round; `voxel_volume` in mm^3, for
        pictures in mm^2, or 1 pixel where the spacing of one of them is not known; the units of lengths and sizes.

    Raises:
        EvaluationError: a prediction is missing, lies on another grid, or carries a value that the table lacks.
    """
    if missing := [pair.prediction.name for pair in pairs if not pair.prediction.is_file()]:
        raise EvaluationError(
            f"{len(missing)} of {len(pairs)} predictions are missing in {pairs[0].prediction.parent.name}/, for example "
            f"{missing[0]}. Predict these cases first; a case without prediction is never left out."
        )
    rows: list[dict[str, object]] = []
    in_mm = all(pair.pixel_spacing_mm or not _is_picture(pair.reference) for pair in pairs)
    with progress_bar("evaluate", len(pairs)) as bar:
        for pair in pairs:
            rows += _compare(pair, label_table, ignore_value, regions or {}, in_mm)
            bar.advance()
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_picture(path: Path) -> bool:
    return image_suffix(path) in PICTURE_SUFFIXES


def _compare(
    pair: Pair,
    label_table: Mapping[str, int],
    ignore_value: int | None,
    regions: Mapping[str, Sequence[int]],
    in_mm: bool,
) -> list[dict[str, object]]:
    reference, prediction = read_label_map(pair.reference), read_label_map(pair.prediction)
    _check_grids(pair, reference, prediction)
    if unknown := sorted(set(np.unique(prediction.array).tolist()) - set(label_table.values())):
        raise EvaluationError(
            f"Prediction {pair.prediction.name} has the value {unknown[0]}; expected "
            f"{', '.join(f'{name}={value}' for name, value in label_table.items())}. Predict with this bundle."
        )
    spacing = _choose_spacing(pair, reference, in_mm)
    size_unit = "pixel" if not in_mm else "ml" if len(spacing) == 3 else "mm^2"
    rows: list[dict[str, object]] = []
    values_of = {**regions, **{name: (value,) for name, value in label_table.items()}}
    for name, values in values_of.items():
        in_reference, in_prediction = np.isin(reference.array[0], values), np.isin(prediction.array[0], values)
        if ignore_value is not None:
            in_prediction &= reference.array[0] != ignore_value
        num_reference, num_prediction = int(in_reference.sum()), int(in_prediction.sum())
        rows.append(
            {
                "fold": pair.fold,
                "case": pair.case,
                "patient": pair.patient or pair.case,
                "label": name,
                "dice": compute_dice(in_reference, in_prediction),
                "iou": compute_iou(in_reference, in_prediction),
                "missed": num_reference > 0 and num_prediction == 0,
                "false_alarm": num_prediction > 0 and num_reference == 0,
                "num_voxels_reference": num_reference,
                "num_voxels_prediction": num_prediction,
                "voxel_volume": math.prod(spacing),
                "length_unit": "mm" if in_mm else "pixel",
                "size_unit": size_unit,
            }
        )
    return rows


def _choose_spacing(pair: Pair, reference: MedicalImage, in_mm: bool) -> tuple[float, ...]:
    """Size of a voxel per axis in mm, or 1 pixel: a mean over cases needs one unit."""
    dims = len(reference.spatial_shape)
    if not in_mm:
        return (1.0,) * dims
    spacing_mm = tuple(pair.pixel_spacing_mm or reference.spacing_mm)
    return spacing_mm * dims if len(spacing_mm) == 1 else spacing_mm


def _check_grids(pair: Pair, reference: MedicalImage, prediction: MedicalImage) -> None:
    if reference.spatial_shape != prediction.spatial_shape:
        raise EvaluationError(
            f"Prediction {pair.prediction.name} has shape {prediction.spatial_shape}, its reference "
            f"{reference.spatial_shape}; expected the same grid. Predict on the original image."
        )
    if not np.allclose(reference.affine, prediction.affine, rtol=0, atol=_AFFINE_TOLERANCE_MM):
        raise EvaluationError(
            f"Prediction {pair.prediction.name} has another affine than its reference {pair.reference.name}; expected "
            "the same grid. Predict on the original image."
        )
