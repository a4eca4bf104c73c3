"""Scores of networks that were trained on more and more cases -> the curve, what further cases would bring, and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.case_values import ALL_LABELS, tabulate_cases
from unet_pipeline.evaluation.metric_table import METRICS, Metric, name_value
from unet_pipeline.evaluation.summary import Number
from unet_pipeline.results import Result
from unet_pipeline.studies.power_law import NUM_PARAMETERS, FittedCurve, fit_curve
from unet_pipeline.studies.subsets import Subset

_NUM_DRAWN = 40  # points of the curve
_FEW = 4  # trainings beyond the numbers of a power law, from which their noise would be told
_FAR = 2.0  # times the largest size, beyond which a curve is no more than a guess


@dataclass(frozen=True)
class CurvePoint:
    """One training: cases, order of patients, fold of the bundle, and its mean score over the held-out patients."""

    num_cases: int
    repeat: int
    fold: int
    score: Number


@dataclass(frozen=True)
class CurveValue:
    """The fitted score at a number of cases: of the mean of many trainings with its 95 % interval, and the interval of a single training."""

    num_cases: int
    score: Number
    low: Number
    high: Number
    single_low: Number
    single_high: Number


class LearningCurve(Result, BaseModel):
    """What learning_curve.json holds.

    Attributes:
        dataset: its name.
        metric: id; the mean of the labels is taken.
        unit: of the scores; "" for shares.
        points: the trainings.
        curve: the fitted scores, up to the number of cases with those that are added.
        floor, scale, exponent: of the best fit, error = floor + scale * n ** -exponent.
        num_cases: of the largest subset.
        more: further cases.
        gain, gain_low, gain_high: by how much they change the score, and the 95 % interval.
        sentence: that in words.
        notes: what a reader must know.
        num_held_out, num_patients: held-out cases, and their patients.
        num_steps: of every training.
        hours: of all trainings, as measured; null where that is not recorded.
    """

    dataset: str
    metric: str
    unit: str
    points: list[CurvePoint]
    curve: list[CurveValue]
    floor: Number
    scale: Number
    exponent: Number
    num_cases: int
    more: int
    gain: Number
    gain_low: Number
    gain_high: Number
    sentence: str
    notes: list[str]
    num_held_out: int
    num_patients: int
    num_steps: int
    hours: Number


@dataclass(frozen=True)
class CurveFacts:
    """What does not follow from the scores: see `LearningCurve`."""

    dataset: str
    metric: str
    more: int
    num_steps: int
    hours: float
    notes: Sequence[str] = ()


def build_curve(
    rows: pd.DataFrame, scored_labels: Sequence[str], subsets: Sequence[Subset], facts: CurveFacts
) -> LearningCurve:
    """The curve of trainings that were measured on the same held-out cases.

    Args:
        rows: of an evaluation of all folds; fold k was trained on subset k.
        scored_labels: labels of the mean.
        subsets: of the trainings.
        facts: the rest.

    Raises:
        EvaluationError: a fold is missing, the metric has no direction, or a score is undefined in all cases.
    """
    scores, num_held_out, unit = _tabulate(rows, scored_labels, facts.metric, len(subsets))
    sizes = np.array([len(subset.cases) for subset in subsets], dtype=float)
    sign, best = _find_best(facts.metric)
    fitted = fit_curve(sizes, sign * (best - scores))
    largest = int(sizes.max())
    gain = [sign * value for value in fitted.gain(largest, largest + facts.more)]
    gain = [gain[0], *sorted(gain[1:])]
    means = scores.mean(axis=1)
    return LearningCurve.model_construct(
        dataset=facts.dataset,
        metric=facts.metric,
        unit=unit,
        points=[CurvePoint(len(one.cases), one.repeat, fold, float(means[fold])) for fold, one in enumerate(subsets)],
        curve=_draw_curve(fitted, sizes, facts.more, sign, best, METRICS[facts.metric]),
        floor=float(fitted.best.floor[0]),
        scale=float(fitted.best.scale[0]),
        exponent=float(fitted.best.exponent[0]),
        num_cases=largest,
        more=facts.more,
        gain=gain[0],
        gain_low=gain[1],
        gain_high=gain[2],
        sentence=describe_gain(facts.metric, facts.more, gain, unit),
        notes=[*facts.notes, *_list_notes(largest, facts.more, len(subsets))],
        num_held_out=num_held_out,
        num_patients=scores.shape[1],
        num_steps=facts.num_steps,
        hours=facts.hours,
    )


def describe_gain(metric: str, more: int, gain: Sequence[float], unit: str = "") -> str:
    """Such as "40 more cases: +0.006 Dice, 0.002 to 0.011 (95 %)."; a share has a decimal less than elsewhere, for it is a guess."""
    facts = METRICS[metric]
    change, low, high = (
        f"{end:{sign}.3f}" if facts.kind == "share" else facts.format(end, sign)
        for end, sign in zip(gain, ("+", "", ""), strict=True)
    )
    return f"{more} more cases: {name_value(metric, change, unit)}, {low} to {high} (95 %)."


def _find_best(metric: str) -> tuple[float, float]:
    """Sign and best value, with which `sign * (best - score)` is the error."""
    facts = METRICS[metric]
    return (1.0, facts.most) if facts.higher_is_better else (-1.0, facts.least)


def _tabulate(
    rows: pd.DataFrame, scored_labels: Sequence[str], metric: str, num_folds: int
) -> tuple[np.ndarray, int, str]:
    """Scores of every fold in every patient with a value in all folds, shape (folds, patients), the number of cases, and the unit."""
    table = tabulate_cases(rows, scored_labels)
    series = next((one for one in table.series if (one.metric, one.label) == (metric, ALL_LABELS)), None)
    if series is None:
        raise EvaluationError(f"The evaluation has no {metric}. Choose another --metric.")
    cases = table.cases[["fold", "case", "patient"]].assign(score=series.values)
    by_patient = cases.dropna(subset="score").groupby(["fold", "patient"])["score"].mean().unstack("patient")
    scores = by_patient.reindex(range(num_folds)).dropna(axis="columns").to_numpy()
    if not scores.size:
        raise EvaluationError(
            f"{metric} is undefined in every held-out patient, or a training was not measured. Choose another --metric."
        )
    return scores, int(cases["case"].nunique()), series.unit


def _draw_curve(
    fitted: FittedCurve, sizes: np.ndarray, more: int, sign: float, best: float, metric: Metric
) -> list[CurveValue]:
    """The fit over the sizes; the intervals end where the metric does, such as at a Dice of 1."""
    most = sizes.max() + more
    grid = {
        *np.geomspace(sizes.min(), most, _NUM_DRAWN).round().astype(int).tolist(),
        *sizes.astype(int).tolist(),
        int(most),
    }
    values = []
    for num_cases in sorted(grid):
        error, *ends = (*fitted.interval(num_cases), *fitted.interval(num_cases, is_measured=True)[1:])
        scores = [min(max(best - sign * end, metric.least), metric.most) for end in ends]
        (low, high), (single_low, single_high) = sorted(scores[:2]), sorted(scores[2:])
        values.append(CurveValue(num_cases, best - sign * error, low, high, single_low, single_high))
    return values


def _list_notes(largest: int, more: int, num_trainings: int) -> list[str]:
    notes = [
        "Every training has the same number of steps, so more cases are seen less often each; the network, patch and normalisation were "
        "planned "
        "once, from all cases.",
    ]
    if largest + more > _FAR * largest:
        notes.append(
            f"{largest + more} cases are more than {_FAR:g} times those of the largest training; the curve is a guess there."
        )
    if num_trainings < NUM_PARAMETERS + _FEW:
        notes.append(
            f"{num_trainings} trainings are too few to tell how much one differs from another; the interval says little. Raise --repeats."
        )
    return notes
