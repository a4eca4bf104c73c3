"""Where the time of a prediction goes: the seconds of each stage, and their shares."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

STAGES = ("read", "preprocess", "network", "postprocess", "write")


@dataclass
class Stopwatch:
    """Seconds of each of `STAGES`, as the host sees them; stages of different images may run at the same time, in threads."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _own: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def add(self, stage: str, taken_s: float) -> None:
        """Count seconds of this thread."""
        with self._lock:
            self.seconds[stage] += taken_s
        if stage == "network":
            self._own.network_s = self._read_network_s() + taken_s

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add what the block takes to a stage, less what the network took inside it."""
        started_s, inside_s = time.perf_counter(), self._read_network_s()
        try:
            yield
        finally:
            taken_s = time.perf_counter() - started_s
            if stage == "postprocess":  # blending goes on between the windows
                taken_s -= self._read_network_s() - inside_s
            self.add(stage, taken_s)

    def _read_network_s(self) -> float:
        """Of this thread."""
        return float(getattr(self._own, "network_s", 0.0))

    def list_shares(self) -> dict[str, float]:
        """Stage -> 0 to 1 of the sum over all stages; empty before anything was measured."""
        total_s = sum(self.seconds.values())
        return {stage: seconds / total_s for stage, seconds in self.seconds.items()} if total_s else {}


class TimedNetwork:
    """A network whose calls are counted as the stage `network`.

    Args:
        network: the callable.
        stopwatch: gets the seconds.
        bfloat16: compute under autocast; logits come as float32 all the same.
        device: of the network; windows from elsewhere go there, and their logits come back.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        stopwatch: Stopwatch,
        bfloat16: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.network, self.stopwatch, self.bfloat16, self.device = network, stopwatch, bfloat16, device

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of windows, on the windows' own device."""
        if self.device is not None and images.device != self.device:
            return self._compute(images.to(self.device)).to(images.device)
        return self._compute(images)

    def _compute(self, images: torch.Tensor) -> torch.Tensor:
        started_s = time.perf_counter()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.network(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)  # otherwise the wait would count as blending
        self.stopwatch.add("network", time.perf_counter() - started_s)
        return logits.float() if self.bfloat16 else logits
