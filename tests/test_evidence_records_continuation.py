"""Which run is continued: the latest that left something, and never one that failed before its first checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.records.continuation import find_never_begun, find_resumable, recall_overrides
from unet_pipeline.files import write_json, write_text


def leave_run(folder: BundleFolder, name: str, state: str | None, checkpoint: bool = False) -> Path:
    run_dir = folder.runs / name
    run_dir.mkdir(parents=True)
    if state is not None:
        settings = {"bundle_root": "BUNDLE", "fold": 0, "resume": False, "learning_rate": 0.1, "num_epochs": 3}
        write_json(run_dir / "run.json", {"state": state, "overrides": settings})
    if checkpoint:
        write_text(run_dir / "checkpoint_previous.pt", "")
    return run_dir


@pytest.mark.parametrize(
    ("state", "checkpoint", "expected"),
    [
        ("failed", False, "fold_0-001"),
        ("failed", True, "fold_0-002"),
        ("preempted", True, "fold_0-002"),
        ("interrupted", False, "fold_0-002"),
        (None, False, "fold_0-001"),
    ],
)
def test_find_resumable_latest_that_left_something(
    tmp_path: Path, state: str | None, checkpoint: bool, expected: str
) -> None:
    folder = BundleFolder(tmp_path)
    leave_run(folder, "fold_0-001", "finished", checkpoint=True)
    leave_run(folder, "fold_0-002", state, checkpoint)
    leave_run(folder, "fold_0_seed_1-001", "finished", checkpoint=True)
    assert find_resumable(folder, "fold_0") == folder.runs / expected
    assert find_never_begun(folder, "fold_0") == (None if state else folder.runs / "fold_0-002")


def test_find_resumable_no_run_is_none(tmp_path: Path) -> None:
    assert find_resumable(BundleFolder(tmp_path), "fold_0") is None
    assert find_never_begun(BundleFolder(tmp_path), "fold_0") is None


def test_recall_overrides_given_now_come_before_those_of_the_record(tmp_path: Path) -> None:
    run_dir = leave_run(BundleFolder(tmp_path), "fold_0-001", "interrupted")
    assert recall_overrides(run_dir, {"num_epochs": 40}) == {"learning_rate": 0.1, "num_epochs": 40}
