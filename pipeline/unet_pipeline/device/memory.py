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
_BFLOAT16_CAPABILITY = 8.0  # compute capability of Ampere, the first with bfloat16
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """Memory that a training could have.

    Attributes:
        gib: its size.
        place: `GPU` or `MAIN_MEMORY`.
        free_gib: what others leave of it now; all of it if None.
        has_bfloat16: a training there computes in bfloat16, which takes less.
    """

    gib: float
    place: str
    free_gib: float | None = None
    has_bfloat16: bool = False

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
                [command, "--query-gpu=memory.total,memory.free,compute_cap", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
            ).stdout
            rows = [[float(number) for number in line.split(",")] for line in answer.splitlines() if line.strip()]
            total_mib, free_mib, capability = min(rows, key=lambda row: row[1])
            return Memory(total_mib / 1024, GPU, free_mib / 1024, capability >= _BFLOAT16_CAPABILITY)
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


def read_peak_gib(device: torch.device) -> float | None:
    """The most memory of a GPU that this process has used at once; None on other devices, where nobody counts it."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) / 2**30
