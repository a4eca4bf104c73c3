"""Figures of results, in the colours that people with any kind of colour vision tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unet_pipeline.dataset.tiles import Tile
    from unet_pipeline.evaluation.comparison import ComparisonRow
    from unet_pipeline.evidence.records.record import Epoch

# Okabe and Ito's, the dark ones first, for lines and points on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_JITTER = 0.16  # of points over the same label, in its column of width 1


def open_figure(width: float, height: float, num_columns: int = 1, num_rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure that no window and no notebook shows by itself, and its axes, shape (rows, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", alpha=0.25, linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes


def draw_tiles(tiles: Sequence[Tile], most: int = 12) -> Figure:
    """Cases with the outlines of their labels, six in a row; the title of one with a mark, such as a missing mask, is red."""
    from unet_pipeline.dataset.contact_sheet import draw_mask, number_values

    shown, numbers = tiles[:most], number_values(tiles, None)
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = open_figure(1.7 * max(columns, 2), 1.95 * rows, columns, rows)
    for place in axes.flat:
        place.set_axis_off()
    for place, tile in zip(axes.flat, shown, strict=False):
        picture = tile.read_picture().copy()
        draw_mask(picture, tile.read_mask(), tile, numbers)
        place.imshow(picture)
        place.set_title(_shorten(tile.title, 20), fontsize=8, color="#b00020" if tile.marks else "black")
    return figure


def draw_sizes(values: Mapping[str, Sequence[float]], y_label: str) -> Figure:
    """One column of points per name; a logarithmic axis where the values differ a lot."""
    figure, axes = open_figure(max(3.6, 1.0 + 0.9 * len(values)), 2.8)
    panel = axes[0][0]
    _scatter(panel, values)
    positive = [value for column in values.values() for value in column if value > 0]
    if positive and max(positive) > 30 * min(positive):
        panel.set_yscale("symlog", linthresh=min(positive))
    panel.set_ylabel(y_label)
    return figure


def draw_scores(rows: pd.DataFrame, labels: Sequence[str], summary: Mapping[str, tuple[float, float, float]]) -> Figure:
    """Dice of every case by label; the diamond is the mean, the bar its 95 % interval.

    Args:
        rows: one per case and label, with the columns label and dice.
        labels: in the order in which they are drawn.
        summary: mean and ends of the interval of a label.
    """
    figure, axes = open_figure(max(3.6, 1.4 + 1.1 * len(labels)), 3.0)
    panel = axes[0][0]
    values = {label: rows.loc[rows["label"] == label, "dice"].dropna().tolist() for label in labels}
    _scatter(panel, values)
    for column, label in enumerate(labels):
        mean, low, high = summary.get(label, (np.nan,) * 3)
        if np.isfinite(low) and np.isfinite(high):
            panel.plot([column + 0.28] * 2, [low, high], color="black", linewidth=1.6)
        if np.isfinite(mean):
            panel.plot(column + 0.28, mean, marker="D", color="black", markersize=5)
    panel.set_ylabel("Dice")
    panel.set_ylim(top=1.02)
    return figure


def draw_training(epochs: Sequence[Epoch]) -> Figure:
    """Loss, and Dice on the resampled grid where validations were made, over the epochs."""
    named = (("loss", "loss of the training"), ("dice_resampled_grid", "Dice of the validation"))
    panels = [(key, title) for key, title in named if any(getattr(one, key) is not None for one in epochs)]
    figure, axes = open_figure(3.6 * max(1, len(panels)), 2.7, max(1, len(panels)))
    for number, (panel, (key, title)) in enumerate(zip(axes[0], panels, strict=False)):
        points = [(one.epoch, getattr(one, key)) for one in epochs if getattr(one, key) is not None]
        xs, ys = zip(*points, strict=True)
        panel.plot(xs, ys, color=COLOURS[number], marker="o" if len(xs) < 40 else "", markersize=3.5, linewidth=1.4)
        panel.set_xlabel("epoch")
        panel.set_ylabel(title)
        panel.xaxis.get_major_locator().set_params(integer=True)
    return figure


def draw_differences(rows: Sequence[ComparisonRow], metric_title: str, a: str, b: str) -> Figure:
    """Difference of every label with its interval; 0 is no difference."""
    figure, axes = open_figure(6.2, 1.1 + 0.42 * len(rows))
    panel = axes[0][0]
    for place, row in enumerate(reversed(rows)):
        colour = COLOURS[0] if row.better == "b" else COLOURS[1] if row.better == "a" else "#666666"
        if np.isfinite(row.low) and np.isfinite(row.high):
            panel.plot([row.low, row.high], [place] * 2, color=colour, linewidth=2)
        panel.plot(row.difference, place, marker="o", color=colour, markersize=6)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_yticks(range(len(rows)), [_shorten(row.label, 24) for row in reversed(rows)])
    panel.set_ylim(-0.6, len(rows) - 0.4)
    panel.set_xlabel(f"{metric_title}: {_shorten(b, 22)} minus {_shorten(a, 22)}", fontsize=9)
    return figure


def draw_reliability(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Share of right voxels or pixels over the confidence, a curve each; on the grey line they agree."""
    figure, axes = open_figure(3.6, 3.4)
    panel = axes[0][0]
    panel.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
    for number, (name, points) in enumerate(curves.items()):
        xs, ys = zip(*points, strict=True)
        panel.plot(xs, ys, color=COLOURS[number], marker="os^"[number % 3], markersize=4, label=name)
    panel.set_xlabel("confidence")
    panel.set_ylabel("share that is right")
    panel.legend(frameon=False, fontsize=9)
    return figure


def draw_predictions(images: Mapping[Path, Path], most: int = 3) -> Figure:
    """The first label maps on their images, one row each: the slice that has most of a label.

    Args:
        images: label map and its image, as files.

    Raises:
        ImageFileError: a file is gone or damaged.
    """
    from unet_pipeline.dataset.dataset import Case
    from unet_pipeline.dataset.image import read_image, read_label_map
    from unet_pipeline.dataset.tiles import make_tile

    pairs = list(images.items())[:most]
    return draw_tiles(
        [make_tile(Case(label.name, image, label), read_image(image), read_label_map(label)) for label, image in pairs]
    )


def _scatter(panel: Axes, values: Mapping[str, Sequence[float]]) -> None:
    """Points side by side where they would lie on one another, in an order that does not depend on chance."""
    for column, (_, points) in enumerate(values.items()):
        offsets = _JITTER * (((np.arange(len(points)) * 0.618) % 1.0) * 2 - 1)
        panel.plot(
            column + offsets,
            points,
            linestyle="",
            marker="o",
            markersize=4,
            alpha=0.6,
            color=COLOURS[column % len(COLOURS)],
        )
    names = [_shorten(name, 14) for name in values]
    panel.set_xticks(range(len(names)), names, rotation=0 if len(names) < 4 else 20)
    panel.set_xlim(-0.6, len(names) - 0.4)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
