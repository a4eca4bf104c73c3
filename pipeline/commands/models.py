"""`train`, `predict`, `evaluate` and `tune` on the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import (
    Bundle,
    DataRoot,
    Device,
    Ensemble,
    FollowLinks,
    Initial,
    Json,
    Mirror,
    Precision,
    Tracking,
    Trust,
    write_json_option,
)
from pipeline.commands.stopping import preemptible
from pipeline.errors import PlanError, PredictionError, PreemptedError
from pipeline.printing import (
    list_problems,
    print_tuning,
    say,
    tuning_as_data,
)
from pipeline.printing_forecast import forecast_as_data, print_forecast
from pipeline.printing_results import evaluation_as_data, print_comparison, print_evaluation, print_spread

if TYPE_CHECKING:
    from pipeline.prediction.forecast import Forecast
    from pipeline.training.run import TrainingRun


def train(
    bundle: Bundle,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Ids of train.json.")] = None,
    fold: Annotated[str | None, typer.Option(help="A number, or all; the plan's fold if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the latest interrupted training.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits every time, with the same number of threads.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Train N seeds and report the spread; the first is the bundle's.")
    ] = 1,
    initial: Initial = None,
    tracking: Tracking = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Train a bundle."""
    if fold is not None and fold != "all" and not fold.isdecimal():
        raise typer.BadParameter(f"--fold is {fold!r}; expected a number or all")
    try:
        with preemptible():
            from pipeline import verbs

            runs = verbs.train(
                bundle,
                fold,
                resume,
                _parse_overrides(overrides or []),
                announce=say,
                initial=initial,
                trust=trust,
                deterministic=deterministic,
                seeds=seeds,
                tracking=tracking,
            )
    except PreemptedError as stop:
        say(f"stopped by {stop.signal_name} outside of a step; nothing is lost")
        say(
            f"Next: unet-pipeline train {shlex.quote(str(bundle))} --resume"
            if stop.is_recorded
            else "Next: the same command again"
        )
        return
    for run in runs:
        if run.stopped_by is not None:
            done = f" after {run.cut_short}" if run.cut_short else ""
            say(f"fold {run.fold}: stopped by {run.stopped_by} and saved{done}\nrecord   {run.run_dir / 'run.json'}")
            say(f"Next: unet-pipeline train {shlex.quote(str(bundle))} --resume")
            return
        _say_end(run)
    if seeds > 1:
        print_spread(runs)
    say(f"Next: unet-pipeline evaluate {shlex.quote(str(bundle))}")
    write_json_option(
        json_file,
        [{key: str(value) if isinstance(value, Path) else value for key, value in vars(run).items()} for run in runs],
    )


def _parse_overrides(texts: list[str]) -> dict[str, Any]:
    from pipeline.training.run import parse_override

    try:
        return dict(parse_override(text) for text in texts)
    except PlanError as error:
        raise typer.BadParameter(str(error)) from error


def _say_end(run: TrainingRun) -> None:
    from pipeline.progress import format_duration
    from pipeline.training.profile import describe

    if run.best_dice is None:
        best = "no validation, so the weights are the last ones"
    else:
        best = f"best Dice {run.best_dice:.4f} in epoch {run.best_epoch} (resampled grid; it picks the weights and is no result)"
    say(f"fold {run.fold}, seed {run.seed}: {run.num_epochs} epochs in {format_duration(run.duration_s)}, {best}")
    if run.cut_short:
        say(f"short    {run.cut_short}: results are not those of the plan")
    if run.profile:
        say(describe(run.profile["shares"], run.profile["verdict"]))
    say(f"weights  {run.weights}\nrecord   {run.run_dir / 'run.json'}")


def predict(
    bundle: Bundle,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="An image, a folder of images, a folder per case, a DICOM series, or a folder of series.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder for the label maps; those of the same image, weights and options are kept."
        ),
    ],
    device: Device = None,
    mirror: Mirror = False,
    ensemble: Ensemble = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of every class too, as NAME_probabilities.")
    ] = False,
    runtime: Annotated[
        str, typer.Option(help="What runs the network: torch, torchscript or onnx; `package` exports the latter two.")
    ] = "torch",
    precision: Precision = "float32",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show windows, memory and what is left to do, from the headers; write nothing."),
    ] = False,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Write a label map for every image, on the image's own grid."""
    from pipeline import verbs

    options = (device, mirror, ensemble, probabilities, trust, runtime, precision)
    if dry_run:
        show_forecast(verbs.forecast(bundle, source, out, *options, alone=True), json_file)
        return
    result = verbs.predict(bundle, source, out, *options, alone=True, announce=say)
    for line in list_problems(result.notes):
        say(line)
    for path in result.kept:
        say(f"kept     {path}  (finished before)")
    for path in result.written:
        say(f"written  {path}")
    if result.shares:
        shown = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in result.shares.items())
        say(f"time     {shown}; {result.precision}")
    write_json_option(
        json_file,
        {
            "written": list(map(str, result.written)),
            "kept": list(map(str, result.kept)),
            "again": dict(result.again),
            "precision": result.precision,
            "shares": {stage: round(share, 4) for stage, share in result.shares.items()},
            "notes": [vars(note) for note in result.notes],
        },
    )


def show_forecast(forecast: Forecast, json_file: Path | None) -> None:
    """Print what a prediction will take.

    Raises:
        PredictionError: a case cannot be predicted.
    """
    print_forecast(forecast)
    write_json_option(json_file, forecast_as_data(forecast))
    if forecast.failures:
        listed = "\n".join(f"  {message}" for message in forecast.failures)
        count = len(forecast.cases) + len(forecast.failures)
        raise PredictionError(f"{len(forecast.failures)} of {count} images cannot be predicted:\n{listed}")


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
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Results by this column of the list of cases; numbers are cut at quartiles, or at the edges of COLUMN=100,200.",
        ),
    ] = None,
    precision: Precision = "float32",
    follow_links: FollowLinks = False,
    data_root: DataRoot = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Metrics per case from prediction files, with a summary and its intervals."""
    from pipeline import verbs

    if ensemble and dataset is None:
        raise typer.BadParameter(
            "--ensemble needs a DATASET: every validation case was in the training of the other folds"
        )
    options = (device, mirror, ensemble, by or (), trust, precision)
    result = verbs.evaluate(
        bundle,
        dataset,
        out,
        predictions,
        *options,
        alone=True,
        announce=say,
        follow_links=follow_links,
        data_root=data_root,
    )
    print_evaluation(result)
    say(f"per case {result.folder / 'metrics.csv'}")
    write_json_option(json_file, evaluation_as_data(result))


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
    from pipeline import verbs
    from pipeline.evaluation.comparison import comparison_as_data

    record = verbs.compare(a, b, metric or (), out)
    print_comparison(record)
    write_json_option(json_file, comparison_as_data(record))


def tune(
    bundle: Bundle, device: Device = None, mirror: Mirror = False, trust: Trust = False, json_file: Json = None
) -> None:
    """Choose post-processing and temperature on out-of-fold predictions, into plan.yaml."""
    from pipeline import verbs

    result = verbs.tune(bundle, device, mirror, trust)
    print_tuning(result)
    say(f"Written into {bundle / 'configs' / 'plan.yaml'}; everything tried: {bundle / 'evidence' / 'tuning.json'}")
    write_json_option(json_file, tuning_as_data(result))
