"""What the system may have against a verb: a full disk, folders that may not be written, a user without a name, a terminal of old."""

from __future__ import annotations

import ctypes
import io
import os
import pwd
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_OVERRIDE, _SEARCH = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_CAPABILITY_VERSION_3 = 0x20080522


@contextmanager
def full_disk(max_bytes: int = 0) -> Iterator[None]:
    """No file may become longer: the system refuses the byte after, whatever library writes it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(*roots: Path) -> Iterator[None]:
    """Nothing below the folders may be made, changed or removed, by an administrator neither."""
    places = [place for root in roots for place in (root, *root.rglob("*")) if not place.is_symlink()]
    modes = {place: place.stat().st_mode for place in places}
    for place, mode in modes.items():
        place.chmod(mode & ~0o222)
    try:
        with _without_override():
            yield
    finally:
        for place, mode in modes.items():
            if place.exists():
                place.chmod(mode)


@contextmanager
def _without_override() -> Iterator[None]:
    """Take from this thread, and those that it starts, the right of an administrator to pass over permissions."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~(1 << _OVERRIDE | 1 << _SEARCH)
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0


@contextmanager
def unknown_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system has no entry for this user, and nothing names it."""

    def find_none(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    with monkeypatch.context() as patch:
        patch.setattr(pwd, "getpwuid", find_none)
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
            patch.setenv(name, "")  # so that what the block sets is taken back
            patch.delenv(name)
        yield


@contextmanager
def old_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """stdout and stderr with the code page 1252, which has no Greek letters; gives what is printed on both."""
    printed = io.BytesIO()
    streams = [io.TextIOWrapper(printed, encoding="cp1252") for _ in range(2)]
    with monkeypatch.context() as patch:
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        yield printed
    for stream in streams:
        stream.detach()  # writes what waits, and leaves `printed` open
