"""`learning-curve` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import (
    DataRoot,
    Dataset,
    Device,
    FollowLinks,
    Json,
    Labels,
    Layout,
    MissingChannels,
    Patient,
    parse_labels,
    read_options,
    write_json_option,
)
from unet_pipeline.commands.output import say, tell
from unet_pipeline.commands.plan import Preset
from unet_pipeline.commands.tables import print_table, show_value, title_column
from unet_pipeline.commands.worker_options import Address, EngineName, Jobs, Sbatch, Threads, read_settings

if TYPE_CHECKING:
    from unet_pipeline.studies.learning_curve import LearningCurve


def learning_curve(
    dataset: Dataset,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for trainings, numbers and figure.")],
    sizes: Annotated[
        str | None,
        typer.Option(metavar="N,N,N", help="Training cases; an eighth, a quarter, a half and all, if not given."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Orders of the patients, each with nested subsets.")] = 3,
    more: Annotated[
        int | None, typer.Option(min=1, help="Further cases that are asked about; a quarter of all, if not given.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Such as dice; the mean of the labels is taken.")] = "dice",
    preset: Preset = "quick",
    steps: Annotated[int | None, typer.Option(min=1, help="Of every training; the preset's, if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of held-out cases, orders and trainings.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan, tell the time, and stop.")] = False,
    label: Labels = None,
    layout: Layout = None,
    patient: Patient = None,
    missing_channels: MissingChannels = None,
    follow_links: FollowLinks = False,
    data_root: DataRoot = None,
    device: Device = None,
    jobs: Jobs = 1,
    engine: EngineName = "local",
    threads: Threads = None,
    address: Address = None,
    sbatch: Sbatch = None,
    json_file: Json = None,
) -> None:
    """Tell how much more cases would help: trainings on nested subsets, a power law, one sentence."""
    import unet_pipeline
    from unet_pipeline.verbs.learning_curve import CurveDesign, curve_as_data

    curve = unet_pipeline.learning_curve(
        dataset,
        out,
        CurveDesign(_parse_sizes(sizes), repeats, metric, more, preset, steps, seed),
        parse_labels(label),
        read_options(layout, patient, False, False, False, follow_links, missing_channels=missing_channels),
        data_root,
        dry_run,
        say if dry_run else tell,
        device,
        jobs,
        engine,
        threads,
        address,
        read_settings(sbatch),
    )
    if curve is None:
        tell("Next: the same command again" + (" without --dry-run" if dry_run else ""))
        return
    print_curve(curve, out)
    write_json_option(json_file, curve_as_data(curve))


def _parse_sizes(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(",")) if text else ()
    except ValueError:
        raise typer.BadParameter(f"--sizes is {text!r}; expected whole numbers such as 20,40,80,160") from None


def print_curve(curve: LearningCurve, out: Path) -> None:
    """Scores by size, the fit, and the sentence."""
    by_size: dict[int, list[float]] = {}
    for point in curve.points:
        by_size.setdefault(point.num_cases, []).append(point.score)
    fitted = {value.num_cases: value for value in curve.curve}
    lines = [
        (
            str(size),
            str(len(by_size.get(size, ()))),
            show_value(sum(scores) / len(scores), curve.metric) if (scores := by_size.get(size)) else "-",
            show_value(fitted[size].score, curve.metric),
            f"{show_value(fitted[size].low, curve.metric)} - {show_value(fitted[size].high, curve.metric)}",
        )
        for size in sorted({*by_size, curve.num_cases + curve.more})
    ]
    metric = title_column(curve.metric, curve.unit)
    title = f"{curve.dataset}, {metric} on {curve.num_held_out} held-out cases, {curve.num_steps:,} steps each"
    print_table(title, ("cases", "trainings", "mean", "power law", "95 % interval"), lines, num_texts=0)
    say(curve.sentence)
    for note in curve.notes:
        say(note)
    say(f"figure   {out / 'learning_curve.svg'}")
