"""The report's pictures: worst, median and best case, each plane under its outlines and beside the map of its errors.

A label map is taken only when its voxel counts are those of metrics.csv, so that no picture of other predictions or of changed labels
stands beside a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

import nibabel as nib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from unet_pipeline.dataset.dataset import case_name
from unet_pipeline.dataset.geometry import put_on_grid
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import PipelineError
from unet_pipeline.evidence.records.case_files import Labels, Source, find_sources
from unet_pipeline.evidence.report.history import EvaluationRecord, History
from unet_pipeline.evidence.report.pictures import ERROR_WORDS, Plane, draw_errors, draw_outlines
from unet_pipeline.planning.plan import Plan


@dataclass(frozen=True)
class Panel:
    """One plane of one case: the outlines, and the errors."""

    name: str
    outlines: Markup
    errors: Markup


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


def draw_case_sheet(pictures: Sequence[CasePicture], credit: Sequence[str]) -> str:
    """One SVG of the first plane of every case, outlines above errors, with what each colour means and the credit."""
    width, drawn, tallest = 260, [], 0.0
    for column, picture in enumerate(pictures):
        left, top = 10 + column * (width + 10), 44.0
        drawn.append(f'<text x="{left}" y="18">{escape(picture.rank)}: {escape(picture.case)}</text>')
        drawn.append(f'<text x="{left}" y="36">mean Dice {picture.dice:.4f}</text>')
        for svg in (picture.panels[0].outlines, picture.panels[0].errors):
            sides = svg.partition('viewBox="0 0 ')[2].partition('"')[0].split()
            height = width * float(sides[1]) / float(sides[0])
            drawn.append(
                str(svg).replace("<svg ", f'<svg x="{left}" y="{top:g}" width="{width}" height="{height:g}" ', 1)
            )
            top += height + 8
        tallest = max(tallest, top)
    told = ", ".join((f"{name}: {colour}" for name, colour in ERROR_WORDS.items()))
    lines = ("Above: reference solid, prediction dashed. Below: " + told + ".", *credit)
    across = max(20 + len(pictures) * (width + 10), 560)
    letters = across // 7  # of the credit's size
    short = [part for line in lines for part in wrap(line, letters)]
    for number, line in enumerate(short):
        drawn.append(f'<text x="10" y="{tallest + 16 + 16 * number:g}" font-size="11">{escape(line)}</text>')
    frame = f"{across} {tallest + 24 + 16 * len(short):g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame}" font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(drawn)}</svg>'
    )


@dataclass(frozen=True)
class _Files:
    image: Path
    reference: Path
    prediction: Path


def draw_cases(
    history: History, record: EvaluationRecord, rows: pd.DataFrame, dataset: Path | None = None
) -> tuple[list[CasePicture], list[str]]:
    """Pictures of worst, median and best case, and why there are none of those that are missing.

    Args:
        rows: its metrics.csv.
        dataset: folder of the images, if it is not where the record or the plan says.
    """
    plan, pictures = history.plan, []
    missing: dict[str, list[str]] = {}
    regions = {name: tuple(values) for name, values in plan.regions.items()}
    labels = Labels(
        dict(plan.label_table),
        regions,
        tuple(record.summary.scored_labels),
        plan.ignore_value,
        plan.spatial_dims,
        tuple(plan.channel_names),
    )
    try:
        sources = find_sources(history.folder, dataset, labels, record.name, record.summary.dataset)
    except (PipelineError, OSError) as error:
        return [], [f"No pictures of cases: {str(error).rstrip('.')}."]
    for rank, case, dice in choose_cases(rows, record.summary.scored_labels):
        try:
            of_case = rows[rows["case"] == case]
            files = _find_files(record.folder, sources.get(case), case, of_case, plan)
            pictures.append(
                CasePicture(rank, case, dice, tuple(_draw_panels(case, files, plan, set(of_case["label"]))))
            )
        except PipelineError as error:
            missing.setdefault(str(error).partition(". ")[0].rstrip("."), []).append(f"{case} ({rank})")
    return pictures, [f"No picture of {', '.join(cases)}: {cause}." for cause, cases in missing.items()]


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


def _find_files(folder: Path, source: Source | None, case: str, rows: pd.DataFrame, plan: Plan) -> _Files:
    if source is None or source.reference is None:
        raise PipelineError(
            "the dataset has no such case with a label map; `report --dataset DIR` names the one that was evaluated"
        )
    image, reference = source.image.files[0], source.reference
    if not image.exists() or not reference.is_file():
        raise PipelineError("its image or label map is not in the dataset any more")
    if not _has_counts(reference, rows, "num_voxels_reference", plan):
        raise PipelineError("its label map is not the one that was evaluated")
    for predictions in sorted(folder.glob("predictions*")):
        for name in dict.fromkeys((case, case_name(image))):
            path = predictions / f"{name}{plan.output_suffix}"
            if path.is_file() and _has_counts(path, rows, "num_voxels_prediction", plan):
                return _Files(image, reference, path)
    raise PipelineError("the label map that was evaluated is not in the bundle")


def _has_counts(path: Path, rows: pd.DataFrame, column: str, plan: Plan) -> bool:
    """Whether a label map has the voxels that metrics.csv counted; with voxels without annotation the counts say nothing."""
    if plan.ignore_value is not None and column == "num_voxels_prediction":
        return True
    array = read_label_map(path, known_values=None).array
    values: dict[str, Sequence[int]] = {**plan.regions, **{name: (value,) for name, value in plan.label_table.items()}}
    return all(
        int(np.isin(array, values[label]).sum()) == int(count)
        for label, count in zip(rows["label"], rows[column], strict=True)
        if label in values
    )


def _draw_panels(case: str, files: _Files, plan: Plan, measured: Set[str]) -> Iterator[Panel]:
    """`measured` are the labels with a number; others, which the case is not annotated with, are drawn in neither map."""
    image = read_image(files.image)
    reference, prediction = (
        put_on_grid(read_label_map(path, known_values=None), image, path.name)
        for path in (files.reference, files.prediction)
    )
    values = list(plan.label_table.values())[1:]
    unknown = [value for name, value in plan.label_table.items() if name not in measured]
    if plan.missing_labels and unknown:
        reference, prediction = (
            replace(label_map, array=np.where(np.isin(label_map.array, unknown), 0, label_map.array))
            for label_map in (reference, prediction)
        )
    ignored = reference.array[0] == (-1 if plan.ignore_value is None else plan.ignore_value)
    wrong = (reference.array[0] != prediction.array[0]) & ~ignored
    for plane in _list_planes(image, reference, prediction, wrong, ignored):
        where = f"{case}, {plane.name} plane with most wrong voxels" if plane.name else case
        outlines = draw_outlines(
            plane, values, f"{where}: outlines of the reference (solid) and the prediction (dashed)"
        )
        yield Panel(plane.name, outlines, draw_errors(plane, f"{where}: map of what was missed, false alarm or agreed"))


def _list_planes(
    image: MedicalImage, reference: MedicalImage, prediction: MedicalImage, wrong: np.ndarray, ignored: np.ndarray
) -> Iterator[Plane]:
    """The picture, or the three planes of a volume with most wrong voxels."""
    if wrong.ndim == 2:
        shown = image.array.transpose(2, 1, 0) if image.array.shape[0] == 3 else image.array[0].T
        yield Plane("", shown, reference.array[0].T, prediction.array[0].T, 1.0, ignored.T)
        return
    # columns to the patient's left, rows to the back, slices upwards: radiological views
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS"))
    turned = [
        nib.orientations.apply_orientation(volume, turn)
        for volume in (image.array[0], reference.array[0], prediction.array[0], ignored, wrong)
    ]
    spacing = [0.0] * 3
    for axis, (target, _) in enumerate(turn):
        spacing[int(target)] = image.spacing_mm[axis]
    for name, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        others = tuple(other for other in range(3) if other != axis)
        counts = turned[4].sum(axis=others)
        level = int(counts.argmax()) if counts.any() else turned[4].shape[axis] // 2
        planes = [np.take(volume, level, axis=axis).T for volume in turned[:4]]
        if axis != 2:
            planes = [plane[::-1] for plane in planes]  # the head is up
        shown, truth, predicted, unsaid = planes
        yield Plane(name, shown, truth, predicted, spacing[others[1]] / spacing[others[0]], unsaid)
