"""Whether a training was shorter than its plan, in the words that record, report and model card share."""

from __future__ import annotations

from unet_pipeline.bundle.run_record import TrainingRecord, TrainingResult


def describe_shortfall(run: TrainingRecord) -> str:
    """How a run fell short of its plan, such as "2 of the 20 planned epochs"; empty for one that did not, or whose plan is not known."""
    if "num_epochs" not in run.plan or "iterations_per_epoch" not in run.plan:
        return ""
    planned_epochs, planned_length = _count(run.plan["num_epochs"]), _count(run.plan["iterations_per_epoch"])
    epochs, steps = count_progress(run, planned_length)
    if steps >= planned_epochs * planned_length:
        return ""
    if steps == epochs * planned_length:
        return f"{epochs} of the {planned_epochs} planned epochs"
    return f"{steps:,} of the {planned_epochs * planned_length:,} planned iterations, in {epochs} epoch(s)"


def count_progress(run: TrainingRecord, planned_length: int) -> tuple[int, int]:
    """Finished epochs of a run, and its iterations; those of a begun epoch are known of a finished run only."""
    result = run.result or TrainingResult()
    listed = max((entry.epoch for entry in run.epochs), default=0)
    epochs = listed if result.num_epochs is None else result.num_epochs
    if result.num_iterations is not None:
        return epochs, result.num_iterations
    return epochs, epochs * _count(run.overrides.get("iterations_per_epoch", planned_length))


def _count(value: object) -> int:
    return int(str(value))
