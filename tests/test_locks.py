"""Locks: one process at a time, and none after a crash."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from unet_pipeline.locks import InUseError, hold_lock, release_lock, take_lock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forked processes")


def run_in_fork(path: Path) -> bool:
    """Whether another process gets the lock."""
    number = os.fork()
    if number == 0:
        try:
            take_lock(path, "The folder")
        except InUseError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0


def test_take_lock_held_by_another_process_names_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        take_lock(path, "The folder")
        os.write(writing, b"held")
        time.sleep(60)
        os._exit(0)
    os.read(reading, 4)
    try:
        with pytest.raises(
            InUseError, match=rf"The folder is in use by another process \(process {number} on .* since 20"
        ):
            take_lock(path, "The folder")
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    assert take_lock(path, "The folder"), "the kernel releases the lock of a killed process"
    release_lock(path)


def test_take_lock_worker_of_a_killed_holder_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        take_lock(path, "The folder")
        worker = os.fork()
        if worker == 0:
            os.write(writing, b"%7d" % os.getpid())
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
        os._exit(0)
    worker = int(os.read(reading, 7))
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        assert take_lock(path, "The folder")
    finally:
        release_lock(path)
        os.kill(worker, signal.SIGKILL)


def test_hold_lock_inside_itself_stays_until_the_outer_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with hold_lock(path, "The folder"):
        with hold_lock(path, "The folder"):
            pass
        assert not run_in_fork(path)
    assert run_in_fork(path)


@pytest.mark.parametrize("stays", [True, False])
def test_hold_lock_file_stays_only_where_it_should(tmp_path: Path, stays: bool) -> None:
    path = tmp_path / "run.lock"
    with hold_lock(path, "The folder", stays):
        assert path.is_file()
        assert not run_in_fork(path)
    assert path.is_file() == stays
    assert run_in_fork(path)
