"""Trainings that were shorter than their plan."""

from __future__ import annotations

from typing import Any

import pytest

from unet_pipeline.bundle.run_record import TrainingRecord, TrainingResult
from unet_pipeline.evidence.records.shortfall import describe_shortfall

PLAN = {"num_epochs": 20, "iterations_per_epoch": 250}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"result": {"num_epochs": 20, "num_iterations": 5000}}, ""),
        ({"result": {"num_epochs": 20}}, ""),
        ({"result": {"num_epochs": 30, "num_iterations": 7500}}, ""),
        ({"result": {"num_epochs": 2, "num_iterations": 500}}, "2 of the 20 planned epochs"),
        ({"result": {"num_epochs": 2}}, "2 of the 20 planned epochs"),
        ({"result": {"num_epochs": 20, "num_iterations": 60}}, "60 of the 5,000 planned iterations, in 20 epoch(s)"),
        (
            {"result": {"num_epochs": 2}, "overrides": {"num_epochs": 2, "iterations_per_epoch": 3}},
            "6 of the 5,000 planned iterations, in 2 epoch(s)",
        ),
        ({"result": {"num_epochs": 40, "num_iterations": 5000}, "overrides": {"iterations_per_epoch": 125}}, ""),
        ({"epochs": [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}], "stopped_by": "SIGTERM"}, "3 of the 20 planned epochs"),
        ({"epochs": []}, "0 of the 20 planned epochs"),
    ],
)
def test_describe_shortfall_known_runs(run: dict[str, Any], expected: str) -> None:
    assert describe_shortfall(TrainingRecord(plan=PLAN, **run)) == expected


def test_describe_shortfall_without_the_plan_says_nothing() -> None:
    assert describe_shortfall(TrainingRecord(result=TrainingResult(num_epochs=1))) == ""
