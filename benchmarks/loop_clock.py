"""Times and profiles a running training from inside, by a handler that does nothing in most steps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import torch

_NO_KERNELS = ("Memcpy", "Memset", "ProfilerStep", "Optimizer.", "##", "Torch-Compiled", "Activity Buffer")


class LoopClock:
    """A handler of ITERATION_COMPLETED: waits out the warm-up, times blocks of steps, profiles some, then calls `finish`.

    On a GPU the host waits for it at the ends of a block, and nowhere inside.

    Args:
        num_warm: steps before the first block.
        num_blocks: of them.
        num_steps: of a block.
        num_profiled: steps under the profiler after the blocks; 0 for none.
        on_gpu: whether there is something to wait for.

    Attributes:
        step_s: seconds of a step, the mean of each block.
        kernel_s: seconds of a profiled step in which at least one kernel ran.
        warm_ended_s: `time.perf_counter()` at the end of the warm-up.
    """

    def __init__(self, num_warm: int, num_blocks: int, num_steps: int, num_profiled: int, on_gpu: bool) -> None:
        self.num_warm, self.num_blocks, self.num_steps, self.num_profiled = (
            num_warm,
            num_blocks,
            num_steps,
            num_profiled,
        )
        self.on_gpu = on_gpu
        self.finish: Callable[[Any], None] = lambda trainer: None
        self.step_s: list[float] = []
        self.kernel_s = self.summed_kernel_s = self.warm_ended_s = 0.0
        self.kernels: dict[str, float] = {}
        self.num_kernels = 0
        self._mark_s = 0.0
        self._profiler: Any = None
        if num_profiled:
            self._open_profiler().stop()  # it must be there before a CUDA graph is captured

    def __call__(self, trainer: Any) -> None:
        done = trainer.state.iteration - self.num_warm
        timed = self.num_blocks * self.num_steps
        if done == 0:
            self.warm_ended_s = self._read_clock()
            self._mark_s = self.warm_ended_s
        elif 0 < done <= timed and done % self.num_steps == 0:
            now_s = self._read_clock()
            self.step_s.append((now_s - self._mark_s) / self.num_steps)
            self._mark_s = now_s
            if done == timed and self.num_profiled:
                self._profiler = self._open_profiler()
            elif done == timed:
                self.finish(trainer)
        elif self.num_profiled and done == timed + self.num_profiled:
            self._read_clock()
            self._profiler.stop()
            self._add_up(list_kernels(self._profiler))
            self.finish(trainer)

    def describe(self, trainer: Any) -> dict[str, Any]:
        """What was chosen for the device, the most memory of tensors, and where the kernels' time goes."""
        from unet_pipeline.training.progress import list_choices

        choices = list(list_choices(trainer))
        placed = re.search(r"cases in the memory of .*?, ([\d.]+) GiB", "; ".join(choices))
        found: dict[str, Any] = {"choices": choices, "precision": getattr(trainer.state, "precision", "")}
        if self.on_gpu:
            found["peak memory (GiB)"] = torch.cuda.max_memory_allocated() / 2**30
            found["peak reserved (GiB)"] = torch.cuda.max_memory_reserved() / 2**30
            found["cases on the device (GiB)"] = float(placed[1]) if placed else 0.0
        if self.num_profiled:
            found["kernels (ms a step)"] = 1000 * self.kernel_s
            found["summed over streams (ms a step)"] = 1000 * self.summed_kernel_s
            found["kernels of a step"] = self.num_kernels
            longest = sorted(self.kernels.items(), key=lambda item: -item[1])[:6]
            found["longest (ms a step)"] = {name[:48]: round(1000 * seconds, 2) for name, seconds in longest}
        return found

    def _open_profiler(self) -> Any:
        activity = torch.profiler.ProfilerActivity
        profiler = torch.profiler.profile(activities=[activity.CUDA if self.on_gpu else activity.CPU])
        profiler.start()
        return profiler

    def _read_clock(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _add_up(self, kernels: list[tuple[str, int, int]]) -> None:
        self.num_kernels = round(len(kernels) / self.num_profiled)
        self.kernel_s = measure_union([(start, end) for _, start, end in kernels]) / 1e9 / self.num_profiled
        for name, start, end in kernels:
            seconds = (end - start) / 1e9 / self.num_profiled
            self.summed_kernel_s += seconds
            self.kernels[name] = self.kernels.get(name, 0.0) + seconds


def list_kernels(profiler: Any) -> list[tuple[str, int, int]]:
    """Name, start and end in ns of every kernel that a GPU has run; copies are none."""
    cuda = torch.autograd.DeviceType.CUDA
    return [
        (event.name(), event.start_ns(), event.start_ns() + event.duration_ns())
        for event in profiler.profiler.kineto_results.events()
        if event.device_type() == cuda and not event.name().startswith(_NO_KERNELS)
    ]


def measure_union(spans: list[tuple[int, int]]) -> int:
    """Length of the union of spans; 0 for none. Kernels that run side by side count once."""
    total, reached = 0, None
    for start, end in sorted(spans):
        if reached is None or start > reached:
            total, reached = total + end - start, end
        elif end > reached:
            total, reached = total + end - reached, end
    return total
