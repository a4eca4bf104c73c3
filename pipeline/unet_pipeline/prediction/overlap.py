"""Cases one after the other through three steps, the next one read and the last one written while the network has the present one.

Never more than one case ahead and one behind, so that memory is bounded whatever the number of cases. Small cases on a CPU go side by
side instead, each through all its steps in one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch

from unet_pipeline.errors import PipelineError

Item = TypeVar("Item")
Opened = TypeVar("Opened")
Computed = TypeVar("Computed")
Written = TypeVar("Written")


@dataclass(frozen=True)
class Overlap:
    """What runs beside the network.

    Attributes:
        files: the next case is read and the last one is written.
        preprocessing: the next case is preprocessed too.
        reason: why so, as the end of a sentence.
    """

    files: bool
    preprocessing: bool
    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Item, Written]):
    """A case that is finished: what its last step gave, or why it has none."""

    item: Item
    result: Written | None
    error: PipelineError | None


def choose_overlap(device: torch.device, num_threads: int, num_cores: int) -> Overlap:
    """What may run beside the network without taking its cores.

    Args:
        device: of the network.
        num_threads: of PyTorch on the CPU.
        num_cores: that this process may use.
    """
    if num_cores < 2:
        return Overlap(False, False, "there is one core")
    if device.type != "cpu":
        return Overlap(True, True, f"the network is on {device.type}")
    if num_threads < num_cores:
        return Overlap(True, False, f"the network leaves {num_cores - num_threads} of {num_cores} cores free")
    return Overlap(False, False, f"the network takes all {num_cores} cores")


def run_cases(
    items: Sequence[Item],
    read: Callable[[Item], Opened],
    compute: Callable[[Opened], Computed],
    write: Callable[[Computed], Written],
    overlap: bool,
) -> Generator[Outcome[Item, Written], None, None]:
    """Each item through the three steps, `compute` always in this thread.

    Close the iterator (`contextlib.closing`) when it is left early: a step that has begun is waited for, so that no file stays half
    written.

    Args:
        items: in the order of their outcomes.
        read: the first step; with `overlap` in a thread of its own while `compute` has the item before.
        compute: the second step.
        write: the third step; with `overlap` in another thread while `compute` has the item behind.
        overlap: whether to use threads; without, each item is finished before the next is begun.

    Yields:
        An outcome per item. An error that no user can act on is raised as it is.
    """
    if not overlap or len(items) < 2:
        for item in items:
            yield _conclude(item, _settle(item, read, compute, write))
        return
    # PyTorch splits sums by the number of threads; another number here would give other last digits
    num_threads = torch.get_num_threads()
    reader, writer = (
        ThreadPoolExecutor(1, name, initializer=torch.set_num_threads, initargs=(num_threads,))
        for name in ("read", "write")
    )
    try:
        behind: tuple[Item, Future[Written]] | None = None
        ahead = reader.submit(read, items[0])
        for item, following in zip(items, [*items[1:], None], strict=True):
            opened = ahead
            wait([opened])
            if following is not None:
                ahead = reader.submit(read, following)
            computed = _settle(opened, Future.result, compute)
            del opened  # the case is in memory as long as the future
            if behind is not None:
                yield _conclude(*behind)
            behind = item, writer.submit(lambda done: write(done.result()), computed)
            del computed
        if behind is not None:
            yield _conclude(*behind)
    finally:
        for executor in (reader, writer):
            executor.shutdown(wait=True, cancel_futures=True)


def run_side_by_side(
    items: Sequence[Item],
    workers: Sequence[Callable[[Item], Written]],
    num_threads: int,
    measure: Callable[[Item], float] = lambda item: 0.0,
) -> Generator[Outcome[Item, Written], None, None]:
    """Several items at the same time, each by a worker that has nothing else to do.

    Close the iterator when it is left early: an item that has begun is waited for, no other is begun.

    Args:
        items: in the order of their outcomes.
        workers: as many items are worked on at once.
        num_threads: of PyTorch for each of them.
        measure: how much there is to do; the largest are begun first, so that no worker has much left when the others have nothing.

    Yields:
        An outcome per item. An error that no user can act on is raised as it is.
    """
    idle: SimpleQueue[Callable[[Item], Written]] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work(item: Item) -> Written:
        worker = idle.get()
        try:
            return worker(item)
        finally:
            idle.put(worker)

    before = torch.get_num_threads()
    executor = ThreadPoolExecutor(len(workers), "image", initializer=torch.set_num_threads, initargs=(num_threads,))
    try:
        order = sorted(range(len(items)), key=lambda place: -measure(items[place]))
        futures = {place: executor.submit(work, items[place]) for place in order}
        for place, item in enumerate(items):
            yield _conclude(item, futures[place])
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)  # a part of it is shared by all threads


def _settle(value: Any, *steps: Callable[[Any], Any]) -> Future[Any]:
    """What the steps make of a value, in this thread; an error of the user's is kept for whoever asks for the result."""
    future: Future[Any] = Future()
    try:
        for step in steps:
            value = step(value)
        future.set_result(value)
    except PipelineError as error:
        future.set_exception(error)
    return future


def _conclude(item: Item, future: Future[Written]) -> Outcome[Item, Written]:
    """The outcome of an item, waited for."""
    try:
        return Outcome(item, future.result(), None)
    except PipelineError as error:
        return Outcome(item, None, error)
