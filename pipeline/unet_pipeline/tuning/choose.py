"""Post-processing and temperature of a bundle, chosen on predictions of cases that the network has not seen."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.transforms import FillHoles, KeepLargestConnectedComponent, RemoveSmallObjects
from scipy import ndimage

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.evaluation.groups import Group, ReferencedImage
from unet_pipeline.evaluation.metrics import compute_dice
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.engines import build_engines
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.transforms import TransformsEngine
from unet_pipeline.progress import progress_bar
from unet_pipeline.results import Result
from unet_pipeline.tuning.calibration import Calibration, fit_temperature
from unet_pipeline.tuning.postprocessing import (
    FILL_HOLES,
    KEEP_LARGEST,
    NOTHING,
    REMOVE_SMALL,
    Decision,
    choose_sizes,
    decide,
)

_VOXELS_PER_CASE = 20_000  # drawn for the temperature, which is one number


@dataclass(frozen=True, repr=False)
class Tuning(Result):
    """What was tried and chosen.

    Attributes:
        num_cases: that were predicted, each by a network that had not seen it.
        folds: whose validation cases they are.
        decisions: every candidate of post-processing.
        calibration: the temperature.
    """

    num_cases: int
    folds: tuple[int | None, ...]
    decisions: tuple[Decision, ...]
    calibration: Calibration

    def list_taken(self, candidate: str) -> tuple[str, ...]:
        """Labels for which a candidate was taken."""
        return tuple(
            decision.label for decision in self.decisions if decision.taken and decision.candidate == candidate
        )

    @property
    def remove_small_objects(self) -> float:
        """The size that was taken, the one of the highest mean Dice among several; 0 for none."""
        sizes = {float(d.candidate.split()[3]): d.after for d in self.decisions if d.taken and d.label == "all labels"}
        return max(sizes, key=lambda size: sizes[size]) if sizes else 0.0


def tune_on(
    folder: BundleFolder, plan: Plan, groups: Sequence[Group], device: str | None = None, mirror: bool = False
) -> Tuning:
    """Predict the validation cases of every group without post-processing and choose.

    Args:
        groups: from `group_by_fold`.
        device: see `PredictOptions`.
        mirror: see `PredictOptions`.

    Raises:
        PredictionError: an image cannot be predicted.
    """
    sizes = choose_sizes([size for group in groups for case in group.cases for size in _measure_parts(case, plan)])
    rows: list[tuple[str, str, str, float]] = []
    probabilities, classes = [], []
    with progress_bar("tune", sum(len(group.cases) for group in groups)) as bar:
        for case, predicted, truth, spacing_mm in _predict_all(folder, plan, groups, device, mirror):
            rows += _try_candidates(case.source.name, predicted.argmax(axis=0), truth, plan, sizes, spacing_mm)
            drawn = _draw_voxels(truth, len(plan.label_table))
            probabilities.append(predicted.reshape(len(predicted), -1)[:, drawn].T)
            classes.append(truth.reshape(-1)[drawn])
            bar.advance(note=case.source.name)
    table = pd.DataFrame(rows, columns=["case", "label", "candidate", "dice"])
    return Tuning(
        num_cases=len(classes),
        folds=tuple(group.fold for group in groups),
        decisions=decide(table, list(plan.label_table)[1:], folder.read_patients()),
        calibration=fit_temperature(np.concatenate(probabilities), np.concatenate(classes), len(classes)),
    )


def _predict_all(
    folder: BundleFolder, plan: Plan, groups: Sequence[Group], device: str | None, mirror: bool
) -> Iterator[tuple[ReferencedImage, np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Case, probabilities of shape (classes, *spatial), true classes, spacing; voxels without annotation have class -1."""
    staging = Path(tempfile.mkdtemp())
    try:
        for group in groups:
            options = PredictOptions(device, mirror)
            engine = build_engines(folder, group.weights, staging, options, tuned=False).transforms
            for case in group.cases:
                label = read_label_map(case.label)
                truth = np.full(label.spatial_shape, -1, np.int16)
                for index, value in enumerate(plan.label_table.values()):
                    truth[label.array[0] == value] = index
                yield case, _predict(engine, case, staging, plan), truth, _spacing_of(case, label.spacing_mm)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _predict(engine: TransformsEngine, case: ReferencedImage, staging: Path, plan: Plan) -> np.ndarray:
    image = case.source.read(plan.spatial_dims)
    return engine.predict_probabilities(case.source.write_readable(image, staging, plan.image_suffix))


def _spacing_of(case: ReferencedImage, of_file: Sequence[float]) -> tuple[float, ...]:
    """In mm as MONAI sees it; pictures count in pixels."""
    return (1.0,) * len(of_file) if case.pixel_spacing_mm else tuple(of_file)


def _measure_parts(case: ReferencedImage, plan: Plan) -> list[float]:
    """Size of every connected part of every label but the first, in mm^3 or pixels."""
    label = read_label_map(case.label)
    voxel = math.prod(_spacing_of(case, label.spacing_mm))
    sizes: list[float] = []
    for value in list(plan.label_table.values())[1:]:
        parts, count = ndimage.label(label.array[0] == value)
        sizes += (np.bincount(parts.reshape(-1), minlength=count + 1)[1:] * voxel).tolist()
    return sizes


def _try_candidates(
    case: str, predicted: np.ndarray, truth: np.ndarray, plan: Plan, sizes: Sequence[float], spacing_mm: Sequence[float]
) -> list[tuple[str, str, str, float]]:
    """Dice of every label with nothing done and with each candidate that may change it."""
    labels = list(plan.label_table)
    annotated = truth >= 0
    shown = torch.from_numpy(predicted.astype(np.int64))[None]

    def measure(label_map: torch.Tensor, index: int) -> float:
        return compute_dice(truth == index, (label_map[0].numpy() == index) & annotated)

    rows = [(case, labels[index], NOTHING, measure(shown, index)) for index in range(1, len(labels))]
    for index in range(1, len(labels)):
        filled = torch.as_tensor(FillHoles(applied_labels=[index])(shown))
        rows.append((case, labels[index], FILL_HOLES, measure(filled, index)))
        largest = torch.as_tensor(KeepLargestConnectedComponent(applied_labels=[index], is_onehot=False)(shown))
        rows.append((case, labels[index], KEEP_LARGEST, measure(largest, index)))
    one_hot = torch.nn.functional.one_hot(shown[0], len(labels)).movedim(-1, 0)
    for size in sizes:
        cleaned = RemoveSmallObjects(min_size=size, by_measure=True, pixdim=tuple(spacing_mm))(one_hot)
        cleaned = torch.as_tensor(cleaned).argmax(dim=0, keepdim=True)
        rows += [
            (case, labels[index], REMOVE_SMALL.format(size), measure(cleaned, index)) for index in range(1, len(labels))
        ]
    return rows


def _draw_voxels(truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Places in the flattened map, the same in every run; annotated voxels only."""
    places = np.flatnonzero((truth >= 0) & (truth < num_classes))
    if len(places) <= _VOXELS_PER_CASE:
        return places
    return np.random.default_rng(0).choice(places, _VOXELS_PER_CASE, replace=False)
