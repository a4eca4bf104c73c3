"""Post-processing is taken where it surely helps, and only there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unet_pipeline.tuning.postprocessing import (
    ALL,
    FILL_HOLES,
    KEEP_LARGEST,
    NOTHING,
    REMOVE_SMALL,
    choose_sizes,
    decide,
)


def build_rows(gains: dict[tuple[str, str], list[float]], before: float = 0.8) -> pd.DataFrame:
    """Dice of ten cases; a candidate's gain over doing nothing is given case by case."""
    rows = []
    labels = dict.fromkeys(label for label, _ in gains)
    for case in range(10):
        rows += [(f"case_{case}", label, NOTHING, before) for label in labels]
        rows += [(f"case_{case}", label, candidate, before + gain[case]) for (label, candidate), gain in gains.items()]
    return pd.DataFrame(rows, columns=["case", "label", "candidate", "dice"])


STEADY = [0.01 + 0.001 * case for case in range(10)]
MIXED = [0.05, -0.05] * 5


def test_decide_takes_what_helps_in_every_case_and_leaves_the_rest() -> None:
    rows = build_rows(
        {
            ("liver", KEEP_LARGEST): STEADY,
            ("vessel", KEEP_LARGEST): [-gain for gain in STEADY],
            ("vessel", FILL_HOLES): MIXED,
        }
    )
    taken = {
        (decision.label, decision.candidate): decision.taken
        for decision in decide(rows, ["liver", "vessel"])
        if decision.n
    }
    assert taken == {("liver", KEEP_LARGEST): True, ("vessel", KEEP_LARGEST): False, ("vessel", FILL_HOLES): False}


def test_decide_gives_means_and_the_interval_of_the_gain() -> None:
    (decision,) = decide(build_rows({("liver", KEEP_LARGEST): STEADY}), ["liver"])
    assert (decision.n, decision.before) == (10, pytest.approx(0.8))
    assert decision.after == pytest.approx(0.8145)
    assert 0.01 < decision.low < 0.0145 < decision.high < 0.019


def test_decide_small_parts_are_judged_by_the_mean_over_labels() -> None:
    candidate = REMOVE_SMALL.format(12.5)
    rows = build_rows({("liver", candidate): STEADY, ("vessel", candidate): [-0.5 * gain for gain in STEADY]})
    (decision,) = decide(rows, ["liver", "vessel"])
    assert (decision.label, decision.candidate, decision.taken) == (ALL, "remove objects under 12.5", True)
    assert decision.after - decision.before == pytest.approx(0.25 * np.mean(STEADY))


def test_decide_false_part_that_is_removed_counts_as_right() -> None:
    """Neither map has the label then: Dice is undefined, and better than the 0 before."""
    rows = build_rows({("liver", KEEP_LARGEST): [0.0] * 10}, before=0.0)
    rows.loc[rows["candidate"] == KEEP_LARGEST, "dice"] = np.nan
    (decision,) = decide(rows, ["liver"])
    assert (decision.before, decision.after, decision.taken) == (0.0, 1.0, True)


def test_decide_one_case_is_not_enough() -> None:
    rows = build_rows({("liver", KEEP_LARGEST): STEADY})
    (decision,) = decide(rows[rows["case"] == "case_3"], ["liver"])
    assert not decision.taken


def test_choose_sizes_stay_under_the_small_parts_of_the_references() -> None:
    assert choose_sizes([100.0] * 50) == (0.78, 3.1, 12.0, 50.0)
    assert choose_sizes([]) == ()
