"""Intervals: against an independent implementation, their coverage, clusters, and samples without a spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unet_pipeline.evaluation.bootstrap import compute_interval, compute_intervals


def draw_scores(num_cases: int, seed: int = 0) -> np.ndarray:
    """Skewed as Dice values are: many high, few low."""
    return np.random.default_rng(seed).beta(8, 1.5, num_cases)


@pytest.mark.parametrize("num_cases", [8, 30, 200])
def test_compute_interval_agrees_with_scipy(num_cases: int) -> None:
    values = draw_scores(num_cases)
    expected = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(1))
    low, high = expected.confidence_interval
    tolerance = 0.03 * (high - low)  # of two draws of resamples
    assert compute_interval(values) == (pytest.approx(low, abs=tolerance), pytest.approx(high, abs=tolerance))


def test_compute_interval_with_clusters_agrees_with_scipy() -> None:
    """A ratio of paired sums is the mean over the cases of the patients that were drawn."""
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 5, 40)
    patients = [f"p{number}" for number in np.repeat(np.arange(40), sizes)]
    values = generator.beta(8, 1.5, 40).repeat(sizes) - 0.1 * generator.random(sizes.sum())
    sums = np.array([values[[one == f"p{number}" for one in patients]].sum() for number in range(40)])
    expected = stats.bootstrap(
        (sums, sizes),
        lambda total, count, axis: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=40_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = compute_interval(values, patients)
    assert found == pytest.approx(tuple(expected), abs=0.03 * (expected.high - expected.low))
    alone = compute_interval(values)
    assert alone[1] - alone[0] < 0.8 * (found[1] - found[0]), "cases of one patient are no independent evidence"


def test_compute_interval_covers_the_true_mean_of_skewed_scores() -> None:
    """1000 data sets of 50 cases each; the nominal share is 95 %."""
    samples = np.random.default_rng(5).beta(8, 1.5, (50, 1000))
    intervals = compute_intervals(samples, np.ones(50))
    covered = (intervals[:, 0] <= 8 / 9.5) & (intervals[:, 1] >= 8 / 9.5)
    assert 0.92 <= covered.mean() <= 0.97


def test_compute_interval_lies_below_the_symmetric_one_for_scores_with_a_low_tail() -> None:
    values = np.array([0.95] * 18 + [0.2, 0.1])
    low, high = compute_interval(values)
    assert values.mean() - low > 1.2 * (high - values.mean())


def test_compute_interval_duplicated_cases_of_a_patient_add_nothing() -> None:
    values = draw_scores(20)
    patients = [f"p{number}" for number in range(20)]
    assert compute_interval(np.tile(values, 3), patients * 3) == pytest.approx(compute_interval(values, patients))


def test_compute_interval_shifted_and_scaled_values_shift_and_scale_it() -> None:
    values = draw_scores(25)
    low, high = compute_interval(values)
    assert compute_interval(100 * values - 3) == pytest.approx((100 * low - 3, 100 * high - 3))


def test_compute_interval_order_of_cases_within_patients_is_irrelevant() -> None:
    values, patients = draw_scores(12), list("aabbccddeeff")
    order = np.random.default_rng(0).permutation(12)
    shuffled = [patients[place] for place in order]
    assert compute_interval(values[order], shuffled) == pytest.approx(compute_interval(values, patients))


@pytest.mark.parametrize("values", [[], [0.7], [0.7, math.inf]])
def test_compute_interval_too_little_is_undefined(values: list[float]) -> None:
    assert all(map(math.isnan, compute_interval(np.array(values))))


def test_compute_interval_one_patient_is_undefined() -> None:
    assert all(map(math.isnan, compute_interval(draw_scores(4), list("aaaa"))))


def test_compute_interval_equal_values_have_no_width() -> None:
    assert compute_interval(np.full(5, 0.7)) == (0.7, 0.7)


def test_compute_interval_two_cases_span_it() -> None:
    assert compute_interval(np.array([0.4, 0.8])) == pytest.approx((0.4, 0.8))


def test_compute_interval_twice_is_the_same() -> None:
    assert compute_interval(draw_scores(20, 1)) == compute_interval(draw_scores(20, 1))


def test_compute_interval_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        compute_interval(np.array([0.5, math.nan]))


def test_compute_interval_other_number_of_patients_is_refused() -> None:
    with pytest.raises(ValueError, match="1 patients for 2 values"):
        compute_interval(np.array([0.5, 0.6]), ["a"])
