"""A signal outside of a training's steps ends the command without an error, and says how to go on."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import unet_pipeline
from unet_pipeline.bundle.run_record import TrainingRecord, read_record
from unet_pipeline.cli import app
from unet_pipeline.commands.stopping import preemptible
from unet_pipeline.errors import PreemptedError
from unet_pipeline.evidence.records.record import RECORD, RecordKeeper, keep_record


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_preemptible_signal_is_raised_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(PreemptedError) as caught, preemptible():
        os.kill(os.getpid(), number)
    assert (caught.value.signal_name, caught.value.code) == (number.name, 0)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("is_recorded", "following"), [(True, "unet-pipeline train BUNDLE --resume"), (False, "the same command again")]
)
def test_train_sigterm_before_the_first_step_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_recorded: bool, following: str
) -> None:
    path = tmp_path / "fold_0-001" / RECORD

    def train(*_: Any, **__: Any) -> None:
        if is_recorded:
            with keep_record(path, tmp_path, TrainingRecord, {}):
                os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(unet_pipeline, "train", train)
    outcome = CliRunner().invoke(app, ["train", "BUNDLE"])
    assert outcome.exit_code == 0
    assert outcome.output.splitlines() == [
        "stopped by SIGTERM outside of a step; nothing is lost",
        f"Next: {following}",
    ]
    record = read_record(path, TrainingRecord) or TrainingRecord()
    assert record.state == ("preempted" if is_recorded else "")
    assert record.stopped_by == ("SIGTERM" if is_recorded else None)
    assert record.error is None


def test_train_sigterm_during_the_imports_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Importing(ModuleType):
        def __getattr__(self, name: str) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            raise ImportError(name)

    monkeypatch.setitem(sys.modules, "unet_pipeline.training.run", Importing("unet_pipeline.training.run"))
    outcome = CliRunner().invoke(app, ["train", "BUNDLE", "num_epochs=2"])
    assert (outcome.exit_code, outcome.output.splitlines()[-1]) == (0, "Next: the same command again")


def test_keep_record_signal_at_its_first_words_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beat = RecordKeeper.beat
    stops = iter([True])

    def write_and_stop(keeper: RecordKeeper[TrainingRecord]) -> None:
        beat(keeper)
        if next(stops, False):
            raise PreemptedError("SIGTERM")

    monkeypatch.setattr(RecordKeeper, "beat", write_and_stop)
    with pytest.raises(PreemptedError) as caught, keep_record(tmp_path / RECORD, tmp_path, TrainingRecord, {}):
        raise AssertionError("the run has begun")
    assert caught.value.is_recorded
    assert (read_record(tmp_path / RECORD, TrainingRecord) or TrainingRecord()).state == "preempted"
