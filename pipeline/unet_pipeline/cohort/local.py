"""Workers on this machine: a pool of loky with one process for each, so that a worker that dies takes no item but its own with it.

The process of a worker ends with the one that started it, also when that is killed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Function, Outcome, Share, State, Work, carry_out, judge_error
from unet_pipeline.errors import CohortError
from unet_pipeline.library_warnings import silence_libraries

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
MAX_OPENINGS = 3  # of a worker that dies while it opens the work
_PARENT_INTERVAL_S = 0.5
_NO_RESTART = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}  # bytes: a network that is loaded, or a cache, is no leak
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def list_thread_variables(num_threads: int) -> dict[str, str]:
    """Variables that have to be set before a process imports NumPy, PyTorch or ITK."""
    return dict.fromkeys(THREAD_VARIABLES, str(num_threads))


def settle_threads(num_threads: int) -> None:
    """Let PyTorch, if this process has imported it, take that many threads, whatever the environment says."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(num_threads)


# in a worker


@dataclass
class _Worker:
    function: Function | None = None
    num_threads: int = 1


_worker = _Worker()


def _prepare(parent: int) -> None:
    """Make a new process a worker: Ctrl-C is the coordinator's, and it ends when that does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silence_libraries()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    import psutil

    try:
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_PARENT_INTERVAL_S)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)


def _open(work: Work, share: Share) -> str | None:
    """Open the work in this process; what is wrong, as text, because not every error can travel."""
    settle_threads(share.num_threads)
    try:
        _worker.function = work.open(share)
    except Exception as error:
        return judge_error(error)[1]
    settle_threads(share.num_threads)
    return None


def _carry_out(attempt: Attempt) -> Outcome:
    if _worker.function is None:
        raise RuntimeError("the work is not open")
    try:
        return carry_out(_worker.function, attempt)
    except (SystemExit, KeyboardInterrupt):  # asked to end: there is no answer, so the next attempt goes on
        os._exit(1)


# in the coordinating process


@dataclass
class _Slot:
    """A worker's place: its pool, and what it does. `attempt` is None while it opens the work, `future` while it has nothing to do."""

    share: Share
    pool: Any
    future: Future[Any] | None = None
    attempt: Attempt | None = None
    started: float = 0.0
    num_openings: int = 0


class LocalEngine:
    """Processes on this machine, each with its share of threads and, where there are several GPUs, one of them.

    Args:
        num_workers: at least 1.
        share: of each worker.
    """

    def __init__(self, num_workers: int, share: Share) -> None:
        self.num_workers, self.share = num_workers, share
        self.on_begin: OnBegin = ignore_beginning
        self._slots: list[_Slot] = []
        self._waiting: deque[Attempt] = deque()
        self._work: Work | None = None

    @property
    def num_in_flight(self) -> int:
        """See `Engine`."""
        return 2 * self.num_workers

    def start(self, work: Work) -> None:
        """See `Engine`; returns when one worker is ready, the others follow."""
        self._work = work
        for share in self._list_shares():
            slot = _Slot(share, None)
            self._slots.append(slot)
            self._begin_opening(slot)
        while not any(slot.future is None for slot in self._slots):
            self._wait()

    def _list_shares(self) -> list[Share]:
        devices: list[str | None] = [self.share.device]
        if self.share.device in (None, "cuda") and (num_gpus := _count_gpus()) > 1:
            devices = [f"cuda:{number}" for number in range(num_gpus)]
        return [replace(self.share, device=devices[number % len(devices)]) for number in range(self.num_workers)]

    def submit(self, attempt: Attempt) -> None:
        """See `Engine`."""
        self._waiting.append(attempt)
        self._hand_out()

    def collect(self) -> list[Outcome]:
        """See `Engine`."""
        while not (outcomes := self._wait()):
            pass
        self._hand_out()
        return outcomes

    def close(self) -> None:
        """See `Engine`."""
        self._let_save()
        for slot in self._slots:
            slot.pool.shutdown(wait=True, kill_workers=True)
        self._slots, self._waiting = [], deque()

    def _let_save(self) -> None:
        """Ask workers in the middle of an item to save, where the work can."""
        futures = []
        for slot in self._slots if self._work is not None and self._work.grace_s else ():
            if slot.attempt is not None and slot.future is not None:
                futures.append(slot.future)
                for pid in list(slot.pool._processes):  # loky's own, by their ids
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
        if futures and self._work is not None:
            wait(futures, timeout=self._work.grace_s)

    def _hand_out(self) -> None:
        for slot in self._slots:
            if slot.future is None and self._waiting:
                slot.attempt, slot.started = self._waiting.popleft(), time.time()
                slot.future = self._submit(slot, _carry_out, slot.attempt)
                self.on_begin(slot.attempt, socket.gethostname(), slot.started)

    def _wait(self) -> list[Outcome]:
        """Wait for whatever is over first, and give those who are free the next attempt."""
        busy = [slot for slot in self._slots if slot.future is not None]
        wait([slot.future for slot in busy if slot.future is not None], return_when=FIRST_COMPLETED)
        outcomes = []
        for slot in busy:
            if slot.future is not None and slot.future.done():
                outcome = self._conclude(slot, slot.future)
                outcomes += [] if outcome is None else [outcome]
        self._hand_out()
        return outcomes

    def _conclude(self, slot: _Slot, future: Future[Any]) -> Outcome | None:
        """The outcome of an attempt that is over; None of a worker that has opened the work."""
        attempt, slot.future, slot.attempt = slot.attempt, None, None
        try:
            answer = future.result()
        except Exception as error:  # of the pool: those of the work are in its answer
            outcome = None if attempt is None else self._lose(slot, attempt, error)
            self._begin_opening(slot)
            return outcome
        if attempt is not None:
            return answer
        if answer is not None:
            raise CohortError(f"A worker cannot begin: {answer}")
        slot.num_openings = 0
        return None

    def _lose(self, slot: _Slot, attempt: Attempt, error: Exception) -> Outcome:
        message = _read_exit(error)
        return Outcome(attempt, State.LOST, {}, message, socket.gethostname(), slot.started, time.time() - slot.started)

    def _begin_opening(self, slot: _Slot) -> None:
        """Put a new process in the place of a worker."""
        if slot.pool is not None:
            slot.pool.shutdown(wait=True, kill_workers=True)
        if slot.num_openings == MAX_OPENINGS:
            raise CohortError(
                f"A worker ended {MAX_OPENINGS} times while it loaded what it works with: killed for its memory, or a crash of a library. "
                "Take fewer workers (--jobs), then run the same command again."
            )
        slot.num_openings += 1
        slot.pool, slot.attempt = _build_pool(slot.share), None
        slot.future = self._submit(slot, _open, self._work, slot.share)

    def _submit(self, slot: _Slot, function: Any, *arguments: Any) -> Future[Any]:
        """Of a worker that died while it had nothing to do, the pool says so here; the caller learns it from the future."""
        try:
            return slot.pool.submit(function, *arguments)
        except RuntimeError as error:
            future: Future[Any] = Future()
            future.set_exception(error)
            return future


def _build_pool(share: Share) -> Any:
    from loky import ProcessPoolExecutor

    # loky shows the stack of a process that crashes, unless the variable is there; empty, it means nothing to Python
    environment = {**list_thread_variables(share.num_threads), "PYTHONFAULTHANDLER": "", **_NO_RESTART}
    return ProcessPoolExecutor(1, initializer=_prepare, initargs=(os.getpid(),), env=environment)


def _read_exit(error: Exception) -> str:
    """How a worker ended, in few words."""
    codes = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
    return codes[1] if codes else type(error).__name__


def _count_gpus() -> int:
    is_linux = sys.platform == "linux"
    if is_linux and not any(map(os.path.exists, _GPU_DRIVERS)):  # PyTorch takes seconds to say so
        return 0
    import torch

    return torch.cuda.device_count()
