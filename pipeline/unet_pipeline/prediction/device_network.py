"""A network on a GPU in its fast form: windows in batches of one size, recorded as a graph, fewer at once where memory runs out."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from unet_pipeline.device.gpu_norm import replace_norms
from unet_pipeline.prediction.graph import RecordedForward
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.out_of_memory import is_out_of_memory, release_cached_memory
from unet_pipeline.prediction.stopwatch import Stopwatch, TimedNetwork

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
_CONVOLUTIONS = (
    torch.nn.Conv2d,
    torch.nn.Conv3d,
    torch.nn.ConvTranspose2d,
    torch.nn.ConvTranspose3d,
)
# Heuristics, in batches: to record takes as long as some of them, to try out the kernels of every layer as long as hundreds.
BATCHES_BEFORE_GRAPH = 6
BATCHES_THAT_PAY_TRIALS = 400
# voxels of a window: small ones are bound by launches, and norms of channels side by side take two per sample
SIDE_BY_SIDE_VOXELS = 1 << 17

Forward = Callable[[torch.Tensor], torch.Tensor]
Recorder = Callable[[Forward, torch.Tensor, Any], Forward]


@dataclass(frozen=True)
class DeviceForm:
    """How a network is computed on a GPU.

    Attributes:
        channels_last: the channels of a voxel lie side by side; None for windows of `SIDE_BY_SIDE_VOXELS` or more, and for bfloat16.
        bfloat16: convolutions compute in it; their weights are brought to it once.
        batches_before_graph: that run as they are before the next is recorded; None: never recorded.
        tries_kernels: the libraries try out all their kernels for each layer.
    """

    channels_last: bool | None = None
    bfloat16: bool = False
    batches_before_graph: int | None = BATCHES_BEFORE_GRAPH
    tries_kernels: bool = False

    def puts_channels_last(self, window_size: tuple[int, ...]) -> bool:
        """Whether channels lie side by side for windows of that size."""
        if self.channels_last is not None:
            return self.channels_last
        return self.bfloat16 or math.prod(window_size) >= SIDE_BY_SIDE_VOXELS


class DeviceNetwork(TimedNetwork):
    """A network on a GPU; called with any number of windows, it gives their logits in float32.

    What cannot be done is left out, with a line in `notes`. Runs on a CPU too, in the same way but for the graph.

    Args:
        network: on the device; it stays as it is.
        stopwatch: gets the seconds, once `settle` is called.
        device: of the network.
        form: how it is computed.
        batch_size: windows at once, at most; fewer are filled up to a power of two, because kernels and graphs are made for one shape.
        record: makes a graph; None where there are none.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        stopwatch: Stopwatch,
        device: torch.device,
        form: DeviceForm,
        batch_size: int = 1,
        record: Recorder | None = None,
    ) -> None:
        super().__init__(network, stopwatch, form.bfloat16, device)
        self.form, self.batch_size, self.record = form, batch_size, record
        self.notes: list[str] = []
        self._fast: torch.nn.Module | None = None
        self._recorded: dict[int, Forward] = {}
        self._num_batches: Counter[int] = Counter()
        self._is_cast = True
        self._spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def resize(self, batch_size: int, tries_kernels: bool = False) -> None:
        """Take other windows at once.

        Args:
            batch_size: at most.
            tries_kernels: see `DeviceForm`.
        """
        self.batch_size, self._recorded, self._num_batches = batch_size, {}, Counter()
        self.form = replace(self.form, tries_kernels=tries_kernels)

    def settle(self) -> None:
        """Count the time of all calls since the last time; waits for the device."""
        spans, self._spans = self._spans, []
        if spans:
            spans[-1][1].synchronize()
        for start, end in spans:
            self.stopwatch.add("network", start.elapsed_time(end) / 1000)

    def _compute(self, images: torch.Tensor) -> torch.Tensor:
        if not images.is_cuda:
            started_s = time.perf_counter()
            logits = self._compute_batches(images)
            self.stopwatch.add("network", time.perf_counter() - started_s)
            return logits
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        logits = self._compute_batches(images)
        end.record()
        self._spans.append((start, end))
        return logits

    def _compute_batches(self, images: torch.Tensor) -> torch.Tensor:
        batches, first = [], 0
        while first < len(images):
            part = images[first : first + self.batch_size]
            logits = self._try_batch(part)
            if logits is None:
                continue  # once more, with fewer
            batches.append(logits)
            first += len(part)
        return batches[0] if len(batches) == 1 else torch.cat(batches)

    def _try_batch(self, windows: torch.Tensor) -> torch.Tensor | None:
        """Logits; None where memory ran out and less is tried the next time."""
        try:
            return self._compute_batch(windows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not self._can_take_less():
                raise
        # outside of the block, whose error holds all arrays of the forward pass
        self._take_less()
        return None

    def _compute_batch(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits of at most `batch_size` windows."""
        size = find_filled_size(len(windows), self.batch_size)
        if size not in self._recorded:
            self._record(windows, size)
        if size in self._recorded:
            return self._recorded[size](windows)
        self._num_batches[size] += 1
        return self._forward(fill_up(windows, size))[: len(windows)]

    def _forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits in float32, of a batch as it is."""
        if self._fast is None:
            self._fast = make_fast(self.network, self.form, tuple(windows.shape[2:]))
        if self.form.puts_channels_last(tuple(windows.shape[2:])):
            windows = windows.contiguous(memory_format=_FORMATS[windows.dim()])
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = before or self.form.tries_kernels
        try:
            return self._run(self._fast, windows)
        finally:
            torch.backends.cudnn.benchmark = before

    def _run(self, fast: torch.nn.Module, windows: torch.Tensor) -> torch.Tensor:
        if not self.form.bfloat16:
            return fast(windows).float()
        if not self._is_cast:
            # weights are cast again and again, which a graph does at least without the host
            with torch.autocast(windows.device.type, torch.bfloat16, cache_enabled=False):
                return fast(windows).float()
        try:
            return fast(windows.to(torch.bfloat16)).float()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.notes.append(f"weights are cast for each batch, because a layer takes no bfloat16 ({_shorten(error)})")
        plain = DeviceForm(self.form.puts_channels_last(tuple(windows.shape[2:])))
        self._fast = make_fast(self.network, plain, tuple(windows.shape[2:]))
        self._is_cast = False
        return self._run(self._fast, windows)

    def _record(self, windows: torch.Tensor, size: int) -> None:
        """Make the graph of a batch where enough have run; where that fails, never again."""
        after = self.form.batches_before_graph
        if self.record is None or after is None or self._num_batches[size] < after:
            return
        pool = next((getattr(recorded, "pool", None) for recorded in self._recorded.values()), None)
        try:
            self._recorded[size] = self.record(self._forward, fill_up(windows, size), pool)
        except Exception as error:  # a recording fails in many ways
            if is_out_of_memory(error):
                raise
            self.record = None
            self.notes.append(
                f"windows are computed layer by layer, because they cannot be recorded ({_shorten(error)})"
            )

    def _can_take_less(self) -> bool:
        return self.batch_size > 1 or any(module.at_once for module in self._list_mirrored())

    def _take_less(self) -> None:
        """Half as many windows at once; with one, its mirrored copies one after the other."""
        self._recorded.clear()
        if self.batch_size > 1:
            self.batch_size //= 2
            self.notes.append(f"memory ran out: {self.batch_size} window(s) at once from here on")
        else:
            for module in self._list_mirrored():
                module.at_once = False
            self.notes.append("memory ran out: mirrored copies one after the other from here on")
        if self.device is not None:
            release_cached_memory(self.device)

    def _list_mirrored(self) -> list[Mirrored]:
        networks = [self.network] if self._fast is None else [self.network, self._fast]
        return [module for network in networks for module in network.modules() if isinstance(module, Mirrored)]


def make_fast(network: torch.nn.Module, form: DeviceForm, window_size: tuple[int, ...]) -> torch.nn.Module:
    """A copy of a network in the form that a GPU is fast with.

    Args:
        network: it stays as it is.
        form: how it is computed.
        window_size: of the windows that it will get.
    """
    fast = copy.deepcopy(network).eval()
    if form.bfloat16:
        for module in fast.modules():
            if isinstance(module, _CONVOLUTIONS):
                module.to(torch.bfloat16)
    if form.puts_channels_last(window_size):
        fast.to(memory_format=_FORMATS[2 + len(window_size)])  # type: ignore[call-overload]
        replace_norms(fast)
    return fast


def find_filled_size(count: int, most: int) -> int:
    """The smallest power of two that is no less than `count`, but no more than `most`."""
    return min(1 << (count - 1).bit_length(), most)


def fill_up(windows: torch.Tensor, count: int) -> torch.Tensor:
    """Windows with empty ones behind them, so that there are `count`."""
    if len(windows) >= count:
        return windows
    filled = windows.new_zeros((count, *windows.shape[1:]))
    filled[: len(windows)] = windows
    return filled


def record_on(device: torch.device) -> Recorder | None:
    """What makes graphs on a device."""
    return RecordedForward if device.type == "cuda" else None


def _shorten(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
