"""How long a training will take on this machine, from the time of a step, and whether the preset's promise is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.presets import PRESETS
from unet_pipeline.results import Result

if TYPE_CHECKING:
    from unet_pipeline.training.probe import StepTime

_PATIENCE = 1.2  # a step's time is known no better than so
_HURRY = 0.9  # of the promise is what a shorter training is planned for
_DISTURBED = 1.5  # times longer by the clock than the processor was busy: other work runs
_FORWARD_SHARE = 1 / 3  # of a step; the backward pass takes the rest


@dataclass(frozen=True, repr=False)
class TrainingForecast(Result):
    """Seconds of a training of one fold, and of its parts.

    Attributes:
        preset: of the plan.
        device: that a step was timed on.
        step_s: of one step.
        num_epochs, num_steps: of the training, as planned.
        steps_s: of all steps.
        validation_s: of all validations.
        reading_s: of reading the images, again and again those that do not fit into memory.
        cache_rate: share of the images that stays in memory.
        slowdown: how many times longer it takes as long as the other work goes on that runs on the machine now; 1 for none. All
            other times are those of a quiet machine then.
        peak_gib: most memory of a GPU that a step takes; None on a CPU, and where it was not measured.
    """

    preset: str
    device: str
    step_s: float
    num_epochs: int
    num_steps: int
    steps_s: float
    validation_s: float
    reading_s: float
    cache_rate: float
    slowdown: float = 1.0
    peak_gib: float | None = None

    @property
    def total_s(self) -> float:
        return self.steps_s + self.validation_s + self.reading_s

    @property
    def promised_s(self) -> float | None:
        """What the preset promises at most; None where it promises nothing."""
        preset = PRESETS.get(self.preset)
        return None if preset is None or preset.promised_minutes is None else 60 * preset.promised_minutes

    @property
    def keeps_promise(self) -> bool:
        """Whether the promise will be kept, with some patience for a time that is known roughly only."""
        return self.promised_s is None or self.total_s <= _PATIENCE * self.promised_s

    def shorten(self) -> dict[str, int]:
        """Overrides of a training that is as short as the promise; empty where there is no promise."""
        if self.promised_s is None:
            return {}
        share = _HURRY * self.promised_s / self.total_s
        if share * self.num_epochs >= 1:
            return {"num_epochs": int(share * self.num_epochs)}
        return {"num_epochs": 1, "iterations_per_epoch": max(1, int(share * self.num_steps))}


def forecast_training(
    plan: Plan,
    step: StepTime,
    num_training: int,
    num_validation: int,
    median_shape: tuple[int, ...],
    read_case_s: float = 0.0,
) -> TrainingForecast:
    """Add up a training.

    Args:
        step: from `probe.time_step`.
        num_training, num_validation: cases of the fold.
        median_shape: of the images on the plan's grid.
        read_case_s: of reading one image and its label.
    """
    slowdown = step.step_s / step.quiet_s
    step_s, slowdown = (step.step_s, 1.0) if slowdown < _DISTURBED else (step.quiet_s, slowdown)
    num_steps = plan.num_epochs * plan.iterations_per_epoch
    num_validations = math.ceil(plan.num_epochs / plan.val_interval)
    windows = count_windows(median_shape, plan.window_size, plan.validation_overlap)
    growth = math.prod(plan.window_size) / math.prod(plan.patch_size)
    window_s = step_s * _FORWARD_SHARE / plan.batch_size * growth
    samples = num_steps * plan.batch_size + num_validations * num_validation
    num_read = num_training + num_validation + (1 - plan.cache_rate) * samples
    return TrainingForecast(
        preset=plan.preset,
        device=step.device,
        step_s=step_s,
        num_epochs=plan.num_epochs,
        num_steps=num_steps,
        steps_s=num_steps * step_s,
        validation_s=num_validations * num_validation * windows * window_s,
        reading_s=num_read * read_case_s,
        cache_rate=plan.cache_rate,
        slowdown=slowdown,
        peak_gib=step.peak_gib,
    )


def count_windows(shape: tuple[int, ...], window: tuple[int, ...], overlap: float) -> int:
    """Windows that cover an image: one along an axis that is no longer than the window."""
    return math.prod(
        1 + max(0, math.ceil((voxels - size) / max(1, int(size * (1 - overlap)))))
        for voxels, size in zip(shape, window, strict=True)
    )
