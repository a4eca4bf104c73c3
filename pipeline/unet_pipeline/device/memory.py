"""How much memory this machine has, and how much of it is free."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

GPU, MAIN_MEMORY = "GPU", "main memory"

_TIMEOUT_S = 10
_CGROUP = Path("/sys/fs/cgroup")


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
    ram = psutil.virtual_memory()
    return Memory(ram.total / 2**30, MAIN_MEMORY, ram.available / 2**30)


def read_own_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def find_free_bytes(device: torch.device) -> int:
    """Memory that is free on a device; for the CPU the machine's, or what the container may still have."""
    if device.type == "cuda":
        import torch

        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by PyTorch, for later
        return int(torch.cuda.mem_get_info(device)[0]) + reserved
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        num_used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return free
    cached = sum(int(line.split()[1]) for line in lines if line.split()[0] == "inactive_file")
    return min(free, int(limit) - num_used + cached) if limit.isdecimal() else free
