"""Watches a training for its record: what each epoch took, its mean loss, and the Dice of its validation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from unet_pipeline.bundle.run_record import Epoch, TrainingRecord
from unet_pipeline.evidence.records.record import RecordKeeper, add_epoch

if TYPE_CHECKING:
    from ignite.engine import Engine


class EpochRecorder:
    """Adds every epoch to a record.

    Args:
        keeper: of the training's record.
    """

    def __init__(self, keeper: RecordKeeper[TrainingRecord]) -> None:
        self.keeper = keeper
        self._evaluator: Engine | None = None
        self._started_s, self._losses = time.monotonic(), list[float]()

    def watch(self, trainer: Engine, evaluator: Engine) -> None:
        """Attach to both engines, behind all that the config attached: a checkpoint is older than its epoch's entry."""
        from ignite.engine import Events

        self._evaluator = evaluator
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._add_loss)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def _start(self, _: Engine) -> None:
        self._started_s, self._losses = time.monotonic(), []

    def _add_loss(self, trainer: Engine) -> None:
        self._losses.append(float(trainer.state.output["loss"]))

    def _end(self, trainer: Engine) -> None:
        entry = Epoch(
            epoch=trainer.state.epoch,
            duration_s=round(time.monotonic() - self._started_s, 2),
            loss=round(sum(self._losses) / len(self._losses), 6) if self._losses else None,
        )
        validation = self._evaluator.state if self._evaluator is not None else None
        if validation is not None and validation.epoch == trainer.state.epoch and validation.metrics:
            entry.dice_resampled_grid = round(float(next(iter(validation.metrics.values()))), 6)
        add_epoch(self.keeper, entry)
