"""`train` in several processes: what it refuses, and what the end of a process is called."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

import unet_pipeline
from unet_pipeline.errors import PreemptedError, TrainingError
from unet_pipeline.verbs.train_processes import ERROR, SIGNAL, _conclude, _describe_end


def test_train_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="number of processes is 0; expected 1 or more"):
        unet_pipeline.train(tmp_path, processes=0)


@pytest.mark.parametrize(("options", "said"), [({"jobs": 2}, "--jobs 2"), ({"threads": 3}, "--threads 3")])
def test_train_processes_and_workers_are_refused_by_the_name_of_the_option(
    tmp_path: Path, options: dict[str, int], said: str
) -> None:
    with pytest.raises(TrainingError, match=f"--processes is 2, and {said} is given: .* Leave out one of both"):
        unet_pipeline.train(tmp_path, processes=2, **options)


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


@pytest.mark.parametrize(
    ("codes", "outcomes", "error", "words"),
    [
        (
            (0, -9),
            {0: (SIGNAL, ("SIGTERM", True))},
            TrainingError,
            "Process 1 of 0 to 1 was ended by the signal SIGKILL",
        ),
        (
            (0, 1),
            {0: (SIGNAL, ("SIGTERM", True)), 1: (ERROR, ("unet_pipeline.errors", "TrainingError", "the disk is gone"))},
            TrainingError,
            "Process 1 of 0 to 1: the disk is gone",
        ),
        ((0, -15), {0: (SIGNAL, ("SIGTERM", True))}, PreemptedError, "SIGTERM"),
        (
            (0, 1),
            {0: (SIGNAL, ("SIGTERM", True)), 1: (ERROR, ("unet_pipeline.errors", "LostProcessError", "0 is gone"))},
            PreemptedError,
            "SIGTERM",
        ),
    ],
)
def test_a_process_that_died_is_named_though_the_first_was_asked_to_stop_because_of_it(
    tmp_path: Path, codes: tuple[int, int], outcomes: dict[int, object], error: type[BaseException], words: str
) -> None:
    for rank, outcome in outcomes.items():
        (tmp_path / f"{rank}.pickle").write_bytes(pickle.dumps(outcome))
    handlers = {rank: SimpleNamespace(proc=SimpleNamespace(returncode=code)) for rank, code in enumerate(codes)}
    with pytest.raises(error) as caught:
        _conclude(tmp_path, SimpleNamespace(nprocs=2, subprocess_handlers=handlers))  # type: ignore[arg-type]
    assert words in f"{caught.value} {getattr(caught.value, 'signal_name', '')}"
