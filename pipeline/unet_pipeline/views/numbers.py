"""Summaries of evaluations, of comparisons, and of what was tuned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unet_pipeline.boundary import show_place
from unet_pipeline.evaluation.case_values import ALL_LABELS
from unet_pipeline.evaluation.metric_table import METRICS, name_value, title_with_unit
from unet_pipeline.views.pictures import draw_differences, draw_reliability, draw_scores
from unet_pipeline.views.summary import Picture, Summary, Table, count

if TYPE_CHECKING:
    from unet_pipeline.evaluation.comparison import ComparisonRecord
    from unet_pipeline.evaluation.summary import SummaryRow
    from unet_pipeline.tuning.choose import Tuning
    from unet_pipeline.verbs.evaluate import Evaluation

_MOST_FAILURES = 10


def _show(value: float, metric: str, sign: str = "") -> str:
    return "-" if value != value else METRICS[metric].format(value, sign)


def _summarize_evaluation(evaluation: Evaluation) -> Summary:
    shown = [row for row in evaluation.summary if METRICS[row.metric].shown]
    dice = {row.label: row for row in evaluation.summary if row.metric == "dice"}
    whole = dice.get(ALL_LABELS) or next(iter(dice.values()), None)
    failures = evaluation.record.failures
    tables = [_tabulate_scores(shown)]
    if failures:
        rows = [
            (one.case, one.label, ", ".join(one.kinds), _show(one.values["dice"], "dice"))
            for one in failures[:_MOST_FAILURES]
        ]
        left = max(0, len(failures) - _MOST_FAILURES)
        tables.append(Table("look at these first", ("case", "label", "why", "Dice"), rows, 3, left))
    scored = list(evaluation.record.scored_labels)
    ends = {label: (row.mean, row.low, row.high) for label, row in dice.items()}
    return Summary(
        f"{evaluation.title}: {_say_mean(whole) if whole else 'nothing measured'}",
        {
            "numbers": show_place(evaluation.folder),
            "grid": evaluation.record.grid,
            "left out": len(evaluation.excluded),
        },
        tables,
        (Picture("Dice of every case by label", lambda: draw_scores(evaluation.rows, scored, ends)),),
        evaluation.record.notes,
    )


def _say_mean(row: SummaryRow) -> str:
    """Mean Dice with interval and number of cases."""
    if row.n == 0:
        return "Dice undefined"
    interval = "" if row.low != row.low else f" [{_show(row.low, 'dice')}, {_show(row.high, 'dice')}]"
    return f"Dice {_show(row.mean, 'dice')}{interval}, n = {row.n}"


def _tabulate_scores(rows: list[SummaryRow]) -> Table:
    """A row per label, and a column per metric: mean and 95 % interval."""
    metrics = list(dict.fromkeys((row.metric, row.unit) for row in rows))
    labels = list(dict.fromkeys(row.label for row in rows))
    cells = {(row.label, row.metric, row.unit): row for row in rows}
    lines = []
    for label in labels:
        line = [label, str(max(row.n for row in rows if row.label == label))]
        for metric, unit in metrics:
            row = cells.get((label, metric, unit))
            interval = (
                "" if row is None or row.low != row.low else f" [{_show(row.low, metric)}, {_show(row.high, metric)}]"
            )
            line.append("-" if row is None else f"{_show(row.mean, metric)}{interval}")
        lines.append(line)
    headings = ("label", "n", *(title_with_unit(metric, unit) for metric, unit in metrics))
    return Table("mean over cases with its 95 % interval", headings, lines)


def _summarize_comparison(record: ComparisonRecord) -> Summary:
    rows = [row for row in record.rows if METRICS[row.metric].shown]
    lines = [
        (
            row.label,
            title_with_unit(row.metric, row.unit),
            str(row.n),
            _show(row.mean_a, row.metric),
            _show(row.mean_b, row.metric),
            f"{_show(row.difference, row.metric, '+')} [{_show(row.low, row.metric, '+')}, {_show(row.high, row.metric, '+')}]",
            {"a": record.a, "b": record.b}.get(row.better, "neither"),
        )
        for row in rows
    ]
    headings = ("label", "metric", "n", record.a, record.b, "difference [95 % interval]", "better")
    first = rows[0].metric if rows else "dice"
    drawn = [row for row in rows if row.metric == first and row.n]
    lead = drawn[-1] if drawn else None
    title = title_with_unit(first, lead.unit) if lead else ""
    line = f", {name_value(first, _show(lead.difference, first, '+'), lead.unit)}" if lead else ""
    return Summary(
        f"{record.b} minus {record.a}: {count(record.num_cases, 'case')} in both{line}",
        {"a": f"{record.a} ({record.title_a})", "b": f"{record.b} ({record.title_b})", "grid": record.grid},
        (Table("case by case", headings, lines, 2),),
        (
            Picture(
                f"difference of {title} by label",
                lambda: draw_differences(drawn, title, record.a, record.b),
            ),
        )
        if drawn
        else (),
        record.notes,
    )


def _summarize_tuning(tuning: Tuning) -> Summary:
    calibration = tuning.calibration
    taken = sum(decision.taken for decision in tuning.decisions)
    rows = [
        (
            decision.label,
            decision.candidate,
            "yes" if decision.taken else "no",
            f"{decision.before:.4f}",
            f"{decision.after:.4f}",
            f"[{decision.low:+.4f}, {decision.high:+.4f}]",
        )
        for decision in tuning.decisions
    ]
    bins = {
        f"temperature {temperature:.3g}": [(one.confidence, one.right_share) for one in curve if one.num_voxels]
        for temperature, curve in ((1.0, calibration.bins_before), (calibration.temperature, calibration.bins_after))
    }
    curves = {name: points for name, points in bins.items() if points}
    headings = ("label", "candidate", "taken", "Dice before", "after", "difference, 95 % interval")
    return Summary(
        f"{count(tuning.num_cases, 'case')}: {taken} of {len(rows)} taken, temperature {calibration.temperature:.3g}",
        {"calibration error": f"{calibration.error_before:.4f} before, {calibration.error_after:.4f} after"},
        (Table("post-processing that was tried", headings, rows, 3),),
        (Picture("share that is right, over the confidence", lambda: draw_reliability(curves)),) if curves else (),
        (calibration.reason,) if calibration.reason else (),
    )


SUMMARIES: dict[str, Callable[[Any], Summary]] = {
    "Evaluation": _summarize_evaluation,
    "ComparisonRecord": _summarize_comparison,
    "Tuning": _summarize_tuning,
}
