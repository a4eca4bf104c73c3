"""Distances from left-out cases: ranks by hand, false alarms of drawn cases, and what is found far away."""

from __future__ import annotations

import numpy as np
import pytest

from unet_pipeline.quality.distribution import choose_units, find_rank, find_rate, fit_distribution


@pytest.mark.parametrize(
    ("num_cases", "wanted", "rank", "rate"),
    [(99, 0.05, 94, 0.05), (19, 0.05, 18, 0.05), (9, 0.05, 8, 0.1), (39, 0.05, 37, 0.05)],
)
def test_rank_and_rate_by_hand(num_cases: int, wanted: float, rank: int, rate: float) -> None:
    assert find_rank(num_cases, wanted) == rank
    assert find_rate(num_cases, wanted) == pytest.approx(rate)


def test_further_cases_come_above_the_rank_as_rarely_as_promised() -> None:
    generator = np.random.default_rng(0)
    alarms = [generator.normal() > np.sort(generator.normal(size=39))[find_rank(39, 0.05)] for _ in range(8000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.008)


def test_distance_knows_what_goes_together() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(size=200)
    values = np.stack([first, first + generator.normal(0, 0.1, 200)], axis=1)
    distribution = fit_distribution(values, ("a", "b"), {"both": (0, 1)}, np.zeros(2))
    together, apart = (distribution.measure(np.array(point)) for point in ([1.5, 1.5], [1.5, -1.5]))
    np.testing.assert_allclose(together[:2], apart[:2], atol=0.3)
    assert apart[2] > 3 * together[2]


def test_property_that_never_changed_has_the_floor_as_spread() -> None:
    distribution = fit_distribution(np.full((9, 1), 3.0), ("size",), {"grid": (0,)}, np.array([0.02]))
    assert distribution.measure(np.array([3.1]))[0] == pytest.approx(5)
    score, place = distribution.score(np.array([3.1]))
    assert place == 0
    assert score >= 5


def test_units_leave_two_cases_above() -> None:
    left_out = np.arange(24, dtype=float)[:, None] + 5
    assert choose_units(left_out, 1)[0] == 26.0
    assert choose_units(np.full((24, 1), 0.1), 1)[0] == 2.5
