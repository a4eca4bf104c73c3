"""One process at a time: a lock on a file that the kernel releases when its holder ends, however it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_held: dict[Path, BaseFileLock] = {}


class InUseError(PipelineError):
    """Another process works with the same files."""


def take_lock(path: Path, subject: str) -> bool:
    """Take the lock file at `path`, until `release_lock` or the end of the process.

    Args:
        path: of the lock file; it stays, because removing it would let two processes hold two files of one name.
        subject: what is locked, as the message should call it.

    Returns:
        Whether it is new; False when this process has it already, and where the file system has no locks.

    Raises:
        InUseError: another process has it; names the process, its machine and since when.
    """
    from filelock import FileLock, Timeout

    path = path.resolve()
    if path in _held and _held[path].is_locked:  # a forked worker does not hold what its parent does
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):
            holder = path.read_bytes()[:300].decode("utf-8", "replace").strip()
        raise InUseError(
            f"{subject} is in use by another process ({holder or 'unknown'}). Wait until it ends, or stop it; two at a time would "
            "overwrite each other's files."
        ) from None
    except OSError:
        if not path.is_file():
            raise  # such as a folder in which nothing may be written
        return False
    since = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):  # on a full disk the lock holds as well; only its holder has no name
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}\n", encoding="utf-8")
    _held[path] = lock
    return True


def release_lock(path: Path) -> None:
    """Let others have the lock file; without effect when this process does not hold it."""
    lock = _held.pop(path.resolve(), None)
    if lock is not None:
        lock.release()


@contextmanager
def hold_lock(path: Path, subject: str, stays: bool = True) -> Iterator[None]:
    """Hold the lock file while the block runs; a block inside one that holds it already leaves it alone.

    Args:
        path, subject: as for `take_lock`.
        stays: leave the file there; without it, two processes that come within microseconds of its removal may both hold one.

    Raises:
        InUseError: another process has it.
    """
    is_held = take_lock(path, subject)
    try:
        yield
    finally:
        if is_held:
            if not stays:
                with suppress(OSError):
                    path.unlink()
            release_lock(path)
