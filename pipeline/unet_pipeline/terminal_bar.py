"""The progress bar as it is drawn on a terminal: the bar with its numbers, what is being done below it, and a line about what was done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from unet_pipeline.progress import Bar, TimeLeft, format_duration

_NARROW = 72  # columns of a terminal that has no room for both times


class _TimeColumn(ProgressColumn):
    """ "preparing" before the first step, then the time that has passed and, as soon as it is known, the time left."""

    max_refresh = None

    def __init__(self, left: TimeLeft, console: Console) -> None:
        super().__init__(Column(no_wrap=True, justify="right"))
        self.left, self.console = left, console

    def render(self, task: Task) -> Text:
        elapsed = f"{format_duration(task.fields['elapsed_s'] or self.left.elapsed_s)} elapsed"
        if not task.started:
            return Text(f"preparing, {elapsed}")
        left_s = self.left.estimate_s()
        if not left_s:
            return Text(elapsed)
        left = f"{format_duration(left_s)} left"
        return Text(left if self.console.width < _NARROW else f"{elapsed}, {left}")


class _TerminalBar(Progress):
    """A bar of the terminal's width; under it the note of the last step and the last report, each on lines of their own."""

    def __init__(self, title: str, total: int, left: TimeLeft) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _TimeColumn(left, console),
        )
        self.left, self.note, self.line = left, "", ""
        # what is printed meanwhile goes where it would go without a bar
        super().__init__(*columns, console=console, expand=True, redirect_stdout=sys.stdout.isatty())
        self.task = self.add_task(title, total=total, start=False, elapsed_s=None)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        if self.note:
            yield Text(f"  {self.note}", no_wrap=True, overflow="ellipsis")
        if self.line:
            yield Padding(Text(self.line, style="dim"), (0, 0, 0, 2))


class _Drawn:
    """What a stage sees of the bar."""

    def __init__(self, bar: _TerminalBar) -> None:
        self._bar = bar

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bar.left.advance(steps)
        self._bar.note = note
        if steps:
            self._bar.start_task(self._bar.task)
        self._bar.update(self._bar.task, advance=steps)

    def pause(self, seconds: float, num_left: int) -> None:
        self._bar.left.pause(seconds, num_left)

    def report(self, line: str) -> None:
        self._bar.line = line


@contextmanager
def draw_bar(title: str, total: int, left: TimeLeft) -> Iterator[Bar]:
    """A bar on stderr, which stays there as it is at the end of the block."""
    with _TerminalBar(title, total, left) as bar:
        try:
            yield _Drawn(bar)
        finally:
            bar.update(bar.task, elapsed_s=left.elapsed_s)


@contextmanager
def draw_preparation(title: str) -> Iterator[None]:
    """A line on stderr that moves, and is gone at the end of the block."""
    with Console(stderr=True).status(f"{title}  preparing", spinner="line"):
        yield
