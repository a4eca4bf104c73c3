"""`evaluate` on the command line, and the table of its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import (
    Bundle,
    DataRoot,
    Device,
    Ensemble,
    FollowLinks,
    Json,
    Mirror,
    Precision,
    Trust,
    write_json_option,
)
from unet_pipeline.commands.output import say, tell, tell_next
from unet_pipeline.commands.tables import print_table, show_value, title_column
from unet_pipeline.commands.worker_options import Address, EngineName, Jobs, Sbatch, Threads, read_settings
from unet_pipeline.messages import show_cases

if TYPE_CHECKING:
    from unet_pipeline.evaluation.failures import Failure
    from unet_pipeline.evaluation.files import SummaryRecord
    from unet_pipeline.quality.claim import QualityRow
    from unet_pipeline.verbs.evaluate import Evaluation


_MAX_FAILURES = 8  # printed; summary.json has all


_By = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Results by this column of the list of cases; numbers are cut at quartiles, or at the edges of COLUMN=100,200.",
    ),
]
_Format = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Write the predictions as DICOM objects too, as `predict --format` names them."),
]
_Quality = Annotated[
    bool, typer.Option("--quality", help="How well the expected Dice of `predict` is kept: coverage, width, ranking.")
]


def evaluate(
    bundle: Bundle,
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Labelled folder; the validation cases if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.csv and summary.json.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Folder of label maps made before.")] = None,
    device: Device = None,
    mirror: Mirror = False,
    ensemble: Ensemble = False,
    by: _By = None,
    precision: Precision = "float32",
    follow_links: FollowLinks = False,
    data_root: DataRoot = None,
    jobs: Jobs = 1,
    engine: EngineName = "local",
    threads: Threads = None,
    address: Address = None,
    sbatch: Sbatch = None,
    quality: _Quality = False,
    format: _Format = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Metrics per case from prediction files, with a summary and its intervals."""
    import unet_pipeline
    from unet_pipeline.bundle.folder import BundleFolder
    from unet_pipeline.evidence.records.case_files import find_evaluation

    if ensemble and dataset is None:
        raise typer.BadParameter(
            "--ensemble needs a DATASET: every validation case was in the training of the other folds"
        )
    options = (device, mirror, ensemble, by or (), trust, precision)
    result = unet_pipeline.evaluate(
        bundle,
        dataset,
        out,
        predictions,
        *options,
        alone=True,
        announce=tell,
        follow_links=follow_links,
        data_root=data_root,
        jobs=jobs,
        engine=engine,
        threads=threads,
        address=address,
        sbatch=read_settings(sbatch),
        quality=quality,
        format=format,
    )
    print_evaluation(result)
    if quality:
        print_quality(result.quality)
    say(f"per case {result.folder / 'metrics.csv'}")
    is_shown_first = result.folder == find_evaluation(BundleFolder(bundle))
    given = () if predictions is None else ("--predictions", predictions)
    tell_next("view", bundle if is_shown_first else result.folder, *given)
    write_json_option(json_file, evaluation_as_data(result))


def print_evaluation(result: Evaluation) -> None:
    """The summary as a table, then lines per fold, subgroups, failures and notes."""
    from unet_pipeline.evaluation.metric_table import METRICS

    lines = []
    for row in result.summary:
        if not METRICS[row.metric].shown:
            continue
        mean = "undefined" if row.n == 0 else show_value(row.mean, row.metric)
        interval = (
            f"{show_value(row.low, row.metric)} - {show_value(row.high, row.metric)}" if row.low == row.low else "-"
        )
        if row.n == 1:
            interval = "n = 1"
        name = row.label if row.in_mean else f"{row.label} (not in the mean)"
        lines.append((name, title_column(row.metric, row.unit), str(row.n), mean, interval))
    headings = ("label", "metric", "n", "mean", "95 % interval")
    print_table(f"{result.title}, native grid", headings, lines, num_texts=2)
    _print_folds(result.record)
    _print_subgroups(result.record)
    _print_failures(result.record.failures)
    for note in result.record.notes:
        say(note)
    if result.excluded:
        shown = ", ".join(result.excluded[:3]) + (", ..." if len(result.excluded) > 3 else "")
        say(f"left out: {show_cases(len(result.excluded))} that the network was trained on ({shown})")


def print_quality(rows: Sequence[QualityRow]) -> None:
    """How well expected Dice was kept, a line per label."""
    if not rows:
        say("expected Dice: too few cases of every label to fit it and to judge it by others")
        return
    headings = ("label", "n", "in interval", "width", "error", "AURC", "entropy", "random", "best", "AUROC")
    lines = [
        (
            row.label,
            str(row.n),
            f"{100 * row.coverage:.0f} %",
            *(f"{value:.3f}" for value in (row.mean_width, row.mean_absolute_error)),
            *(f"{value:.4f}" for value in (row.aurc, row.aurc_entropy, row.aurc_random, row.aurc_best)),
            "-" if row.auroc != row.auroc else f"{row.auroc:.2f}",
        )
        for row in rows
    ]
    print_table("expected Dice, 90 % intervals", headings, lines, num_texts=1)


def evaluation_as_data(result: Evaluation) -> dict[str, object]:
    """What `evaluate` prints, as plain values: the contents of summary.json."""
    from unet_pipeline.evaluation.files import summary_as_data

    return summary_as_data(result.record)


def _print_folds(record: SummaryRecord) -> None:
    first = record.rows[0].label if record.rows else ""
    lines = [line for line in record.per_fold if line.metric == "dice" and line.label == first]
    if len(lines) > 1:
        shown = (f"fold {line.fold} {show_value(line.mean, 'dice')} (n = {line.n})" for line in lines)
        say(f"Dice, {first}, by fold: {', '.join(shown)}")


def _print_subgroups(record: SummaryRecord) -> None:
    first = record.rows[0].label if record.rows else ""
    by_column: dict[str, list[tuple[str, ...]]] = {}
    for row in record.subgroups:
        if row.metric == "dice" and row.label == first:
            interval = "too few" if row.too_small else f"{show_value(row.low, 'dice')} - {show_value(row.high, 'dice')}"
            mean = "undefined" if row.n == 0 else show_value(row.mean, "dice")
            by_column.setdefault(row.column, []).append((row.group, str(row.n), mean, interval))
    for column, lines in by_column.items():
        print_table(f"Dice, {first}, by {column}", (column, "n", "mean", "95 % interval"), lines, num_texts=1)


def _print_failures(failures: Sequence[Failure]) -> None:
    if failures:
        say("look at:")
    for failure in failures[:_MAX_FAILURES]:
        dice = failure.values["dice"]
        shown = "undefined" if dice != dice else show_value(dice, "dice")
        say(f"  {failure.case}  {failure.label}  Dice {shown}  {', '.join(failure.kinds)}")
    if len(failures) > _MAX_FAILURES:
        say(f"  and {len(failures) - _MAX_FAILURES} more in summary.json")
