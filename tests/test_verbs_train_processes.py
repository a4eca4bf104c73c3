"""`train` in several processes: what it refuses, and what the end of a process is called."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import unet_pipeline
from unet_pipeline.errors import TrainingError
from unet_pipeline.verbs.train_processes import _describe_end


def test_train_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="number of processes is 0; expected 1 or more"):
        unet_pipeline.train(tmp_path, processes=0)


def test_train_processes_below_torchrun_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(TrainingError, match="--processes 3 was given to a process that a launcher"):
        unet_pipeline.train(tmp_path, processes=3)


@pytest.mark.parametrize(
    ("code", "words"),
    [(-signal.SIGKILL, "signal SIGKILL, as the system does when memory runs out"), (7, "status 7 without a word")],
)
def test_describe_end_names_process_and_cause(code: int, words: str) -> None:
    message = _describe_end(2, 4, code)
    assert message.startswith("Process 2 of 0 to 3 ")
    assert words in message
    assert "--resume" in message
