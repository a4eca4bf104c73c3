"""`quality/regression.py`: known lines, and intervals that hold for new cases."""

import numpy as np
import pytest

from unet_pipeline.quality.regression import assign_groups, fit_regression, least_cases


def test_regression_finds_a_known_line() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(200, 3))
    target = 2 * features[:, 0] - features[:, 1] + 0.5
    fitted = fit_regression(features, target, [str(n) for n in range(200)])
    assert fitted.predict(features) == pytest.approx(target, abs=0.05)


@pytest.mark.parametrize("num_cases", [20, 60])
def test_regression_intervals_cover_as_promised(num_cases: int) -> None:
    random, covered = np.random.default_rng(2), []
    for _ in range(60):
        features = random.normal(size=(num_cases + 20, 4))
        target = features[:, 0] + random.standard_t(4, size=len(features))
        fitted = fit_regression(features[:num_cases], target[:num_cases], [str(n) for n in range(num_cases)])
        low, high = fitted.find_interval(features[num_cases:], 0.9)
        covered.append(np.mean((target[num_cases:] >= low) & (target[num_cases:] <= high)))
    assert 0.87 <= np.mean(covered) <= 0.97


def test_regression_too_few_cases_have_no_finite_interval() -> None:
    features = np.arange(8.0)[:, None]
    fitted = fit_regression(features, features[:, 0], [str(n) for n in range(8)])
    low, high = fitted.find_interval(features[:1], 0.9)
    assert (low[0], high[0]) == (-np.inf, np.inf)
    assert least_cases(0.9) == 9


def test_regression_patients_stay_together() -> None:
    patients = [f"p{n // 3}" for n in range(90)]
    part_of = assign_groups(patients, 20)
    assert len(set(part_of)) == 20
    assert all(len({part_of[n], part_of[n + 1], part_of[n + 2]}) == 1 for n in range(0, 90, 3))


def test_regression_new_cases_are_not_extrapolated_to() -> None:
    random = np.random.default_rng(3)
    features = random.normal(size=(50, 1))
    fitted = fit_regression(features, features[:, 0], [str(n) for n in range(50)])
    assert fitted.predict(np.array([[1e6]])) == fitted.predict(np.array([[1e9]]))


def test_regression_a_feature_without_spread_counts_nothing() -> None:
    random = np.random.default_rng(4)
    features = np.column_stack([random.normal(size=40), np.ones(40)])
    fitted = fit_regression(features, features[:, 0], [str(n) for n in range(40)])
    moved = features.copy()
    moved[:, 1] = 2
    assert fitted.predict(moved) == pytest.approx(fitted.predict(features))
