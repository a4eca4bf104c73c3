"""Learning rate over the iterations of a training."""

from __future__ import annotations

from monai.optimizers import WarmupCosineSchedule
from torch.optim import Optimizer


def build_schedule(
    optimizer: Optimizer, num_epochs: int, iterations_per_epoch: int, warmup_iterations: int
) -> WarmupCosineSchedule:
    """Linear warm-up, then half a cosine down to zero at the last iteration. Step it once per iteration."""
    num_iterations = num_epochs * iterations_per_epoch
    return WarmupCosineSchedule(
        optimizer,
        warmup_steps=min(warmup_iterations, num_iterations // 2),
        t_total=num_iterations,
        warmup_multiplier=0.01,
    )
