"""Tables of results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from unet_pipeline.commands.output import say

WIDTH = 100


def title_column(metric: str, unit: str) -> str:
    """Heading of a metric's column: its title and the unit, where it has one."""
    from unet_pipeline.evaluation.metric_table import AREA_UNITS, METRICS, title_metric

    title = title_metric(metric, METRICS[metric].kind == "size" and unit in AREA_UNITS)
    return f"{title}, {unit}" if unit else title


def show_value(value: float, metric: str, sign: str = "") -> str:
    """A number with as many decimals as its metric is given with; `sign` "+" also shows that of a positive one."""
    from unet_pipeline.evaluation.metric_table import METRICS

    return f"{value:{sign}.{METRICS[metric].decimals}f}"


def print_table(
    title: str, headings: Sequence[str], lines: Iterable[Sequence[str]], num_texts: int, width: int = WIDTH
) -> None:
    """A table whose first columns are texts and the rest numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    say(title)  # as a title of the table it would be wrapped at the table's width
    table = Table(box=SIMPLE_HEAD)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < num_texts else "right")
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else width).print(table)
