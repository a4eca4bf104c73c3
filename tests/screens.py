"""A terminal of a test: programs write to it as to a real one, and its screen is read as text."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pyte
import pytest


def render(written: str | bytes, width: int, height: int = 400) -> list[str]:
    """Lines of a screen of `width` columns after something was written to it, without empty ones at the end."""
    screen = pyte.Screen(width, height)
    screen.set_mode(pyte.modes.LNM)  # as the line discipline turns a line feed into carriage return and line feed
    text = written.decode("utf-8", "replace") if isinstance(written, bytes) else written
    pyte.Stream(screen).feed(text)
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines


class FakeTerminal(io.StringIO):
    """Takes the place of stdout or stderr."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return render(self.getvalue(), self.width)


def fake_terminal(monkeypatch: pytest.MonkeyPatch, width: int, stream: str = "stderr") -> FakeTerminal:
    """A terminal of `width` columns in place of a stream of this process."""
    terminal = FakeTerminal(width)
    monkeypatch.setattr(sys, stream, terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def run_in_terminal(words: Sequence[str | Path], width: int, folder: Path | None = None) -> tuple[int, list[str]]:
    """Exit status of a command in a pseudo-terminal of `width` columns, and the lines of its screen."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 400, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        list(map(str, words)), stdin=secondary, stdout=secondary, stderr=secondary, cwd=folder, env=environment
    )
    os.close(secondary)
    written = b""
    while True:
        try:
            chunk = os.read(primary, 65536)
        except OSError:  # Linux says so at the end
            chunk = b""
        if not chunk:
            break
        written += chunk
    os.close(primary)
    return process.wait(), render(written, width)
