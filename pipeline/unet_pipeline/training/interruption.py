"""Signals that ask a training to stop: it finishes the step, saves, and ends.

SIGTERM and SIGUSR1 come from a batch system such as Slurm, which runs the job again later; SIGINT from a person.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import sys
import threading
from types import FrameType
from typing import Any

from unet_pipeline.training.loading import kill_children, report_lost_batches
from unet_pipeline.training.processes import find_highest

PREEMPTING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StopRequest:
    """Notes the first signal that asks to stop, between `listen` and `restore`."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take the signals over; outside the main thread, where Python cannot, nothing happens."""
        if threading.current_thread() is threading.main_thread():
            for number in (*PREEMPTING, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the signals back to those who had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once, without saving
        self.signal = self.signal or signal.Signals(number)
        if number == signal.SIGINT:
            print("\nStopping after this step; Ctrl-C again stops at once.", file=sys.stderr, flush=True)

    def is_made(self) -> bool:
        """Whether to stop now. Several processes agree, so that none waits for one that has stopped."""
        number = find_highest(0 if self.signal is None else int(self.signal))
        self.signal = signal.Signals(number) if number else None
        return self.signal is not None


def leave_signals_to_main(worker: int) -> None:
    """`worker_init_fn` of the training's loader: a signal for the whole process group ends no worker.

    A dead worker would end the training in the middle of a step. The loader stops its workers through their queue, and what is left of
    them at the end of this process is killed (`end_workers_at_exit`).
    """
    report_lost_batches()
    for number in (*PREEMPTING, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def end_workers_at_exit() -> None:
    """A training with stock MONAI that ends with an error leaves workers, which Python would ask to end and then wait for in vain."""
    kill_children({child for child in multiprocessing.active_children() if child.daemon})
