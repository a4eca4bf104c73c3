"""What is said about pooled folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evaluation.cross_validation import list_fold_notes, name_folds
from unet_pipeline.files import write_json

RECORD: dict[str, Any] = {
    "state": "finished",
    "plan_sha256": "p",
    "config_sha256": "c",
    "dataset_manifest_sha256": "d",
    "code": {"commit": "1", "changed": False},
    "versions": {"torch": "2"},
}


def write_records(root: Path, **changes: Any) -> BundleFolder:
    """Two folds with several runs each; the second fold's finished run differs by `changes`."""
    folder = BundleFolder(root)
    for fold in (0, 1):
        settings = {"fold": str(fold), "output_dir": f"runs/{fold}", "num_epochs": "20"}
        write_json(folder.runs / f"fold_{fold}-001" / "run.json", RECORD | {"state": "failed", "plan_sha256": "old"})
        record = RECORD | {"settings": settings} | (changes if fold else {})
        write_json(folder.runs / f"fold_{fold}-002" / "run.json", record)
    return folder


def test_name_folds_one_and_several() -> None:
    assert name_folds([3], 5) == "validation of fold 3 of 5"
    assert name_folds([0, 1, 2], 5) == "validation, pooled over folds 0, 1, 2 (of 5)"


def test_list_fold_notes_alike_and_complete_says_nothing(tmp_path: Path) -> None:
    assert list_fold_notes(write_records(tmp_path), [0, 1], 2) == ()


def test_list_fold_notes_missing_folds_are_named(tmp_path: Path) -> None:
    (note,) = list_fold_notes(write_records(tmp_path), [0, 1], 5)
    assert note == "not trained and not in this result: folds 2, 3, 4 of 5"


@pytest.mark.parametrize(
    ("change", "thing"),
    [
        ({"plan_sha256": "other"}, "plan"),
        ({"config_sha256": "other"}, "configuration"),
        ({"code": {"commit": "1", "changed": True}}, "code"),
        ({"versions": {"torch": "3"}}, "package versions"),
        ({"settings": {"fold": "1", "num_epochs": "5"}}, "settings"),
    ],
)
def test_list_fold_notes_trained_differently_is_a_warning(tmp_path: Path, change: dict[str, Any], thing: str) -> None:
    (note,) = list_fold_notes(write_records(tmp_path, **change), [0, 1], 2)
    assert note.startswith(f"warning: the folds were trained with different {thing} (fold 0; fold 1)")


def test_list_fold_notes_package_that_changes_no_number_is_not_a_difference(tmp_path: Path) -> None:
    folder = write_records(tmp_path, versions={"torch": "2", "mlflow-skinny": "3"})
    assert list_fold_notes(folder, [0, 1], 2) == ()


def test_list_fold_notes_without_records_says_nothing_about_them(tmp_path: Path) -> None:
    assert list_fold_notes(BundleFolder(tmp_path), [0, 1], 2) == ()
