"""What the report says, as plain values and figures for its template; a part that is missing has a sentence instead."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.bundle import answers
from pipeline.bundle.history import EvaluationRecord, History, format_interval, format_value, title_metric
from pipeline.bundle.shortfall import describe_shortfall
from pipeline.errors import EvaluationError
from pipeline.evaluation.files import read_rows
from pipeline.evaluation.metric_table import METRICS
from pipeline.evidence import report_figures as charts
from pipeline.evidence.curves import read_curves, trace_learning_rate
from pipeline.evidence.report_overlays import CasePicture, draw_cases
from pipeline.networks.table import NETWORKS


@dataclass(frozen=True)
class Cell:
    """A cell of a table; `value` is the exact number behind a rounded text."""

    text: str
    value: float | None = None
    key: str = ""


@dataclass(frozen=True)
class Table:
    """Headings and rows; the first column names the row. `stacked`: on a narrow screen the cells of a row stand below each other."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    stacked: bool = False

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(cell.value is not None for cell in column) for column in zip(*self.rows, strict=True))


@dataclass
class EvaluationPart:
    """One evaluation in the report."""

    name: str
    title: str
    interval: str
    results: Table
    per_fold: Table | None = None
    subgroups: Table | None = None
    failures: Table | None = None
    excluded: tuple[str, ...] = ()
    figures: list[charts.Figure] = field(default_factory=list)
    agreement: Table | None = None
    agreement_figures: list[charts.Figure] = field(default_factory=list)
    pictures: list[CasePicture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def describe_plan(history: History) -> Table:
    """Every field of the plan with its value and reason."""
    values = history.plan.model_dump(mode="json")
    rows = tuple(
        (Cell(name), Cell(_show(value)), Cell(history.reasons.get(name, ""))) for name, value in values.items()
    )
    return Table(("number", "value", "reason"), rows, stacked=True)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={part}" for key, part in value.items()) or "none"
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return " | ".join("x".join(map(str, part)) for part in value)
        return ", ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def describe_runs(history: History) -> Table | None:
    """Time, memory and machine of every run; None without records."""
    if not history.runs:
        return None
    rows = []
    for run in history.runs:
        machine, result = run.get("machine") or {}, run.get("result") or {}
        processor = (
            machine.get("gpu") or f"{machine.get('num_cores', '?')} cores of {machine.get('processor', 'unknown')}"
        )
        rows.append(
            (
                Cell(str(run.get("id", "?"))),
                Cell(str(run.get("state", "?"))),
                Cell(str(run.get("started", "?")).replace("T", " ").replace("+00:00", " UTC")),
                _measure(run.get("duration_s"), 1 / 60, 1, f"{run.get('id')} duration_s"),
                _measure(run.get("processor_s"), 1 / 60, 1, f"{run.get('id')} processor_s"),
                _measure(run.get("peak_memory_gib"), 1, 2, f"{run.get('id')} peak_memory_gib"),
                Cell(_show_epochs(run)),
                Cell(str(best) if (best := result.get("best_epoch") or 0) >= 1 else "-"),
                Cell(f"{processor}, {machine.get('memory_gib', '?')} GiB"),
                Cell(", ".join(answers.list_overrides(run)) or "none"),
            )
        )
    headings = (
        "run",
        "state",
        "started",
        "minutes",
        "processor minutes",
        "memory, GiB",
        "epochs",
        "chosen epoch",
        "machine",
        "changed from the plan",
    )
    return Table(headings, tuple(rows))


def _show_epochs(run: Mapping[str, Any]) -> str:
    """Epochs of a run; of one that was cut short, with how."""
    if run.get("state") != "running" and (short := describe_shortfall(run)):
        return f"cut short: {short}"
    return str((run.get("result") or {}).get("num_epochs", "-"))


def _measure(value: Any, scale: float, decimals: int, key: str) -> Cell:
    return Cell("-") if value is None else Cell(f"{value * scale:.{decimals}f}", float(value), key)


def draw_learning(history: History) -> tuple[list[charts.Figure], list[str]]:
    """Loss, validation Dice and learning rate of every run that left TensorBoard events."""
    curves = read_curves(history.folder)
    if not curves:
        return [], ["There are no TensorBoard events in evidence/runs/, so there are no learning curves."]
    rates = [curve for curve in curves if curve.tag in ("learning_rate", "lr")]
    found = [
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
    return [figure for figure in found if figure is not None], []


def describe_evaluation(history: History, record: EvaluationRecord) -> EvaluationPart:
    """Tables, charts and pictures of one evaluation."""
    summary = record.summary
    part = EvaluationPart(
        record.name,
        record.title,
        record.interval,
        _tabulate_results(record),
        _tabulate_lines(record, "per_fold", ("fold",)),
        _tabulate_lines(record, "subgroups", ("column", "group")),
        _tabulate_failures(record),
        tuple(summary.get("excluded", ())),
        notes=list(summary.get("notes", ())),
    )
    try:
        rows = read_rows(record.folder)
    except EvaluationError as error:
        part.notes.append(f"No charts and pictures: {error}")
        return part
    scored = list(summary.get("scored_labels") or history.plan.scored_labels)
    _add_distributions(part, record, rows, scored)
    _add_agreement(part, rows, scored)
    pictures, notes = draw_cases(history, record, rows)
    part.pictures += pictures
    part.notes += notes
    return part


def _tabulate_results(record: EvaluationRecord) -> Table:
    """Every row of summary.json with the columns that any row has."""
    optional = [("median", "median"), ("sd", "SD")]
    counts = [
        ("num_undefined", "undefined"),
        ("num_missed", "missed"),
        ("num_false_alarms", "false alarms"),
        ("num_patients", "patients"),
    ]
    present = [(key, title) for key, title in counts if any(key in row for row in record.rows)]
    extra = [(key, title) for key, title in optional if any(key in row for row in record.rows)]
    rows = []
    for row in record.rows:
        key = f"{row['label']}|{row['metric']}"
        name = row["label"] if row.get("in_mean", True) else f"{row['label']} (not in the mean)"
        cells = [Cell(name), Cell(title_metric(row)), Cell(str(row["n"]), row["n"], f"{key}|n")]
        cells.append(Cell(format_value(row["metric"], row["mean"]), row["mean"], f"{key}|mean"))
        cells.append(Cell(format_interval(row), row.get("low"), f"{key}|low"))
        cells += [
            Cell(
                format_value(row["metric"], row.get(name)) if row.get(name) is not None else "-",
                row.get(name),
                f"{key}|{name}",
            )
            for name, _ in extra
        ]
        cells += [Cell(str(row.get(name, "-")), row.get(name), f"{key}|{name}") for name, _ in present]
        rows.append(tuple(cells))
    headings = (
        "label",
        "metric",
        "n",
        "mean",
        "95 % interval",
        *(title for _, title in extra),
        *(title for _, title in present),
    )
    return Table(headings, tuple(rows))


def _tabulate_lines(record: EvaluationRecord, name: str, keys: Sequence[str]) -> Table | None:
    """Lines per fold or subgroup; None where the summary has none, or one fold only."""
    lines = record.summary.get(name) or []
    if not lines or (name == "per_fold" and len({line["fold"] for line in lines}) < 2):
        return None
    rows = []
    for number, line in enumerate(lines):
        cells = [
            *(Cell(str(line[key])) for key in keys),
            Cell(line["label"]),
            Cell(title_metric(line)),
            Cell(str(line["n"]), line["n"], f"{name}|{number}|n"),
        ]
        cells.append(Cell(format_value(line["metric"], line["mean"]), line["mean"], f"{name}|{number}|mean"))
        if "low" in line:
            cells.append(Cell(format_interval(line), line["low"], f"{name}|{number}|low"))
        rows.append(tuple(cells))
    interval = ("95 % interval",) if "low" in lines[0] else ()
    return Table((*keys, "label", "metric", "n", "mean", *interval), tuple(rows))


def _tabulate_failures(record: EvaluationRecord) -> Table | None:
    listed = record.summary.get("failures")
    if not isinstance(listed, list) or not listed:
        return None
    rows = []
    for number, failure in enumerate(listed):
        values = failure.get("values") or {}
        fold = "-" if failure.get("fold") is None else str(failure["fold"])
        shown = [Cell(format_value("dice", values.get("dice")), values.get("dice"), f"failures|{number}|dice")]
        rows.append(
            (
                Cell(failure["case"]),
                Cell(fold),
                Cell(failure["label"]),
                Cell(", ".join(failure.get("kinds", ()))),
                *shown,
            )
        )
    return Table(("case", "fold", "label", "why it is listed", "Dice"), tuple(rows))


def _add_distributions(part: EvaluationPart, record: EvaluationRecord, rows: pd.DataFrame, scored: list[str]) -> None:
    measured = dict.fromkeys(row["metric"] for row in record.rows)
    # the metrics that the terminal shows; all are in the table
    chosen = [name for name in measured if name in rows and (name not in METRICS or METRICS[name].shown)]
    for metric in chosen:
        groups = {label: rows.loc[rows["label"] == label, metric].to_numpy(float) for label in scored}
        intervals = {row["label"]: row for row in record.rows if row["metric"] == metric}
        if (figure := charts.draw_distribution(metric, groups, intervals)) is not None:
            part.figures.append(figure)


def _add_agreement(part: EvaluationPart, rows: pd.DataFrame, scored: list[str]) -> None:
    needed = {"num_voxels_reference", "num_voxels_prediction", "voxel_volume"}
    if not needed <= set(rows.columns):
        part.notes.append("metrics.csv has no sizes, so their agreement is not shown.")
        return
    volumes, unit = charts.tabulate_volumes(rows, scored)
    if (scatter := charts.draw_agreement(volumes, unit)) is not None:
        part.agreement_figures.append(scatter)
    found = charts.compute_agreement(volumes)
    part.agreement_figures += [charts.draw_bland_altman(volumes, unit, one, series) for series, one in enumerate(found)]
    cells = [
        (
            Cell(one.label),
            Cell(str(one.n)),
            *(Cell(f"{value:.4g}" if np.isfinite(value) else "-", value) for value in (one.bias, one.low, one.high)),
        )
        for one in found
    ]
    headings = ("label", "n", f"bias ({unit})", "lower limit", "upper limit")
    part.agreement = Table(headings, tuple(cells))


def list_commands(history: History) -> list[tuple[str, str]]:
    """What to type to get the results again, and what each command is for."""
    plan = history.plan
    row = NETWORKS[plan.network_name]
    padded = " --padded" if (plan.padded, plan.normalisation) != (row.padded, row.normalisation) else ""
    commands = [
        ("check the data", "unet-pipeline check DATASET"),
        (
            "plan it",
            f"unet-pipeline plan DATASET BUNDLE --preset {plan.preset} --folds {plan.num_folds} --network {plan.network_name}{padded}",
        ),
    ]
    for run in history.runs:
        fold = (run.get("settings") or {}).get("fold", plan.fold)
        words = " ".join(shlex.quote(word) for word in answers.list_overrides(run))
        commands.append((f"train as {run.get('id')} was", f"unet-pipeline train BUNDLE --fold {fold} {words}".rstrip()))
        if run.get("command"):
            commands.append((f"the same as {run.get('id')} with stock MONAI", str(run["command"])))
    if history.tuning:
        commands.append(
            (
                "post-processing and temperature",
                "unet-pipeline tune BUNDLE" + (" --mirror" if history.tuning.get("mirrored") else ""),
            )
        )
    for record in history.evaluations:
        commands.append(
            (record.title, "unet-pipeline evaluate BUNDLE" + ("" if record.name == "validation" else " DATASET"))
        )
    if history.runs:
        commands.append(("run again and compare with the record", "unet-pipeline reproduce BUNDLE"))
    return [*commands, ("this report", "unet-pipeline report BUNDLE")]
