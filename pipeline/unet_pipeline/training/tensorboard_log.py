"""What TensorBoard shows of a training beside the loss: learning rate, Dice of each label, shares of the time, and pictures.

MONAI's TensorBoardImageHandler draws no outlines and sends a volume as an animation of some megabytes; here it is one slice of a few cases.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.handlers import TensorBoardStatsHandler

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PipelineError
from unet_pipeline.planning.instance_rules import name_levels
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.training import pictures
from unet_pipeline.training.events import (
    AUGMENTED_PATCHES,
    LEARNING_RATE,
    PICTURES_SUFFIX,
    TIME_SHARE,
    VAL_DICE,
    VALIDATION_CASES,
)
from unet_pipeline.types import CASE, IMAGE, LABEL, PRED

_RATES_PER_EPOCH = 10  # points of the learning rate
_NUM_CASES, _NUM_PATCHES = 3, 9


class TensorBoardLog:
    """Writes into the files of the trainer's TensorBoardStatsHandler; without one, nothing.

    Scalars go into that handler's own file, pictures into one beside it. `ProfileHandler` gives the shares of the time when
    it is attached before.

    Args:
        evaluator: the validation.
    """

    def __init__(self, evaluator: Engine) -> None:
        self.evaluator = evaluator
        self._slices: list[pictures.Slice] = []
        self._patches: list[pictures.Slice] = []

    def attach(self, engine: Engine) -> None:
        writer = find_event_writer(engine)
        if writer is None:
            return
        self._writer, self._folder = writer, Path(writer.log_dir)
        self._picture_writer: Any = None
        self._plan = find_plan(self._folder)
        engine.add_event_handler(Events.ITERATION_STARTED, self._write_rate)
        # before the checkpoint, which no picture may lack
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._collect_patches)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_shares)
        self.evaluator.add_event_handler(Events.EPOCH_STARTED, lambda _: self._slices.clear())
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect_case)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._write_validation)

    def _write_rate(self, engine: Engine) -> None:
        every = max(1, engine.state.epoch_length // _RATES_PER_EPOCH)
        if engine.state.iteration == 1 or engine.state.iteration % every == 0:
            rate = engine.optimizer.param_groups[0]["lr"]
            self._writer.add_scalar(LEARNING_RATE, rate, engine.state.iteration)

    def _write_shares(self, engine: Engine) -> None:
        for name, share in getattr(engine.state, "time_shares", {}).items():
            self._writer.add_scalar(f"{TIME_SHARE}/{name}", share, engine.state.epoch)
        self._writer.flush()

    def _collect_patches(self, engine: Engine) -> None:
        """The first patches of a training."""
        output = engine.state.output
        if not isinstance(output, dict):  # of a config with another step
            return
        num_patches = len(output[IMAGE])
        last = min(-(-_NUM_PATCHES // num_patches), engine.state.epoch_length)
        if engine.state.iteration > last:
            return
        cases = engine.state.batch.get(CASE, [""] * num_patches)
        for image, label, case in zip(output[IMAGE], output[LABEL], cases, strict=True):
            self._patches.append(
                self._take(str(case), image, label[:1], None)
            )  # weights of voxels may follow the label
        if engine.state.iteration == last:
            picture = pictures.draw_patches(self._patches[:_NUM_PATCHES])
            self._write_picture(AUGMENTED_PATCHES, picture, engine.state.iteration)
            self._patches.clear()

    def _collect_case(self, evaluator: Engine) -> None:
        """Slices of the first case, the last one and one between, always the same."""
        number = (evaluator.state.iteration - 1) % evaluator.state.epoch_length
        if number not in np.linspace(0, evaluator.state.epoch_length - 1, _NUM_CASES).astype(int):
            return
        output, batch = evaluator.state.output[0], evaluator.state.batch[0]
        title = str(batch.get(CASE, f"case {number + 1}"))
        self._slices.append(self._take(title, output[IMAGE], output[LABEL], output[PRED]))

    def _take(
        self, title: str, image: torch.Tensor, label: torch.Tensor, prediction: torch.Tensor | None
    ) -> pictures.Slice:
        image_array, label_array = _to_array(image), _to_array(label)
        predicted = None if prediction is None else _to_array(prediction)
        if self._plan is None:
            return pictures.take_slice(title, image_array, label_array, predicted, (1.0,) * (label.ndim - 1), None)
        return pictures.take_slice(
            title, image_array, label_array, predicted, self._plan.spacing_mm, self._plan.axcodes
        )

    def _write_validation(self, evaluator: Engine) -> None:
        epoch = evaluator.state.epoch
        for name, dice in read_label_dice(evaluator, self._plan).items():
            self._writer.add_scalar(f"{VAL_DICE}/{name}", dice, epoch)
        self._writer.flush()
        if self._slices:
            self._write_picture(VALIDATION_CASES, pictures.draw_cases(self._slices), epoch)
            self._slices.clear()

    def _write_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import FileWriter

        if self._picture_writer is None:
            self._picture_writer = FileWriter(str(self._folder), filename_suffix=PICTURES_SUFFIX)
        height, width, _ = picture.shape
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=pictures.encode_jpeg(picture)
        )
        self._picture_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
        self._picture_writer.flush()


def _to_array(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().float())


def find_event_writer(engine: Engine) -> Any:
    """The SummaryWriter of an engine's TensorBoardStatsHandler; None where none is attached, as when a user disabled it."""
    for handlers in engine._event_handlers.values():
        for handler, _, _ in handlers:
            if isinstance(owner := getattr(handler, "__self__", None), TensorBoardStatsHandler):
                return owner._writer
    return None


def read_label_dice(evaluator: Engine, plan: Plan | None) -> dict[str, float]:
    """Mean Dice of each label in the latest validation, over the cases that have it; labels that none has are left out.

    Args:
        evaluator: with MONAI's MeanDice as its key metric; without details of it, the answer is empty.
        plan: names the labels; without it they are numbered.
    """
    details = next(iter(getattr(evaluator.state, "metric_details", {}).values()), None)
    if details is None or details.ndim != 2:
        return {}
    num_labels = details.shape[1]
    names = [*plan.label_table, *name_levels(plan)][-num_labels:] if plan is not None else []
    if len(names) != num_labels:
        names = [f"label_{number + 1}" for number in range(num_labels)]
    means = torch.nanmean(details.float(), dim=0).tolist()
    # TensorBoard and MLflow take no other letters
    safe = (re.sub(r"[^\w.\- ]", "_", name).replace(" ", "_") for name in names)
    return {name: mean for name, mean in zip(safe, means, strict=True) if mean == mean}


def find_plan(run_dir: Path) -> Plan | None:
    """The plan of the bundle that a run folder lies in; None where there is none, or none that can be read."""
    for parent in run_dir.resolve().parents:
        folder = BundleFolder(parent)
        if folder.plan.is_file():
            try:
                return read_plan(folder.plan)
            except PipelineError:
                return None
    return None
