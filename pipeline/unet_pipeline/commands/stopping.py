"""A signal of a batch system while a command is not in a training's steps, which look after themselves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unet_pipeline.errors import PreemptedError

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


@contextmanager
def preemptible() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 raise `PreemptedError` in the block; outside the main thread, where Python cannot, nothing happens."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    raise PreemptedError(signal.Signals(number).name)
