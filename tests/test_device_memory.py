"""The memory of this machine: of its GPUs or its main memory, free and taken."""

from __future__ import annotations

import gc
import mmap
import stat
from pathlib import Path

import psutil
import pytest
import torch

from tests.test_prediction_memory import MIB
from unet_pipeline.device import memory as device_memory
from unet_pipeline.device.memory import Memory, find_memory


def put_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name which prints what a machine with GPUs would."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_find_memory_smallest_of_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "echo 81920, 80896, 9.0; echo 24576, 24064, 8.6")
    assert find_memory() == Memory(24.0, "GPU", 23.5, has_bfloat16=True)


def test_find_memory_gpu_that_others_use_counts_by_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "echo 81920, 10240, 7.0; echo 24576, 24064, 8.6")
    assert find_memory() == Memory(80.0, "GPU", 10.0)


@pytest.mark.parametrize(
    "script", ["exit 9", "echo 'No devices were found'", "echo 81920", "echo '[N/A], [N/A]'", "true"]
)
def test_find_memory_without_a_usable_gpu_is_the_main_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, script)
    memory = find_memory()
    assert memory.place == "main memory"
    assert memory.gib == pytest.approx(psutil.virtual_memory().total / 2**30)
    assert 0 < memory.left_gib < memory.gib


def test_free_and_own_bytes_are_those_of_a_machine() -> None:
    size = 256 * MIB  # more than what earlier tests left and a collection of garbage gives back meanwhile
    gc.collect()
    own = device_memory.read_own_bytes()
    with mmap.mmap(-1, size) as held:  # malloc may give pages that the process has already
        held.write(b"\1" * size)
        assert device_memory.read_own_bytes() - own > size // 2
    assert 64 * MIB < device_memory.find_free_bytes(torch.device("cpu")) < 2**50
