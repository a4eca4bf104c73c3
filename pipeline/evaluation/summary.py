"""Rows per case -> one line per label with n and interval, and the line over all labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
_SEED = 20_15  # of the bootstrap; fixed, so that a summary can be recomputed from its CSV to the last digit
ALL_LABELS = "mean of labels"
METRICS = ("dice", "iou")


@dataclass(frozen=True)
class SummaryRow:
    """One metric of one label over the cases.

    Attributes:
        label: name, or `ALL_LABELS` for the mean over the labels of each case.
        metric: "dice" or "iou".
        n: cases with a value.
        num_undefined: cases without one, because neither file has the label.
        mean: over the n cases; NaN for n = 0, as are median and interval.
        median: likewise.
        low, high: 95 % percentile bootstrap interval of the mean over cases; NaN for n < 2.
        in_mean: whether the label counts in `ALL_LABELS`.
    """

    label: str
    metric: str
    n: int
    num_undefined: int
    mean: float
    median: float
    low: float
    high: float
    in_mean: bool


def summarize(rows: pd.DataFrame, scored_labels: Sequence[str]) -> tuple[SummaryRow, ...]:
    """Summary of a table of cases.

    Args:
        rows: from `evaluate_pairs`.
        scored_labels: labels that the mean is taken over; the others get their own lines only.

    Returns:
        For each metric the line of all labels, then one line per label in the table's order.
    """
    summary = []
    for metric in METRICS:
        table = rows.pivot(index="case", columns="label", values=metric)
        scored = table[list(scored_labels)].mean(axis=1)  # labels that are undefined in a case do not count there
        summary.append(_summarize_values(ALL_LABELS, metric, scored.to_numpy(), True))
        for label in rows["label"].drop_duplicates():
            summary.append(_summarize_values(label, metric, table[label].to_numpy(), label in scored_labels))
    return tuple(summary)


def _summarize_values(label: str, metric: str, values: np.ndarray, in_mean: bool) -> SummaryRow:
    defined = values[~np.isnan(values)]
    low, high = compute_bootstrap_interval(defined)
    return SummaryRow(
        label=label,
        metric=metric,
        n=len(defined),
        num_undefined=len(values) - len(defined),
        mean=float(defined.mean()) if len(defined) else np.nan,
        median=float(np.median(defined)) if len(defined) else np.nan,
        low=low,
        high=high,
        in_mean=in_mean,
    )


def compute_bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean, from 10,000 resamples of the cases.

    Args:
        values: one per case, without NaN.

    Returns:
        Lower and upper end; NaN for fewer than two values.

    Reference: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(_SEED)
    # counts of a multinomial draw are the resample; the mean needs nothing else
    counts = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=NUM_RESAMPLES)
    means = counts @ values / len(values)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def to_records(summary: Sequence[SummaryRow]) -> list[dict]:
    """Plain values for JSON; NaN becomes None."""
    return [
        {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in asdict(row).items()}
        for row in summary
    ]
