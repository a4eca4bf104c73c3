"""How much memory this machine has for a training."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import psutil

_TIMEOUT_S = 10


@dataclass(frozen=True)
class Memory:
    """Memory that a training could have.

    Attributes:
        gib: its size.
        place: "GPU" or "main memory".
    """

    gib: float
    place: str


def find_memory() -> Memory:
    """That of the smallest GPU, or the main memory without one; `nvidia-smi` is asked, because PyTorch takes seconds to import."""
    command = shutil.which("nvidia-smi")
    if command:
        try:
            answer = subprocess.run(
                [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
            ).stdout
            return Memory(min(float(line) for line in answer.split()) / 1024, "GPU")
        except (OSError, subprocess.SubprocessError, ValueError):
            pass  # no driver, or no GPU behind it
    return Memory(psutil.virtual_memory().total / 2**30, "main memory")
