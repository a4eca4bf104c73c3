"""The report's pictures: worst, median and best case, each plane under its outlines and beside the map of its errors.

A label map is taken only when it is the one that was measured (`measured.py`), so that no picture of other predictions or of changed
labels stands beside a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from unet_pipeline.dataset.dataset import case_name
from unet_pipeline.dataset.geometry import put_on_grid
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.radiological import turn_radiological, turn_spacing
from unet_pipeline.errors import PipelineError
from unet_pipeline.evidence.records.case_files import Labels, Source, find_sources
from unet_pipeline.evidence.records.measured import hide_unmeasured, is_measured_prediction, is_measured_reference
from unet_pipeline.evidence.report.history import EvaluationRecord, History
from unet_pipeline.evidence.report.pictures import ERROR_WORDS, Plane, draw_errors, draw_outlines


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
            files = _find_files(record, sources.get(case), case, of_case, labels, plan.output_suffix)
            pictures.append(CasePicture(rank, case, dice, tuple(_draw_panels(case, files, of_case, labels))))
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


def _find_files(
    record: EvaluationRecord, source: Source | None, case: str, rows: pd.DataFrame, labels: Labels, suffix: str
) -> _Files:
    if source is None or source.reference is None:
        raise PipelineError(
            "the dataset has no such case with a label map; `report --dataset DIR` names the one that was evaluated"
        )
    image, reference = source.image.files[0], source.reference
    if not image.exists() or not reference.is_file():
        raise PipelineError("its image or label map is not in the dataset any more")
    if not is_measured_reference(reference, rows, labels):
        raise PipelineError("its label map is not the one that was evaluated")
    sha256 = record.label_maps_sha256.get(case)
    for predictions in sorted(record.folder.glob("predictions*")):
        for name in dict.fromkeys((case, case_name(image))):
            path = predictions / f"{name}{suffix}"
            if path.is_file() and is_measured_prediction(path, rows, labels, sha256):
                return _Files(image, reference, path)
    raise PipelineError("the label map that was evaluated is not in the bundle")


def _draw_panels(case: str, files: _Files, rows: pd.DataFrame, labels: Labels) -> Iterator[Panel]:
    """`rows` are those of the case."""
    image = read_image(files.image)
    reference, prediction = (
        hide_unmeasured(put_on_grid(read_label_map(path, known_values=None), image, path.name), rows, labels)
        for path in (files.reference, files.prediction)
    )
    ignored = reference.array[0] == (-1 if labels.ignore_value is None else labels.ignore_value)
    wrong = (reference.array[0] != prediction.array[0]) & ~ignored
    for plane in _list_planes(image, reference, prediction, wrong, ignored):
        where = f"{case}, {plane.name} plane with most wrong voxels" if plane.name else case
        outlines = draw_outlines(
            plane,
            list(labels.table.values())[1:],
            f"{where}: outlines of the reference (solid) and the prediction (dashed)",
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
    turned = [
        turn_radiological(volume, image.affine)
        for volume in (image.array[0], reference.array[0], prediction.array[0], ignored, wrong)
    ]
    spacing = turn_spacing(image.spacing_mm, image.affine)
    for name, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        others = tuple(other for other in range(3) if other != axis)
        counts = turned[4].sum(axis=others)
        level = int(counts.argmax()) if counts.any() else turned[4].shape[axis] // 2
        planes = [np.take(volume, level, axis=axis).T for volume in turned[:4]]
        if axis != 2:
            planes = [plane[::-1] for plane in planes]  # the head is up
        shown, truth, predicted, unsaid = planes
        yield Plane(name, shown, truth, predicted, spacing[others[1]] / spacing[others[0]], unsaid)
