"""The figure of a learning curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.evaluation.metric_table import title_with_unit
from unet_pipeline.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unet_pipeline.studies.learning_curve import LearningCurve

_DPI = 150


def draw_curve(curve: LearningCurve) -> Figure:
    """Score over the number of cases: trainings as points, the fit as a line, its interval and that of a single training as bands."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    sizes = [value.num_cases for value in curve.curve]
    bands = (
        ("single_low", "single_high", 0.12, "one training, 95 %"),
        ("low", "high", 0.25, "mean of trainings, 95 %"),
    )
    for low, high, alpha, label in bands:
        lows, highs = ([getattr(value, name) for value in curve.curve] for name in (low, high))
        axes.fill_between(sizes, lows, highs, alpha=alpha, color="#1f5fa8", linewidth=0, label=label)
    axes.plot(sizes, [value.score for value in curve.curve], color="#1f5fa8", label="power law")
    axes.plot(
        [point.num_cases for point in curve.points],
        [point.score for point in curve.points],
        "o",
        color="#b3400b",
        markersize=5,
        label="trainings",
    )
    axes.axvline(curve.num_cases, color="grey", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    ticks = sorted({point.num_cases for point in curve.points} | {curve.num_cases + curve.more})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training cases")
    axes.set_ylabel(f"{title_with_unit(curve.metric, curve.unit)}, {curve.num_held_out} held-out cases")
    axes.set_title(curve.sentence, fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    return figure


def write_figures(curve: LearningCurve, folder: Path) -> tuple[Path, ...]:
    """Write the figure as SVG and PNG."""
    figure, paths = draw_curve(curve), (folder / "learning_curve.svg", folder / "learning_curve.png")
    for path in paths:
        with write_atomically(path) as partial:
            figure.savefig(partial, dpi=_DPI)
    return paths
