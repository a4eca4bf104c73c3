"""Two evaluations of the same cases: difference, interval, effect size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel
from scipy import stats

from unet_pipeline.errors import EvaluationError, suggest
from unet_pipeline.evaluation.bootstrap import INTERVAL, compute_interval
from unet_pipeline.evaluation.case_values import CaseTable, CaseValues, tabulate_cases
from unet_pipeline.evaluation.files import SummaryRecord, read_rows, read_summary
from unet_pipeline.evaluation.metric_table import METRICS
from unet_pipeline.evaluation.summary import Number, to_records
from unet_pipeline.files import write_atomically, write_json
from unet_pipeline.results import Result

_ROUNDING = 1e-12  # a spread below it comes from the arithmetic
_SAME = 1e-6  # relative difference of voxel sizes that two headers may have


@dataclass(frozen=True)
class MeasuredCases:
    """One of two evaluations: the rows of its metrics.csv and its summary.json."""

    name: str
    rows: pd.DataFrame
    summary: SummaryRecord


@dataclass(frozen=True)
class ComparisonRow:
    """One metric of one label in the cases of both evaluations.

    Attributes:
        label: name, or `ALL_LABELS` for the mean over the labels of each case.
        metric: id in `METRICS`.
        unit: of means, difference and interval; "" for shares and counts.
        n: cases with a value in both.
        num_patients: of the n cases.
        num_undefined: cases in both without a value in one or both.
        mean_a: of the first evaluation over the n cases.
        mean_b: of the second.
        difference: mean of second minus first, case by case; NaN for n = 0.
        low: lower end of the 95 % BCa interval of the difference, patients as clusters; NaN for fewer than 2 patients.
        high: its upper end.
        effect_size: difference by the standard deviation of the differences (Cohen's d for pairs); NaN for n < 2 or without spread.
        share_better: of the cases, where the second is better; for a signed error, nearer to 0.
        share_worse: likewise; the rest is equal.
        p_value: of Wilcoxon's signed-rank test on the patients' mean differences, two-sided; information, not a verdict.
        better: "a" or "b" when the whole interval is on one side of 0, "" otherwise or where neither sign is better.
    """

    label: str
    metric: str
    unit: str
    n: int
    num_patients: int
    num_undefined: int
    mean_a: Number
    mean_b: Number
    difference: Number
    low: Number
    high: Number
    effect_size: Number
    share_better: Number
    share_worse: Number
    p_value: Number
    better: str


class ComparisonRecord(Result, BaseModel):
    """What `compare` writes as comparison.json.

    `only_a` and `only_b` name the cases that one evaluation lacks; they count nowhere. `difference` is b minus a.
    """

    a: str
    b: str
    title_a: str
    title_b: str
    grid: str
    interval: str = INTERVAL
    num_cases: int
    only_a: list[str]
    only_b: list[str]
    notes: list[str]
    rows: list[ComparisonRow]


def read_measured_cases(folder: Path, name: str) -> MeasuredCases:
    """An evaluation's rows and summary.

    Raises:
        EvaluationError: a file is missing or no table of cases.
    """
    return MeasuredCases(name, read_rows(folder), read_summary(folder))


def compare_cases(a: MeasuredCases, b: MeasuredCases, metrics: Sequence[str] = ()) -> ComparisonRecord:
    """Compare the cases that both have, label by label.

    Where one side is undefined because neither of its masks has the label, and the other side is not, the first is right: it
    counts as the metric's best value. Left out, it would hide the other side's false alarm.

    Args:
        a: the first evaluation.
        b: the second; differences are second minus first.
        metrics: ids; all that both have, if empty.

    Raises:
        EvaluationError: labels, grid or data differ, no case is in both, or a metric is unknown.
    """
    _require_same_setting(a, b)
    cases_a, cases_b = (list(side.rows["case"].drop_duplicates()) for side in (a, b))
    shared = [case for case in cases_a if case in set(cases_b)]
    if not shared:
        raise EvaluationError(
            f"{a.name} and {b.name} have no case in common ({len(cases_a)} and {len(cases_b)} cases); expected the same cases. "
            "Evaluate both on the same folds or the same data."
        )
    rows_a, rows_b = (_select(side.rows, shared) for side in (a, b))
    _require_same_references(a, b, rows_a, rows_b)
    chosen = _choose_metrics(rows_a, rows_b, metrics)
    filled = fill_undefined(rows_a, rows_b, chosen), fill_undefined(rows_b, rows_a, chosen)
    table_a, table_b = (tabulate_cases(rows, a.summary.scored_labels) for rows in filled)
    series_b = {(series.label, series.metric): series for series in table_b.series}
    lines = [
        _compare_series(table_a, series, series_b[series.label, series.metric])
        for series in table_a.series
        if series.metric in chosen and (series.label, series.metric) in series_b
    ]
    return ComparisonRecord.model_construct(
        a=a.name,
        b=b.name,
        title_a=a.summary.title,
        title_b=b.summary.title,
        grid=a.summary.grid,
        num_cases=len(shared),
        only_a=[case for case in cases_a if case not in set(cases_b)],
        only_b=[case for case in cases_b if case not in set(cases_a)],
        notes=[f"{side.name}: {note}" for side in (a, b) for note in side.summary.notes],
        rows=lines,
    )


def comparison_as_data(record: ComparisonRecord) -> dict[str, object]:
    """A comparison as plain values for JSON; NaN is null."""
    content = {name: getattr(record, name) for name in ComparisonRecord.model_fields}
    return content | {"rows": to_records(record.rows)}


def write_comparison(target: Path, record: ComparisonRecord) -> None:
    """Write comparison.json and, with a row per label and metric, comparison.csv."""
    write_json(target / "comparison.json", comparison_as_data(record))
    with write_atomically(target / "comparison.csv") as partial:
        pd.DataFrame(to_records(record.rows)).to_csv(partial, index=False)


def _require_same_setting(a: MeasuredCases, b: MeasuredCases) -> None:
    labels_a, labels_b = (list(side.rows["label"].drop_duplicates()) for side in (a, b))
    if sorted(labels_a) != sorted(labels_b) or a.summary.labels != b.summary.labels:
        raise EvaluationError(
            f"{a.name} has the labels {', '.join(labels_a)}, {b.name} {', '.join(labels_b)}; expected the same names and values. "
            "Compare results of the same task."
        )
    if a.summary.grid != b.summary.grid:
        raise EvaluationError(
            f"{a.name} was measured on the grid {a.summary.grid!r}, {b.name} on {b.summary.grid!r}; expected the same. "
            "Evaluate both again."
        )
    data_a, data_b = a.summary.dataset, b.summary.dataset
    same_manifest = data_a.manifest_sha256 is not None and data_a.manifest_sha256 == data_b.manifest_sha256
    if data_a.name != data_b.name and not same_manifest:
        raise EvaluationError(
            f"{a.name} was measured on {data_a.name}, {b.name} on {data_b.name}; expected the same data. "
            "Evaluate both on one data set."
        )


def _select(rows: pd.DataFrame, cases: Sequence[str]) -> pd.DataFrame:
    """Rows of some cases in their order; of a case that several folds validate, the first fold's."""
    selected = rows[rows["case"].isin(set(cases))].drop_duplicates(["case", "label"])
    order = {case: position for position, case in enumerate(cases)}
    selected = selected.sort_values("case", key=lambda names: names.map(order), kind="stable")
    return selected.drop(columns="fold", errors="ignore").reset_index(drop=True)


def _require_same_references(a: MeasuredCases, b: MeasuredCases, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> None:
    """The same number of reference voxels of the same size, for every case and label."""
    for column, thing in (("voxel_volume", "grid"), ("num_voxels_reference", "reference")):
        if column not in rows_a or column not in rows_b:
            continue
        first, second = (rows.set_index(["case", "label"])[column].sort_index() for rows in (rows_a, rows_b))
        differs = ~np.isclose(first.to_numpy(float), second.reindex(first.index).to_numpy(float), rtol=_SAME, atol=0)
        if differs.any():
            case, label = first.index[differs][0]
            raise EvaluationError(
                f"Case {case} has another {thing} in {a.name} than in {b.name} ({column} of {label}: {first[case, label]:g} and "
                f"{second[case, label]:g}); expected the same data on the same grid. Evaluate both on one data set."
            )


def _choose_metrics(rows_a: pd.DataFrame, rows_b: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    known = [name for name in METRICS if name in rows_a and name in rows_b]
    if unknown := [name for name in metrics if name not in known]:
        raise EvaluationError(
            f"--metric is {unknown[0]!r}, which the two evaluations do not both have; {suggest(unknown[0], known)}. "
            f"Expected some of {', '.join(known)}."
        )
    return [name for name in known if not metrics or name in metrics]


def fill_undefined(rows: pd.DataFrame, others: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The best value where nothing was to be found, nothing was predicted, and the other side predicted something.

    Args:
        rows: of one side; `others` those of the other.
        metrics: columns to fill.
    """
    if not {"num_voxels_reference", "num_voxels_prediction"} <= set(rows.columns):
        return rows
    others = rows[["case", "label"]].merge(others, on=["case", "label"], how="left")
    is_right = ((rows["num_voxels_reference"] == 0) & (rows["num_voxels_prediction"] == 0)).to_numpy()
    filled = rows.copy()
    for metric in metrics:
        facts = METRICS[metric]
        best = {True: facts.most, False: facts.least, None: 0.0}[facts.higher_is_better]
        one_sided = is_right & rows[metric].isna().to_numpy() & others[metric].notna().to_numpy()
        filled.loc[one_sided, metric] = best
    return filled


def _compare_series(table: CaseTable, a: CaseValues, b: CaseValues) -> ComparisonRow:
    defined = ~(np.isnan(a.values) | np.isnan(b.values))
    first, second, patients = a.values[defined], b.values[defined], table.patients[defined].tolist()
    differences, n = second - first, int(defined.sum())
    low, high = compute_interval(differences, patients)
    sd = float(differences.std(ddof=1)) if n > 1 else np.nan
    higher = METRICS[a.metric].higher_is_better
    gains = {True: differences, False: -differences, None: np.abs(first) - np.abs(second)}[higher]
    better = ""
    if higher is not None and (low > 0 or high < 0):
        better = "b" if (low > 0) == higher else "a"
    return ComparisonRow(
        label=a.label,
        metric=a.metric,
        unit=a.unit,
        n=n,
        num_patients=len(set(patients)),
        num_undefined=len(defined) - n,
        mean_a=_mean(first),
        mean_b=_mean(second),
        difference=_mean(differences),
        low=low,
        high=high,
        effect_size=float(differences.mean() / sd) if sd > _ROUNDING else np.nan,
        share_better=_mean(gains > 0),
        share_worse=_mean(gains < 0),
        p_value=_test_signed_ranks(differences, patients),
        better=better,
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _test_signed_ranks(differences: np.ndarray, patients: Sequence[str]) -> float:
    """p of Wilcoxon's test on one difference per patient; 1 where all are 0, NaN for fewer than two patients."""
    of_patients = pd.Series(differences).groupby(list(patients)).mean().to_numpy()
    if len(of_patients) < 2:
        return np.nan
    return float(stats.wilcoxon(of_patients).pvalue) if of_patients.any() else 1.0
