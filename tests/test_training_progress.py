"""What the bar of a training shows: epoch, loss, Dice, validation, and the time that validations will take."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from ignite.engine import Engine, Events

from unet_pipeline.training import progress
from unet_pipeline.training.step import LOSS


class RecordingBar:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps, self.notes, self.pauses, self.line = 0, list[str](), list[tuple[float, int]](), "none"

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps
        self.notes.append(note)

    def pause(self, seconds: float, num_left: int) -> None:
        self.pauses.append((seconds, num_left))

    def report(self, line: str) -> None:
        self.line = line


def train(monkeypatch: pytest.MonkeyPatch, num_epochs: int, val_interval: int) -> RecordingBar:
    """A training of 3 steps an epoch that take 1 s, and validations of 2 cases that take 20 s together."""
    bar, now_s = RecordingBar(), [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    @contextmanager
    def record(title: str, total: int):  # type: ignore[no-untyped-def]
        assert (title, total) == ("train", 3 * num_epochs)
        yield bar

    monkeypatch.setattr(progress, "progress_bar", record)

    def take(seconds: float) -> None:
        now_s[0] += seconds

    evaluator = Engine(lambda engine, batch: take(10))
    trainer = Engine(lambda engine, batch: take(1) or {LOSS: 0.5})

    def validate(engine: Engine) -> None:
        evaluator.run([0, 1], max_epochs=1)

    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(dice=0.75))
    progress.ProgressHandler(evaluator, batch_size=2).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=val_interval), validate)
    trainer.run([0, 1, 2], max_epochs=num_epochs)
    return bar


def test_progress_handler_shows_epoch_loss_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = train(monkeypatch, num_epochs=2, val_interval=1)
    assert bar.steps == 6
    assert bar.notes[0] == "epoch 1/2  loss 0.500  2.0 images/s"


def test_progress_handler_shows_the_validation_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = train(monkeypatch, num_epochs=2, val_interval=1)
    first = bar.notes.index("epoch 1/2  validating 0/2")
    assert bar.notes[first + 1 : first + 3] == ["epoch 1/2  validating 1/2", "epoch 1/2  validating 2/2"]
    assert bar.notes[first - 1] == "epoch 1/2  loss 0.500  2.0 images/s"
    assert bar.notes[first + 3] == "epoch 1/2  loss 0.500  Dice 0.750  2.0 images/s"  # the Dice that was just measured
    assert bar.notes[first + 4] == "epoch 2/2  loss 0.500  Dice 0.750  2.0 images/s"


def test_progress_handler_leaves_the_last_word_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(monkeypatch, num_epochs=1, val_interval=1).line == ""


def test_progress_handler_validations_to_come_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(monkeypatch, num_epochs=12, val_interval=5).pauses == [(20.0, 1), (20.0, 0)]
    assert train(monkeypatch, num_epochs=3, val_interval=1).pauses == [(20.0, 2), (20.0, 1), (20.0, 0)]
