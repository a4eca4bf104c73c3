"""Post-processing and temperature of a bundle, chosen on predictions of cases that the network has not seen."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
from unet_pipeline.prediction.parts import Windowing
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


@dataclass(frozen=True)
class CaseSample:
    """What a case tells about the candidates and the temperature.

    Attributes:
        rows: case, label, candidate and Dice, with nothing done and with each candidate.
        probabilities: of voxels that were drawn, shape (voxels, classes).
        classes: the true class of each of them.
    """

    rows: list[tuple[str, str, str, float]]
    probabilities: np.ndarray
    classes: np.ndarray


SampleAll = Callable[[Sequence[float]], Iterable[CaseSample]]


def tune_on(
    folder: BundleFolder,
    plan: Plan,
    groups: Sequence[Group],
    device: str | None = None,
    mirror: bool = False,
    sample_all: SampleAll | None = None,
) -> Tuning:
    """Predict the validation cases of every group without post-processing and choose.

    Args:
        groups: from `group_by_fold`.
        device: see `PredictOptions`.
        mirror: see `PredictOptions`.
        sample_all: samples the cases of all groups in their order, given the sizes of parts to try; this process, if None.

    Raises:
        PredictionError: an image cannot be predicted.
    """
    sizes = choose_sizes([size for group in groups for case in group.cases for size in _measure_parts(case, plan)])
    samples = list((sample_all or partial(_sample_all, folder, plan, groups, device, mirror))(sizes))
    rows = [row for sample in samples for row in sample.rows]
    table = pd.DataFrame(rows, columns=["case", "label", "candidate", "dice"])
    probabilities, classes = ([getattr(one, name) for one in samples] for name in ("probabilities", "classes"))
    return Tuning(
        num_cases=len(samples),
        folds=tuple(group.fold for group in groups),
        decisions=decide(table, list(plan.label_table)[1:], folder.read_patients()),
        calibration=fit_temperature(np.concatenate(probabilities), np.concatenate(classes), len(samples)),
    )


def _sample_all(
    folder: BundleFolder,
    plan: Plan,
    groups: Sequence[Group],
    device: str | None,
    mirror: bool,
    sizes: Sequence[float],
) -> Iterator[CaseSample]:
    """Every case by this process."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as staging,
        progress_bar("tune", sum(len(group.cases) for group in groups)) as bar,
    ):
        for group in groups:
            engine = build_engine(folder, group.weights, Path(staging), device, mirror)
            for case in group.cases:
                yield sample_case(engine, case, plan, sizes, Path(staging))
                bar.advance(note=case.source.name)


def build_engine(
    folder: BundleFolder,
    weights: Sequence[Path],
    staging: Path,
    device: str | None,
    mirror: bool,
    smaller: bool = False,
) -> TransformsEngine:
    """What predicts probabilities without post-processing.

    Args:
        staging: folder for images on the way.
        smaller: with the least memory: one window at a time, blended in main memory.
    """
    engines = build_engines(folder, weights, staging, PredictOptions(device, mirror), tuned=False)
    return (engines.with_windowing(Windowing(1, torch.device("cpu"))) if smaller else engines).transforms


def sample_case(
    engine: TransformsEngine, case: ReferencedImage, plan: Plan, sizes: Sequence[float], staging: Path
) -> CaseSample:
    """Predict a case, try every candidate on it, and draw voxels for the temperature.

    Args:
        engine: from `build_engine`.
        sizes: of small objects to remove, in mm^3 or pixels.

    Raises:
        PredictionError: the image cannot be predicted.
    """
    label = read_label_map(case.label)
    truth = np.full(label.spatial_shape, -1, np.int16)  # voxels without annotation
    missing = [index for index, value in enumerate(plan.label_table.values()) if value in case.missing_values]
    for index, value in enumerate(plan.label_table.values()):
        truth[label.array[0] == value] = 0 if index in missing else index
    image = case.source.read(plan.spatial_dims)
    predicted = engine.predict_probabilities(case.source.write_readable(image, staging, plan.image_suffix))
    spacing_mm = _spacing_of(case, label.spacing_mm)
    rows = _try_candidates(case.source.name, engine.choose_classes(predicted), truth, plan, sizes, spacing_mm)
    drawn = _draw_voxels(truth, len(plan.label_table))
    classes, probabilities = truth.reshape(-1)[drawn], predicted.reshape(len(predicted), -1)[:, drawn].T
    unknown = {list(plan.label_table)[index] for index in missing}
    known_rows = [row for row in rows if row[1] not in unknown]
    return CaseSample(known_rows, _join_missing(probabilities, classes, missing), classes)


def _join_missing(probabilities: np.ndarray, classes: np.ndarray, missing: Sequence[int]) -> np.ndarray:
    """Where nothing is annotated, the background has the probability of the labels that the case lacks too, as in the training."""
    if not missing:
        return probabilities
    joined, unknown = probabilities.copy(), classes == 0
    joined[unknown, 0] += joined[np.ix_(unknown, missing)].sum(axis=1)
    joined[np.ix_(unknown, missing)] = 0
    return joined


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
