"""One progress bar: drawn on a terminal, plain lines elsewhere.

Plain lines come at most every `PLAIN_INTERVAL_S` seconds, so that a log file stays readable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_INTERVAL_S = 15.0
LARGE_BYTES = 1 << 30  # to hash takes seconds
_is_wanted = True


class Bar(Protocol):
    """What a stage may do with a progress bar."""

    def advance(self, steps: int = 1, note: str = "") -> None: ...

    def report(self, line: str) -> None:
        """Show a line about what was done: below the bar on a terminal; elsewhere at most every `PLAIN_INTERVAL_S` seconds."""


def show_progress(is_wanted: bool = True) -> None:
    """Whether bars, and lines about what is being done, go to stderr, from now on in this process; warnings and errors always do."""
    global _is_wanted
    _is_wanted = is_wanted


def say_progress(line: str) -> None:
    """A line on stderr about what is being done, where it is wanted."""
    if _is_wanted:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(title: str, total: int, is_shown: bool = True) -> Iterator[Bar]:
    """Bar over `total` steps on stderr; results go to stdout, so that they can be piped.

    Not shown for what takes no time, and after `show_progress(False)`.
    """
    if not (is_shown and _is_wanted):
        yield _HiddenBar()
    elif sys.stderr.isatty():
        with _terminal_bar(title, total) as bar:
            yield bar
    else:
        yield _PlainBar(title, total)


class _HiddenBar:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def report(self, line: str) -> None:
        pass


class _PlainBar:
    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.started_s = self.printed_s = time.monotonic()
        self.reported_s: float | None = None

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        now_s = time.monotonic()
        if self.done < self.total and now_s - self.printed_s < PLAIN_INTERVAL_S:
            return
        self.printed_s = now_s
        elapsed_s = now_s - self.started_s
        left_s = elapsed_s / max(self.done, 1) * (self.total - self.done)
        time_text = f"{format_duration(elapsed_s)} elapsed, {format_duration(left_s)} left"
        print(f"{self.title}: {self.done}/{self.total}  {note}  {time_text}".replace("    ", "  "), file=sys.stderr)

    def report(self, line: str) -> None:
        now_s = time.monotonic()
        is_due = self.reported_s is None or now_s - self.reported_s >= PLAIN_INTERVAL_S
        if is_due or self.done >= self.total:
            self.reported_s = now_s
            print(f"{self.title}: {line}", file=sys.stderr)


@contextmanager
def _terminal_bar(title: str, total: int) -> Iterator[Bar]:
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class ReportingProgress(Progress):
        """A bar with one line of text below it."""

        line = ""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            if self.line:
                yield Text(f"  {self.line}", style="dim", no_wrap=True, overflow="ellipsis")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with ReportingProgress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="")

        class TerminalBar:
            def advance(self, steps: int = 1, note: str = "") -> None:
                progress.update(task, advance=steps, note=note)

            def report(self, line: str) -> None:
                progress.line = line

        yield TerminalBar()


def format_duration(seconds: float) -> str:
    """Minutes and seconds ("2:05"), with hours when there are any ("1:02:05")."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def describe_time(seconds: float) -> str:
    """A time in the words that suit how well it is known, such as "about 12 minutes"."""
    minutes = seconds / 60
    if minutes < 0.75:
        return "less than a minute"
    if minutes < 1.5:
        return "about a minute"
    if minutes < 20:
        return f"about {minutes:.0f} minutes"
    if minutes < 87.5:
        return f"about {5 * round(minutes / 5)} minutes"
    hours = minutes / 60
    if hours < 10:
        return f"about {round(2 * hours) / 2:g} hours"
    return f"about {hours:.0f} hours" if hours < 48 else f"about {hours / 24:.0f} days"
