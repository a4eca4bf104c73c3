"""Learning rate over the iterations of a training."""

from __future__ import annotations

from monai.optimizers import WarmupCosineSchedule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


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


def load_schedule(schedule: LRScheduler, optimizer: Optimizer, state: dict[str, object]) -> None:
    """Continue a schedule at its saved step, on the length that it was built with.

    The state holds the length too. After a change of `num_epochs` the rate is that of the new curve at this step.

    Args:
        schedule: from `build_schedule`, for the optimizer.
        optimizer: with its own state loaded; its learning rates are set when the length is another one.
        state: of the interrupted training's schedule.
    """
    own = {name: getattr(schedule, name) for name in ("t_total", "warmup_steps") if hasattr(schedule, name)}
    schedule.load_state_dict(state)
    if all(state.get(name) == value for name, value in own.items()):
        return
    vars(schedule).update(own)
    rates = schedule.get_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = list(rates)
