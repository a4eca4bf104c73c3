"""Rows per case and label -> the values of each label and metric, case by case, with the patient of every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unet_pipeline.evaluation.metric_table import METRICS

ALL_LABELS = "mean of labels"


@dataclass(frozen=True)
class CaseValues:
    """One metric of one label in every case.

    Attributes:
        label: name, or `ALL_LABELS` for the mean over the scored labels of each case.
        metric: id in `METRICS`.
        unit: of the values; "" for shares and counts.
        values: one per case, in the order of `CaseTable.cases`; NaN where undefined.
        missed: whether the case lacks the structure in its prediction; for `ALL_LABELS` the number of such labels.
        false_alarms: likewise, for structures that only the prediction has.
        in_mean: whether the label counts in `ALL_LABELS`.
    """

    label: str
    metric: str
    unit: str
    values: np.ndarray
    missed: np.ndarray
    false_alarms: np.ndarray
    in_mean: bool


@dataclass(frozen=True)
class CaseTable:
    """Who was measured, and every series of values.

    Attributes:
        cases: a row per case, and per fold where several folds validate it: fold (NaN for a test set), case, patient, and the
            columns that start with "by_".
        series: for each metric the mean of the labels first, then the labels in the order of the rows.
    """

    cases: pd.DataFrame
    series: tuple[CaseValues, ...]

    @property
    def patients(self) -> np.ndarray:
        return self.cases["patient"].to_numpy(str)


def tabulate_cases(rows: pd.DataFrame, scored_labels: Sequence[str]) -> CaseTable:
    """Series of every metric of `METRICS` that the rows have.

    Args:
        rows: as `evaluate_pairs` makes them; without the columns fold or patient, every case is a patient of its own.
        scored_labels: labels that the mean is taken over. Labels that are undefined in a case do not count there.
    """
    rows = _add_missing_columns(rows)
    columns = ["fold", "case", "patient", *(name for name in rows.columns if str(name).startswith("by_"))]
    cases = rows.drop_duplicates("key").set_index("key")[columns]
    labels = list(rows["label"].drop_duplicates())
    scored = list(scored_labels)
    # a label that a case is not annotated with has no row, and is neither missed nor a false alarm there
    names = list(dict.fromkeys([*labels, *scored_labels]))
    missed, alarms = (_pivot(rows, name, cases.index, names).eq(True) for name in ("missed", "false_alarm"))
    series = []
    for metric, facts in METRICS.items():
        if metric not in rows.columns:
            continue
        unit = facts.unit(*read_units(rows))
        values = _pivot(rows, metric, cases.index, names).astype(float)
        if scored:
            counts = missed[scored].sum(axis=1).to_numpy(), alarms[scored].sum(axis=1).to_numpy()
            series.append(CaseValues(ALL_LABELS, metric, unit, values[scored].mean(axis=1).to_numpy(), *counts, True))
        for label in labels:
            flags = missed[label].to_numpy(), alarms[label].to_numpy()
            series.append(CaseValues(label, metric, unit, values[label].to_numpy(), *flags, label in scored))
    # a family of metrics that was not asked for some labels leaves no line for them
    asked = (one for one in series if _is_for_every_label(one.metric) or not np.isnan(one.values).all())
    return CaseTable(cases, tuple(asked))


def _is_for_every_label(metric: str) -> bool:
    return getattr(METRICS[metric], "family", "masks") == "masks"


def _add_missing_columns(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    if "fold" not in rows:
        rows["fold"] = np.nan
    if "patient" not in rows:
        rows["patient"] = rows["case"]
    reference, prediction = (rows.get(f"num_voxels_{side}") for side in ("reference", "prediction"))
    for name, here, there in (("missed", reference, prediction), ("false_alarm", prediction, reference)):
        if name not in rows:
            rows[name] = False if here is None or there is None else (here > 0) & (there == 0)
    rows["fold"] = pd.to_numeric(rows["fold"])
    rows["key"] = rows["fold"].map(lambda fold: "" if np.isnan(fold) else str(int(fold))) + "/" + rows["case"]
    return rows


def _pivot(rows: pd.DataFrame, column: str, keys: pd.Index, labels: list[str]) -> pd.DataFrame:
    return rows.pivot(index="key", columns="label", values=column).reindex(index=keys, columns=labels)


def read_units(rows: pd.DataFrame) -> tuple[str, ...]:
    """Arguments of `Metric.unit`; tables without the columns count in mm and ml."""
    if "length_unit" not in rows or rows.empty:
        return ()
    return str(rows["length_unit"].iloc[0]), str(rows["size_unit"].iloc[0])
