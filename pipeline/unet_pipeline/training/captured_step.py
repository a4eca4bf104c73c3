"""A whole training step as one CUDA graph: captured once, then replayed with other numbers in the same places.

A small network's step is bound by the host, which launches a thousand kernels one by one; a replay launches them all at once. What changes
from step to step lies in memory that the graph reads: the table of the samples' numbers, parts of cases, and the learning rate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

Results = TypeVar("Results")

# PyTorch asks for some steps on another stream before a capture, in which kernels are chosen and buffers made
_WARM_UP_STEPS = 3


class CapturedStep(Generic[Results]):
    """Runs a step: the first times as it is, then captured.

    Args:
        work: the whole step on the device, from tensors that stay in place to its results; gradients are None when it begins.
        optimizer: whose step is part of it.
        device: a GPU.

    Attributes:
        failure: why it was not captured, in a line; then every step runs as it is.
    """

    def __init__(self, work: Callable[[], Results], optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.work, self.optimizer, self.device = work, optimizer, device
        self.failure: str | None = None
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._results: Results | None = None
        self._num_steps = 0

    def __call__(self) -> Results:
        """One step; its results lie in the same place after every replay."""
        for rate, group in zip(self._rates, self.optimizer.param_groups, strict=True):
            rate.fill_(float(group["lr"]))
        if self.failure is not None:
            return self._run_plainly()
        self._num_steps += 1
        if self._graph is None and self._num_steps <= _WARM_UP_STEPS:
            return self._warm_up()
        self._graph = self._graph or self._capture()
        if self._graph is None or self._results is None:
            return self._run_plainly()
        self._graph.replay()
        return self._results

    def forget(self) -> None:
        """Drop the graph, because a buffer that it reads was replaced; it is captured again."""
        self._graph, self._results = None, None

    def _run_plainly(self) -> Results:
        self.optimizer.zero_grad(set_to_none=True)
        with self._capturable_optimizer():
            return self.work()

    def _warm_up(self) -> Results:
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            results = self._run_plainly()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        return results

    def _capture(self) -> torch.cuda.CUDAGraph | None:
        """The graph of a step, which is not run; None where a capture is not possible."""
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            # on the stream of the warm-up: the nodes that add gradients up belong to the stream that they were made on
            with (
                self._capturable_optimizer(),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self._results = self.work()
        except Exception as error:  # what a capture does not allow shows as errors of many kinds
            self.failure = _describe_first(error)
            self._results = None
            torch.cuda.synchronize(self.device)
            return None
        return graph

    @contextlib.contextmanager
    def _capturable_optimizer(self) -> Iterator[None]:
        """Let the optimizer read its rate and count its steps on the device, and do it in one kernel where it can.

        Only for the time of a step: schedule and checkpoint see a plain number, which goes to another device as well.
        """
        groups = self.optimizer.param_groups
        before: list[dict[str, object]] = [
            {name: group[name] for name in ("lr", "capturable", "fused", "foreach") if name in group}
            for group in groups
        ]
        for rate, group in zip(self._rates, groups, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
            if "fused" in group:
                group["fused"], group["foreach"] = True, False
        for state in self.optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].to(self.device, torch.float32)
        try:
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)


def _describe_first(error: BaseException) -> str:
    """The first of the errors that followed from each other, in a line: the end of a capture fails whatever went wrong inside."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
