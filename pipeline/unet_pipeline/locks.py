"""One process at a time: a lock on a file that the kernel releases when its holder ends, however it ends.

Without `fcntl`, on Windows, nothing is locked.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from unet_pipeline.errors import PipelineError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: dict[Path, int] = {}


def _close_in_child() -> None:
    """A forked worker must not keep the lock of a parent that was killed."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class InUseError(PipelineError):
    """Another process works with the same files."""


def take_lock(path: Path, subject: str) -> bool:
    """Take the lock file at `path`, until `release_lock` or the end of the process.

    Args:
        path: of the lock file; it stays, because removing it would let two processes hold two files of one name.
        subject: what is locked, as the message should call it.

    Returns:
        Whether it is new; False when this process has it already.

    Raises:
        InUseError: another process has it; names the process, its machine and since when.
    """
    path = path.resolve()
    if fcntl is None or path in _held:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 300).decode("utf-8", "replace").strip() or "unknown"
        os.close(descriptor)
        raise InUseError(
            f"{subject} is in use by another process ({holder}). Wait until it ends, or stop it; two at a time would overwrite "
            "each other's files."
        ) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return False
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):  # on a full disk the lock holds as well; only its holder has no name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
    _held[path] = descriptor
    return True


def release_lock(path: Path) -> None:
    """Let others have the lock file; without effect when this process does not hold it."""
    descriptor = _held.pop(path.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


@contextmanager
def hold_lock(path: Path, subject: str) -> Iterator[None]:
    """Hold the lock file while the block runs; a block inside one that holds it already leaves it alone.

    Raises:
        InUseError: another process has it.
    """
    taken = take_lock(path, subject)
    try:
        yield
    finally:
        if taken:
            release_lock(path)
