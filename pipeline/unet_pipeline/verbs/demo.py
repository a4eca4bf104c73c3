"""`demo`: every other verb in turn on the embedded cohort, with report and viewer of what came out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import PipelineError, PlanError, TrainingError
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.outputs import find_output
from unet_pipeline.progress import describe_time
from unet_pipeline.results import Result
from unet_pipeline.verbs.evaluate import Evaluation, evaluate
from unet_pipeline.verbs.package import package
from unet_pipeline.verbs.plan import plan
from unet_pipeline.verbs.report import report
from unet_pipeline.verbs.train import forecast_training, train
from unet_pipeline.verbs.view import view

if TYPE_CHECKING:
    from unet_pipeline.handover.package import Package
    from unet_pipeline.training.forecast import TrainingForecast
    from unet_pipeline.training.run import TrainingRun

_LONGEST_S = 240.0  # of the whole demo
# of validation, evaluation, report, viewer and package beside the training, on 2 slow cores; the windows of two heads come on top
_REST_S = 38.0
# of the planned epochs: 130 of 210 steps reached 0.8972 for white matter, where 0.89 is wanted (docs/experiments.md)
_LEAST_SHARE = 0.7


@dataclass(frozen=True)
class DemoTraining:
    """How long the demo trains, and how long it will take.

    Attributes:
        num_epochs: of the training.
        training_s: of the training, by the clock, beside whatever else runs.
        rest_s: from its end to the demo's, as `training_s`.
        keeps_limit: whether the whole demo ends in time.
    """

    num_epochs: int
    training_s: float
    rest_s: float
    keeps_limit: bool


@dataclass(frozen=True, repr=False)
class Demo(Result):
    """Result of `demo`; `report` and `page`, the viewer's, are HTML files."""

    bundle: BundleFolder
    training: TrainingRun
    evaluation: Evaluation
    package: Package
    overlay: Path
    report: Path
    page: Path


def demo(out: Path | str = "demo", announce: Any = None) -> Demo:
    """The whole way on the embedded cohort: simulated heads to train on, the real template head to test on.

    Args:
        out: folder for the cohort, the bundle and the picture; finished parts in it are used again.
        announce: called with the name of each step before it.

    Raises:
        DatasetError: nilearn is not installed.
        TrainingError: the training was stopped by a signal.
    """
    from unet_pipeline.dataset.demo import write_demo_cohort

    started_s = time.monotonic()
    say = announce or (lambda step: None)
    folder = Path(out)
    say("cohort: simulated heads from the MNI152 template")
    cohort = write_demo_cohort(folder)
    bundle = folder / "brain_tissue_demo"
    if not (bundle / "configs").is_dir():
        say("check and plan")
        plan(cohort.training, bundle, preset="demo", folds=8)
    opened = open_bundle(bundle)
    overrides = _size_training(opened, time.monotonic() - started_s, say)
    (training,) = train(bundle, overrides=overrides)
    if training.stopped_by is not None:
        raise TrainingError(
            f"The demo's training was stopped by {training.stopped_by}. Run the demo again; it begins the training anew."
        )
    say("predict the real head and evaluate")
    evaluation = evaluate(bundle, cohort.test)
    say("report and viewer")
    written = report(bundle)
    page = view(bundle, out=folder / f"{bundle.name}_view.html").path
    overlay = draw(bundle, cohort.test, evaluation, folder / "overlay.png")
    say("package")
    return Demo(opened, training, evaluation, package(bundle), overlay, written.path, page or folder)


def _size_training(bundle: BundleFolder, passed_s: float, say: Any) -> dict[str, object]:
    """The training's overrides on this machine; says beforehand how long it will take."""
    started_s = time.monotonic()
    try:
        forecast = forecast_training(bundle.root)
    except PlanError as error:
        say(f"train (how long it takes is not known: {error})")
        return {}
    passed_s += time.monotonic() - started_s
    sized = size_training(forecast, passed_s)
    epoch_s, fixed_s, rest_s = _split_time(replace(forecast, slowdown=1.0))
    training_s = sized.num_epochs * epoch_s + fixed_s
    whole = describe_time(passed_s + training_s + rest_s)
    say(f"train: {describe_time(training_s)}; the whole demo takes {whole} on this machine")
    if forecast.slowdown > 1:
        busy = describe_time(passed_s + sized.training_s + sized.rest_s)
        say(f"when nothing else runs; {busy} beside the other work that runs now")
    if sized.num_epochs < forecast.num_epochs:
        say(
            f"{sized.num_epochs} of {forecast.num_epochs} epochs, so that it ends "
            f"{'in time' if sized.keeps_limit else 'sooner; fewer would not show what it is to show'}"
        )
    return {"num_epochs": sized.num_epochs}


def size_training(forecast: TrainingForecast, passed_s: float) -> DemoTraining:
    """As many of the planned epochs as the time allows, and no fewer than the accuracy needs.

    Args:
        forecast: of the training as it is planned.
        passed_s: since the demo began.
    """
    epoch_s, fixed_s, rest_s = _split_time(forecast)
    possible = int((_LONGEST_S - passed_s - rest_s - fixed_s) / epoch_s)
    least = math.ceil(_LEAST_SHARE * forecast.num_epochs)
    num_epochs = max(least, min(possible, forecast.num_epochs))
    return DemoTraining(num_epochs, num_epochs * epoch_s + fixed_s, rest_s, num_epochs <= possible)


def _split_time(forecast: TrainingForecast) -> tuple[float, float, float]:
    """Seconds of an epoch, of the training beside its epochs, and of the demo after it, by the clock beside whatever else runs."""
    factor = forecast.slowdown
    head_s = factor * forecast.validation_s  # one head, validated once, at the end
    return factor * forecast.steps_s / forecast.num_epochs, head_s + factor * forecast.reading_s, _REST_S + head_s


def draw(bundle: Path | str, dataset: Path | str, evaluation: Evaluation, picture: Path | str) -> Path:
    """Picture of the worst case of an evaluation: outlines of reference and prediction.

    Raises:
        PipelineError: the evaluation has no case of the dataset.
    """
    from unet_pipeline.evidence.report.overlay import write_overlay

    effective = read_plan(open_bundle(bundle).plan)
    means = evaluation.rows.groupby("case")["dice"].mean().sort_values()
    cohort = read_dataset(dataset)
    cases = {case.name: case for case in cohort.cases}
    name = next((str(case) for case in means.index if case in cases), None)
    if name is None:
        raise PipelineError(f"No case of {Path(dataset).name} was evaluated. Evaluate it first.")
    case, root = cases[name], cohort.root
    source = PredictionInput(case.name, tuple(root / image for image in case.images))
    prediction = find_output(source, evaluation.predictions[0], effective.output_suffix)
    maps = {"reference": root / case.require_label(), "prediction": prediction}
    return write_overlay(Path(picture), root / case.image, maps, effective.label_table)
