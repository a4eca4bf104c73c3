"""Trainings that end before their plan does: they validate at their end, and everything that tells of them says so."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import phantom_bundles as phantoms
import pytest

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.report.history import read_history
from unet_pipeline.evidence.report.model_card import build_model_card
from unet_pipeline.training.checkpoint import CheckpointHandler, read_best

Call = Callable[..., tuple[int, str, str]]
NO_VALIDATION = re.compile(r"-1\.0+|epoch -1|: -1\b")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for 20 epochs of 3 iterations with a validation every 5."""
    folder = tmp_path_factory.mktemp("short")
    dataset = phantoms.write_pictures(folder / "cells")
    numbers = {**phantoms.SMALL_2D, "num_epochs": 20, "iterations_per_epoch": 3, "val_interval": 5}
    return phantoms.plan_small(dataset, folder / "cell_bundle", labels={"background": 0, "cell": 255}, **numbers)


@pytest.fixture
def bundle(planned: Path, tmp_path: Path) -> Path:
    for path in (planned, planned.with_name("cells")):
        shutil.copytree(path, tmp_path / path.name)
    return tmp_path / planned.name


def read_run(bundle: Path, number: int = 1) -> dict[str, Any]:
    return json.loads((bundle / "evidence" / "runs" / f"fold_0-{number:03d}" / "run.json").read_text())


def test_train_shorter_than_the_interval_validates_at_its_end(bundle: Path, call_main: Call) -> None:
    status, out, err = call_main("train", bundle, "num_epochs=2")
    assert status == 0
    record = read_run(bundle)
    assert record["result"]["best_epoch"] == 2
    assert 0 <= record["result"]["best_dice_resampled_grid"] <= 1
    assert record["result"]["num_iterations"] == 6
    assert [epoch["epoch"] for epoch in record["epochs"] if "dice_resampled_grid" in epoch] == [2]
    assert record["cut_short"] == "2 of the 20 planned epochs"
    assert f"best Dice {record['result']['best_dice_resampled_grid']:.4f} in epoch 2" in out
    assert "short    2 of the 20 planned epochs: results are not those of the plan" in out
    phantoms.silently(unet_pipeline.report, bundle)
    page = (bundle / "evidence" / "report.html").read_text()
    card = (bundle / "docs" / "README.md").read_text()
    assert "The training fold_0-001 was cut short: 2 of the 20 planned epochs" in page
    assert "cut short: 2 of the 20 planned epochs" in card
    for told in (out, err, json.dumps(record), card):
        assert not NO_VALIDATION.search(told), NO_VALIDATION.search(told)
    assert "epoch -1" not in page
    assert ">-1<" not in page


def test_train_last_epoch_is_validated_beside_those_of_the_interval(bundle: Path) -> None:
    (run,) = phantoms.silently(unet_pipeline.train, bundle, overrides={"num_epochs": 7})
    record = read_run(bundle)
    assert [epoch["epoch"] for epoch in record["epochs"] if "dice_resampled_grid" in epoch] == [5, 7]
    assert run.best_epoch in (5, 7)
    assert run.cut_short == "7 of the 20 planned epochs"


def test_train_to_the_end_of_the_plan_is_not_cut_short(bundle: Path) -> None:
    (run,) = phantoms.silently(unet_pipeline.train, bundle)
    record = read_run(bundle)
    assert [epoch["epoch"] for epoch in record["epochs"] if "dice_resampled_grid" in epoch] == [5, 10, 15, 20]
    assert record["cut_short"] == run.cut_short == ""
    assert "cut short" not in build_model_card(read_history(BundleFolder(bundle)))


def test_train_fewer_iterations_are_marked_too(bundle: Path) -> None:
    phantoms.silently(unet_pipeline.train, bundle, overrides={"iterations_per_epoch": 1})
    assert read_run(bundle)["cut_short"] == "20 of the 60 planned iterations, in 20 epoch(s)"


def test_resume_of_a_short_training_to_the_end_is_whole(bundle: Path) -> None:
    phantoms.silently(unet_pipeline.train, bundle, overrides={"num_epochs": 2})
    (run,) = phantoms.silently(unet_pipeline.train, bundle, resume=True, overrides={"num_epochs": 20})
    record = read_run(bundle)
    assert record["cut_short"] == run.cut_short == ""
    # the end of the short one was validated, and stays in the record
    validated = [epoch["epoch"] for epoch in record["epochs"] if "dice_resampled_grid" in epoch]
    assert validated == [2, 5, 10, 15, 20]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
def test_train_stopped_by_a_signal_is_marked(bundle: Path, call_main: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    before = CheckpointHandler.save_last

    def save(self: CheckpointHandler, engine: Any, validated: bool = True) -> None:
        before(self, engine, validated)
        if engine.state.iteration == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(CheckpointHandler, "save_last", save)
    status, out, err = call_main("train", bundle)
    assert status == 0
    assert "stopped by SIGTERM and saved after 3 of the 20 planned epochs" in out
    record = read_run(bundle)
    assert record["state"] == "preempted"
    assert record["cut_short"] == "3 of the 20 planned epochs"
    history = read_history(BundleFolder(bundle))
    assert any("fold_0-001 was cut short: 3 of the 20 planned epochs" in note for note in history.notes)
    card = build_model_card(history)
    assert "fold_0-001 preempted (cut short: 3 of the 20 planned epochs)" in card
    for told in (out, err, json.dumps(record), card):
        assert not NO_VALIDATION.search(told)


def test_finished_run_without_a_validation_of_an_older_version_has_no_best(bundle: Path, call_main: Call) -> None:
    """Such records and checkpoints hold -1, and nobody is told so."""
    import torch

    phantoms.silently(unet_pipeline.train, bundle, overrides={"num_epochs": 1})
    run_dir = bundle / "evidence" / "runs" / "fold_0-001"
    state = torch.load(run_dir / "checkpoint_last.pt", weights_only=True)
    torch.save({**state, "best_metric": -1.0, "best_metric_epoch": -1}, run_dir / "checkpoint_last.pt")
    record = read_run(bundle)
    record["result"] |= {"best_epoch": -1, "best_dice_resampled_grid": -1.0}
    (run_dir / "run.json").write_text(json.dumps(record))
    status, out, _ = call_main("train", bundle, "--resume")
    assert status == 0
    assert "no validation, so the weights are the last ones" in out
    phantoms.silently(unet_pipeline.report, bundle)
    page, card = (bundle / "evidence" / "report.html").read_text(), (bundle / "docs" / "README.md").read_text()
    assert (
        "The weights at the end of the training; no validation picked an epoch."
        in (bundle / "docs" / "CLAIM_2024.md").read_text()
    )
    for told in (out, page, card):
        assert "epoch -1" not in told
        assert ">-1<" not in told
        assert "-1.0000" not in told


def test_read_best_before_any_validation_is_none() -> None:
    assert read_best(-1.0, -1) == (None, None)
    assert read_best(float("nan"), 4) == (None, None)
    assert read_best(0.0, 4) == (0.0, 4)
