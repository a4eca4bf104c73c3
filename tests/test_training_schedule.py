"""Learning rate: rises linearly, falls along half a cosine, ends at zero."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from unet_pipeline.training.schedule import build_schedule, load_schedule


def list_rates(num_epochs: int, iterations_per_epoch: int, warmup_iterations: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = build_schedule(optimizer, num_epochs, iterations_per_epoch, warmup_iterations)
    rates = []
    for _ in range(num_epochs * iterations_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def test_build_schedule_known_length_gives_known_rates() -> None:
    rates = list_rates(num_epochs=4, iterations_per_epoch=25, warmup_iterations=20)
    assert rates[0] == pytest.approx(0.02)
    assert rates[20] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(later >= earlier for earlier, later in itertools.pairwise(rates[:21]))
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[20:]))


def test_build_schedule_warmup_longer_than_the_training_is_cut() -> None:
    rates = list_rates(num_epochs=1, iterations_per_epoch=10, warmup_iterations=1000)
    assert max(rates) == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def continue_schedule(num_epochs_before: int, done: int, num_epochs: int) -> list[float]:
    """Rates of the steps after a resume."""
    saved = []
    for epochs in (num_epochs_before, num_epochs):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        schedule = build_schedule(optimizer, epochs, 10, 5)
        if saved:
            optimizer.load_state_dict(saved[0])
            load_schedule(schedule, optimizer, saved[1])
            break
        for _ in range(done):
            optimizer.step()
            schedule.step()
        saved = [optimizer.state_dict(), schedule.state_dict()]
    rates = []
    for _ in range(num_epochs * 10 - done):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize("done", [3, 17, 40])
def test_load_schedule_same_length_gives_the_same_rates(done: int) -> None:
    assert continue_schedule(4, done, 4) == list_rates(4, 10, 5)[done:]


def test_load_schedule_more_epochs_follow_the_longer_curve_from_there() -> None:
    assert continue_schedule(2, 20, 4) == list_rates(4, 10, 5)[20:]
