"""The training's progress bar: loss, Dice, images per second, time left; and more of it in TensorBoard."""

from __future__ import annotations

import time
from contextlib import ExitStack

from ignite.engine import Engine, Events

from unet_pipeline.progress import Bar, progress_bar
from unet_pipeline.training.processes import is_secondary
from unet_pipeline.training.profile import ProfileHandler
from unet_pipeline.training.samples import SeededDataset
from unet_pipeline.training.step import LOSS
from unet_pipeline.training.tensorboard_log import TensorBoardLog

_SMOOTHING = 0.95  # of the shown loss; about the mean of the last 20 iterations


class ProgressHandler:
    """Shows the training's progress, and in TensorBoard what `TensorBoardLog` does.

    Args:
        evaluator: the validation, whose latest key metric is shown as Dice.
        batch_size: images per iteration and process.
        title: in front of the bar.
        profile: where the time went, in a line of its own after every epoch; None for none.
    """

    def __init__(
        self, evaluator: Engine, batch_size: int, title: str = "train", profile: ProfileHandler | None = None
    ) -> None:
        self.evaluator, self.batch_size, self.title, self.profile = evaluator, batch_size, title, profile
        self._stack = ExitStack()
        self._loss: float | None = None
        self._busy_s, self._num_iterations, self._iteration_started_s = 0.0, 0, 0.0
        self._bar: Bar | None = None
        self._first_epoch, self._num_validations, self._validation_started_s = 0, 0, 0.0

    def attach(self, engine: Engine) -> None:
        if is_secondary():
            return
        if self.profile is not None:
            self.profile.attach(engine)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._show_profile)
        TensorBoardLog(self.evaluator).attach(engine)
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        self.evaluator.add_event_handler(Events.STARTED, self._start_validation, engine)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._show_validation, engine)
        self.evaluator.add_event_handler(Events.COMPLETED, self._finish_validation, engine)

    def _open(self, engine: Engine) -> None:
        left = engine.state.max_epochs * engine.state.epoch_length - engine.state.iteration
        self._first_epoch = engine.state.epoch
        self._bar = self._stack.enter_context(progress_bar(self.title, left))

    def _start_clock(self, _: Engine) -> None:
        self._iteration_started_s = time.monotonic()

    def _advance(self, engine: Engine) -> None:
        loss = float(engine.state.output[LOSS])
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        self._busy_s += time.monotonic() - self._iteration_started_s
        self._num_iterations += 1
        if self._bar is None:
            return
        if self._num_iterations == 1 and (choices := list_choices(engine)):
            self._bar.report("; ".join(choices))
        self._bar.advance(note=self._describe(engine))

    def _describe(self, engine: Engine) -> str:
        """Epoch, loss, Dice of the last validation if there was one, speed."""
        parts = [f"epoch {engine.state.epoch}/{engine.state.max_epochs}", f"loss {self._loss:.3f}"]
        parts += [f"Dice {dice:.3f}" for dice in list(self.evaluator.state.metrics.values())[:1]]
        return "  ".join([*parts, f"{self._num_iterations * self.batch_size / self._busy_s:.1f} images/s"])

    def _start_validation(self, evaluator: Engine, trainer: Engine) -> None:
        self._validation_started_s = time.monotonic()
        self._show_validation(evaluator, trainer)

    def _show_validation(self, evaluator: Engine, trainer: Engine) -> None:
        if self._bar is not None:
            count = f"{evaluator.state.iteration}/{evaluator.state.epoch_length}"
            self._bar.advance(0, f"epoch {trainer.state.epoch}/{trainer.state.max_epochs}  validating {count}")

    def _finish_validation(self, _: Engine, trainer: Engine) -> None:
        """The validations to come follow each other as those so far did."""
        self._num_validations += 1
        num_epochs = max(1, trainer.state.epoch - self._first_epoch)
        num_left = (trainer.state.max_epochs - trainer.state.epoch) * self._num_validations // num_epochs
        if self._bar is not None:
            self._bar.pause(time.monotonic() - self._validation_started_s, num_left)
            self._bar.advance(0, self._describe(trainer))

    def _show_profile(self, _: Engine) -> None:
        if self.profile is not None and self._bar is not None:
            self._bar.report(self.profile.line)

    def _close(self, _: Engine) -> None:
        if self._bar is not None:
            self._bar.report("")  # what took the time of the whole training is said behind it
        self._stack.close()

    def _fail(self, _: Engine, error: Exception) -> None:
        self._stack.close()
        raise error


def list_choices(engine: Engine) -> list[str]:
    """What was chosen for the device, a line each; none where everything is plain. Known after the first step."""
    choices = [getattr(engine.state, "acceleration", "")]
    dataset = getattr(engine.state.dataloader, "dataset", None)
    if isinstance(dataset, SeededDataset) and dataset.store is not None:
        choices.append(dataset.store.describe(len(dataset)))
    return [line for line in choices if line]
