"""Freed memory stays with the process in a training, and is handed back between the steps of a large volume."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import psutil, numpy
from unet_pipeline.device.allocator import keep_freed_pages, release_freed_pages
assert keep_freed_pages()
used = lambda: psutil.Process().memory_info().rss >> 20
large, behind = numpy.ones(25 << 20), numpy.ones(1 << 10)
full = used()
del large
kept, released = used(), release_freed_pages()
print(full - kept, released, kept - used(), behind.sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's options")
def test_keep_freed_pages_keeps_and_release_freed_pages_hands_back() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    kept_away, released, handed_back, _ = done.stdout.split()
    assert int(kept_away) < 20, "MiB that a free took from the process"
    assert released == "True"
    assert int(handed_back) > 150, "MiB"


@pytest.mark.parametrize("name", ["keep_freed_pages", "release_freed_pages"])
def test_freed_pages_of_another_system_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from unet_pipeline.device import allocator

    monkeypatch.setattr(sys, "platform", "darwin")
    assert getattr(allocator, name)() is False
