"""Rows of an evaluation -> a learning curve: scores, gains in the metric's direction, and the sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unet_pipeline.errors import EvaluationError
from unet_pipeline.studies.curve_figure import draw_curve
from unet_pipeline.studies.learning_curve import CurveFacts, LearningCurve, build_curve, describe_gain
from unet_pipeline.studies.subsets import Subset
from unet_pipeline.views.studies import SUMMARIES

SIZES = (10, 20, 40, 80)
SUBSETS = [Subset(size, 0, tuple(map(str, range(size)))) for size in SIZES]


def build(metric: str, errors: list[float], size_unit: str = "ml") -> LearningCurve:
    """A curve whose every held-out patient has the same error."""
    rows = [
        {"fold": fold, "case": f"h{case}", "patient": f"h{case}", "label": "x", "dice": 1 - error}
        | {"hd95": error, "absolute_volume_error": error, "length_unit": "pixel", "size_unit": size_unit}
        for fold, error in enumerate(errors)
        for case in range(6)
    ]
    return build_curve(pd.DataFrame(rows), ["x"], SUBSETS, CurveFacts("set", metric, 40, 100, 0.5))


def test_more_cases_raise_dice_and_lower_a_distance() -> None:
    errors = [0.1 + 0.5 * size**-0.5 for size in SIZES]
    expected = 0.5 * (80**-0.5 - 120**-0.5)
    dice, distance = build("dice", errors), build("hd95", errors)
    assert (dice.gain, distance.gain) == (pytest.approx(expected, abs=1e-6), pytest.approx(-expected, abs=1e-6))
    assert [point.score for point in dice.points] == pytest.approx([1 - error for error in errors])
    assert (dice.num_cases, dice.num_held_out, dice.exponent) == (80, 6, pytest.approx(0.5))
    assert {value.num_cases for value in dice.curve} >= {*SIZES, 120}
    assert dice.sentence == "40 more cases: +0.010 Dice, 0.010 to 0.010 (95 %)."
    assert draw_curve(dice).axes[0].get_title() == dice.sentence


@pytest.mark.parametrize(("metric", "most"), [("dice", 1.0), ("hd95", np.inf)])
def test_intervals_of_a_curve_are_values_that_the_metric_has(metric: str, most: float) -> None:
    curve = build(metric, [0.3, 0.001, 0.25, 0.001]).curve
    assert all(0 <= value.single_low <= value.low <= value.high <= value.single_high <= most for value in curve)
    assert any(value.single_high == 1.0 for value in curve) == (metric == "dice")


def test_the_sentence_has_the_decimals_of_the_metric() -> None:
    assert describe_gain("dice", 40, (0.0061, 0.0022, 0.0109)) == "40 more cases: +0.006 Dice, 0.002 to 0.011 (95 %)."
    assert describe_gain("hd95", 5, (-0.5, -0.75, -0.25), "mm").startswith(
        "5 more cases: -0.50 mm HD95, -0.75 to -0.25"
    )


@pytest.mark.parametrize(("unit", "title"), [("ml", "Absolute volume error"), ("pixel", "Absolute area error")])
def test_sizes_of_pictures_are_areas_wherever_a_curve_is_shown(unit: str, title: str) -> None:
    curve = build("absolute_volume_error", [1 / size for size in SIZES], unit)
    shown = SUMMARIES["LearningCurve"](curve)
    texts = [curve.sentence, draw_curve(curve).axes[0].get_ylabel(), shown.tables[0].headings[2]]
    assert curve.unit == unit
    assert all(title in text and unit in text for text in texts)
    assert shown.pictures[0].alt.startswith(title)


def test_undefined_scores_and_missing_trainings_are_said() -> None:
    with pytest.raises(EvaluationError, match="a training was not measured"):
        build("dice", [0.3, 0.2, 0.15])
    with pytest.raises(EvaluationError, match="undefined"):
        build("dice", [np.nan] * 4)
