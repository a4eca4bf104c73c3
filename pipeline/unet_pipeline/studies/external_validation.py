"""Values of an evaluation and a protocol -> the decision, with all that a reader must know about how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.case_values import tabulate_cases
from unet_pipeline.evaluation.comparison import fill_undefined
from unet_pipeline.evaluation.metric_table import title_metric
from unet_pipeline.evaluation.summary import Number
from unet_pipeline.results import Result
from unet_pipeline.studies.decision import compute_interval
from unet_pipeline.studies.look_log import OPENED, RESULT, LookLog
from unet_pipeline.studies.protocol import Scale, ValidationProtocol

SHOWN, NOT_SHOWN, NOT_POWERED, VOID = "shown", "not shown", "not powered", "void"


class ValidationResult(Result, BaseModel):
    """What validation.json holds.

    Attributes:
        verdict: shown; not shown; not powered, with fewer patients than planned; void, where the protocol was broken.
        breaches: how it was broken, each a sentence.
        notes: what else a reader must know.
        sentence: the result in words.
        mean: of the patients' values of the metric.
        against: mean of the other side, or the value.
        gain: by how much the bundle is better: the mean minus the other side, or the reverse where smaller is better.
        low, high: one-sided ends of the gain, each wrong with probability alpha at most; null where there is none.
        boundary: that `low` has to be above.
        is_above: whether it is.
        num_patients, num_planned: patients that were measured, and that were planned.
        num_cases, num_undefined: cases with a value, and without.
        excluded: cases that a network was trained on.
        look: number of this look at data, 1 for the first.
    """

    verdict: str
    breaches: list[str]
    notes: list[str]
    sentence: str
    mean: Number
    against: Number
    gain: Number
    low: Number
    high: Number
    boundary: float
    is_above: bool
    num_patients: int
    num_planned: int
    num_cases: int
    num_undefined: int
    excluded: list[str]
    look: int
    protocol: ValidationProtocol
    data_sha256: str
    dataset: str


@dataclass(frozen=True)
class PatientValues:
    """The mean over the cases of each patient: of the bundle and, in a paired protocol, of the other one.

    Attributes:
        values: of the metric, shape (patients,).
        others: of the other bundle; None for a fixed value.
        num_cases: with a value.
        num_undefined: without.
    """

    values: np.ndarray
    others: np.ndarray | None
    num_cases: int
    num_undefined: int


def gather_patients(
    rows: pd.DataFrame,
    scored: Sequence[str],
    metric: str,
    label: str,
    other_rows: pd.DataFrame | None = None,
) -> PatientValues:
    """Patients' means of one metric of one label.

    Args:
        rows: of an evaluation; other_rows: of the other bundle's, of which the cases that both have are taken.
        scored: labels of the mean.

    Raises:
        EvaluationError: the rows lack the metric or the label, or no case has a value.
    """
    names = ["value"]
    if other_rows is not None and metric in rows and metric in other_rows:
        rows, other_rows = fill_undefined(rows, other_rows, [metric]), fill_undefined(other_rows, rows, [metric])
    table = _select(rows, scored, metric, label)
    if other_rows is not None:
        others = _select(other_rows, scored, metric, label).rename(columns={"value": "other"})
        table = table.merge(others[["case", "other"]], on="case")
        names.append("other")
    defined = table.dropna(subset=names)
    if defined.empty:
        raise EvaluationError(
            f"No case has a value of {metric} of {label}; nothing can be decided. Check labels and data."
        )
    means = defined.groupby("patient")[names].mean().to_numpy()
    others_mean = means[:, 1] if other_rows is not None else None
    return PatientValues(means[:, 0], others_mean, len(defined), len(table) - len(defined))


def _select(rows: pd.DataFrame, scored: Sequence[str], metric: str, label: str) -> pd.DataFrame:
    table = tabulate_cases(rows, scored)
    series = next((one for one in table.series if (one.metric, one.label) == (metric, label)), None)
    if series is None:
        raise EvaluationError(f"The evaluation has no {metric} of {label}. Choose another --metric or --label.")
    cases = table.cases[["case", "patient"]].assign(value=series.values)
    return cases.drop_duplicates("case")  # of a case that several folds validate, the first fold's


def find_breaches(
    protocol: ValidationProtocol, log: LookLog, data_sha256: str, registered: str | None, changed_bundles: Sequence[str]
) -> tuple[list[str], list[str]]:
    """How the protocol is broken by a look that begins now, and what else is to be said.

    Args:
        log: before the look.
        data_sha256: of the data that are opened.
        registered: hash of the protocol that was deposited elsewhere; None if nobody says.
        changed_bundles: names of bundles whose files are others than planned.
    """
    breaches, notes = [], []
    if protocol.compute_sha256() != protocol.sha256:
        breaches.append("The protocol was edited after it was sealed: its values do not have its SHA-256.")
    if log.fault:
        breaches.append(f"The log is broken: {log.fault}.")
    if log.looks and log.looks[0].protocol_sha256 != protocol.compute_sha256():
        breaches.append("The protocol is another one than was planned: the log begins with another SHA-256.")
    if registered is not None and registered != protocol.compute_sha256():
        breaches.append("The protocol is another one than was registered: its SHA-256 differs from --registered.")
    breaches += [f"Bundle {name} predicts with other files than were planned." for name in changed_bundles]
    if protocol.registered_data_sha256 not in (None, data_sha256):
        breaches.append("The data are others than the protocol names: their SHA-256 differs.")
    opened = [look for look in log.looks if look.event == OPENED]
    results = [look for look in log.looks if look.event == RESULT]
    if any(look.data_sha256 != data_sha256 for look in opened):
        breaches.append("Other data were opened before under this protocol: their SHA-256 differs.")
    if results:
        breaches.append(
            f"This is a second look: {len(results)} result(s) came before it, the first on {results[0].time[:10]} "
            f"({results[0].verdict})."
        )
    elif opened:
        notes.append(f"The look was begun {len(opened)} time(s) before and cut off without a result.")
    return breaches, notes


def decide(
    protocol: ValidationProtocol, patients: PatientValues, breaches: Sequence[str]
) -> tuple[str, dict[str, float | bool | int]]:
    """The verdict, and the numbers of the result."""
    fixed = 0.0 if isinstance(protocol.against, BaseModel) else float(protocol.against)
    scale = Scale(protocol.metric, protocol.is_paired, fixed)
    against = fixed if patients.others is None else float(patients.others.mean())
    values = patients.values - (scale.reference if patients.others is None else patients.others)
    gains = scale.sign * values
    low, high = compute_interval(gains, protocol.analysis, protocol.alpha, scale.least, scale.most)
    is_above = bool(low > protocol.boundary)
    verdict = SHOWN if is_above else NOT_SHOWN
    if len(gains) < protocol.sample.num_patients:
        verdict = NOT_POWERED
    numbers: dict[str, float | bool | int] = {
        "mean": float(patients.values.mean()),
        "against": against,
        "gain": float(gains.mean()),
        "low": low if np.isfinite(low) else float("nan"),
        "high": high if np.isfinite(high) else float("nan"),
        "boundary": protocol.boundary,
        "is_above": is_above,
        "num_patients": len(gains),
        "num_planned": protocol.sample.num_patients,
        "num_cases": patients.num_cases,
        "num_undefined": patients.num_undefined,
    }
    return VOID if breaches else verdict, numbers


def describe_verdict(protocol: ValidationProtocol, verdict: str, numbers: dict[str, float | bool | int]) -> str:
    """The result in words."""
    other = protocol.against.name if not isinstance(protocol.against, float) else f"{protocol.against:.4g}"
    confidence = f"{1 - protocol.alpha:.4g}"
    claim = (
        f"{protocol.bundle.name} is not worse than {other} by {protocol.margin:g} or more"
        if protocol.hypothesis == "noninferiority"
        else f"{protocol.bundle.name} is better than {other}"
        + (f" by more than {protocol.margin:g}" if protocol.margin else "")
    )
    measured = (
        f"gain {numbers['gain']:+.4f}, lower end at {confidence} one-sided confidence {numbers['low']:+.4f}, boundary "
        f"{numbers['boundary']:+.4f}, {numbers['num_patients']} patients of {numbers['num_planned']} planned"
    )
    heads = {
        SHOWN: f"Shown: {claim}",
        NOT_SHOWN: f"Not shown that {claim}",
        NOT_POWERED: f"Not powered: fewer patients than planned, so nothing is decided about whether {claim}",
        VOID: f"Void: the protocol was broken, so nothing is decided about whether {claim}",
    }
    return f"{heads[verdict]} ({title_metric(protocol.metric)}, {protocol.label}: {measured})."
