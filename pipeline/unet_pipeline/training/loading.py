"""Errors while cases are loaded for a training, in this process or in those of its loader: each names the case and the file.

A process of the loader cannot raise an error here, and one that the system ends cannot say anything. PyTorch passes the text of an error
on; what it does not pass on, such as shared memory that is full while a batch is sent, is sent here as an error in place of the batch.
"""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.queues
import re
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.transforms import Compose
from torch._utils import ExceptionWrapper

from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import ImageFileError, PipelineError, TrainingError
from unet_pipeline.types import CASE, IMAGE, LABEL

_SEARCH_S = 15.0
_KILL_AFTER_S = 5.0  # that a killed process may take to be gone
_ABOUT_SHARED_MEMORY = re.compile(r"shared memory|/dev/shm|</?torch_|\bshm\b|[Bb]us error")
_ENDED = re.compile(r"DataLoader worker \(pid.*?\) (?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly)")
_SHARED_MEMORY = (
    "The processes of the loader have too little shared memory (/dev/shm) to hand over a batch. Train with num_workers=0, or give the "
    "container more, such as with --shm-size=2g."
)


class LoadingError(TrainingError):
    """A case that cannot be loaded. Made from what PyTorch reports about one in another process, it has the message of there."""

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{LoadingError.__name__}: ")[2].strip())


class CaseCompose(Compose):
    """MONAI's Compose, whose errors name the case and, where it is to blame, the file."""

    def __call__(self, input_: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return super().__call__(input_, *arguments, **keywords)
        except PipelineError:
            raise
        except Exception as error:
            raise LoadingError(_describe_case(input_, error)) from error


def _describe_case(case: Any, error: BaseException) -> str:
    """What is wrong with a case: a file that cannot be read, or else the error that it led to."""
    name = case.get(CASE, "unknown") if isinstance(case, Mapping) else "unknown"
    if damage := find_damage([case]):
        return damage
    first = error
    while (deeper := first.__cause__ or first.__context__) is not None:
        first = deeper
    said = " ".join(f"{type(first).__name__}: {first}".split())[:300]
    return f"Case {name} cannot be loaded ({said}). Check the dataset with `unet-pipeline check`, or remove the case."


def find_damage(cases: Sequence[Any]) -> str:
    """What is wrong with the first case that has a file which cannot be read, looked for at most `_SEARCH_S` long; empty if none."""
    until_s = time.monotonic() + _SEARCH_S
    for case in cases:
        for path in _list_files(case):
            try:
                read_image(path, shown_as="/".join(path.parts[-2:]))
            except ImageFileError as damage:
                return f"Case {case[CASE]}: {damage.file} {damage.cause}, although `plan` could use it. {damage.remedy}"
        if time.monotonic() > until_s:
            break
    return ""


def _list_files(case: Any) -> list[Path]:
    """Of a case whose files are not read yet."""
    values = [case.get(key) for key in (IMAGE, LABEL)] if isinstance(case, Mapping) else []
    listed = [path for value in values for path in (value if isinstance(value, list | tuple) else [value])]
    return [Path(path) for path in listed if isinstance(path, str | Path)]


def report_lost_batches() -> None:
    """In a process of the loader: a batch that cannot be sent is an error here, and not a training that waits for ever."""
    multiprocessing.queues.Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    """Send an error in place of the batch that could not be sent, under the number that the loader waits for."""
    text = (
        _SHARED_MEMORY
        if is_about_shared_memory(error)
        else f"A batch cannot be handed over ({error}). Train with num_workers=0."
    )
    lost = LoadingError(text)
    number = item[0] if isinstance(item, tuple) else None
    queue.put((number, ExceptionWrapper((LoadingError, lost, error.__traceback__), "in a process of the loader")))


def is_about_shared_memory(error: BaseException) -> bool:
    """Whether shared memory is too small, in the words of PyTorch or while a queue or a lock between processes is made."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _is_between_processes(error.__traceback__)
    return bool(_ABOUT_SHARED_MEMORY.search(str(error)))


def _is_between_processes(where: TracebackType | None) -> bool:
    return any("multiprocessing" in Path(frame.filename).parts for frame in traceback.extract_tb(where))


def explain_loading(error: BaseException) -> TrainingError | None:
    """What happened to a process of the loader, or to its memory; None for any other error."""
    if not isinstance(error, RuntimeError | OSError):
        return None
    if is_about_shared_memory(error):
        return TrainingError(_SHARED_MEMORY)
    ended = _ENDED.search(str(error))
    if ended is None:
        return None
    deeper = error.__cause__ or error.__context__
    if not ended["signal"] and deeper is not None and (explained := explain_loading(deeper)) is not None:
        return explained  # PyTorch tells it twice, at first with the signal
    how = f"by the signal {ended['signal']}" if ended["signal"] else "without a word"
    return TrainingError(
        f"A process of the loader was ended {how}, as the system does when memory runs out. The checkpoints are whole: train with fewer "
        "processes (num_workers=0 uses none), or on a machine with more memory, and continue with `unet-pipeline train BUNDLE --resume`."
    )


@contextmanager
def end_loader_processes() -> Iterator[None]:
    """Let no process that the block starts stay behind it, after an error least of all: they do not listen to SIGTERM."""
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        kill_children(set(multiprocessing.active_children()) - before)


def kill_children(children: set[Any]) -> None:
    """End processes of this one at once."""
    if not children:
        return
    in_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    # PyTorch takes the end of such a process for an error
    listening = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if in_main else None
    try:
        for child in children:
            child.kill()
        for child in children:
            child.join(_KILL_AFTER_S)
    finally:
        if in_main:
            signal.signal(signal.SIGCHLD, listening)
