"""Summaries of trainings, predictions, and of what they will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_pipeline.boundary import show_place
from unet_pipeline.progress import describe_time, format_duration
from unet_pipeline.text_files import read_model
from unet_pipeline.views.numbers import SUMMARIES as NUMBERS
from unet_pipeline.views.pictures import draw_predictions, draw_training
from unet_pipeline.views.summary import Picture, Summary, Table, count, join_size, list_problems

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unet_pipeline.cohort.status import Jobs
    from unet_pipeline.prediction.forecast import Forecast
    from unet_pipeline.prediction.run import Predictions
    from unet_pipeline.training.forecast import TrainingForecast
    from unet_pipeline.training.run import TrainingRun
    from unet_pipeline.verbs.demo import Demo

_GIB = 2**30


def _summarize_training(run: TrainingRun) -> Summary:
    dice = "no validation" if run.best_dice is None else f"Dice {run.best_dice:.3f} at epoch {run.best_epoch}"
    facts: dict[str, object] = {
        "weights": show_place(run.weights),
        "epochs": f"{run.num_epochs:,} ({run.num_iterations:,} iterations)" if run.num_iterations else run.num_epochs,
        "time": format_duration(run.duration_s),
        "seed": run.seed,
    }
    if run.precision:
        facts["precision"] = run.precision
    notes = [note for note in (run.cut_short, *run.device_choices) if note]
    if run.best_dice is not None:
        notes.append("That Dice picked the weights, on the network's grid; a result to report comes from evaluate.")
    return Summary(
        f"fold {run.fold}: {count(run.num_epochs, 'epoch')} in {format_duration(run.duration_s)}, {dice}",
        facts,
        pictures=(Picture("loss and Dice over the epochs", lambda: _draw_run(run)),),
        notes=notes,
    )


def _draw_run(run: TrainingRun) -> Figure:
    from unet_pipeline.evidence.records.record import TrainingRecord

    return draw_training(read_model(run.run_dir / "run.json", TrainingRecord).epochs)


def _summarize_training_forecast(forecast: TrainingForecast) -> Summary:
    parts = {"steps": forecast.steps_s, "validations": forecast.validation_s, "reading": forecast.reading_s}
    return Summary(
        f"{describe_time(forecast.total_s)} for {count(forecast.num_epochs, 'epoch')} on {forecast.device}",
        {
            "preset": forecast.preset,
            "one step": f"{forecast.step_s:.3g} s",
            **{name: describe_time(seconds) for name, seconds in parts.items()},
        },
        notes=(f"{forecast.slowdown:.1f} times as long beside what runs now.",) if forecast.slowdown > 1.05 else (),
    )


def _summarize_predictions(predictions: Predictions) -> Summary:
    kept = f", {len(predictions.kept):,} kept" if predictions.kept else ""
    facts: dict[str, object] = {"folder": show_place(predictions.out), "precision": predictions.precision}
    if predictions.shares:
        facts["time"] = ", ".join(f"{stage} {share:.0%}" for stage, share in predictions.shares.items())
    return Summary(
        f"{count(len(predictions.written), 'label map')} written{kept}, in {predictions.out.name}",
        facts,
        list_problems("what was seen in the images", predictions.notes),
        (Picture("label maps on their images", lambda: draw_predictions(predictions.images)),)
        if predictions.images
        else (),
    )


def _summarize_forecast(forecast: Forecast) -> Summary:
    rows = [
        (case.name, join_size(case.shape), str(case.num_windows or "-"), f"{case.peak_bytes / _GIB:.2f}")
        for case in forecast.cases[:10]
    ]
    return Summary(
        f"{count(len(forecast.cases), 'image')} on {forecast.device}, {forecast.peak_bytes / _GIB:.2g} GiB of memory",
        {"precision": forecast.precision, "networks": forecast.num_networks, "kept": len(forecast.kept)},
        (Table("images", ("image", "shape", "windows", "GiB"), rows, 2, max(0, len(forecast.cases) - 10)),),
        notes=forecast.failures,
    )


def _summarize_demo(demo: Demo) -> Summary:
    evaluation = NUMBERS["Evaluation"](demo.evaluation)
    return Summary(
        f"{demo.bundle.name}: {evaluation.line}",
        {"bundle": demo.bundle.name, "picture": show_place(demo.overlay), "sealed": demo.package.zip_file.name},
        evaluation.tables,
        evaluation.pictures,
    )


def _summarize_jobs(jobs: Jobs) -> Summary:
    left = f", {format_duration(jobs.left_s)} left" if jobs.left_s else ""
    rows = [(row.name, str(row.state), row.message) for row in jobs.failed]
    return Summary(
        f"{jobs.title}: {jobs.num_finished} of {count(jobs.num_items, 'item')} done, {len(rows)} failed{left}",
        {
            "engine": f"{jobs.engine} with {count(jobs.num_workers, 'worker')}",
            **{state: str(number) for state, number in jobs.counts.items()},
        },
        (Table("failed or set aside", ("item", "state", "why"), rows, 3),) if rows else (),
    )


SUMMARIES = {
    "TrainingRun": _summarize_training,
    "TrainingForecast": _summarize_training_forecast,
    "Predictions": _summarize_predictions,
    "Forecast": _summarize_forecast,
    "Demo": _summarize_demo,
    "Jobs": _summarize_jobs,
}
