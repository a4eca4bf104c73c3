"""Summary lines: means, counts and intervals with known answers."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from unet_pipeline.evaluation.summary import ALL_LABELS, note_few_patients, summarize, summarize_folds, to_records


def build_rows(values: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Table of cases from {case: {label: Dice}}; IoU is half of it."""
    return pd.DataFrame(
        [
            {"fold": 0, "case": case, "label": label, "dice": dice, "iou": dice / 2}
            for case, labels in values.items()
            for label, dice in labels.items()
        ]
    )


def test_summarize_two_labels_gives_means_per_label_and_over_labels() -> None:
    rows = build_rows({"a": {"background": 1.0, "x": 0.8, "y": 0.6}, "b": {"background": 0.9, "x": 0.4, "y": 0.2}})
    lines = {(row.label, row.metric): row for row in summarize(rows, ["x", "y"])}
    assert lines["x", "dice"].mean == pytest.approx(0.6)
    assert lines["y", "iou"].mean == pytest.approx(0.2)
    assert lines["background", "dice"].mean == pytest.approx(0.95)
    assert not lines["background", "dice"].in_mean
    assert lines[ALL_LABELS, "dice"].mean == pytest.approx(0.5)
    assert lines[ALL_LABELS, "dice"].n == 2


def test_summarize_undefined_value_is_counted_and_left_out() -> None:
    rows = build_rows({"a": {"x": 0.8, "y": math.nan}, "b": {"x": 0.4, "y": 0.2}})
    lines = {(row.label, row.metric): row for row in summarize(rows, ["x", "y"])}
    assert (lines["y", "dice"].n, lines["y", "dice"].num_undefined) == (1, 1)
    assert lines[ALL_LABELS, "dice"].mean == pytest.approx((0.8 + 0.3) / 2)


def test_summarize_missed_structure_lowers_the_mean() -> None:
    found = summarize(build_rows({"a": {"x": 0.8}, "b": {"x": 0.8}}), ["x"])[0].mean
    missed = summarize(build_rows({"a": {"x": 0.8}, "b": {"x": 0.0}}), ["x"])[0].mean
    assert missed == pytest.approx(found / 2)


def test_summarize_single_case_has_no_interval() -> None:
    row = summarize(build_rows({"a": {"x": 0.8}}), ["x"])[0]
    assert row.n == 1
    assert math.isnan(row.low)
    assert to_records([row])[0]["low"] is None


def test_summarize_perfect_and_missed_case_give_one_half_and_count_the_miss() -> None:
    rows = build_rows({"perfect": {"x": 1.0}, "missed": {"x": 0.0}})
    rows["num_voxels_reference"], rows["num_voxels_prediction"] = [8, 8], [8, 0]
    for row in (row for row in summarize(rows, ["x"]) if row.metric == "dice"):
        assert (row.mean, row.n, row.num_missed, row.num_false_alarms) == (0.5, 2, 1, 0)


def test_summarize_false_alarms_of_all_labels_are_summed() -> None:
    rows = build_rows({"a": {"x": 0.0, "y": 0.0}, "b": {"x": 0.9, "y": 0.0}})
    rows["missed"], rows["false_alarm"] = False, [True, True, False, True]
    lines = {row.label: row for row in summarize(rows, ["x", "y"]) if row.metric == "dice"}
    assert {label: row.num_false_alarms for label, row in lines.items()} == {ALL_LABELS: 3, "x": 1, "y": 2}


def test_summarize_standard_deviation_is_that_of_a_sample() -> None:
    row = summarize(build_rows({"a": {"x": 0.2}, "b": {"x": 0.4}, "c": {"x": 0.6}}), ["x"])[0]
    assert row.sd == pytest.approx(0.2)
    assert row.median == pytest.approx(0.4)


def test_summarize_cases_of_one_patient_widen_the_interval() -> None:
    values = {
        f"{patient}{visit}": {"x": dice}
        for patient, dice in zip("abcdef", (0.5, 0.6, 0.7, 0.8, 0.9, 0.95), strict=True)
        for visit in "12"
    }
    rows = build_rows(values)
    alone = summarize(rows, ["x"])[0]
    together = summarize(rows.assign(patient=rows["case"].str[0]), ["x"])[0]
    assert (alone.num_patients, together.num_patients) == (12, 6)
    assert together.mean == alone.mean
    assert together.low < alone.low < alone.high < together.high


def test_summarize_case_of_two_folds_counts_twice_and_is_one_patient() -> None:
    rows = pd.concat([build_rows({"a": {"x": 0.8}, "b": {"x": 0.6}}), build_rows({"a": {"x": 0.6}}).assign(fold=1)])
    row = summarize(rows, ["x"])[0]
    assert (row.n, row.num_patients, row.mean) == (3, 2, pytest.approx(2 / 3))


def test_summarize_folds_gives_each_fold_its_mean() -> None:
    rows = pd.concat([build_rows({"a": {"x": 0.9}}), build_rows({"b": {"x": 0.5}, "c": {"x": 0.3}}).assign(fold=2)])
    lines = {
        row.fold: (row.n, row.mean) for row in summarize_folds(rows, ["x"]) if (row.label, row.metric) == ("x", "dice")
    }
    assert lines == {0: (1, pytest.approx(0.9)), 2: (2, pytest.approx(0.4))}


def test_summarize_folds_test_set_has_none() -> None:
    assert summarize_folds(build_rows({"a": {"x": 0.9}}).assign(fold=None), ["x"]) == ()


@pytest.mark.parametrize(("num_cases", "is_said"), [(1, False), (2, True), (19, True), (20, False)])
def test_note_few_patients_is_said_below_twenty(num_cases: int, is_said: bool) -> None:
    rows = build_rows({f"c{number}": {"x": 0.5 + 0.01 * number} for number in range(num_cases)})
    assert bool(note_few_patients(summarize(rows, ["x"]))) == is_said


def test_to_records_undefined_and_infinite_become_none() -> None:
    row = summarize(build_rows({"a": {"x": math.inf}}), ["x"])[0]
    record = to_records([row])[0]
    assert (record["mean"], record["sd"], record["n"]) == (None, None, 1)
