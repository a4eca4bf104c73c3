"""Learning rate: rises linearly, falls along half a cosine, ends at zero."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from pipeline.training.schedule import build_schedule


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
