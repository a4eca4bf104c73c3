"""Tables of results on stdout."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from unet_pipeline.commands.output import say

if TYPE_CHECKING:
    from rich.table import Table

_Rows = Sequence[Sequence[str]]


def title_column(metric: str, unit: str) -> str:
    """Heading of a metric's column: its title and the unit, where it has one."""
    from unet_pipeline.evaluation.metric_table import title_with_unit

    return title_with_unit(metric, unit)


def show_value(value: float, metric: str, sign: str = "") -> str:
    """A number with as many decimals as its metric is given with; `sign` "+" also shows that of a positive one."""
    from unet_pipeline.evaluation.metric_table import METRICS

    return METRICS[metric].format(value, sign)


def print_table(title: str, headings: Sequence[str], lines: Iterable[Sequence[str]], num_texts: int) -> None:
    """A table whose first columns are texts and the rest numbers; no cell is ever wrapped.

    On a terminal that is too narrow for it the first column becomes lines between the rows, the columns move together, and at last every
    row becomes a paragraph. Elsewhere the table is as wide as it is.
    """
    from rich.console import Console

    say(title)  # as a title of the table it would be wrapped at the table's width
    console, rows = Console(markup=False, emoji=False), list(lines)
    tables = list(_build_tables(headings, rows, num_texts))
    widths = [console.measure(table, options=console.options.update(max_width=10_000)).maximum for table in tables]
    if not sys.stdout.isatty():
        Console(width=widths[0], markup=False, emoji=False).print(tables[0])
        return
    for table, width in zip(tables, widths, strict=True):
        if width <= console.width:
            console.print(table)
            return
    say()
    for row in rows:
        say("\n".join(_stack(headings, row, console.width)))
    say()


def _build_tables(headings: Sequence[str], rows: _Rows, num_texts: int) -> Iterator[Table]:
    """The table in its forms, the widest first."""
    yield _build(headings, rows, num_texts)
    groups: dict[str, _Rows] = {row[0]: [other[1:] for other in rows if other[0] == row[0]] for row in rows}
    if len(groups) < len(rows):
        grouped = [
            line for name, group in groups.items() for line in ((name,), *((f"  {row[0]}", *row[1:]) for row in group))
        ]
        yield _build(headings[1:], grouped, num_texts - 1)
    yield _build(headings, rows, num_texts, padding=0)
    if len(groups) < len(rows):
        yield _build(headings[1:], grouped, num_texts - 1, padding=0)


def _build(headings: Sequence[str], rows: _Rows, num_texts: int, padding: int = 1) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, padding))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < num_texts else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _stack(headings: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row as a paragraph: its first two cells, then the others with their headings; a line breaks between two of them."""
    pairs = zip(headings[2:], row[2:], strict=True)
    text = "  ".join(f"{heading} {value}".replace(" ", "\0") for heading, value in pairs)
    rest = textwrap.wrap(text, width - 2, break_long_words=False, break_on_hyphens=False)
    return [*textwrap.wrap(", ".join(row[:2]), width), *(f"  {line}".replace("\0", " ") for line in rest)]
