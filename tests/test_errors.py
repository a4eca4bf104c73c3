"""Messages that a user can act on."""

from __future__ import annotations

import pytest

from unet_pipeline import errors
from unet_pipeline.errors import DatasetError, ImageFileError, PipelineError, suggest


@pytest.mark.parametrize(
    "name", ["DatasetError", "PlanError", "BundleError", "TrainingError", "PredictionError", "EvaluationError"]
)
def test_pipeline_error_every_kind_is_one(name: str) -> None:
    assert issubclass(getattr(errors, name), PipelineError)


def test_file_problem_message_is_file_cause_remedy() -> None:
    problem = ImageFileError("labels/a.png", "has no image", "Add one.")
    assert str(problem) == "labels/a.png has no image. Add one."
    assert (problem.file, problem.cause, problem.remedy) == ("labels/a.png", "has no image", "Add one.")
    assert isinstance(problem, DatasetError)


@pytest.mark.parametrize(
    ("name", "choices", "expected"),
    [
        ("num_epoch", ["num_epochs", "num_folds"], "did you mean 'num_epochs'"),
        ("epoch", ["num_epochs", "val_interval", "seed"], "did you mean 'num_epochs'"),
        ("EPOCH", ["num_epochs", "seed"], "did you mean 'num_epochs'"),
        ("quik", ["quick", "standard", "full"], "did you mean 'quick'"),
    ],
)
def test_suggest_near_name_is_named(name: str, choices: list[str], expected: str) -> None:
    assert suggest(name, choices) == expected


def test_suggest_nothing_near_lists_all_sorted_once() -> None:
    assert suggest("xyz", ["standard", "quick", "full", "quick"]) == "known are: full, quick, standard"


def test_suggest_iterator_is_read_once() -> None:
    assert suggest("zzz", iter(["b", "a"])) == "known are: a, b"
