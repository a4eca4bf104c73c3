"""Temperature: known answers, and what it must never do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from unet_pipeline.tuning.calibration import compute_bins, compute_calibration_error, compute_loss, fit_temperature


def draw_voxels(true_temperature: float, num_voxels: int = 40_000, num_classes: int = 3) -> tuple:
    """Probabilities of a network whose logits are too large by the given factor, and classes drawn from the true ones."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (num_voxels, num_classes))
    right = softmax(logits, axis=1)
    classes = (right.cumsum(axis=1) < generator.random((num_voxels, 1))).sum(axis=1).clip(max=num_classes - 1)
    return softmax(logits * true_temperature, axis=1), classes


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_temperature_finds_the_one_that_was_put_in(temperature: float) -> None:
    found = fit_temperature(*draw_voxels(temperature))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.error_after < 0.01


def test_fit_temperature_overconfident_network_becomes_less_sure() -> None:
    found = fit_temperature(*draw_voxels(3.0))
    assert found.temperature > 1
    assert found.error_after < 0.2 * found.error_before
    assert found.loss_after < found.loss_before


@given(seed=st.integers(0, 10_000), num_voxels=st.integers(1, 50), num_classes=st.integers(2, 5))
def test_fit_temperature_any_voxels_never_make_the_loss_worse(seed: int, num_voxels: int, num_classes: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(num_classes), num_voxels)
    found = fit_temperature(probabilities, generator.integers(0, num_classes, num_voxels))
    assert found.loss_after <= found.loss_before
    assert 0.05 <= found.temperature <= 20


@pytest.mark.parametrize("sure", [0.6, 0.9, 0.999])
def test_fit_temperature_network_that_is_always_right_gets_none(sure: float) -> None:
    """The loss falls with the temperature down to 0; the end of the range is where the search stops, and no finding."""
    found = fit_temperature(np.array([[sure, 1 - sure]] * 50), np.zeros(50, int))
    assert found.temperature == 1
    assert "end of the range (0.05 to 20)" in found.reason
    assert "right nearly everywhere" in found.reason
    assert found.loss_after == found.loss_before
    assert found.bins_after == found.bins_before


def test_fit_temperature_network_that_is_always_wrong_gets_none() -> None:
    found = fit_temperature(np.array([[0.9, 0.1]] * 50), np.ones(50, int))
    assert (found.temperature, found.error_after) == (1, found.error_before)
    assert "wrong as often" in found.reason


def test_fit_temperature_of_one_case_is_not_taken() -> None:
    found = fit_temperature(*draw_voxels(2.5), num_cases=1)
    assert found.temperature == 1
    assert "one case alone" in found.reason
    assert fit_temperature(*draw_voxels(2.5), num_cases=2).temperature == pytest.approx(2.5, rel=0.05)


@given(seed=st.integers(0, 10_000), num_voxels=st.integers(1, 50))
def test_fit_temperature_is_never_an_end_of_the_range(seed: int, num_voxels: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(2), num_voxels)
    found = fit_temperature(probabilities, generator.integers(0, 2, num_voxels))
    assert 0.051 <= found.temperature <= 19.7
    assert bool(found.reason) <= (found.temperature == 1)


def test_fit_temperature_without_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match="0 voxels with 0 classes"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))


def test_compute_loss_is_the_mean_logarithm() -> None:
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert compute_loss(np.log(probabilities), np.array([1, 0])) == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)


def test_compute_calibration_error_by_hand() -> None:
    """Four voxels of confidence 0.9, three right: |0.75 - 0.9|. Four of 0.6, all right: |1 - 0.6|. The mean of both."""
    logits = np.log(np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 4))
    classes = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    assert compute_calibration_error(logits, classes) == pytest.approx((0.15 + 0.4) / 2)


def test_compute_bins_by_hand() -> None:
    """Bins are 1/15 wide: 0.9 is in the 14th (index 13), 0.6 at the edge of the 10th (index 9)."""
    logits = np.log(np.array([[0.91, 0.09]] * 4 + [[0.39, 0.61]] * 2))
    bins = compute_bins(logits, np.array([0, 0, 0, 1, 1, 0]))
    assert len(bins) == 15
    filled = {
        place: (one.num_voxels, one.confidence, one.right_share) for place, one in enumerate(bins) if one.num_voxels
    }
    assert filled == {13: (4, pytest.approx(0.91), 0.75), 9: (2, pytest.approx(0.61), 0.5)}
