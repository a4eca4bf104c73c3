"""Summary lines: means, counts and intervals with known answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.summary import ALL_LABELS, compute_bootstrap_interval, summarize, to_records


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


def test_compute_bootstrap_interval_normal_sample_is_near_the_theory() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    low, high = compute_bootstrap_interval(values)
    half_width = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half_width, abs=0.001)
    assert high == pytest.approx(values.mean() + half_width, abs=0.001)


def test_compute_bootstrap_interval_equal_values_has_no_width() -> None:
    assert compute_bootstrap_interval(np.full(5, 0.7)) == pytest.approx((0.7, 0.7))


def test_compute_bootstrap_interval_twice_is_the_same() -> None:
    values = np.random.default_rng(1).uniform(size=20)
    assert compute_bootstrap_interval(values) == compute_bootstrap_interval(values)
