"""What the report says, as plain values and figures for its template; a part that is missing has a sentence instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.files import read_rows
from unet_pipeline.evaluation.metric_table import METRICS
from unet_pipeline.evaluation.summary import SummaryRow
from unet_pipeline.evidence.report import report_figures as charts
from unet_pipeline.evidence.report.curves import read_curves, trace_learning_rate
from unet_pipeline.evidence.report.history import EvaluationRecord, History
from unet_pipeline.evidence.report.report_overlays import CasePicture, draw_cases
from unet_pipeline.quality.claim import QUALITY_FILE, ClaimRecord


@dataclass
class EvaluationPart:
    """One evaluation in the report."""

    record: EvaluationRecord
    lines: list[LabelLine]
    figures: list[charts.Figure] = field(default_factory=list)
    agreement: tuple[charts.Agreement, ...] = ()
    unit: str = ""
    agreement_figures: list[charts.Figure] = field(default_factory=list)
    claim: ClaimRecord | None = None
    claim_figures: list[charts.Figure] = field(default_factory=list)
    pictures: list[CasePicture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draw_learning(history: History) -> tuple[list[charts.Figure], list[str]]:
    """Loss, validation Dice and learning rate of every run that left TensorBoard events."""
    curves = read_curves(history.folder)
    if not curves:
        return [], ["There are no TensorBoard events in evidence/runs/, so there are no learning curves."]
    rates = [curve for curve in curves if curve.tag in ("learning_rate", "lr")]
    figures = [
        charts.draw_curves(curves, "train_loss", "Training loss", "loss", "iteration"),
        charts.draw_curves(
            curves,
            "val_mean_dice",
            "Mean Dice on the validation cases, resampled grid; it picks the epoch and is no result",
            "Dice",
            "epoch",
        ),
        charts.draw_curves(rates, rates[0].tag, "Learning rate", "learning rate", "iteration")
        if rates
        else charts.draw_curves(
            [trace_learning_rate(history.plan, run) for run in history.runs],
            "learning rate",
            "Learning rate by its schedule",
            "learning rate",
            "iteration",
        ),
    ]
    return [figure for figure in figures if figure is not None], []


@dataclass(frozen=True)
class LabelLine:
    """The rows of the summary of one label.

    Attributes:
        label: name, or that of the mean over the labels.
        in_mean: whether it counts in that mean.
        cells: row of every metric.
    """

    label: str
    in_mean: bool
    cells: dict[str, SummaryRow]

    @property
    def counts(self) -> SummaryRow:
        """The row that says how many structures were missed or false alarms, and the most cases and patients."""
        return max(self.cells.values(), key=lambda row: row.n)


def tabulate_labels(rows: Sequence[SummaryRow]) -> list[LabelLine]:
    """One line per label, with a cell per metric, in the order of the rows."""
    labels = dict.fromkeys(row.label for row in rows)
    own = {label: [row for row in rows if row.label == label] for label in labels}
    return [LabelLine(label, own[label][0].in_mean, {row.metric: row for row in own[label]}) for label in labels]


def describe_evaluation(history: History, record: EvaluationRecord, dataset: Path | None = None) -> EvaluationPart:
    """Tables, charts and pictures of one evaluation."""
    claim = record.claim
    part = EvaluationPart(record, tabulate_labels(record.summary.rows), notes=list(record.summary.notes), claim=claim)
    if claim is None and (record.folder / QUALITY_FILE).is_file():
        part.notes.append(f"{QUALITY_FILE} is not of these numbers; `evaluate --quality` measures expected Dice again.")
    part.claim_figures += [charts.draw_risk_coverage(row) for row in (claim.rows if claim else ())]
    try:
        rows = read_rows(record.folder)
    except EvaluationError as error:
        part.notes.append(f"No charts and pictures: {error}")
        return part
    scored = record.summary.scored_labels
    _add_distributions(part, record, rows, scored, history.plan.spatial_dims == 2)
    _add_agreement(part, rows, scored)
    pictures, notes = draw_cases(history, record, rows, dataset)
    part.pictures += pictures
    part.notes += notes
    return part


def _add_distributions(
    part: EvaluationPart, record: EvaluationRecord, rows: pd.DataFrame, scored: list[str], is_flat: bool
) -> None:
    measured = dict.fromkeys(row.metric for row in record.summary.rows)
    # the metrics that the terminal shows; all are in the table
    chosen = [name for name in measured if name in rows and (name not in METRICS or METRICS[name].shown)]
    for metric in chosen:
        groups = {label: rows.loc[rows["label"] == label, metric].to_numpy(float) for label in scored}
        intervals = {row.label: row for row in record.summary.rows if row.metric == metric}
        if (figure := charts.draw_distribution(metric, groups, intervals, is_flat)) is not None:
            part.figures.append(figure)


def _add_agreement(part: EvaluationPart, rows: pd.DataFrame, scored: list[str]) -> None:
    needed = {"num_voxels_reference", "num_voxels_prediction", "voxel_volume"}
    if not needed <= set(rows.columns):
        part.notes.append("metrics.csv has no sizes, so their agreement is not shown.")
        return
    volumes, part.unit = charts.tabulate_volumes(rows, scored)
    if (scatter := charts.draw_agreement(volumes, part.unit)) is not None:
        part.agreement_figures.append(scatter)
    part.agreement = charts.compute_agreement(volumes)
    part.agreement_figures += [
        charts.draw_bland_altman(volumes, part.unit, one, series) for series, one in enumerate(part.agreement)
    ]
