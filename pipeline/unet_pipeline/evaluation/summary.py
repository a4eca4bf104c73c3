"""Rows per case -> one line per label and metric with n and interval, the line over all labels, and lines per fold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, WithJsonSchema

from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evaluation.case_values import ALL_LABELS, CaseTable, CaseValues, tabulate_cases

__all__ = [
    "ALL_LABELS",
    "FoldRow",
    "Number",
    "SummaryRow",
    "note_few_patients",
    "summarize",
    "summarize_folds",
    "to_records",
]

FEW_PATIENTS = 20  # below, the intervals are too narrow: benchmarks/results/interval_coverage.md
# NaN in Python, null in JSON
Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]


@dataclass(frozen=True)
class SummaryRow:
    """One metric of one label over the cases.

    Attributes:
        label: name, or `ALL_LABELS` for the mean over the labels of each case.
        metric: id in `METRICS`.
        n: cases with a value; a case that several folds validate counts once for each.
        num_undefined: cases without one, because neither file has the label.
        mean: over the n cases; NaN for n = 0, as are median and interval.
        median: likewise.
        low: lower end of the 95 % BCa bootstrap interval of the mean, patients as clusters; NaN for fewer than 2 patients.
        high: its upper end.
        in_mean: whether the label counts in `ALL_LABELS`.
        sd: standard deviation over the cases (n - 1); NaN for n < 2.
        num_patients: of the n cases.
        num_missed: structures that the references have and the predictions lack; over all labels that count, for `ALL_LABELS`.
        num_false_alarms: structures that only the predictions have.
        unit: of mean, median, interval and SD; "" for shares and counts.
    """

    label: str
    metric: str
    n: int
    num_undefined: int
    mean: Number
    median: Number
    low: Number
    high: Number
    in_mean: bool
    sd: Number
    num_patients: int
    num_missed: int
    num_false_alarms: int
    unit: str


@dataclass(frozen=True)
class FoldRow:
    """The mean of one fold, so that a pooled mean hides no fold that differs.

    Attributes:
        fold: of the cross-validation.
        label: as in `SummaryRow`, like metric, n and mean.
    """

    fold: int
    label: str
    metric: str
    n: int
    mean: Number


def summarize(rows: pd.DataFrame, scored_labels: Sequence[str]) -> tuple[SummaryRow, ...]:
    """Summary of a table of cases.

    Args:
        rows: from `evaluate_pairs`, or read from metrics.csv.
        scored_labels: labels that the mean is taken over; the others get their own lines only.

    Returns:
        For each metric the line of all labels, then one line per label in the table's order.
    """
    table = tabulate_cases(rows, scored_labels)
    return tuple(_summarize_series(table, series) for series in table.series)


def _summarize_series(table: CaseTable, series: CaseValues) -> SummaryRow:
    is_defined = ~np.isnan(series.values)
    defined, patients = series.values[is_defined], table.patients[is_defined]
    low, high = compute_interval(defined, list(patients))
    n = len(defined)
    return SummaryRow(
        label=series.label,
        metric=series.metric,
        n=n,
        num_undefined=len(series.values) - n,
        mean=float(defined.mean()) if n else np.nan,
        median=float(np.median(defined)) if n else np.nan,
        low=low,
        high=high,
        in_mean=series.in_mean,
        sd=float(defined.std(ddof=1)) if n > 1 else np.nan,
        num_patients=len(set(patients)),
        num_missed=int(series.missed.sum()),
        num_false_alarms=int(series.false_alarms.sum()),
        unit=series.unit,
    )


def summarize_folds(rows: pd.DataFrame, scored_labels: Sequence[str]) -> tuple[FoldRow, ...]:
    """A line per fold, label and metric; none for a test set."""
    table = tabulate_cases(rows, scored_labels)
    fold_of_case = table.cases["fold"].to_numpy(float)
    summaries = []
    for fold in sorted(set(fold_of_case[~np.isnan(fold_of_case)])):
        for series in table.series:
            values = series.values[(fold_of_case == fold) & ~np.isnan(series.values)]
            mean = float(values.mean()) if len(values) else np.nan
            summaries.append(FoldRow(int(fold), series.label, series.metric, len(values), mean))
    return tuple(summaries)


def note_few_patients(summary: Sequence[SummaryRow]) -> tuple[str, ...]:
    """A sentence where the mean of the labels has an interval from fewer than 20 patients, which promises too much."""
    if not summary or not 2 <= summary[0].num_patients < FEW_PATIENTS:
        return ()
    return (
        f"the interval is from {summary[0].num_patients} patients only: with 10, such intervals cover the true mean in 87 to 91 % of "
        "simulated data sets instead of 95 %",
    )


def to_records(lines: Iterable[Any]) -> list[dict]:
    """Lines as plain values for JSON: NaN and infinity become None.

    Numbers keep 10 significant digits: more would depend on the order in which a processor adds.
    """
    return [{key: _to_plain(value) for key, value in asdict(line).items()} for line in lines]


def _to_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_plain(part) for key, part in value.items()}
    if not isinstance(value, float):
        return list(value) if isinstance(value, tuple) else value
    return float(f"{value:.10g}") if np.isfinite(value) else None
