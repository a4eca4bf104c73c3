"""`compare` on the command line, and the table of its differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say
from unet_pipeline.commands.tables import print_table, show_value, title_column
from unet_pipeline.messages import show_cases

if TYPE_CHECKING:
    from unet_pipeline.evaluation.comparison import ComparisonRecord, ComparisonRow


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A bundle, or a folder with metrics.csv and summary.json.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Likewise; differences are B minus A.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Such as dice; repeat for several. All that both have, if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json and comparison.csv.")] = None,
    json_file: Json = None,
) -> None:
    """Compare two evaluations case by case: difference, interval, effect size."""
    import unet_pipeline
    from unet_pipeline.evaluation.comparison import comparison_as_data

    record = unet_pipeline.compare(a, b, metric or (), out)
    print_comparison(record)
    write_json_option(json_file, comparison_as_data(record))


def print_comparison(record: ComparisonRecord) -> None:
    """Differences as a table, and what was left out."""
    say(f"a  {record.a}  ({record.title_a})")
    say(f"b  {record.b}  ({record.title_b})")
    headings = ("label", "metric", "n", "a", "b", "b - a", "95 % interval", "effect", "b better", "p")
    lines = [_describe_difference(row) for row in record.rows]
    print_table(f"{show_cases(record.num_cases)} in both, {record.grid} grid", headings, lines, num_texts=2)
    for name, cases in (("a", record.only_a), ("b", record.only_b)):
        if cases:
            shown = ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")
            say(f"only in {name}, left out: {show_cases(len(cases))} ({shown})")
    for note in record.notes:
        say(note)


def _describe_difference(row: ComparisonRow) -> tuple[str, ...]:
    name = (row.label, title_column(row.metric, row.unit), str(row.n))
    if row.n == 0:
        return (*name, *["-"] * 7)
    values = (
        show_value(row.mean_a, row.metric),
        show_value(row.mean_b, row.metric),
        show_value(row.difference, row.metric, "+"),
    )
    interval = (
        "-"
        if row.low != row.low
        else f"{show_value(row.low, row.metric, '+')} to {show_value(row.high, row.metric, '+')}"
    )
    effect = "-" if row.effect_size != row.effect_size else f"{row.effect_size:+.2f}"
    p_value = "-" if row.p_value != row.p_value else f"{row.p_value:.2g}"
    return (*name, *values, interval, effect, f"{row.share_better:.0%}", p_value)
