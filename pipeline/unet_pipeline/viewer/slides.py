"""Slides for a talk: the table of results, and worst, median and best case with the outlines of reference and prediction."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.case_values import read_units
from unet_pipeline.evaluation.metric_table import METRICS, title_with_unit
from unet_pipeline.evidence.records.measured import hide_unmeasured
from unet_pipeline.evidence.report.history import format_interval
from unet_pipeline.evidence.report.overlay import draw_overlay
from unet_pipeline.evidence.report.report_overlays import choose_cases
from unet_pipeline.files import write_atomically
from unet_pipeline.messages import show_cases
from unet_pipeline.viewer.layers import read_cropped
from unet_pipeline.viewer.results import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_INCH = 914400  # English Metric Units, in which the format measures
_POINT = 12700
_WIDTH, _HEIGHT = 13.333, 7.5  # inches, 16:9
_LABEL_WIDTH = 3.0  # inches
_MOST_LABELS, _MOST_METRICS, _FEW_METRICS = 9, 7, 4  # of a table; more do not fit a slide
_POINTS, _LINE_POINTS = 14, 1.8  # of a case's slide
_LONG_TITLE = 60  # characters that fit a line in the large size


def write_slides(result: Result, path: Path) -> Path:
    """Write the presentation.

    Args:
        result: evaluated.
        path: the .pptx file.

    Raises:
        EvaluationError: it was not evaluated, or python-pptx is not installed.
    """
    if result.rows is None:
        raise EvaluationError(f"{result.name} has no numbers to choose worst, median and best by. Evaluate it first.")
    try:
        from pptx import Presentation
    except ModuleNotFoundError as error:
        raise EvaluationError(
            "Slides need python-pptx, which is not installed. Run pip install 'unet-pipeline[slides]'."
        ) from error
    deck: Any = Presentation()
    deck.slide_width, deck.slide_height = _measure(_WIDTH), _measure(_HEIGHT)
    _add_tables(deck, result, result.rows)
    for rank, case, dice in choose_cases(result.rows, result.labels.scored):
        if rank != "second worst":
            slide = _add_slide(deck, f"{rank}: {case}, mean Dice {dice:.3f}")
            _fill_case(slide, result, case, result.rows[result.rows["case"] == case])
    with write_atomically(path) as partial:
        deck.save(str(partial))
    return path


def _measure(inches: float) -> int:
    return round(inches * _INCH)


def _add_slide(deck: Any, title: str) -> Any:
    slide = deck.slides.add_slide(deck.slide_layouts[5])  # a title and nothing else
    box = slide.shapes.title
    box.left, box.top, box.width, box.height = (_measure(size) for size in (0.5, 0.3, _WIDTH - 1, 0.9))
    _write(box, title, 28 if len(title) <= _LONG_TITLE else 18)
    return slide


def _write(box: Any, text: str, points: int) -> None:
    """Text of a shape or of a cell of a table, in a size that it fits with; the templates' own are too large."""
    box.text_frame.text = text
    for paragraph in box.text_frame.paragraphs:
        paragraph.font.size = points * _POINT


def _add_line(cell: Any, text: str, points: int) -> None:
    """A further line of a cell."""
    line = cell.text_frame.add_paragraph()
    line.text = text
    line.font.size = points * _POINT


def _add_tables(deck: Any, result: Result, rows: pd.DataFrame) -> None:
    """A row per label that counts: its means of the metrics that the terminal shows, with their intervals, on as many slides as they need."""
    metrics = [name for name, metric in METRICS.items() if metric.shown and name in rows]
    intervals = (
        {} if result.summary is None else {(row.label, row.metric): format_interval(row) for row in result.summary.rows}
    )
    title = f"{result.name}: mean over {show_cases(rows['case'].nunique())}{', 95 % interval' if intervals else ''}"
    parts = [
        (labels, names)
        for labels in _cut(list(result.labels.scored), _MOST_LABELS)
        for names in _cut(metrics, _MOST_METRICS)
    ]
    for number, (labels, names) in enumerate(parts, 1):
        slide = _add_slide(deck, title if len(parts) == 1 else f"{title} ({number} of {len(parts)})")
        _add_table(slide, rows, labels, names, intervals)


def _cut(names: list[str], most: int) -> list[list[str]]:
    return [names[start : start + most] for start in range(0, len(names), most)]


def _add_table(
    slide: Any, rows: pd.DataFrame, labels: list[str], metrics: list[str], intervals: Mapping[tuple[str, str], str]
) -> None:
    size = (_measure(inches) for inches in (0.5, 1.3, _WIDTH - 1, 0.5 * (len(labels) + 1)))
    table = slide.shapes.add_table(len(labels) + 1, len(metrics) + 1, *size).table
    widths = [_LABEL_WIDTH, *[(_WIDTH - 1 - _LABEL_WIDTH) / len(metrics)] * len(metrics)]
    for column, width in zip(table.columns, widths, strict=True):
        column.width = _measure(width)
    units, points = read_units(rows), 14 if len(metrics) <= _FEW_METRICS else 11
    headings = ["label", *(title_with_unit(name, METRICS[name].unit(*units)) for name in metrics)]
    lines = [headings]
    for label in labels:
        values = [rows.loc[rows["label"] == label, name].dropna() for name in metrics]
        shown = [
            METRICS[name].format(one.mean()) if len(one) else "–" for name, one in zip(metrics, values, strict=True)
        ]
        lines.append([label, *shown])
    for line, texts in enumerate(lines):
        for column, text in enumerate(texts):
            cell = table.cell(line, column)
            _write(cell, text, points)
            if line and column and (interval := intervals.get((texts[0], metrics[column - 1]))):
                _add_line(cell, interval, points - 2)


def _fill_case(slide: Any, result: Result, case: str, rows: pd.DataFrame) -> None:
    """The picture of a case; of one whose label maps are not those that were measured, why there is none."""
    if problem := result.find_unmeasured(case):
        box = slide.shapes.add_textbox(*(_measure(size) for size in (0.5, 1.3, _WIDTH - 1, 1.0)))
        box.text_frame.word_wrap = True
        _write(box, f"No picture: {problem}.", _POINTS)
        return
    width, height = _WIDTH - 1, _HEIGHT - 1.6
    stream = io.BytesIO()
    _draw_case(result, rows, case, width, height).savefig(stream, format="png", dpi=150)
    picture = slide.shapes.add_picture(stream, _measure(0.5), _measure(1.3), width=_measure(width))
    # read aloud in the place of the picture
    picture._element.nvPicPr.cNvPr.set("descr", f"{case}: outlines of reference and prediction on the image")


def _draw_case(result: Result, rows: pd.DataFrame, case: str, width: float, height: float) -> Figure:
    """The outlines in a figure of so many inches, with letters and lines that are seen from the back of a room."""
    from matplotlib.contour import ContourSet
    from matplotlib.text import Text

    image, reference, prediction = read_cropped(result.sources[case], result.predictions[case], result.labels)
    maps = (("reference", reference), ("prediction", prediction))
    shown = {title: hide_unmeasured(one, rows, result.labels) for title, one in maps if one is not None}
    figure = draw_overlay(_show(image), shown, result.labels.table)
    figure.set_size_inches(width, height)
    for text in figure.findobj(Text):
        text.set_fontsize(_POINTS)
    for outline in figure.findobj(ContourSet):
        outline.set_linewidth(_LINE_POINTS)
    return figure


def _show(image: MedicalImage) -> MedicalImage:
    """An image without values that cannot be drawn."""
    if np.isfinite(image.array).all():
        return image
    return MedicalImage(np.nan_to_num(image.array), image.affine, image.spacing_mm)
