"""A loader's process that fails, or is ended by the system, ends the training with one sentence, and none stays behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged
from torch.utils.data import DataLoader, Dataset

from unet_pipeline.errors import TrainingError
from unet_pipeline.training.interruption import leave_signals_to_main
from unet_pipeline.training.loading import (
    CaseCompose,
    LoadingError,
    end_loader_processes,
    explain_loading,
    is_about_shared_memory,
)


class Items(Dataset):
    """Two items; the second does what it is told to."""

    def __init__(self, deed: Any) -> None:
        self.deed = deed

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(3) if index == 0 else self.deed()


class NotSent:
    """What cannot be handed over to another process."""

    def __reduce__(self) -> Any:
        raise RuntimeError("unable to write to file </torch_12_34>: No space left on device (28)")


def kill_self(number: int) -> Any:
    os.kill(os.getpid(), number)
    time.sleep(30)


def load(deed: Any, collate: Any = None) -> list[Any]:
    """The items as a training's loader gets them, with no process left afterwards."""
    loader = DataLoader(
        Items(deed), batch_size=1, num_workers=1, worker_init_fn=leave_signals_to_main, collate_fn=collate or list
    )
    with end_loader_processes():
        return list(loader)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGSEGV])
def test_process_that_the_system_ends_is_explained_and_nothing_hangs(number: signal.Signals) -> None:
    started_s = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        load(lambda: kill_self(number))
    assert time.monotonic() - started_s < 25
    explained = explain_loading(caught.value)
    assert isinstance(explained, TrainingError)
    if number == signal.SIGBUS:
        assert "shared memory" in str(explained)
        assert "--shm-size" in str(explained)
    else:
        assert "A process of the loader was ended" in str(explained)
        assert "num_workers=0" in str(explained)
    assert not multiprocessing.active_children()


def test_batch_that_cannot_be_sent_is_an_error_and_no_endless_wait() -> None:
    started_s = time.monotonic()
    with pytest.raises(LoadingError) as caught:
        load(NotSent)
    assert time.monotonic() - started_s < 25
    assert str(caught.value).startswith("The processes of the loader have too little shared memory (/dev/shm)")
    assert "num_workers=0" in str(caught.value)
    assert not multiprocessing.active_children()


def test_processes_that_ignore_signals_are_ended_after_an_error_elsewhere() -> None:
    def stop_in_the_middle() -> None:
        loader = DataLoader(Items(lambda: time.sleep(60)), num_workers=2, worker_init_fn=leave_signals_to_main)
        with end_loader_processes():
            next(iterator := iter(loader))
            raise KeyError(str(iterator))

    started_s = time.monotonic()
    with pytest.raises(KeyError):
        stop_in_the_middle()
    assert time.monotonic() - started_s < 15
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)", True),
        ("unable to write to file </torch_1_2>: No space left on device (28)", True),
        ("DataLoader worker (pid 5) is killed by signal: Bus error. It is possible that ... shared memory.", True),
        ("DataLoader worker (pid 5) is killed by signal: Killed. ", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_is_about_shared_memory_knows_the_words_of_pytorch(text: str, expected: bool) -> None:
    assert is_about_shared_memory(RuntimeError(text)) is expected


def test_explain_loading_leaves_other_errors_alone() -> None:
    assert explain_loading(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert explain_loading(ValueError("shared memory")) is None
    assert explain_loading(OSError(28, "No space left on device", "model.pt")) is None


def test_loading_error_from_another_process_has_the_message_of_there() -> None:
    reported = (
        "Caught LoadingError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File ...\n"
    )
    error = LoadingError(
        f"{reported}unet_pipeline.training.loading.LoadingError: Case a: b.png is damaged. Copy it again.\n"
    )
    assert str(error) == "Case a: b.png is damaged. Copy it again."


@pytest.fixture
def case(tmp_path: Path, write_nifti: Callable[..., Path]) -> dict[str, str]:
    files = {
        side: write_nifti(tmp_path / f"{side}s" / "a.nii.gz", np.ones((6, 6, 6), np.float32))
        for side in ("image", "label")
    }
    return {"case": "a", **{side: str(path) for side, path in files.items()}}


@pytest.mark.parametrize("side", ["image", "label"])
def test_case_compose_names_case_and_file_of_a_damaged_one(side: str, case: dict[str, str], tmp_path: Path) -> None:
    compose = CaseCompose([LoadImaged(keys=["image", "label"])])
    assert compose(case)["image"].shape == (6, 6, 6)
    path = Path(case[side])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(LoadingError) as caught:
        compose(case)
    assert str(caught.value).startswith(f"Case a: {side}s/a.nii.gz cannot be read as .nii.gz: Compressed file ended")
    assert "although `plan` could use it. Copy it again from its source" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_case_compose_names_the_case_of_any_other_error(case: dict[str, str]) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("no such axis")

    with pytest.raises(LoadingError, match=r"Case a cannot be loaded \(ValueError: no such axis\)\. Check the dataset"):
        CaseCompose([fail])(case)
