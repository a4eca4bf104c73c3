"""`train` on the command line, and the lines in which a training ends."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_pipeline.commands.hints import list_ids
from unet_pipeline.commands.options import (
    Bundle,
    Initial,
    Json,
    Tracking,
    Trust,
    completing,
    require_fold,
    write_json_option,
)
from unet_pipeline.commands.output import say, say_plan_notes, set_quiet, tell, tell_next
from unet_pipeline.commands.stopping import preemptible
from unet_pipeline.commands.unlabelled import try_pool
from unet_pipeline.commands.worker_options import Address, EngineName, Jobs, Sbatch, Threads, read_settings
from unet_pipeline.errors import PlanError, PreemptedError

if TYPE_CHECKING:
    from unet_pipeline.training.run import TrainingRun


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Ids of train.json.",
        autocompletion=completing(lambda: [f"{key}=" for key in list_ids()]),
    ),
]
Processes = Annotated[
    int, typer.Option(min=1, metavar="N", help="Processes that train together, one GPU each where there are any.")
]


Unlabelled = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Train all trained folds anew with the images of DIR as well, labelled by the folds themselves; kept only if that is better.",
    ),
]


def train(
    bundle: Bundle,
    overrides: Overrides = None,
    fold: Annotated[str | None, typer.Option(help="A number, or all; the plan's fold if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the latest interrupted training.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits every time, with the same number of threads.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Train N seeds and report the spread; the first is the bundle's.")
    ] = 1,
    processes: Processes = 1,
    initial: Initial = None,
    unlabelled: Unlabelled = None,
    tracking: Tracking = None,
    jobs: Jobs = 1,
    engine: EngineName = "local",
    threads: Threads = None,
    address: Address = None,
    sbatch: Sbatch = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Train a bundle."""
    require_fold(fold)
    workers: dict[str, Any] = {"jobs": jobs, "engine": engine, "threads": threads, "address": address}
    workers |= {"sbatch": read_settings(sbatch), "tracking": tracking, "trust": trust}
    if unlabelled is not None:
        _refuse_with_pool(fold not in (None, "all"), deterministic, seeds > 1, processes > 1, initial is not None)
        try_pool(bundle, unlabelled, _parse_overrides(overrides or []), workers, json_file)
        return
    _silence_secondary()
    try:
        with preemptible():
            import unet_pipeline

            say_plan_notes(bundle)
            runs = unet_pipeline.train(
                bundle,
                fold,
                resume,
                _parse_overrides(overrides or []),
                announce=tell,
                initial=initial,
                deterministic=deterministic,
                seeds=seeds,
                processes=processes,
                **workers,
            )
    except PreemptedError as stop:
        say(f"stopped by {stop.signal_name} outside of a step; nothing is lost")
        if stop.is_recorded:
            tell_next("train", bundle, "--resume")
        else:
            tell("Next: the same command again")
        return
    _say_runs(bundle, runs, seeds, json_file)


def _refuse_with_pool(*are_given: bool) -> None:
    options = ("--fold", "--deterministic", "--seeds", "--processes", "--from")
    if chosen := [name for name, is_given in zip(options, are_given, strict=True) if is_given]:
        raise typer.BadParameter(
            f"{chosen[0]} does not go with --unlabelled, which trains all trained folds again, each as it was trained"
        )


def _say_runs(bundle: Path, runs: Sequence[TrainingRun], seeds: int, json_file: Path | None) -> None:
    """What came of the trainings, and the next command."""
    for run in runs:
        if run.stopped_by is not None:
            done = f" after {run.cut_short}" if run.cut_short else ""
            say(f"fold {run.fold}: stopped by {run.stopped_by} and saved{done}\nrecord   {run.run_dir / 'run.json'}")
            tell_next("train", bundle, "--resume")
            return
        _say_end(run)
    if seeds > 1:
        print_spread(runs)
    tell_next("evaluate", bundle)
    write_json_option(
        json_file,
        [{key: str(value) if isinstance(value, Path) else value for key, value in vars(run).items()} for run in runs],
    )


def _silence_secondary() -> None:
    """Of the processes that torchrun has started the first one does the talking; errors are told by each."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # PyTorch is not imported yet, and warns of what is meant so
    if os.environ.get("RANK", "0") != "0":
        set_quiet(True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse_overrides(texts: list[str]) -> dict[str, object]:
    from unet_pipeline.training.run import parse_override

    try:
        return dict(parse_override(text) for text in texts)
    except PlanError as error:
        raise typer.BadParameter(str(error)) from error


def _say_end(run: TrainingRun) -> None:
    from unet_pipeline.progress import format_duration
    from unet_pipeline.training.profile import describe

    if run.best_dice is None:
        best = "no validation, so the weights are the last ones"
    else:
        best = f"best Dice {run.best_dice:.4f} in epoch {run.best_epoch} (resampled grid; it picks the weights and is no result)"
    say(f"fold {run.fold}, seed {run.seed}: {run.num_epochs} epochs in {format_duration(run.duration_s)}, {best}")
    if run.cut_short:
        say(f"short    {run.cut_short}: results are not those of the plan")
    if run.profile.verdict:
        say(describe(run.profile.shares, run.profile.verdict))
    say(f"weights  {run.weights}\nrecord   {run.run_dir / 'run.json'}")


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
