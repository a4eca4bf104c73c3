"""Preprocessed cases of all processes of a machine, once in its memory: each process preprocesses its share and maps those of the others."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unet_pipeline.training.processes import gather_values, local_rank, num_local_processes


def map_cases(num_cases: int, load: Callable[[int], Any]) -> list[Any]:
    """All cases, of which this process loads its share.

    The files lie in the system's folder for temporary files (TMPDIR) until every process has mapped them; their memory is the system's
    cache of files, which all processes share and which gives way where memory is short.

    Args:
        num_cases: of the machine; the same in each of its processes.
        load: a case by its number.
    """
    folders = gather_values(tempfile.mkdtemp(prefix="unet-pipeline-") if local_rank() == 0 else None)
    machines = gather_values((_name_machine(), local_rank()))
    folder = Path(folders[machines.index((_name_machine(), 0))])
    try:
        for number in range(local_rank(), num_cases, num_local_processes()):
            stream = io.BytesIO()  # PyTorch's own writer may end the process when a disk is full
            torch.save(load(number), stream)
            (folder / f"{number}.pt").write_bytes(stream.getbuffer())
        gather_values(None)
        # written by this training, into a folder that only its user may enter
        cases = [torch.load(folder / f"{number}.pt", mmap=True, weights_only=False) for number in range(num_cases)]
        gather_values(None)
    finally:
        if local_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
    return cases


def _name_machine() -> str:
    """Of torchrun: the number of its agent, one per machine."""
    return os.environ.get("GROUP_RANK", "0")
