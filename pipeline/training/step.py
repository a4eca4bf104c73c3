"""One training step: what MONAI's trainer lacks (augmentation and autocast on any device, gradient clipping, a check of the loss)."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from pipeline.errors import TrainingError
from pipeline.training.acceleration import Acceleration, FastNetwork
from pipeline.training.augmentation import BatchAugmentation
from pipeline.training.precision import BFLOAT16, FLOAT32, supports_fast_bfloat16
from pipeline.training.processes import num_processes
from pipeline.types import CASE, IMAGE, LABEL, PRED, SEED, WEIGHT

LOSS = "loss"


class TrainingStep:
    """`iteration_update` for MONAI's SupervisedTrainer.

    Args:
        gradient_clip_norm: the gradient's norm is cut to this.
        augmentation: of the batch on the device; None leaves it as it is.
        autocast: None decides by the device (`supports_fast_bfloat16`); the loss is always computed in float32.
        acceleration: of the network; None leaves it as it is.
    """

    def __init__(
        self,
        gradient_clip_norm: float,
        augmentation: BatchAugmentation | None = None,
        autocast: bool | None = None,
        acceleration: Acceleration | None = None,
    ) -> None:
        self.gradient_clip_norm = gradient_clip_norm
        self.augmentation = augmentation
        self.autocast = autocast
        self.acceleration = acceleration
        self._fast: FastNetwork | None = None

    def __call__(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, Any]:
        """Forward, loss, backward, clipped step.

        Returns:
            Image, label, prediction and loss under MONAI's keys; the loss as a number, so that no handler waits for a GPU.

        Raises:
            TrainingError: the loss is not finite; names the cases of the batch.
        """
        device = engine.state.device
        images, labels = engine.prepare_batch(batchdata, device, engine.non_blocking, **engine.to_kwargs)
        if WEIGHT in batchdata:  # goes along with the label, as its second channel
            weights = batchdata[WEIGHT].to(device, non_blocking=engine.non_blocking)
            labels = torch.cat([labels, weights], dim=1)
        if self.augmentation is not None:
            images, labels = self.augmentation(images, labels, batchdata[SEED].tolist())
        engine.state.augmented_s = time.perf_counter()  # for the profile
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        autocast = self._choose_precision(engine) == BFLOAT16
        network = self._choose_form(engine, images, autocast)
        output: dict[str, Any] = {IMAGE: images, LABEL: labels}
        engine.state.output = output
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output[PRED] = engine.inferer(images, network)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = engine.loss_function(output[PRED], labels)
        # the only place where the host waits for a GPU: behind it backward, optimizer and the next batch are queued
        output[LOSS] = float(loss.detach())
        if not math.isfinite(output[LOSS]):
            cases = ", ".join(map(str, batchdata.get(CASE, ["unknown"])))
            raise TrainingError(
                f"The loss is {output[LOSS]} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; expected "
                f"a finite number. Cases of the batch: {cases}. Look at these images, or lower learning_rate."
            )
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        loss.backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.gradient_clip_norm)
        engine.optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def _choose_precision(self, engine: Engine) -> str:
        """That of the first step; a checkpoint may have set it."""
        if not hasattr(engine.state, "precision"):
            fast = supports_fast_bfloat16(engine.state.device) if self.autocast is None else self.autocast
            engine.state.precision = BFLOAT16 if fast else FLOAT32
        return engine.state.precision

    def _choose_form(self, engine: Engine, images: torch.Tensor, autocast: bool) -> Any:
        """The engine's network, in the form that the first step chooses."""
        if self.acceleration is None:
            return engine.network
        if self._fast is None:
            num_steps = engine.state.max_epochs * engine.state.epoch_length
            self._fast = self.acceleration.build(
                engine.network, engine.optimizer, images, num_steps, autocast, num_processes()
            )
            engine.state.acceleration = self._fast.line
        return self._fast
