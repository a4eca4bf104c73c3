"""How long a training takes, from the time of a step: known sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.training.forecast import TrainingForecast, count_windows, forecast_training
from unet_pipeline.training.probe import StepTime


@pytest.fixture
def plan(make_fingerprint: Callable) -> Plan:
    """1000 steps of 2 patches in 20 epochs, validated every 5; images of one window; everything stays in memory."""
    planned = plan_from_fingerprint(make_fingerprint(shapes=[(64, 64)] * 4, suffix=".png"), "data", "quick").plan
    numbers = {"num_epochs": 20, "iterations_per_epoch": 50, "val_interval": 5, "batch_size": 2, "cache_rate": 1.0}
    return planned.model_copy(update=numbers)


def add_up(plan: Plan, step_s: float = 0.6, quiet_s: float | None = None, **values: Any) -> TrainingForecast:
    arguments = {"num_training": 8, "num_validation": 2, "median_shape": plan.patch_size, **values}
    return forecast_training(plan, StepTime(step_s, quiet_s or step_s, "cpu", 1.0), **arguments)


def test_forecast_training_parts_are_known_sums(plan: Plan) -> None:
    forecast = add_up(plan, read_case_s=3.0)
    assert forecast.num_steps == 1000
    assert forecast.steps_s == pytest.approx(600)
    # 4 validations of 2 cases of one window, which costs a third of half a step
    assert forecast.validation_s == pytest.approx(4 * 2 * 0.1)
    assert forecast.reading_s == pytest.approx(10 * 3.0)
    assert forecast.total_s == pytest.approx(630.8)


def test_forecast_training_images_that_do_not_stay_in_memory_are_read_again(plan: Plan) -> None:
    forecast = add_up(plan.model_copy(update={"cache_rate": 0.25}), read_case_s=1.0)
    # 2000 samples and 4 x 2 validation cases, three of four of them read anew
    assert forecast.reading_s == pytest.approx(10 + 0.75 * 2008)


def test_forecast_training_larger_images_take_more_windows(plan: Plan) -> None:
    one, four = add_up(plan), add_up(plan, median_shape=tuple(size + 1 for size in plan.patch_size))
    assert four.validation_s == pytest.approx(4 * one.validation_s)


def test_forecast_training_twice_the_step_takes_twice_as_long(plan: Plan) -> None:
    assert add_up(plan, 1.2).total_s == pytest.approx(2 * add_up(plan, 0.6).total_s)


def test_forecast_training_beside_other_work_is_that_of_a_quiet_machine_with_a_factor(plan: Plan) -> None:
    disturbed = add_up(plan, step_s=2.4, quiet_s=0.6)
    assert (disturbed.step_s, disturbed.slowdown) == (0.6, 4.0)
    assert disturbed.total_s == add_up(plan, 0.6).total_s


def test_forecast_training_little_noise_is_not_called_other_work(plan: Plan) -> None:
    assert add_up(plan, step_s=0.6, quiet_s=0.5).slowdown == 1.0
    assert add_up(plan, step_s=0.6, quiet_s=0.5).step_s == 0.6


@pytest.mark.parametrize(("step_s", "kept"), [(1.7, True), (2.0, True), (2.3, False), (60.0, False)])
def test_forecast_training_promise_of_quick_is_half_an_hour(plan: Plan, step_s: float, kept: bool) -> None:
    forecast = add_up(plan, step_s)
    assert forecast.promised_s == 1800
    assert forecast.keeps_promise is kept


def test_forecast_training_full_promises_nothing(plan: Plan) -> None:
    forecast = add_up(plan.model_copy(update={"preset": "full"}), 1e4)
    assert forecast.promised_s is None
    assert forecast.keeps_promise
    assert forecast.shorten() == {}


def test_shorten_fits_into_the_promise(plan: Plan) -> None:
    forecast = add_up(plan, 6.0)
    changes = forecast.shorten()
    assert changes.keys() == {"num_epochs"}
    assert 0.8 * 1800 < forecast.total_s * changes["num_epochs"] / 20 <= 1800


def test_shorten_less_than_an_epoch_shortens_the_epoch(plan: Plan) -> None:
    forecast = add_up(plan, 600.0)
    changes = forecast.shorten()
    assert changes["num_epochs"] == 1
    assert 1 <= changes["iterations_per_epoch"] * 600 <= 1800


@pytest.mark.parametrize(
    ("shape", "overlap", "expected"),
    [((10, 10), 0.5, 1), ((3, 10), 0.5, 1), ((11, 10), 0.5, 2), ((15, 20), 0.5, 2 * 3), ((30, 10), 0.0, 3)],
)
def test_count_windows_known_numbers(shape: tuple[int, ...], overlap: float, expected: int) -> None:
    assert count_windows(shape, (10, 10), overlap) == expected
