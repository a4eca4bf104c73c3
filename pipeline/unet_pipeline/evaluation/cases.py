"""Prediction and reference files -> one row per case and label, on the image's native grid."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psutil

from unet_pipeline.dataset.dataset import is_picture
from unet_pipeline.dataset.geometry import PLACED, compare_grids, put_on_grid
from unet_pipeline.dataset.image import MedicalImage, read_grid
from unet_pipeline.dataset.instance_maps import INSTANCES, find_instances
from unet_pipeline.dataset.pages import read_label_pages, read_pages
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.mask_pair import MaskPair, Request
from unet_pipeline.evaluation.metric_table import METRICS, measure
from unet_pipeline.evaluation.pairs import Pair, list_changes, read_pair
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.instances import find_predicted_instances
from unet_pipeline.progress import progress_bar

if TYPE_CHECKING:
    from unet_pipeline.messages import Problem
    from unet_pipeline.types import LabelMap, Mask

    Measured = tuple[list[dict[str, object]], list[Problem]]  # rows of a pair, and what was done to its label maps
    MeasureAll = Callable[[Sequence[Pair], "CaseMeasurement"], list[Measured]]

MOST_THREADS = 8  # a heuristic: Python's own lock lets no more than some run
_BYTES_PER_VOXEL, _SHARE_OF_MEMORY = 24, 0.25  # of both label maps and the masks; of what is free

KEYS = ("fold", "case", "patient", "label")
FACTS = (
    "missed",
    "false_alarm",
    "num_voxels_reference",
    "num_voxels_prediction",
    "num_lesions_reference",
    "num_lesions_prediction",
    "num_instances_reference",
    "num_instances_prediction",
    "voxel_volume",
    "length_unit",
    "size_unit",
)
COLUMNS = (*KEYS, *METRICS, *FACTS)


def evaluate_pairs(
    pairs: Sequence[Pair],
    label_table: Mapping[str, int],
    ignore_value: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    requests: Mapping[str, Request] | None = None,
    notes: list[Problem] | None = None,
    measure_all: MeasureAll | None = None,
) -> pd.DataFrame:
    """Compare every pair.

    Where a folder `instances` beside the folder of the references has an instance map of the same name, the labels but for the first
    are compared instance by instance too.

    Args:
        pairs: files on the same grid.
        label_table: name and file value of each label; each gets a row per case, the first label too.
        regions: name and file values of labels that join several; each gets a row per case too.
        ignore_value: of the reference, for voxels without annotation: they count for nothing, whatever was predicted.
        requests: what is measured for a label or region beside what every one gets; from `build_requests`.
        notes: gets what was done to label maps before they were compared.
        measure_all: measures all pairs, in their order; threads of this process, if None.

    Returns:
        One row per case and label with those of `COLUMNS` that were measured: metrics of `METRICS`, NaN where they are undefined or not
        asked for this label; `missed` where the
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
    requests = requests or {}
    values_of = {**(regions or {}), **{name: (value,) for name, value in label_table.items()}}
    labels = tuple(
        MeasuredLabel(name, tuple(values), requests.get(name, Request()), tuple(values) != (min(label_table.values()),))
        for name, values in values_of.items()
    )
    in_mm = all(pair.pixel_spacing_mm or not is_picture(pair.reference) for pair in pairs)
    of_pairs = (measure_all or _measure_all)(pairs, CaseMeasurement(labels, dict(label_table), ignore_value, in_mm))
    rows = [row for rows_of_pair, _ in of_pairs for row in rows_of_pair]
    if notes is not None:
        notes += [note for _, changes in of_pairs for note in changes]
    measured = set().union(*rows)
    return pd.DataFrame(rows, columns=[name for name in COLUMNS if name in measured])


def _measure_all(pairs: Sequence[Pair], measure: Callable[[Pair], Measured]) -> list[Measured]:
    """What `measure` finds for each pair, in their order, several at the same time."""
    results = []
    workers = _count_threads(pairs)
    with progress_bar("evaluate", len(pairs), num_at_once=workers) as bar, ThreadPoolExecutor(workers) as executor:
        try:
            for result in executor.map(measure, pairs):
                results.append(result)
                bar.advance()
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return results


@dataclass(frozen=True)
class MeasuredLabel:
    """A label or region: its file values, what is measured, and whether it can have instances."""

    name: str
    values: tuple[int, ...]
    request: Request
    has_instances: bool


@dataclass(frozen=True)
class CaseMeasurement:
    """What is measured of every pair, as plain values.

    Attributes:
        labels: each gets a row.
        label_table: name and file value of each label that a prediction may have.
        ignore_value: of the reference, for voxels without annotation; None for none.
        in_mm: lengths are in mm; otherwise in pixels.
    """

    labels: tuple[MeasuredLabel, ...]
    label_table: dict[str, int]
    ignore_value: int | None
    in_mm: bool

    def __call__(self, pair: Pair) -> Measured:
        """Rows of a pair, and what was done to its label maps.

        Raises:
            EvaluationError, ImageFileError: as `evaluate_pairs`.
        """
        reference, prediction = read_pair(pair, self.label_table.values())
        _check_values(pair, prediction, self.label_table)
        rows = _compare(pair, reference, prediction, self.labels, self.ignore_value, self.in_mm)
        return rows, list_changes(reference, prediction)


def evaluate_by_plan(
    pairs: Sequence[Pair], plan: Plan, notes: list[Problem] | None = None, measure_all: MeasureAll | None = None
) -> pd.DataFrame:
    """Compare every pair as the plan says; see `evaluate_pairs`."""
    requests = build_requests(plan)
    return evaluate_pairs(pairs, plan.label_table, plan.ignore_value, plan.regions, requests, notes, measure_all)


def build_requests(plan: Plan) -> dict[str, Request]:
    """What the plan asks for each label and region."""
    return {
        name: Request(
            plan.tolerance_of(name), name in plan.lesion_labels, name in plan.thin_labels, name in plan.separated_labels
        )
        for name in (*plan.regions, *plan.label_table)
    }


def _count_threads(pairs: Sequence[Pair]) -> int:
    """Cases at the same time: NumPy and SciPy let others run in large arrays; small ones gain nothing and lose nothing.

    In processes small cases would gain less than it takes to start them: 42 hippocampi are measured in a second.
    """
    files = [pair.reference for pair in pairs if pair.reference.is_file()]
    if len(files) < 2:
        return 1
    file, spatial_dims = max(files, key=lambda file: file.stat().st_size), pairs[0].spatial_dims
    largest = read_pages(lambda as_slices: read_grid(file, pages_as_slices=as_slices), spatial_dims)
    fitting = int(
        _SHARE_OF_MEMORY * psutil.virtual_memory().available // (_BYTES_PER_VOXEL * math.prod(largest.spatial_shape))
    )
    return max(1, min(MOST_THREADS, os.cpu_count() or 1, len(files), fitting))


def _compare(
    pair: Pair,
    reference: MedicalImage,
    prediction: MedicalImage,
    labels: Sequence[MeasuredLabel],
    ignore_value: int | None,
    in_mm: bool,
) -> list[dict[str, object]]:
    spacing = _choose_spacing(pair, reference, in_mm)
    volume = math.prod(spacing)
    size_unit = "pixel" if not in_mm else "ml" if len(spacing) == 3 else "mm^2"
    instances = _read_instances(find_instances(pair.reference), pair, reference, f"{INSTANCES}/")
    predicted = (
        None if instances is None else _read_instances(find_predicted_instances(pair.prediction), pair, prediction)
    )
    rows: list[dict[str, object]] = []
    for label in labels:
        if set(label.values) & set(pair.missing_values):
            continue
        in_reference, in_prediction = (_find_values(image.array[0], label.values) for image in (reference, prediction))
        if ignore_value is not None:
            in_prediction &= reference.array[0] != ignore_value
        voxel_size = volume / 1000 if size_unit == "ml" else volume
        of_label = None if instances is None or not label.has_instances else np.where(in_reference, instances, 0)
        of_prediction = None if of_label is None or predicted is None else np.where(in_prediction, predicted, 0)
        masks = MaskPair(in_reference, in_prediction, spacing, voxel_size, label.request, of_label, of_prediction)
        num_reference, num_prediction = int(in_reference.sum()), int(in_prediction.sum())
        rows.append(
            {
                "fold": pair.fold,
                "case": pair.case,
                "patient": pair.patient or pair.case,
                "label": label.name,
                **measure(masks),
                "missed": num_reference > 0 and num_prediction == 0,
                "false_alarm": num_prediction > 0 and num_reference == 0,
                "num_voxels_reference": num_reference,
                "num_voxels_prediction": num_prediction,
                "voxel_volume": volume,
                "length_unit": "mm" if in_mm else "pixel",
                "size_unit": size_unit,
            }
        )
    return rows


def _find_values(array: LabelMap, values: Sequence[int]) -> Mask:
    """Where an array has one of the values; read as it lies in memory, which `np.isin` rearranges."""
    inside = array == values[0]
    for value in values[1:]:
        inside |= array == value
    return inside


def _read_instances(path: Path | None, pair: Pair, label_map: MedicalImage, folder: str = "") -> LabelMap | None:
    """The instance map of a label map, on its grid."""
    if path is None:
        return None
    instances = read_label_pages(path, pair.spatial_dims)
    if (
        instances.spatial_shape != label_map.spatial_shape
        and compare_grids(label_map, instances, path.name).kind == PLACED
    ):
        instances = put_on_grid(instances, label_map, path.name)
    if instances.array.shape != label_map.array.shape or not np.issubdtype(instances.array.dtype, np.integer):
        raise EvaluationError(
            f"Instance map {folder}{path.name} has the shape {instances.array.shape} and the type {instances.array.dtype}; expected whole "
            f"numbers of shape {label_map.array.shape}, as its label map. Correct it, or rename the folder."
        )
    return instances.array[0]


def _choose_spacing(pair: Pair, reference: MedicalImage, in_mm: bool) -> tuple[float, ...]:
    """Size of a voxel per axis in mm, or 1 pixel: a mean over cases needs one unit."""
    dims = len(reference.spatial_shape)
    if not in_mm:
        return (1.0,) * dims
    spacing_mm = tuple(pair.pixel_spacing_mm or reference.spacing_mm)
    return spacing_mm * dims if len(spacing_mm) == 1 else spacing_mm


def _check_values(pair: Pair, prediction: MedicalImage, label_table: Mapping[str, int]) -> None:
    if unknown := sorted(set(np.unique(prediction.array.ravel(order="K")).tolist()) - set(label_table.values())):
        raise EvaluationError(
            f"Prediction {pair.prediction.name} has the value {unknown[0]}; expected "
            f"{', '.join(f'{name}={value}' for name, value in label_table.items())}. Predict with this bundle."
        )
