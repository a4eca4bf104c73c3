"""What `evaluate` and `compare` print."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.printing import say

if TYPE_CHECKING:
    from pipeline.evaluation.comparison import ComparisonRecord, ComparisonRow
    from pipeline.evaluation.failures import Failure
    from pipeline.evaluation.files import SummaryRecord
    from pipeline.training.run import TrainingRun
    from pipeline.verbs import Evaluation

_MAX_FAILURES = 8  # printed; summary.json has all
_WIDTH = 100


def print_evaluation(result: Evaluation) -> None:
    """The summary as a table, then lines per fold, subgroups, failures and notes."""
    from pipeline.evaluation.metric_table import METRICS

    lines = []
    for row in result.summary:
        if not METRICS[row.metric].shown:
            continue
        mean = "undefined" if row.n == 0 else _show(row.mean, row.metric)
        interval = f"{_show(row.low, row.metric)} - {_show(row.high, row.metric)}" if row.low == row.low else "-"
        if row.n == 1:
            interval = "n = 1"
        name = row.label if row.in_mean else f"{row.label} (not in the mean)"
        lines.append((name, _title(row.metric, row.unit), str(row.n), mean, interval))
    headings = ("label", "metric", "n", "mean", "95 % interval")
    _print_table(f"{result.title}, native grid", headings, lines, num_texts=2)
    _print_folds(result.record)
    _print_subgroups(result.record)
    _print_failures(result.record.failures)
    for note in result.record.notes:
        say(note)
    if result.excluded:
        shown = ", ".join(result.excluded[:3]) + (", ..." if len(result.excluded) > 3 else "")
        say(f"left out: {len(result.excluded)} cases that the network was trained on ({shown})")


def evaluation_as_data(result: Evaluation) -> dict[str, Any]:
    """What `evaluate` prints, as plain values: the contents of summary.json."""
    from pipeline.evaluation.files import summary_as_data

    return summary_as_data(result.record)


def print_spread(runs: Sequence[TrainingRun]) -> None:
    """Mean, standard deviation and range of the validation Dice over the seeds of each fold."""
    for fold in sorted({run.fold for run in runs}):
        values = [run.best_dice for run in runs if run.fold == fold and run.best_dice is not None]
        if len(values) < 2:
            say(f"fold {fold}: fewer than two seeds have a validation, so there is no spread")
            continue
        say(
            f"fold {fold}, {len(values)} seeds: best Dice {statistics.mean(values):.4f} (SD {statistics.stdev(values):.4f}, "
            f"{min(values):.4f} to {max(values):.4f}; resampled grid)"
        )


def _print_folds(record: SummaryRecord) -> None:
    first = record.rows[0].label if record.rows else ""
    lines = [line for line in record.per_fold if line.metric == "dice" and line.label == first]
    if len(lines) > 1:
        shown = (f"fold {line.fold} {_show(line.mean, 'dice')} (n = {line.n})" for line in lines)
        say(f"Dice, {first}, by fold: {', '.join(shown)}")


def _print_subgroups(record: SummaryRecord) -> None:
    first = record.rows[0].label if record.rows else ""
    by_column: dict[str, list[tuple[str, ...]]] = {}
    for row in record.subgroups:
        if row.metric == "dice" and row.label == first:
            interval = "too few" if row.too_small else f"{_show(row.low, 'dice')} - {_show(row.high, 'dice')}"
            mean = "undefined" if row.n == 0 else _show(row.mean, "dice")
            by_column.setdefault(row.column, []).append((row.group, str(row.n), mean, interval))
    for column, lines in by_column.items():
        _print_table(f"Dice, {first}, by {column}", (column, "n", "mean", "95 % interval"), lines, num_texts=1)


def _print_failures(failures: Sequence[Failure]) -> None:
    if failures:
        say("look at:")
    for failure in failures[:_MAX_FAILURES]:
        dice = failure.values["dice"]
        shown = "undefined" if dice != dice else _show(dice, "dice")
        say(f"  {failure.case}  {failure.label}  Dice {shown}  {', '.join(failure.kinds)}")
    if len(failures) > _MAX_FAILURES:
        say(f"  and {len(failures) - _MAX_FAILURES} more in summary.json")


def print_comparison(record: ComparisonRecord) -> None:
    """Differences as a table, and what was left out."""
    say(f"a  {record.a}  ({record.title_a})")
    say(f"b  {record.b}  ({record.title_b})")
    headings = ("label", "metric", "n", "a", "b", "b - a", "95 % interval", "effect", "b better", "p")
    lines = [_describe_difference(row) for row in record.rows]
    _print_table(f"{record.num_cases} cases in both, {record.grid} grid", headings, lines, num_texts=2, width=130)
    for name, cases in (("a", record.only_a), ("b", record.only_b)):
        if cases:
            shown = ", ".join(cases[:3]) + (", ..." if len(cases) > 3 else "")
            say(f"only in {name}, left out: {len(cases)} cases ({shown})")
    for note in record.notes:
        say(note)


def _describe_difference(row: ComparisonRow) -> tuple[str, ...]:
    name = (row.label, _title(row.metric, row.unit), str(row.n))
    if row.n == 0:
        return (*name, *["-"] * 7)
    values = (_show(row.mean_a, row.metric), _show(row.mean_b, row.metric), _show(row.difference, row.metric, "+"))
    interval = "-" if row.low != row.low else f"{_show(row.low, row.metric, '+')} to {_show(row.high, row.metric, '+')}"
    effect = "-" if row.effect_size != row.effect_size else f"{row.effect_size:+.2f}"
    p_value = "-" if row.p_value != row.p_value else f"{row.p_value:.2g}"
    return (*name, *values, interval, effect, f"{row.share_better:.0%}", p_value)


def _title(metric: str, unit: str) -> str:
    from pipeline.evaluation.metric_table import METRICS

    return f"{METRICS[metric].title}, {unit}" if unit else METRICS[metric].title


def _show(value: float, metric: str, sign: str = "") -> str:
    from pipeline.evaluation.metric_table import METRICS

    return f"{value:{sign}.{METRICS[metric].decimals}f}"


def _print_table(
    title: str, headings: Sequence[str], lines: Iterable[Sequence[str]], num_texts: int, width: int = _WIDTH
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
