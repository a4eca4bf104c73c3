"""Watches a training for its record: what each epoch took and on what, its mean loss and learning rate, the Dice of its validation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from unet_pipeline.bundle.run_record import Epoch, TrainingRecord
from unet_pipeline.evidence.records.record import RecordKeeper, add_epoch
from unet_pipeline.planning.plan import Plan

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
        self._plan: Plan | None = None
        self._started_s, self._losses = time.monotonic(), list[float]()
        self._rate: float | None = None

    def watch(self, trainer: Engine, evaluator: Engine) -> None:
        """Attach to both engines, behind all that the config attached: a checkpoint is older than its epoch's entry."""
        from ignite.engine import Events

        from unet_pipeline.training.tensorboard_log import find_plan

        self._evaluator, self._plan = evaluator, find_plan(self.keeper.path.parent)
        trainer.add_event_handler(Events.EPOCH_STARTED, self._start)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._note_rate)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._add_loss)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def _start(self, _: Engine) -> None:
        self._started_s, self._losses = time.monotonic(), []

    def _note_rate(self, trainer: Engine) -> None:
        self._rate = trainer.optimizer.param_groups[0]["lr"]

    def _add_loss(self, trainer: Engine) -> None:
        self._losses.append(float(trainer.state.output["loss"]))

    def _end(self, trainer: Engine) -> None:
        from unet_pipeline.training.tensorboard_log import read_label_dice

        entry = Epoch(
            epoch=trainer.state.epoch,
            duration_s=round(time.monotonic() - self._started_s, 2),
            loss=round(sum(self._losses) / len(self._losses), 6) if self._losses else None,
            learning_rate=self._rate,
        )
        if shares := getattr(trainer.state, "time_shares", None):
            entry.time_shares = {name: round(share, 4) for name, share in shares.items()}
        validation = self._evaluator.state if self._evaluator is not None else None
        if validation is not None and validation.epoch == trainer.state.epoch and validation.metrics:
            entry.dice_resampled_grid = round(float(next(iter(validation.metrics.values()))), 6)
            label_dice = read_label_dice(self._evaluator, self._plan)
            entry.label_dice_resampled_grid = {name: round(dice, 6) for name, dice in label_dice.items()}
        add_epoch(self.keeper, entry)
