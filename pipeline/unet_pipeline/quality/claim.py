"""Whether expected Dice keeps what it says: on cases that were not fitted on, each case judged by the others (`evaluate --quality`).

quality.json beside the numbers of the evaluation holds it (schema: docs/quality.schema.json).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from scipy.stats import rankdata

from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evaluation.files import METRICS_FILE
from unet_pipeline.evaluation.summary import Number, to_records
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.quality.expected_dice import (
    CONFIDENCE,
    ExpectedDice,
    ExpectedDiceRecord,
    LabelCase,
    LabelRecord,
    expect_dice,
    fit_label,
)
from unet_pipeline.quality.regression import assign_groups
from unet_pipeline.results import Result

QUALITY_FILE = "quality.json"
FAILURE_SHARE = 0.8  # of the median Dice: what is below is a failure
NUM_PARTS = 10  # the cases are judged in so many parts, each by the others
_NUM_RESAMPLES = 2000
_SEED = 2021
_MOST_POINTS = 51  # of a curve


@dataclass(frozen=True)
class RiskCurve:
    """Mean risk (1 - Dice) of the most trusted cases.

    Attributes:
        coverage: shares of the cases, ascending; the last is 1.
        expected: when they are trusted by expected Dice.
        entropy: by the mean entropy.
        best: by Dice itself.
    """

    coverage: list[float]
    expected: list[float]
    entropy: list[float]
    best: list[float]


@dataclass(frozen=True, repr=False)
class QualityRow(Result):
    """How well Dice of one label was expected.

    Attributes:
        label: name.
        n: cases with an expected Dice; `num_unsaid` have none.
        coverage: share of the cases whose Dice lies within the interval, with its own 95 % interval; 0.9 is promised.
        mean_width: of the intervals.
        mean_absolute_error: of expected Dice.
        aurc: area under the risk-coverage curve (risk: 1 - Dice) when the cases are accepted by expected Dice; by the mean entropy; in
            random order, which is the mean risk; and by Dice itself, below which nothing can come.
        num_failures: cases with Dice below 0.8 times the median.
        auroc: of finding them by expected Dice, with a 95 % bootstrap interval over cases; NaN where there are none.
        curve: whose areas those are.
    """

    label: str
    n: int
    num_unsaid: int
    coverage: float
    coverage_low: float
    coverage_high: float
    mean_width: float
    mean_absolute_error: float
    aurc: float
    aurc_entropy: float
    aurc_random: float
    aurc_best: float
    num_failures: int
    auroc: Number
    auroc_low: Number
    auroc_high: Number
    curve: RiskCurve


class ClaimRecord(BaseModel):
    """quality.json.

    `confidence` is that of the intervals, `judged` says what the cases were judged by, and `metrics_sha256` of which metrics.csv the rows
    are. A null instead of a number means that it is not defined.
    """

    confidence: float
    judged: str
    metrics_sha256: str = ""
    rows: list[QualityRow]


def measure_claim(
    by_label: Mapping[str, Sequence[LabelCase]], fitted: ExpectedDiceRecord | None = None
) -> tuple[QualityRow, ...]:
    """A row for each label that has a Dice that can be expected; labels of too few cases are left out.

    Args:
        by_label: the cases of each label.
        fitted: on other cases; each case is judged by a fit on the others of its label, if None.
    """
    records = {} if fitted is None else {record.label: record for record in fitted.labels}
    rows = (measure_label(label, cases, records.get(label)) for label, cases in by_label.items())
    return tuple(row for row in rows if row is not None)


def measure_label(label: str, cases: Sequence[LabelCase], fitted: LabelRecord | None = None) -> QualityRow | None:
    """One label; None where too few cases have it."""
    defined = [case for case in cases if not np.isnan(case.dice)]
    expected = judge_by_others(label, defined) if fitted is None else [expect_dice(fitted, case) for case in defined]
    said = [place for place, one in enumerate(expected) if not np.isnan(one.mean)]
    if len(said) < 2:
        return None
    dice = np.array([defined[place].dice for place in said])
    mean, low, high = (np.array([getattr(expected[place], key) for place in said]) for key in ("mean", "low", "high"))
    entropy = np.array([defined[place].mean_entropy for place in said])
    inside = ((dice >= low) & (dice <= high)).astype(float)
    coverage_low, coverage_high = compute_interval(inside, [defined[place].patient for place in said])
    failed = dice < FAILURE_SHARE * np.median(dice)
    auroc_low, auroc_high = _interval_of_auroc(mean, failed)
    return QualityRow(
        label=label,
        n=len(said),
        num_unsaid=len(defined) - len(said),
        coverage=float(inside.mean()),
        coverage_low=coverage_low,
        coverage_high=coverage_high,
        mean_width=float(np.mean(high - low)),
        mean_absolute_error=float(np.mean(np.abs(mean - dice))),
        aurc=measure_aurc(1 - dice, mean),
        aurc_entropy=measure_aurc(1 - dice, -entropy),
        aurc_random=float(np.mean(1 - dice)),
        aurc_best=measure_aurc(1 - dice, dice),
        num_failures=int(failed.sum()),
        auroc=measure_auroc(mean, failed),
        auroc_low=auroc_low,
        auroc_high=auroc_high,
        curve=_draw_curve(1 - dice, mean, -entropy),
    )


def _draw_curve(risk: np.ndarray, expected: np.ndarray, certainty: np.ndarray) -> RiskCurve:
    """Some points of the curves, spread over the numbers of cases."""
    counts = np.unique(np.linspace(1, len(risk), min(_MOST_POINTS, len(risk))).round().astype(int))
    risks = [trace_risk(risk, trust)[counts - 1] for trust in (expected, certainty, -risk)]
    return RiskCurve(*(np.round(values, 6).tolist() for values in (counts / len(risk), *risks)))


def judge_by_others(label: str, cases: Sequence[LabelCase]) -> list[ExpectedDice]:
    """Expected Dice of each case from a fit that saw neither it nor another case of its patient."""
    if not cases:
        return []
    part_of = assign_groups([case.patient for case in cases], NUM_PARTS)
    expected: list[ExpectedDice | None] = [None] * len(cases)
    for part in range(int(part_of.max()) + 1):
        record = fit_label(label, [case for case, own in zip(cases, part_of, strict=True) if own != part], "")
        for place in np.flatnonzero(part_of == part):
            case = cases[int(place)]
            expected[int(place)] = expect_dice(record, case)
    return [one for one in expected if one is not None]


def write_claim(target: Path, rows: Sequence[QualityRow], is_nested: bool) -> tuple[QualityRow, ...]:
    """Write quality.json beside an evaluation's numbers; the rows.

    Args:
        target: folder of the evaluation.
        rows: of its labels.
        is_nested: each case was judged by the others; by what was fitted on other cases otherwise.
    """
    judged = "each case by the others" if is_nested else "by the fit on the validation cases of the training"
    metrics_sha256 = compute_sha256(target / METRICS_FILE)
    record = ClaimRecord(confidence=CONFIDENCE, judged=judged, metrics_sha256=metrics_sha256, rows=list(rows))
    write_json(target / QUALITY_FILE, {**record.model_dump(exclude={"rows"}), "rows": to_records(rows)})
    return tuple(rows)


def trace_risk(risk: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Mean risk of the most trusted case, of the two most trusted ones, and so on to all of them.

    Args:
        risk: of each case.
        trust: higher for cases that are accepted earlier; equal ones count as their mean order.
    """
    ranks = rankdata(-trust, method="average")
    order = np.argsort(ranks, kind="stable")
    sorted_risk = risk[order].astype(float)
    for rank in np.unique(ranks):  # equal trust: any order, so each has their mean risk
        tied = ranks[order] == rank
        sorted_risk[tied] = sorted_risk[tied].mean()
    return np.cumsum(sorted_risk) / np.arange(1, len(risk) + 1)


def measure_aurc(risk: np.ndarray, trust: np.ndarray) -> float:
    """Mean of `trace_risk` over all numbers of cases (El-Yaniv and Wiener 2010)."""
    return float(np.mean(trace_risk(risk, trust)))


def measure_auroc(trust: np.ndarray, failed: np.ndarray) -> float:
    """Probability that a failure is trusted less than a case that is none, ties by half; NaN without either (Mann and Whitney 1947)."""
    num_failed, num_others = int(failed.sum()), int((~failed).sum())
    if not num_failed or not num_others:
        return float("nan")
    ranks = rankdata(-trust)
    return float((ranks[failed].sum() - num_failed * (num_failed + 1) / 2) / (num_failed * num_others))


def _interval_of_auroc(trust: np.ndarray, failed: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap over cases; NaN where fewer than two are failures or not."""
    if min(failed.sum(), (~failed).sum()) < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(_SEED)
    draws = random.integers(len(trust), size=(_NUM_RESAMPLES, len(trust)))
    values = np.array([measure_auroc(trust[draw], failed[draw]) for draw in draws])
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
