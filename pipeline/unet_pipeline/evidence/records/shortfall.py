"""Whether a training was shorter than its plan, in the words that record, report and model card share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_shortfall(run: Mapping[str, Any]) -> str:
    """How a run fell short of its plan, such as "2 of the 20 planned epochs"; empty for one that did not.

    Args:
        run: contents of a run.json; one without the plan that it followed is taken as whole.
    """
    plan = run.get("plan") or {}
    if "num_epochs" not in plan or "iterations_per_epoch" not in plan:
        return ""
    planned_epochs, planned_length = int(plan["num_epochs"]), int(plan["iterations_per_epoch"])
    epochs, steps = count_progress(run, planned_length)
    if steps >= planned_epochs * planned_length:
        return ""
    if steps == epochs * planned_length:
        told = f"{epochs} of the {planned_epochs} planned epochs"
    else:
        told = f"{steps:,} of the {planned_epochs * planned_length:,} planned iterations, in {epochs} epoch(s)"
    return told


def count_progress(run: Mapping[str, Any], planned_length: int) -> tuple[int, int]:
    """Finished epochs of a run, and its iterations; those of a begun epoch are known of a finished run only."""
    result = run.get("result") or {}
    listed = [int(entry["epoch"]) for entry in run.get("epochs") or ()]
    epochs = int(result.get("num_epochs", max(listed, default=0)))
    if "num_iterations" in result:
        return epochs, int(result["num_iterations"])
    return epochs, epochs * int((run.get("overrides") or {}).get("iterations_per_epoch", planned_length))
