"""One training step: what MONAI's trainer lacks (patches and autocast on any device, gradient clipping, a check of the loss).

Of a step the host only draws the numbers (`samples.py`). From the table of these numbers to the new weights everything happens on the device,
and on one GPU as a single CUDA graph (`captured_step.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from unet_pipeline.boundary import is_out_of_memory
from unet_pipeline.device.precision import BFLOAT16, FLOAT32, supports_fast_bfloat16
from unet_pipeline.training.acceleration import Acceleration, FastNetwork
from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.captured_step import CapturedStep
from unet_pipeline.training.joint_step import Heads, JointNetwork, join_batch
from unet_pipeline.training.lack_of_memory import explain_step
from unet_pipeline.training.loss_reading import LossReader
from unet_pipeline.training.processes import num_processes, take_from_first
from unet_pipeline.training.samples import Batch
from unet_pipeline.training.step_by_sample import compute_by_sample, is_by_sample
from unet_pipeline.training.voxel_store import VoxelStore
from unet_pipeline.types import IMAGE, LABEL, PRED

LOSS = "loss"


class StepResult(NamedTuple):
    """Patches and targets of a step, the logits of every head or of the only one, and the loss; all on the device."""

    images: torch.Tensor
    labels: torch.Tensor
    prediction: torch.Tensor | list[torch.Tensor]
    loss: torch.Tensor


class TrainingStep:
    """`iteration_update` for MONAI's SupervisedTrainer.

    Args:
        gradient_clip_norm: the gradient's norm is cut to this.
        augmentation: makes the patches from a batch of `samples.collate`; None takes images and labels from the batch as they are.
        autocast: None decides by the device (`supports_fast_bfloat16`); the loss is always computed in float32.
        acceleration: of the network; None leaves it as it is.
    """

    def __init__(
        self,
        gradient_clip_norm: float,
        augmentation: PatchAugmentation | None = None,
        autocast: bool | None = None,
        acceleration: Acceleration | None = None,
    ) -> None:
        self.gradient_clip_norm = gradient_clip_norm
        self.augmentation = augmentation
        self.autocast = autocast
        self.acceleration = acceleration
        self._fast: FastNetwork | None = None
        self._losses = LossReader()
        self._table: torch.Tensor | None = None
        self._captured: CapturedStep[StepResult] | None = None
        self._version = 0

    def __call__(self, engine: Engine, batchdata: Batch) -> dict[str, object]:
        """Patches, forward, loss, backward, clipped optimizer step.

        Returns:
            Image, label, prediction and loss under MONAI's keys; the loss as a number, the newest that is known (`LossReader`).

        Raises:
            TrainingError: a loss is not finite, and names its step and cases; the device's memory is too small.
        """
        if not engine.network.training:  # the walk over all modules is a good part of a small step
            engine.network.train()
        try:
            result = self._run(engine, batchdata)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise explain_step(engine.state.device, error) from error
            raise
        for event in (
            IterationEvents.FORWARD_COMPLETED,
            IterationEvents.LOSS_COMPLETED,
            IterationEvents.BACKWARD_COMPLETED,
        ):
            engine.fire_event(event)
        cases = [str(case) for case in batchdata.get("case", ["unknown"])]
        loss = self._losses.read(engine, result.loss, cases)
        output: dict[str, object] = {IMAGE: result.images, LABEL: result.labels, PRED: result.prediction, LOSS: loss}
        engine.state.output = output
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def _run(self, engine: Engine, batchdata: Batch) -> StepResult:
        """The step on the device."""
        store = None if self.augmentation is None else getattr(engine.state.dataloader.dataset, "store", None)
        if self.augmentation is None or store is None:
            engine.optimizer.zero_grad(set_to_none=True)
            images, labels = self._bring(engine, batchdata)
            engine.state.augmented_s = time.perf_counter()  # for the profile
            return self._compute(engine, images, labels)
        table = self._upload(batchdata, store, self.augmentation)
        engine.state.augmented_s = time.perf_counter()
        take = partial(self.augmentation.take_packed, table)
        captured = self._choose_captured(engine, store, lambda: self._compute(engine, *take(store.voxels)))
        if captured is None:
            engine.optimizer.zero_grad(set_to_none=True)
            return self._compute(engine, *take(store.voxels))
        failed_before = captured.failure
        result = captured()
        if captured.failure is not None and failed_before is None:
            engine.state.acceleration += f"; no CUDA graph, because its capture failed ({captured.failure})"
        return result

    def _bring(self, engine: Engine, batchdata: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches and their targets, made on the CPU, on the device."""
        device = engine.state.device
        if self.augmentation is None:
            return engine.prepare_batch(batchdata, device, engine.non_blocking, **engine.to_kwargs)
        images, labels = self.augmentation(
            batchdata["table"], [source for source in batchdata["sources"] if source is not None]
        )
        return images.to(device), labels.to(device)

    def _upload(self, batchdata: Batch, store: VoxelStore, augmentation: PatchAugmentation) -> torch.Tensor:
        """The table of a batch, and the parts of cases that do not stay on the device, to the places where they are read."""
        table = batchdata["table"]
        for index, offset in enumerate(store.bring(batchdata["sources"])):
            if offset is not None:
                augmentation.layout.decode(table)["offset"][index] = offset
        if self._table is None or self._table.shape != table.shape:
            self._table, self._captured = table.to(store.device), None
        elif store.device.type == "cuda":
            self._table.copy_(table.pin_memory(), non_blocking=True)
        else:
            self._table.copy_(table)
        return self._table

    def _compute(self, engine: Engine, images: torch.Tensor, labels: torch.Tensor) -> StepResult:
        """Forward, loss, backward, clipped optimizer step; gradients are None before."""
        autocast = self._choose_precision(engine) == BFLOAT16
        network = self._choose_form(engine, images, autocast)
        prediction, loss = self._differentiate(engine, network, autocast, images, labels)
        torch.nn.utils.clip_grad_norm_(engine.network.parameters(), self.gradient_clip_norm)
        engine.optimizer.step()
        # detached: a graph of gradients that outlives its step ties the next one to its stream
        heads = prediction.detach() if isinstance(prediction, torch.Tensor) else [head.detach() for head in prediction]
        return StepResult(images, labels, heads, loss.detach())

    def _differentiate(
        self, engine: Engine, network: Any, autocast: bool, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[Heads, torch.Tensor]:
        """Outputs for these samples and the loss of the whole batch, whose gradients the parameters have then."""
        device = images.device

        def forward(batch: torch.Tensor) -> Heads:
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                return engine.inferer(batch, network)

        is_joint = isinstance(engine.network, JointNetwork)
        sizes = _count_samples(engine) if is_joint else [len(images)]
        deterministic = self.acceleration is not None and self.acceleration.deterministic
        if is_by_sample(engine.network, device, deterministic):
            seed = engine.state.step_seed
            return compute_by_sample(engine.network, forward, engine.loss_function, (images, labels), sizes, seed)
        prediction = forward(images)
        loss = engine.loss_function(*(join_batch(prediction, labels, sizes) if is_joint else (prediction, labels)))
        loss.backward()
        return prediction, loss

    def _choose_captured(
        self, engine: Engine, store: VoxelStore, work: Callable[[], StepResult]
    ) -> CapturedStep[StepResult] | None:
        """The step as a CUDA graph, where that is wanted and possible."""
        if self.acceleration is None or not self.acceleration.should_capture(engine.state.device, num_processes()):
            return None
        if self._captured is None:
            self._captured = CapturedStep(work, engine.optimizer, engine.state.device)
        if store.version != self._version:
            self._version = store.version
            self._captured.forget()
        return self._captured

    def _choose_precision(self, engine: Engine) -> str:
        """That of the first step; a checkpoint may have set it."""
        if not hasattr(engine.state, "precision"):
            fast = supports_fast_bfloat16(engine.state.device) if self.autocast is None else self.autocast
            fast = take_from_first(fast)  # a processor is measured for it
            engine.state.precision = BFLOAT16 if fast else FLOAT32
        return engine.state.precision

    def _choose_form(self, engine: Engine, images: torch.Tensor, autocast: bool) -> Any:
        """The engine's network, in the form that the first step chooses."""
        if self.acceleration is None:
            return engine.network
        if self._fast is None:
            num_steps = engine.state.max_epochs * engine.state.epoch_length
            self._fast = self.acceleration.build(
                engine.network,
                engine.optimizer,
                images,
                num_steps,
                autocast,
                num_processes(),
                getattr(engine.state, "memory_format", None),
            )
            engine.state.acceleration, engine.state.memory_format = self._fast.line, self._fast.order
        return self._fast


def _count_samples(engine: Engine) -> list[int]:
    """Of each process in the present step."""
    number = (engine.state.iteration - 1) % engine.state.epoch_length
    sizes: list[int] = engine.state.dataloader.batch_sampler.count_samples(number)
    return sizes
