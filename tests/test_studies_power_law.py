"""Fits of a power law: a known one is found again, and intervals contain what they should."""

from __future__ import annotations

import numpy as np
import pytest

from unet_pipeline.studies.power_law import EXPONENTS, fit_curve, fit_power_laws

SIZES = np.array([10.0, 20, 40, 80, 160])


@pytest.mark.parametrize(("floor", "scale", "place"), [(0.08, 0.5, 20), (0.0, 0.4, 12), (0.2, 2.0, 45)])
def test_a_known_power_law_is_found_again(floor: float, scale: float, place: int) -> None:
    exponent = EXPONENTS[place]
    fit = fit_power_laws(SIZES, (floor + scale * SIZES**-exponent)[None])
    assert [fit.floor[0], fit.scale[0], fit.exponent[0]] == pytest.approx([floor, scale, exponent], abs=1e-6)


def test_a_rising_error_is_flat_and_no_floor_is_negative() -> None:
    fit = fit_power_laws(SIZES, np.array([[0.1, 0.11, 0.12, 0.13, 0.14], [0.4, 0.2, 0.08, 0.03, 0.0]]))
    assert (fit.scale[0], fit.floor[0]) == (0.0, pytest.approx(0.12))
    assert (fit.floor >= 0).all()


def test_without_noise_the_gain_is_exact() -> None:
    errors = np.repeat((0.1 + 0.5 * SIZES ** -EXPONENTS[16])[:, None], 8, axis=1)
    gain, low, high = fit_curve(SIZES, errors).gain(160, 200)
    expected = 0.5 * (160 ** -EXPONENTS[16] - 200 ** -EXPONENTS[16])
    assert [gain, low, high] == pytest.approx([expected] * 3, abs=1e-6)


def test_intervals_contain_a_further_training_and_the_true_gain() -> None:
    generator, sizes = np.random.default_rng(4), np.repeat([12.0, 25, 50, 100], 3)
    curve = lambda cases: 0.1 + 0.4 * cases**-0.5  # noqa: E731
    num_inside = np.zeros(2, dtype=int)
    for _ in range(10):
        of_patients = generator.normal(0, 0.02, 40)
        noise = generator.normal(0, 0.004, (len(sizes), 1)) + generator.normal(0, 0.005, (len(sizes), 40))
        fitted = fit_curve(sizes, curve(sizes)[:, None] + of_patients + noise)
        further = curve(166.0) + of_patients.mean() + generator.normal(0, 0.004)
        _, low, high = fitted.interval(166, is_measured=True)
        _, gain_low, gain_high = fitted.gain(100, 140)
        num_inside += [low <= further <= high, gain_low <= curve(100.0) - curve(140.0) <= gain_high]
    assert (num_inside >= 9).all()


def test_two_sizes_are_too_few() -> None:
    with pytest.raises(ValueError, match="2 sizes; expected 3"):
        fit_curve(np.array([1.0, 2, 2]), np.ones((3, 2)))
