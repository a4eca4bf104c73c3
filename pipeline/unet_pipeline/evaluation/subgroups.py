"""Results by a column of the table of cases: categories as they are, numbers cut at edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from unet_pipeline.errors import EvaluationError, suggest
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evaluation.case_values import tabulate_cases
from unet_pipeline.evaluation.summary import Number

PREFIX = "by_"
NOT_GIVEN = "not given"
LEAST_CASES = 5
_MOST_NUMERIC_CATEGORIES = 5  # grades, stages: so few different numbers are categories


@dataclass(frozen=True)
class Cut:
    """A column, and where its numbers are cut; None: at their quartiles. `by_name` takes every value for a group, numbers too."""

    column: str
    edges: tuple[float, ...] | None = None
    by_name: bool = False


@dataclass(frozen=True)
class SubgroupRow:
    """One metric of one label over the cases of a group.

    Attributes:
        column: of the table of cases.
        group: its value, or a range of it.
        label: as in `SummaryRow`, like metric, n, num_patients and mean.
        low: lower end of the interval as in `SummaryRow`; NaN for a group that is too small.
        high: its upper end.
        too_small: fewer than 5 cases or 5 patients have a value: no interval.
    """

    column: str
    group: str
    label: str
    metric: str
    n: int
    num_patients: int
    mean: Number
    low: Number
    high: Number
    too_small: bool


def read_cut(text: str, columns_of_case: Mapping[str, Mapping[str, str]]) -> Cut:
    """A cut from COLUMN, or COLUMN=EDGE,EDGE,... with edges in ascending order.

    Args:
        text: as the user gives it.
        columns_of_case: further columns of the list of cases.

    Raises:
        EvaluationError: the edges are no numbers, or not in order; no case has the column, or see `name_groups`.
    """
    cut = _parse_cut(text)
    _require_column(cut, columns_of_case)
    return cut


def _parse_cut(text: str) -> Cut:
    column, sign, listed = text.partition("=")
    if not sign:
        return Cut(column.strip().lower())
    try:
        edges = tuple(float(edge) for edge in listed.split(","))
    except ValueError:
        edges = ()
    if not edges or not np.isfinite(edges).all() or any(np.diff(edges) <= 0):
        raise EvaluationError(
            f"--by has the edges {listed!r}; expected numbers in ascending order, such as {column}=100,150,200."
        )
    return Cut(column.strip().lower(), edges)


def add_columns(
    rows: pd.DataFrame, cuts: Sequence[Cut], columns_of_case: Mapping[str, Mapping[str, str]]
) -> pd.DataFrame:
    """Rows with the column of each cut as "by_COLUMN"; "" where a case has no value."""
    added = rows.copy()
    for cut in cuts:
        added[PREFIX + cut.column] = [columns_of_case.get(case, {}).get(cut.column, "") for case in rows["case"]]
    return added


def _require_column(cut: Cut, columns_of_case: Mapping[str, Mapping[str, str]]) -> None:
    known = {name for columns in columns_of_case.values() for name in columns}
    if cut.column not in known:
        hint = suggest(cut.column, known) if known else "the table of cases has no further columns"
        raise EvaluationError(
            f"--by names the column {cut.column!r}, which no case has; {hint}. Expected a column of the dataset's list of cases, "
            "or of evidence/case_table.csv in the bundle, a CSV file with the column case."
        )
    name_groups([columns.get(cut.column, "") for columns in columns_of_case.values()], cut)


def name_groups(values: Sequence[str], cut: Cut) -> tuple[list[str], list[str]]:
    """Group of every case, and the groups in their order.

    Numbers go into ranges that include their lower edge; without edges, into quarters of the cases. Up to 5 different numbers,
    and words, are groups of their own. "" is `NOT_GIVEN`, the last group.

    Raises:
        EvaluationError: edges are given and a value is no number.
    """
    stated = [value for value in values if value != ""]
    numbers = None if cut.by_name else _parse_numbers(stated)
    if cut.edges is None and (numbers is None or len(set(numbers)) <= _MOST_NUMERIC_CATEGORIES):
        order = sorted(set(stated)) if numbers is None else sorted(set(stated), key=float)
        groups = [value or NOT_GIVEN for value in values]
    else:
        if numbers is None:
            wrong = next(value for value in stated if _parse_numbers([value]) is None)
            raise EvaluationError(
                f"Column {cut.column!r} has the value {wrong!r}; expected numbers, because --by gives edges. Leave them out."
            )
        edges = cut.edges or tuple(np.unique(np.quantile(numbers, [0.25, 0.5, 0.75])))
        order = _name_ranges(edges)
        groups = [order[int(np.searchsorted(edges, float(value), "right"))] if value else NOT_GIVEN for value in values]
    return groups, [*order, *([NOT_GIVEN] if "" in values else [])]


def _parse_numbers(values: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if numbers and np.isfinite(numbers).all() else None


def _name_ranges(edges: Sequence[float]) -> list[str]:
    shown = [f"{edge:.6g}" for edge in edges]
    between = [f"{low} to under {high}" for low, high in pairwise(shown)]
    return [f"under {shown[0]}", *between, f"{shown[-1]} and more"]


def summarize_subgroups(rows: pd.DataFrame, scored_labels: Sequence[str], cut: Cut) -> tuple[SubgroupRow, ...]:
    """A line per group, label and metric.

    Args:
        rows: with the column that `add_columns` adds.
        scored_labels: as in `summarize`.

    Raises:
        EvaluationError: see `name_groups`.
    """
    table = tabulate_cases(rows, scored_labels)
    groups, order = name_groups(table.cases[PREFIX + cut.column].tolist(), cut)
    summaries = []
    for group in order:
        in_group = np.array([name == group for name in groups])
        for series in table.series:
            defined = in_group & ~np.isnan(series.values)
            values, patients = series.values[defined], table.patients[defined].tolist()
            too_small = len(set(patients)) < LEAST_CASES
            low, high = (np.nan, np.nan) if too_small else compute_interval(values, patients)
            mean = float(values.mean()) if len(values) else np.nan
            line = (cut.column, group, series.label, series.metric, len(values), len(set(patients)))
            summaries.append(SubgroupRow(*line, mean, low, high, too_small))
    return tuple(summaries)
