"""A network's forward pass on a GPU as one recorded graph: replayed, it costs the host one launch instead of some hundred."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

# Recording does not bear other work of this process on the device: whoever has some in another thread holds this meanwhile.
DEVICE_LOCK = threading.Lock()


class RecordedForward:
    """A forward pass for one shape of input, recorded from a run and replayed for every batch of at most that many windows.

    Args:
        forward: windows -> logits, of tensors whose shapes depend on nothing but that of the windows; it has run before, so that its
            kernels are chosen.
        example: windows of the shape, on the GPU; its values do not matter.
        pool: of another recording that never runs at the same time, to share its memory; None for one of its own.

    Raises:
        RuntimeError: the forward pass cannot be recorded, or memory ran out.
    """

    def __init__(
        self, forward: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor, pool: Any = None
    ) -> None:
        self._windows = torch.zeros_like(example)
        with DEVICE_LOCK:
            side = torch.cuda.Stream(example.device)
            side.wait_stream(torch.cuda.current_stream(example.device))
            with torch.cuda.stream(side):  # the libraries set up what they need for each stream
                forward(self._windows)
            torch.cuda.current_stream(example.device).wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                self._logits = forward(self._windows)
        self.pool = self._graph.pool()

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits of at most as many windows as were recorded; those behind them compute what was there before."""
        self._windows[: len(windows)].copy_(windows)
        self._graph.replay()
        return self._logits[: len(windows)].clone()
