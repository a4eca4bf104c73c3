"""The loss of a step as a number, read without holding up a GPU: one step later, when it is there anyway."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine

from unet_pipeline.errors import TrainingError
from unet_pipeline.training.events import TRAIN_LOSS


@dataclass(frozen=True)
class _Pending:
    """A loss on its way to the host."""

    value: torch.Tensor
    arrived: torch.cuda.Event
    epoch: int
    iteration: int
    cases: list[str]


class LossReader:
    """Gives losses in the order of their steps.

    `engine.state.losses` has those that became known in the present step, as (iteration, loss); `engine.state.loss_pending` says
    whether the present step's own is still to come. Setting `engine.state.read_loss` makes the next step wait for its own.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None
        self._latest = math.nan

    def read(self, engine: Engine, loss: torch.Tensor, cases: list[str]) -> float:
        """The newest loss that is known. The first of a process, and the last of an epoch, are waited for.

        Args:
            engine: the trainer, in the step of this loss.
            loss: of the step, on the device, a single number.
            cases: of the batch.

        Raises:
            TrainingError: a loss is not finite; names its step and cases.
        """
        state = engine.state
        state.losses = []
        previous, self._pending = self._pending, self._send(state, loss, cases)
        if previous is not None:
            self._take(state, previous)
        is_last = state.iteration % state.epoch_length == 0
        if not loss.is_cuda or is_last or math.isnan(self._latest) or getattr(state, "read_loss", False):
            self._take(state, self._pending)
            self._pending, state.read_loss = None, False
        state.loss_pending = self._pending is not None
        return self._latest

    @staticmethod
    def _send(state: Any, loss: torch.Tensor, cases: list[str]) -> _Pending:
        arrived = torch.cuda.Event() if loss.is_cuda else None
        value = loss.detach()
        if arrived is not None:
            value = torch.empty((), pin_memory=True).copy_(value, non_blocking=True)
            arrived.record()
        return _Pending(value, arrived, state.epoch, state.iteration, cases)  # type: ignore[arg-type]

    def _take(self, state: Any, pending: _Pending) -> None:
        if pending.arrived is not None:
            pending.arrived.synchronize()
        self._latest = float(pending.value)
        if not math.isfinite(self._latest):
            raise TrainingError(
                f"The loss is {self._latest} in epoch {pending.epoch}, iteration {pending.iteration}; expected a finite number. "
                f"Cases of the batch: {', '.join(map(str, pending.cases))}. Look at these images, or lower learning_rate."
            )
        state.losses.append((pending.iteration, self._latest))


def log_losses(engine: Engine, writer: Any) -> None:
    """For `TensorBoardStatsHandler`: the losses that became known, each at its own iteration."""
    for iteration, loss in engine.state.losses:
        writer.add_scalar(TRAIN_LOSS, loss, iteration)
