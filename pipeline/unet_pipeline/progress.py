"""One progress bar: drawn on a terminal, plain lines elsewhere.

Plain lines come at most every `PLAIN_INTERVAL_S` seconds, so that a log file stays readable.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_INTERVAL_S = 15.0
LARGE_BYTES = 1 << 30  # to hash takes seconds
_NUM_RECENT = 30  # steps whose times tell how long the ones to come take

_is_wanted = True


class Bar(Protocol):
    """What a stage may do with a progress bar."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps; with 0 of them the note alone changes, on a terminal."""

    def pause(self, seconds: float, num_left: int) -> None:
        """Leave out time that no step took, such as a validation; `num_left` pauses like it are still to come."""

    def report(self, line: str) -> None:
        """Show a line about what was done: below the bar on a terminal, where "" removes it; elsewhere at most every
        `PLAIN_INTERVAL_S` seconds."""


def show_progress(is_wanted: bool = True) -> None:
    """Whether bars, and lines about what is being done, go to stderr, from now on in this process; warnings and errors always do."""
    global _is_wanted
    _is_wanted = is_wanted


def is_progress_shown() -> bool:
    """Whether they do."""
    return _is_wanted


def say_progress(line: str) -> None:
    """A line on stderr about what is being done, where it is wanted."""
    if _is_wanted:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(title: str, total: int, is_shown: bool = True, num_at_once: int = 1) -> Iterator[Bar]:
    """Bar over `total` steps on stderr; results go to stdout, so that they can be piped.

    Not shown for what takes no time, and after `show_progress(False)`.

    Args:
        num_at_once: steps that run side by side, and so end together.
    """
    if not (is_shown and _is_wanted):
        yield _HiddenBar()
    elif sys.stderr.isatty():
        from unet_pipeline.terminal_bar import draw_bar

        with draw_bar(title, total, TimeLeft(total, num_at_once)) as bar:
            yield bar
    else:
        yield _PlainBar(title, total, num_at_once)


@contextmanager
def preparing(title: str) -> Iterator[None]:
    """On a terminal, say that `title` is being prepared, until the block ends; a bar follows."""
    if not (_is_wanted and sys.stderr.isatty()):
        yield
        return
    from unet_pipeline.terminal_bar import draw_preparation

    with draw_preparation(title):
        yield


class TimeLeft:
    """How long the steps to come will take: the median of the recent ones, without the first, which prepares much.

    Of steps that run side by side, the time in which as many of them end as run at once is that of a step: they end together.
    """

    def __init__(self, total: int, num_at_once: int = 1) -> None:
        self.total, self.num_at_once, self.done = total, max(1, num_at_once), 0
        self.started_s = self._last_s = time.monotonic()
        self._paused_s = 0.0
        self._ends_s: deque[float] = deque(maxlen=_NUM_RECENT + self.num_at_once)  # without pauses
        self._pauses_s: deque[float] = deque(maxlen=_NUM_RECENT)
        self._num_pauses_left = 0

    def advance(self, steps: int) -> None:
        """Steps that ended since the last time, evenly."""
        now_s = time.monotonic() - self._paused_s
        self.done += steps
        self._ends_s += [self._last_s + (now_s - self._last_s) * number / steps for number in range(1, steps + 1)]
        if steps:
            self._last_s = now_s

    def pause(self, seconds: float, num_left: int) -> None:
        """Time that is none of the steps', and how many pauses like it are to come."""
        self._paused_s += seconds
        self._pauses_s.append(seconds)
        self._num_pauses_left = num_left

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started_s

    def estimate_s(self) -> float | None:
        """Seconds left; None as long as no two steps have followed each other."""
        if self.done >= self.total:
            return 0.0
        if len(self._ends_s) <= self.num_at_once:
            return None
        ends_s = list(self._ends_s)
        step_s = statistics.median(
            end_s - start_s for start_s, end_s in zip(ends_s, ends_s[self.num_at_once :], strict=False)
        )
        rest_s = step_s * (self.total - self.done) / self.num_at_once
        rest_s -= min(time.monotonic() - self._paused_s - self._last_s, rest_s)
        return rest_s + (self._num_pauses_left * statistics.median(self._pauses_s) if self._pauses_s else 0.0)


class _HiddenBar:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def pause(self, seconds: float, num_left: int) -> None:
        pass

    def report(self, line: str) -> None:
        pass


class _PlainBar:
    def __init__(self, title: str, total: int, num_at_once: int) -> None:
        self.title, self.left = title, TimeLeft(total, num_at_once)
        self.printed_s = time.monotonic()
        self.reported_s: float | None = None

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left.advance(steps)
        now_s = time.monotonic()
        is_due = self.left.done >= self.left.total or now_s - self.printed_s >= PLAIN_INTERVAL_S
        if not steps or not is_due:
            return
        self.printed_s = now_s
        left_s = self.left.estimate_s()
        time_text = f"{format_duration(self.left.elapsed_s)} elapsed"
        if left_s is not None:
            time_text += f", {format_duration(left_s)} left"
        line = f"{self.title}: {self.left.done}/{self.left.total}  {note}  {time_text}".replace("    ", "  ")
        print(line, file=sys.stderr)

    def pause(self, seconds: float, num_left: int) -> None:
        self.left.pause(seconds, num_left)

    def report(self, line: str) -> None:
        now_s = time.monotonic()
        is_due = self.reported_s is None or now_s - self.reported_s >= PLAIN_INTERVAL_S
        if line and (is_due or self.left.done >= self.left.total):
            self.reported_s = now_s
            print(f"{self.title}: {line}", file=sys.stderr)


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
