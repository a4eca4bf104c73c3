"""Records survive what happens to a run, and name no folder of the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import Epoch, Process, TrainingRecord, TrainingResult, read_record
from unet_pipeline.evidence.records.record import (
    CRASHED,
    RECORD,
    RUNNING,
    add_epoch,
    find_latest_training,
    find_state,
    hide_root,
    hide_setting,
    keep_record,
    list_training_records,
    record_run,
)
from unet_pipeline.files import compute_sha256, write_json

from . import phantom_bundles as phantoms

LABELS = {"background": 0, "cell": 255}


def read(path: Path) -> TrainingRecord:
    written = read_record(path, TrainingRecord)
    assert written is not None
    return written


@pytest.fixture
def planned(tmp_path: Path) -> BundleFolder:
    dataset = phantoms.write_pictures(tmp_path / "cells")
    return BundleFolder(phantoms.plan_small(dataset, tmp_path / "bundle", labels=LABELS, **phantoms.SMALL_2D))


def test_keep_record_running_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / RECORD
    with keep_record(path, tmp_path, TrainingRecord, {"kind": "trial"}) as keeper:
        written = read(path)
        assert written.state == find_state(written) == RUNNING
        keeper.record.result = TrainingResult(num_epochs=3)
    written = read(path)
    assert (written.state, written.kind, written.result) == ("finished", "trial", TrainingResult(num_epochs=3))
    assert {"torch", "monai", "nibabel", "SimpleITK"} <= written.versions.keys()
    assert (written.machine.num_threads or 0) >= 1
    assert (written.peak_memory_gib or 0) > 0
    assert written.energy is not None
    assert written.energy.processor_kj is not None or written.energy.reasons["processor"]


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_keep_record_error_is_kept(tmp_path: Path, error: type[BaseException], state: str) -> None:
    with pytest.raises(error), keep_record(tmp_path / RECORD, tmp_path, TrainingRecord, {}):
        raise error(f"in {tmp_path}/models")
    assert read(tmp_path / RECORD).state == state
    assert str(tmp_path) not in (tmp_path / RECORD).read_text()


def test_keep_record_state_of_the_caller_is_kept(tmp_path: Path) -> None:
    with keep_record(tmp_path / RECORD, tmp_path, TrainingRecord, {}) as keeper:
        keeper.record.state = "preempted"
    assert read(tmp_path / RECORD).state == "preempted"


def test_keep_record_only_finished_leaves_the_earlier_record_after_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, {"earlier": True})
    with (
        pytest.raises(ValueError, match="no"),
        keep_record(tmp_path / RECORD, tmp_path, TrainingRecord, {}, only_finished=True),
    ):
        raise ValueError("no")
    assert json.loads((tmp_path / RECORD).read_text()) == {"earlier": True}


def test_record_of_a_killed_process_says_running_and_is_read_as_crashed(tmp_path: Path) -> None:
    path = tmp_path / "run" / RECORD
    code = f"""
import os, signal
from pathlib import Path
from unet_pipeline.bundle.run_record import Epoch, TrainingRecord
from unet_pipeline.evidence.records.record import add_epoch, keep_record
with keep_record(Path({str(path)!r}), Path({str(tmp_path)!r}), TrainingRecord, {{"epochs": []}}) as keeper:
    add_epoch(keeper, Epoch(epoch=1, duration_s=0.5))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL
    written = read(path)
    assert written.state == RUNNING
    assert (written.heartbeat or "") >= written.started
    assert [epoch.epoch for epoch in written.epochs] == [1]
    assert find_state(written) == CRASHED


@pytest.mark.parametrize(("silent_s", "state"), [(60, RUNNING), (3000, RUNNING), (5000, CRASHED)])
def test_find_state_of_another_machine_follows_the_silence(silent_s: float, state: str) -> None:
    heartbeat = (datetime.now(UTC) - timedelta(seconds=silent_s)).isoformat()
    record = TrainingRecord(
        state="running",
        started=heartbeat,
        heartbeat=heartbeat,
        epochs=[Epoch(duration_s=1200.0)],
        process=Process(boot="elsewhere"),
    )
    assert find_state(record) == state


def test_record_run_keeps_the_config_that_ran_and_no_folder_of_the_machine(
    planned: BundleFolder, tmp_path: Path
) -> None:
    run_dir = planned.runs / "fold_1-001"
    elsewhere = tmp_path / "elsewhere"
    settings = {
        "bundle_root": str(planned.root),
        "fold": 1,
        "output_dir": str(run_dir),
        "num_epochs": 9,
        "dataset_dir": str(elsewhere),
    }
    with record_run(planned, run_dir, f"run --dataset_dir {elsewhere}", settings, 1) as keeper:
        add_epoch(keeper, Epoch(epoch=1, duration_s=1.0))
    written = read(run_dir / RECORD)
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["num_epochs"], config["fold"], config["bundle_root"]) == (9, 1, ".")
    assert config["output_dir"] == "./evidence/runs/fold_1-001"
    assert written.resolved_config_sha256 == compute_sha256(run_dir / "config.json")
    assert written.split_sha256 == compute_sha256(planned.split(1))
    assert len(written.split["validation"]) == 2
    assert written.plan["num_epochs"] == 4, "the plan's own number"
    assert written.overrides["dataset_dir"] == "BUNDLE/../elsewhere"
    assert str(tmp_path) not in (run_dir / RECORD).read_text() + json.dumps(config)


def test_record_run_continued_keeps_what_was_before(planned: BundleFolder) -> None:
    run_dir = planned.runs / "fold_0-001"
    with record_run(planned, run_dir, "", {}, 0) as keeper:
        for epoch in (1, 2, 3):
            add_epoch(keeper, Epoch(epoch=epoch, duration_s=1.0, loss=0.1))
        first, keeper.record.state = keeper.record.started, "interrupted"
    with record_run(planned, run_dir, "", {}, 0) as keeper:
        add_epoch(keeper, Epoch(epoch=3, duration_s=1.0, loss=0.2))  # the third was not saved
        add_epoch(keeper, Epoch(epoch=4, duration_s=1.0, loss=0.3))
    (written,) = list_training_records(planned, 0)
    assert written.state == "finished"
    assert written.started == first
    assert [(epoch.epoch, epoch.loss) for epoch in written.epochs] == [(1, 0.1), (2, 0.1), (3, 0.2), (4, 0.3)]
    assert [session.state for session in written.sessions] == ["interrupted"]


def test_find_latest_training_passes_over_what_did_not_finish(planned: BundleFolder) -> None:
    assert find_latest_training(planned, 0) is None
    for number, state in ((1, "finished"), (2, "finished"), (3, "failed")):
        write_json(planned.runs / f"fold_0-00{number}" / RECORD, {"id": str(number), "state": state})
    found = find_latest_training(planned, 0)
    assert found is not None
    assert found.id == "2"


def test_hide_root_other_values_stay() -> None:
    root = Path("bundle").resolve()
    assert hide_root(f"{root}/models/model.pt", root) == "BUNDLE/models/model.pt"
    assert hide_root("instance", root) == "instance"


def test_hide_root_of_a_short_name_leaves_words_that_hold_it_alone() -> None:
    assert hide_root("evidence of e", Path("e")) == "evidence of e"
    root = Path("e").resolve()
    assert hide_root(f"no space for {root}/models and {root}2", root) == f"no space for BUNDLE/models and {root}2"


@pytest.mark.parametrize(
    ("key", "value", "hidden"),
    [
        ("weights_path", "e/models/model.pt", "BUNDLE/models/model.pt"),
        ("dataset_dir", "my data/#1", "BUNDLE/../my data/#1"),
        ("bundle_root", "e", "BUNDLE"),
        ("image_interpolation", "e", "e"),
        ("initial_weights", None, None),
        ("num_epochs", 5, 5),
    ],
)
def test_hide_setting_a_path_starts_at_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, hidden: object
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hide_setting(key, value, Path("e")) == hidden
