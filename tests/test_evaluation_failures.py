"""Which cases a person should look at."""

from __future__ import annotations

import math

import pandas as pd

from unet_pipeline.evaluation.case_values import ALL_LABELS
from unet_pipeline.evaluation.failures import FALSE_ALARM, MISSED, OUTLIER, WORST, list_failures


def build_rows(dice: dict[str, float], **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"case": list(dice), "label": "x", "dice": list(dice.values()), **columns})


def test_list_failures_perfect_and_missed_case_lists_the_miss() -> None:
    rows = build_rows({"perfect": 1.0, "miss": 0.0}, num_voxels_reference=[9, 9], num_voxels_prediction=[9, 0])
    (failure,) = list_failures(rows, ["x"])
    assert (failure.case, failure.label, failure.kinds) == ("miss", "x", (MISSED, WORST))
    assert failure.values["dice"] == 0.0


def test_list_failures_of_several_labels_names_the_worst_by_their_mean() -> None:
    rows = pd.concat([build_rows({"a": 0.9, "b": 0.5}), build_rows({"a": 0.1, "b": 0.6}).assign(label="y")])
    found = [(one.case, one.label, one.kinds) for one in list_failures(rows, ["x", "y"])]
    assert found == [("a", ALL_LABELS, (WORST,))]


def test_list_failures_kinds_come_in_order_of_weight() -> None:
    dice = {f"good_{number:02d}": 0.9 + 0.001 * number for number in range(12)}
    rows = build_rows({**dice, "low": 0.5, "alarm": 0.0}, missed=False, false_alarm=[*[False] * 13, True])
    found = [(one.case, one.kinds) for one in list_failures(rows, ["x"])]
    assert found[:2] == [("alarm", (FALSE_ALARM, OUTLIER, WORST)), ("low", (OUTLIER, WORST))]
    assert found[2:] == [(f"good_{number:02d}", (WORST,)) for number in range(3)]


def test_list_failures_worst_are_five_and_at_most_half() -> None:
    def count(num_cases: int) -> int:
        rows = build_rows({f"c{number:02d}": 0.5 + 0.01 * number for number in range(num_cases)})
        return sum(WORST in one.kinds for one in list_failures(rows, ["x"]))

    assert [count(number) for number in (1, 3, 6, 40)] == [0, 1, 3, 5]


def test_list_failures_undefined_value_is_no_failure() -> None:
    rows = build_rows({"a": math.nan, "b": 0.8, "c": 0.9})
    assert [one.case for one in list_failures(rows, ["x"])] == ["b"]


def test_list_failures_labels_that_do_not_count_are_left_out() -> None:
    rows = build_rows({"a": 0.0}, missed=True, false_alarm=False)
    assert list_failures(rows.assign(label="background"), []) == ()
