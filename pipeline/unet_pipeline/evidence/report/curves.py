"""Learning curves of a bundle's runs: what MONAI's handlers wrote for TensorBoard, and the schedule of the learning rate."""

from __future__ import annotations

import logging
import math

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import TrainingRecord
from unet_pipeline.evidence.report.report_figures import Curve
from unet_pipeline.planning.plan import Plan

_NUM_RATES = 200


def read_curves(folder: BundleFolder) -> list[Curve]:
    """Every scalar of every run; files that cannot be read are left out."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # a file that a killed process left ends in half an event, which is announced as an error and does no harm
    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)
    points_of: dict[tuple[str, str], dict[int, float]] = {}
    for path in sorted(folder.runs.glob("*/events.out.tfevents.*")):
        accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
        accumulator.Reload()
        for tag in accumulator.Tags()["scalars"]:
            # a continued run writes some steps again: the later file counts
            points = {event.step: event.value for event in accumulator.Scalars(tag)}
            points_of.setdefault((path.parent.name, tag), {}).update(points)
    curves = []
    for (run, tag), points in points_of.items():
        steps = tuple(sorted(points))
        curves.append(Curve(run, tag, steps, tuple(float(points[step]) for step in steps)))
    return curves


def trace_learning_rate(plan: Plan, run: TrainingRecord) -> Curve:
    """The learning rate of a run by its schedule, with what the run set otherwise than the plan."""
    import torch

    from unet_pipeline.training.schedule import build_schedule

    settings = run.settings

    def number(name: str) -> float:
        try:
            return float(str(settings.get(name, getattr(plan, name))))
        except ValueError:
            return float(getattr(plan, name))

    num_epochs, per_epoch = int(number("num_epochs")), int(number("iterations_per_epoch"))
    if "samples_per_epoch" in settings:
        per_epoch = math.ceil(float(str(settings["samples_per_epoch"])) / number("batch_size"))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=number("learning_rate"))
    schedule = build_schedule(optimizer, num_epochs, per_epoch, int(number("warmup_iterations")))
    total = num_epochs * per_epoch
    steps = sorted({1 + round(place * (total - 1) / _NUM_RATES) for place in range(_NUM_RATES + 1)})
    factor = schedule.lr_lambdas[0]
    rates = tuple(number("learning_rate") * float(factor(step - 1)) for step in steps)
    return Curve(run.id, "learning rate", tuple(steps), rates)
