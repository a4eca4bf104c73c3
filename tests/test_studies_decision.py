"""Decisions about a mean: closed forms, invariances, and how often a wrong yes is said where rare cases fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unet_pipeline.studies.decision import BOUNDED, SKEWED_T, compute_interval, compute_low, exceeds, foresee

ALPHA = 0.05


def test_bounded_gives_the_exact_end_where_all_values_are_the_best() -> None:
    # Clopper and Pearson for 30 of 30: the posterior of the mean is Beta(30, 1)
    low = compute_low(np.ones(30), BOUNDED, ALPHA, 0.0)[0]
    assert low == pytest.approx(ALPHA ** (1 / 30), abs=2e-3)


@pytest.mark.parametrize("num", [7, 1001])
def test_t_is_students_for_symmetric_values(num: int) -> None:
    values = np.arange(num) + 10.0
    quantile = stats.t.ppf(1 - ALPHA * (1 - 3.5 / num), num - 1)
    expected = values.mean() - quantile * values.std(ddof=1) / np.sqrt(num)
    assert compute_low(values, SKEWED_T, ALPHA, -np.inf)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("shape", "num"), [((18, 2), 12), ((18, 2), 25), ((60, 6), 18), ((60, 6), 80)])
def test_t_is_wrong_no_more_often_than_it_may_for_skewed_values(shape: tuple[float, float], num: int) -> None:
    samples = np.random.default_rng(3).beta(*shape, (100_000, num))
    rate = exceeds(samples, shape[0] / sum(shape), SKEWED_T, ALPHA, 0.0).mean()
    assert 0.04 < rate < ALPHA + 2 * np.sqrt(ALPHA / 100_000)


@pytest.mark.parametrize("analysis", [BOUNDED, SKEWED_T])
def test_order_and_scale_of_the_values_do_not_matter(analysis: str) -> None:
    values = np.random.default_rng(0).beta(8, 2, 40)
    low = compute_low(values, analysis, ALPHA, 0.0)[0]
    assert compute_low(values[::-1], analysis, ALPHA, 0.0)[0] == pytest.approx(low, abs=5e-3)
    assert compute_low(100 * values, analysis, ALPHA, 0.0)[0] == pytest.approx(100 * low)
    assert low < values.mean() < compute_interval(values, analysis, ALPHA, 0.0, 1.0)[1]


def test_skew_to_the_left_lowers_the_end_of_t() -> None:
    values = np.array([0.9] * 19 + [0.2])
    student = values.mean() - stats.t.ppf(0.95, 19) * values.std(ddof=1) / np.sqrt(20)
    assert compute_low(values, SKEWED_T, ALPHA, 0.0)[0] < student - 0.01
    assert np.isfinite(compute_low(np.full(5, 0.8), SKEWED_T, ALPHA, 0.0)).all()


def test_bounded_is_wrong_no_more_often_than_it_may_although_failures_are_rarely_seen() -> None:
    generator = np.random.default_rng(1)
    samples = np.where(generator.random((1500, 30)) < 0.03, 0.0, 0.9)
    rates = [exceeds(samples, 0.97 * 0.9, analysis, ALPHA, 0.0, 2000).mean() for analysis in (BOUNDED, SKEWED_T)]
    assert rates[0] <= 0.05 < 0.3 < rates[1]  # 40 % of the samples have no failure


def test_a_single_patient_decides_nothing_and_bounded_needs_an_end() -> None:
    assert compute_interval(np.array([0.9]), BOUNDED, ALPHA, 0.0, 1.0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="needs a smallest value"):
        compute_low(np.ones(3), BOUNDED, ALPHA, -np.inf)


def test_what_is_foreseen_is_what_is_decided() -> None:
    generator = np.random.default_rng(8)
    values = np.where(
        generator.random((150, 80)) < 0.02, generator.uniform(0, 0.6, (150, 80)), generator.beta(18, 2, (150, 80))
    )
    for boundary in (0.5, 0.82, 0.85, 0.88, 0.95):
        foreseen, decided = (one(values, boundary, BOUNDED, 0.05, 0.0) for one in (foresee, exceeds))
        assert np.mean(foreseen != decided) <= 0.03  # of samples on the verge
        assert abs(foreseen.mean() - decided.mean()) <= 0.03
    assert foresee(values, 0.85, SKEWED_T, 0.05, 0.0).tolist() == exceeds(values, 0.85, SKEWED_T, 0.05, 0.0).tolist()
    assert foresee(np.full((1, 5), 0.9), -0.1, BOUNDED, 0.05, 0.0).all()  # a boundary below everything
    assert not foresee(np.full((1, 5), 0.9), 0.95, BOUNDED, 0.05, 0.0).any()
