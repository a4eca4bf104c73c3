"""What `plan` says about the time of the training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from unet_pipeline.commands.plan import describe_time, print_training_forecast
from unet_pipeline.training.forecast import TrainingForecast

SLOW = TrainingForecast(
    preset="quick",
    device="cpu",
    step_s=0.75,
    num_epochs=20,
    num_steps=4000,
    steps_s=3000.0,
    validation_s=90.0,
    reading_s=10.0,
    cache_rate=1.0,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "less than a minute"),
        (60, "about a minute"),
        (12.3 * 60, "about 12 minutes"),
        (19.4 * 60, "about 19 minutes"),
        (42 * 60, "about 40 minutes"),
        (43 * 60, "about 45 minutes"),
        (100 * 60, "about 1.5 hours"),
        (7.1 * 3600, "about 7 hours"),
        (27.4 * 3600, "about 27 hours"),
        (25 * 86400, "about 25 days"),
    ],
)
def test_describe_time_is_no_more_precise_than_known(seconds: float, expected: str) -> None:
    assert describe_time(seconds) == expected


def show(forecast: TrainingForecast, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_training_forecast(forecast, Path("bundle"))
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_print_training_forecast_kept_promise_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    quick = dataclasses.replace(SLOW, step_s=0.15, steps_s=600.0)
    assert show(quick, capsys) == [
        "time      about 12 minutes for one fold on this machine (4,000 steps of 150 ms on cpu)"
    ]


def test_print_training_forecast_tells_the_memory_of_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    on_gpu = dataclasses.replace(SLOW, steps_s=60.0, device="cuda:0", peak_gib=4.66)
    assert show(on_gpu, capsys)[1] == "memory    4.7 GiB of cuda:0 in a step, as measured"


def test_print_training_forecast_broken_promise_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    lines = show(SLOW, capsys)
    assert lines[0] == "time      about 50 minutes for one fold on this machine (4,000 steps of 750 ms on cpu)"
    assert lines[1].startswith(
        "the preset quick promises 30 minutes at most, which this machine cannot keep. Train on a GPU"
    )
    # 0.9 x 30 of 51.7 minutes are 10.4 of 20 epochs
    assert lines[2].endswith("unet-pipeline train bundle num_epochs=10")
    assert len(lines) == 3, "there is no shorter preset"


def test_print_training_forecast_longer_preset_points_to_quick(capsys: pytest.CaptureFixture[str]) -> None:
    standard = dataclasses.replace(SLOW, preset="standard", steps_s=3e6)
    lines = show(standard, capsys)
    assert "the preset standard promises 12 hours at most" in lines[1]
    assert lines[-1] == "or plan again with --preset quick"


def test_print_training_forecast_other_work_is_named_with_both_times(capsys: pytest.CaptureFixture[str]) -> None:
    busy = dataclasses.replace(SLOW, step_s=0.15, steps_s=600.0, slowdown=6.0)
    lines = show(busy, capsys)
    assert lines[0].startswith("time      about 12 minutes")
    assert lines[1] == "when nothing else runs; about 70 minutes beside the other work that runs now"
    assert len(lines) == 2, "the promise is about the machine and not about its other work"


def test_print_training_forecast_reading_that_dominates_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = show(dataclasses.replace(SLOW, reading_s=1e5, cache_rate=0.05), capsys)
    assert "most of it is reading images: 5% of them stay in memory" in lines[1]
    assert "cache_rate" in lines[1]
