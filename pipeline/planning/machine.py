"""How much memory this machine has for a training."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import psutil

GPU, MAIN_MEMORY = "GPU", "main memory"
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Memory:
    """Memory that a training could have.

    Attributes:
        gib: its size.
        place: `GPU` or `MAIN_MEMORY`.
        free_gib: what others leave of it now; all of it if None.
    """

    gib: float
    place: str
    free_gib: float | None = None

    @property
    def left_gib(self) -> float:
        return self.gib if self.free_gib is None else self.free_gib


def find_memory() -> Memory:
    """That of the GPU with the least free memory, or the main memory without one.

    `nvidia-smi` is asked, because PyTorch takes seconds to import.
    """
    command = shutil.which("nvidia-smi")
    if command:
        try:
            answer = subprocess.run(
                [command, "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
            ).stdout
            sizes = [[float(mib) / 1024 for mib in line.split(",")] for line in answer.splitlines() if line.strip()]
            total_gib, free_gib = min(sizes, key=lambda pair: pair[1])
            return Memory(total_gib, GPU, free_gib)
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            pass  # no driver, or no GPU behind it
    found = psutil.virtual_memory()
    return Memory(found.total / 2**30, MAIN_MEMORY, found.available / 2**30)
