"""`quality/regression.py`: known lines, and intervals that hold for new cases."""

import numpy as np
import pytest

from unet_pipeline.quality.regression import (
    Line,
    Regression,
    assign_groups,
    fit_line,
    fit_regression,
    least_cases,
)


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


@pytest.mark.parametrize(("num_cases", "end"), [(9, 9.0), (19, 18.0), (58, 53.1), (99, 90.0)])
def test_regression_interval_ends_between_two_residuals(num_cases: int, end: float) -> None:
    line = Line(np.zeros(1), np.ones(1), np.zeros(1), 5.0)
    residuals = np.random.default_rng(1).permutation(np.arange(1.0, num_cases + 1))
    fitted = Regression(line, (line,), residuals, np.zeros(num_cases, int))
    low, high = fitted.find_interval(np.zeros((1, 1)), 0.9)
    assert (low[0], high[0]) == pytest.approx((5 - end, 5 + end))


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


def test_regression_without_evidence_the_first_feature_is_trusted() -> None:
    random = np.random.default_rng(3)
    features = random.normal(size=(200, 3))
    line = fit_line(features, 2 * features[:, 0] + random.normal(size=200), penalty=1e9)
    assert np.corrcoef(line.predict(features), features[:, 0])[0, 1] > 0.99
    assert np.ptp(line.predict(features)) > 5
    against = fit_line(features, -features[:, 0], penalty=1e9)  # a guess that is worse than none counts nothing
    np.testing.assert_allclose(against.predict(features), -features[:, 0].mean(), atol=1e-6)
