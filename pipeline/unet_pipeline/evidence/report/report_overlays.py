"""The report's pictures: worst, median and best case with the outlines of reference and prediction, as PNG data URIs.

A label map is taken only when its voxel counts are those of metrics.csv, so that no picture of other predictions or of changed labels
stands beside a number.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.records import FoldLists, ListedCase, SplitRecord
from unet_pipeline.dataset.geometry import put_on_grid
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import FileContentError, PipelineError
from unet_pipeline.evidence.report.history import EvaluationRecord, History
from unet_pipeline.evidence.report.overlay import COLOURS
from unet_pipeline.planning.plan import Plan
from unet_pipeline.text_files import read_model

_INCHES, _DOTS_PER_INCH = 3.6, 100
_MOST_PIXELS = 1024  # a larger side is thinned before it is drawn: outlines on more cannot be seen


@dataclass(frozen=True)
class Panel:
    """One plane of one case."""

    name: str
    uri: str
    alt: str


@dataclass(frozen=True)
class CasePicture:
    """A case and its panels.

    Attributes:
        rank: "worst", "median" or "best".
        case: name.
        dice: mean over the labels that count.
        panels: one for a picture, three planes for a volume.
    """

    rank: str
    case: str
    dice: float
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class _Files:
    image: Path
    reference: Path
    prediction: Path


def draw_cases(history: History, record: EvaluationRecord, rows: pd.DataFrame) -> tuple[list[CasePicture], list[str]]:
    """Pictures of worst, median and best case, and why there are none of those that are missing.

    Args:
        rows: its metrics.csv.
    """
    pictures, notes = [], []
    listed = _list_files(history.folder, history.plan)
    for rank, case, dice in choose_cases(rows, record.summary.scored_labels):
        try:
            files = _find_files(record.folder, listed, case, rows[rows["case"] == case], history.plan)
            pictures.append(CasePicture(rank, case, dice, tuple(_draw_panels(case, files, history.plan))))
        except PipelineError as error:
            notes.append(f"No picture of {case}, the {rank} case: {str(error).partition('. ')[0].rstrip('.')}.")
    return pictures, notes


def choose_cases(rows: pd.DataFrame, scored_labels: Sequence[str]) -> list[tuple[str, str, float]]:
    """Rank, name and mean Dice of the two worst, the median and the best case; each case once."""
    scores = rows[rows["label"].isin(scored_labels)].groupby("case")["dice"].mean().dropna()
    scores = scores.sort_values(kind="stable")
    if not len(scores):
        return []
    places = {0: "worst", 1: "second worst", len(scores) // 2: "median", len(scores) - 1: "best"}
    if len(scores) < 4:
        places = {0: "worst", len(scores) - 1: "best"} if len(scores) > 1 else {0: "only"}
    return [(rank, str(scores.index[place]), float(scores.iloc[place])) for place, rank in sorted(places.items())]


def _list_files(folder: BundleFolder, plan: Plan) -> dict[str, tuple[Path, Path]]:
    """Image and label map of every case of the bundle's own data set."""
    root = folder.root / plan.dataset_dir
    listed: list[ListedCase] = []
    for path in sorted(folder.split_record.parent.glob("*.json")):
        with suppress(OSError, FileContentError):  # the report says that the data are not at hand
            if path == folder.split_record:
                listed += read_model(path, SplitRecord).test
            else:
                lists = read_model(path, FoldLists)
                listed += [*lists.training, *lists.validation]
    return {case.case: (root / case.image, root / case.label) for case in listed}


def _find_files(
    folder: Path, listed: Mapping[str, tuple[Path, Path]], case: str, rows: pd.DataFrame, plan: Plan
) -> _Files:
    if case not in listed:
        raise PipelineError("it is no case of the bundle's own data set, and where its image lies is not noted")
    image, reference = listed[case]
    if not image.exists() or not reference.is_file():
        raise PipelineError("the data set is not where the plan says")
    if not _has_counts(reference, rows, "num_voxels_reference", plan):
        raise PipelineError("its label map is not the one that was evaluated")
    for predictions in sorted(folder.glob("predictions*")):
        for path in (
            predictions / f"{case}{plan.output_suffix}",
            *predictions.glob(f"{image.name.split('.')[0]}{plan.output_suffix}"),
        ):
            if path.is_file() and _has_counts(path, rows, "num_voxels_prediction", plan):
                return _Files(image, reference, path)
    raise PipelineError("the label map that was evaluated is not in the bundle")


def _has_counts(path: Path, rows: pd.DataFrame, column: str, plan: Plan) -> bool:
    """Whether a label map has the voxels that metrics.csv counted; with voxels without annotation the counts say nothing."""
    if plan.ignore_value is not None and column == "num_voxels_prediction":
        return True
    array = read_label_map(path).array
    values: dict[str, Sequence[int]] = {**plan.regions, **{name: (value,) for name, value in plan.label_table.items()}}
    return all(
        int(np.isin(array, values[label]).sum()) == int(count)
        for label, count in zip(rows["label"], rows[column], strict=True)
        if label in values
    )


def _draw_panels(case: str, files: _Files, plan: Plan) -> Iterator[Panel]:
    image = read_image(files.image)
    reference, prediction = (
        put_on_grid(read_label_map(path), image, path.name) for path in (files.reference, files.prediction)
    )
    values = list(plan.label_table.values())[1:]
    wrong = reference.array[0] != prediction.array[0]
    if plan.ignore_value is not None:
        wrong &= reference.array[0] != plan.ignore_value
    for name, shown, truth, predicted, aspect in _list_planes(image, reference, prediction, wrong):
        where = f"{name} plane with most wrong voxels" if name else "picture"
        alt = f"{case}, {where}: reference (solid) and prediction (dashed) outlines"
        yield Panel(name, _encode(shown, truth, predicted, values, aspect), alt)


Plane = tuple[str, np.ndarray, np.ndarray, np.ndarray, float]


def _list_planes(
    image: MedicalImage, reference: MedicalImage, prediction: MedicalImage, wrong: np.ndarray
) -> Iterator[Plane]:
    """Name, image, reference, prediction as (rows, columns), and height of a pixel by its width."""
    if wrong.ndim == 2:
        shown = image.array.transpose(2, 1, 0) if image.array.shape[0] == 3 else image.array[0].T
        step = max(1, -(-max(wrong.shape) // _MOST_PIXELS))
        picture, truth, predicted = (
            plane[::step, ::step] for plane in (shown, reference.array[0].T, prediction.array[0].T)
        )
        yield "", picture, truth, predicted, 1.0
        return
    # columns to the patient's left, rows to the back, slices upwards: radiological views
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS"))
    turned = [
        nib.orientations.apply_orientation(volume, turn)
        for volume in (image.array[0], reference.array[0], prediction.array[0], wrong)
    ]
    spacing = [0.0] * 3
    for axis, (target, _) in enumerate(turn):
        spacing[int(target)] = image.spacing_mm[axis]
    for name, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        others = tuple(other for other in range(3) if other != axis)
        counts = turned[3].sum(axis=others)
        level = int(counts.argmax()) if counts.any() else turned[3].shape[axis] // 2
        planes = [np.take(volume, level, axis=axis).T for volume in turned[:3]]
        if axis != 2:
            planes = [plane[::-1] for plane in planes]  # the head is up
        yield name, planes[0], planes[1], planes[2], spacing[others[1]] / spacing[others[0]]


def _encode(shown: np.ndarray, truth: np.ndarray, predicted: np.ndarray, values: Sequence[int], aspect: float) -> str:
    """PNG as a data URI: grey image, reference outlined with a solid line, prediction with a dashed one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = _INCHES * min(max(shown.shape[0] * aspect / shown.shape[1], 0.3), 2.5)
    figure = Figure(figsize=(_INCHES, height), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    if shown.ndim == 3 and shown.dtype == np.uint8:
        axes.imshow(shown, aspect=aspect)
    else:
        grey = shown[..., 0] if shown.ndim == 3 else shown
        finite = grey[np.isfinite(grey)]
        low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
        axes.imshow(grey, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
    for number, value in enumerate(values):
        colour = COLOURS[number % len(COLOURS)]
        for labels, style, width in ((truth, "solid", 1.4), (predicted, (0, (3, 2)), 1.6)):
            mask = labels == value
            if mask.any() and not mask.all():
                # black below, so that a line is seen on light and dark tissue
                axes.contour(mask, levels=[0.5], colors=["black"], linewidths=width + 1.2, alpha=0.55)
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width, linestyles=[style])
    stream = io.BytesIO()
    figure.savefig(stream, dpi=_DOTS_PER_INCH, format="png", facecolor="black")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
