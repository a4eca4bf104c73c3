"""Losses are read late on a GPU, each under its own step; here the device is simulated by an event that says when a loss arrived."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from unet_pipeline.errors import TrainingError
from unet_pipeline.training.loss_reading import LossReader, log_losses


class LateLoss:
    """A number on a device: as much of a tensor's face as the reader asks for."""

    is_cuda = True

    def __init__(self, value: float) -> None:
        self.value = value

    def detach(self) -> torch.Tensor:
        return torch.tensor(self.value)


class Arrival:
    """A CUDA event whose waits are counted."""

    waits: int = 0

    def record(self) -> None:
        return None

    def synchronize(self) -> None:
        Arrival.waits += 1


@pytest.fixture(autouse=True)
def simulated_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Arrival)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **named: empty(*size, **named))
    Arrival.waits = 0


class Log:
    """TensorBoard's writer."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, float]] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        assert tag == "train_loss"
        self.lines.append((step, value))


def follow(losses: list[float], late: bool, length: int = 4) -> tuple[Log, list[tuple[float, bool]]]:
    """Train on given losses; what is logged, and for each step the loss reported and whether its own is still to come."""
    reader, log, seen = LossReader(), Log(), []

    def step(engine: Engine, _: Any) -> float:
        value = losses[engine.state.iteration - 1]
        loss: Any = LateLoss(value) if late else torch.tensor(value)
        return reader.read(engine, loss, [f"case_{engine.state.iteration}"])

    engine = Engine(step)

    @engine.on(Events.ITERATION_COMPLETED)
    def note(engine: Engine) -> None:
        log_losses(engine, log)
        seen.append((engine.state.output, engine.state.loss_pending))

    engine.run([None] * length, max_epochs=len(losses) // length)
    return log, seen


@pytest.mark.parametrize("late", [False, True])
def test_every_loss_is_logged_once_at_its_own_step(late: bool) -> None:
    losses = [float(value) for value in range(8, 0, -1)]
    log, _ = follow(losses, late)
    assert log.lines == [(index + 1, loss) for index, loss in enumerate(losses)]


def test_losses_of_a_gpu_are_reported_a_step_later_but_for_the_first_and_the_end_of_an_epoch() -> None:
    _, seen = follow([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], late=True)
    assert seen == [
        (8.0, False),
        (8.0, True),
        (7.0, True),
        (5.0, False),
        (5.0, True),
        (4.0, True),
        (3.0, True),
        (1.0, False),
    ]
    assert Arrival.waits == 8


@pytest.mark.parametrize(("late", "detected"), [(False, 2), (True, 3)])
def test_loss_that_is_not_finite_names_its_own_step_and_cases(late: bool, detected: int) -> None:
    reader = LossReader()
    state = SimpleNamespace(epoch=1, epoch_length=10, iteration=0)

    def read(value: float, cases: list[str]) -> None:
        state.iteration += 1
        reader.read(SimpleNamespace(state=state), LateLoss(value) if late else torch.tensor(value), cases)  # type: ignore[arg-type]

    steps = iter([(1.0, ["a"]), (math.nan, ["b", "c"]), (1.0, ["d"])])
    for _ in range(detected - 1):
        read(*next(steps))
    with pytest.raises(TrainingError, match=r"The loss is nan in epoch 1, iteration 2; .* batch: b, c\. "):
        read(*next(steps))
    assert state.iteration == detected


def test_reader_waits_for_the_own_loss_when_asked_to() -> None:
    reader = LossReader()
    state = SimpleNamespace(epoch=1, epoch_length=10, iteration=0)
    for value, asked, expected, pending in ((3.0, False, 3.0, False), (2.0, False, 3.0, True), (1.0, True, 1.0, False)):
        state.iteration, state.read_loss = state.iteration + 1, asked
        assert reader.read(SimpleNamespace(state=state), LateLoss(value), ["a"]) == expected  # type: ignore[arg-type]
        assert (state.loss_pending, state.read_loss) == (pending, False)
    assert state.losses == [(2, 2.0), (3, 1.0)]
