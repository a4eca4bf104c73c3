"""The cases that a person should look at: missed structures, false alarms, outliers, and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unet_pipeline.evaluation.case_values import ALL_LABELS, CaseTable, tabulate_cases
from unet_pipeline.evaluation.summary import Number

MISSED, FALSE_ALARM, OUTLIER, WORST = "missed", "false alarm", "outlier", "among the worst"
NUM_WORST = 5
_LEAST_CASES = 4  # for quartiles that say something


@dataclass(frozen=True)
class Failure:
    """One label of one case, or a whole case.

    Attributes:
        case: name.
        fold: that validated it; None for a test set.
        label: name, or `ALL_LABELS` for a case that is among the worst by the mean of its labels.
        kinds: "missed": in the reference only. "false alarm": in the prediction only. "outlier": Dice below the first
            quartile of the label by more than 1.5 interquartile ranges (Tukey 1977). "among the worst": one of the five lowest
            Dice values over the cases, and never more than half of the cases or a perfect one.
        values: every metric of it.
    """

    case: str
    fold: int | None
    label: str
    kinds: tuple[str, ...]
    values: dict[str, Number]


def list_failures(rows: pd.DataFrame, scored_labels: Sequence[str]) -> tuple[Failure, ...]:
    """Failures of the labels that count, misses first, then false alarms, outliers, and the worst; the lowest Dice first.

    Args:
        rows: from `evaluate_pairs`, or read from metrics.csv.
        scored_labels: as in `summarize`.
    """
    table = tabulate_cases(rows, scored_labels)
    only_label = scored_labels[0] if len(scored_labels) == 1 else None  # the mean of one label says nothing new
    kinds: dict[tuple[str, int], list[str]] = {}
    for series in table.series:
        if series.metric != "dice" or not series.in_mean:
            continue
        worst = {WORST: _find_worst(series.values)} if series.label in (ALL_LABELS, only_label) else {}
        if series.label == ALL_LABELS:
            marked = worst if only_label is None else {}
        else:
            outliers = _find_outliers(series.values)
            marked = {MISSED: series.missed, FALSE_ALARM: series.false_alarms, OUTLIER: outliers, **worst}
        for kind, flags in marked.items():
            for position in np.flatnonzero(flags):
                kinds.setdefault((series.label, int(position)), []).append(kind)
    failures = [_describe(table, label, position, tuple(marks)) for (label, position), marks in kinds.items()]
    order = (MISSED, FALSE_ALARM, OUTLIER, WORST)
    return tuple(sorted(failures, key=lambda one: (order.index(one.kinds[0]), one.values["dice"], one.case, one.label)))


def _find_outliers(dice: np.ndarray) -> np.ndarray:
    defined = dice[~np.isnan(dice)]
    if len(defined) < _LEAST_CASES:
        return np.zeros(len(dice), bool)
    first, third = np.quantile(defined, [0.25, 0.75])
    return dice < first - 1.5 * (third - first)  # false for NaN


def _find_worst(dice: np.ndarray) -> np.ndarray:
    number = min(NUM_WORST, int((~np.isnan(dice)).sum()) // 2)
    worst = np.zeros(len(dice), bool)
    worst[np.argsort(dice, kind="stable")[:number]] = True  # NaN comes last
    return worst & (dice < 1)  # a perfect case is none to look at


def _describe(table: CaseTable, label: str, position: int, kinds: tuple[str, ...]) -> Failure:
    case = table.cases.iloc[position]
    values = {series.metric: float(series.values[position]) for series in table.series if series.label == label}
    fold = None if np.isnan(case["fold"]) else int(case["fold"])
    return Failure(str(case["case"]), fold, label, kinds, values)
