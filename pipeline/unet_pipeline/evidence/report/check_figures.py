"""Histograms of a dataset: sizes and spacings of the images, sizes of the labels, intensities; a bar knows its cases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from unet_pipeline.dataset.tiles import Tile
from unet_pipeline.evidence.report.charts import Axis, Chart
from unet_pipeline.messages import name_elements

_MOST_BARS = 24
_MOST_LABELS = 6  # histograms of label sizes, one per label
_HEIGHT = 200
_TAIL_PERCENT = 0.5  # of the pooled intensities on each side, which would squeeze all others into one bar


@dataclass(frozen=True)
class Histogram:
    """A chart, and its text."""

    svg: Markup
    caption: str


def draw_histograms(tiles: Sequence[Tile], labels: Mapping[str, int]) -> tuple[list[Histogram], list[str]]:
    """All histograms of which a dataset has values.

    Args:
        tiles: of all cases, in the order of the page.
        labels: names and values of the label table; empty where there is none.

    Returns:
        The charts, and sentences about what is the same in all cases and needs none.
    """
    figures, sentences = [], []
    for title, unit, values in _collect(tiles, labels):
        if len(values) > 1 and len(set(values.values())) == 1:
            sentences.append(f"{title}: {next(iter(values.values())):.6g} {unit}".rstrip() + " in all cases.")
        elif values:
            figures.append(_draw_cases(title, unit, values))
    pooled = [tile.samples for tile in tiles if tile.samples.size]
    if pooled:
        figures.append(
            _draw_pooled(np.concatenate(pooled), len(pooled), name_elements("voxels", len(tiles[0].shape) == 2))
        )
    return figures, sentences


def _collect(tiles: Sequence[Tile], labels: Mapping[str, int]) -> Iterator[tuple[str, str, dict[int, float]]]:
    """Title, unit, and a value for each case that has one, by its number on the page."""
    readable = {number: tile for number, tile in enumerate(tiles) if tile.shape}
    most_axes = max((len(tile.shape) for tile in readable.values()), default=0)
    names, unit = (("Width", "Height"), "pixels") if most_axes == 2 else (("Axis 1", "Axis 2", "Axis 3"), "voxels")
    alike = {number: tile for number, tile in readable.items() if len(tile.shape) == most_axes}
    for axis, name in enumerate(names[:most_axes]):
        yield f"{name} of the image", unit, {number: float(tile.shape[axis]) for number, tile in alike.items()}
    if most_axes == 3:
        for axis, name in enumerate(names):
            spacings_mm = {number: round(float(tile.spacing_mm[axis]), 4) for number, tile in alike.items()}
            yield f"Spacing along {name.lower()}", "mm", spacings_mm
    for name, value in [item for item in labels.items() if item[1]][:_MOST_LABELS]:
        yield f"Size of {name}", *_measure(alike, value, most_axes == 3)
    medians = {number: float(np.median(tile.samples)) for number, tile in readable.items() if tile.samples.size}
    yield "Median intensity of the image", "", medians


def _measure(tiles: Mapping[int, Tile], value: int, in_ml: bool) -> tuple[str, dict[int, float]]:
    """A label in ml, of pictures in percent of the picture; cases without it are left out."""
    sizes = {}
    for number, tile in tiles.items():
        if count := tile.voxels_by_value.get(value, 0):
            whole = 1000 / math.prod(tile.spacing_mm) if in_ml else math.prod(tile.shape) / 100
            sizes[number] = count / whole
    return "ml" if in_ml else "% of the picture", sizes


def _draw_cases(title: str, unit: str, values: Mapping[int, float]) -> Histogram:
    """Bars of cases, each of which shows them when it is chosen."""
    numbers = np.array(list(values))
    array = np.array([values[number] for number in numbers])
    edges = _choose_edges(array)
    bins = np.clip(np.searchsorted(edges, array, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    shown = f"{title}: {_show_range(array, unit)}, median {_show(float(np.median(array)))}."
    chart = _begin(title, shown, edges, f"{title} ({unit})" if unit else title, float(counts.max()), "cases")
    for position, count in enumerate(counts):
        if count:
            inside = bins == position
            label = f"{count} {'case' if count == 1 else 'cases'}: {_show_range(array[inside], unit)}"
            cases = " ".join(map(str, numbers[inside]))
            bar = _draw_bar(chart, edges[position], edges[position + 1], count, label)
            chart.parts.append(
                f'<g class="bin" tabindex="0" role="button" aria-pressed="false" aria-label="{escape(label)}" data-cases="{cases}">{bar}</g>'
            )
    return Histogram(Markup(chart.render().replace('role="img"', 'role="group"', 1)), shown)


def _draw_pooled(samples: np.ndarray, num_cases: int, voxels: str) -> Histogram:
    """Intensities of all images in one; not of single cases, so its bars choose none."""
    low, high = np.percentile(samples, [_TAIL_PERCENT, 100 - _TAIL_PERCENT])
    inside = samples[(samples >= low) & (samples <= high)]
    edges = _choose_edges(inside)
    shares = 100 * np.histogram(inside, edges)[0] / samples.size
    title = "Intensities of all images together"
    shown = f"{title}: {num_cases} cases, {voxels} spread evenly over each; 99\N{NO-BREAK SPACE}% lie from {_show(low)} to {_show(high)}."
    chart = _begin(title, shown, edges, "Intensity", float(shares.max()), f"% of the {voxels}")
    for position, share in enumerate(shares):
        if share:
            label = f"{share:.2g} % from {_show(edges[position])} to {_show(edges[position + 1])}"
            chart.parts.append(_draw_bar(chart, edges[position], edges[position + 1], float(share), label))
    return Histogram(chart.render(), shown)


def _choose_edges(values: np.ndarray) -> np.ndarray:
    """Edges of bars of equal width; between whole numbers, so that each bar has equally many of them."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.array([low - 0.5, low + 0.5])
    num_bars = min(_MOST_BARS, max(4, math.ceil(2 * len(values) ** (1 / 3))))  # Rice's rule
    if np.array_equal(values, np.round(values)):
        width = math.ceil((high - low + 1) / num_bars)
        return np.arange(low - 0.5, high + width, width)
    return np.linspace(low, high, num_bars + 1)


def _show_range(values: np.ndarray, unit: str) -> str:
    ends = dict.fromkeys((_show(float(values.min())), _show(float(values.max()))))
    return f"{' to '.join(ends)} {unit}".rstrip()


def _show(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _begin(title: str, description: str, edges: np.ndarray, label: str, highest: float, y_label: str) -> Chart:
    return Chart(
        title,
        description,
        Axis(float(edges[0]), float(edges[-1]), label),
        Axis(0.0, highest * 1.05, y_label, whole=y_label == "cases"),
        _HEIGHT,
    )


def _draw_bar(chart: Chart, left: float, right: float, height: float, label: str) -> str:
    (x, top), (end, bottom) = chart.at(float(left), float(height)), chart.at(float(right), 0.0)
    shape = f'x="{x}" y="{top}" width="{max(end - x - 1, 1):.1f}" height="{max(bottom - top, 1):.1f}"'
    return f'<rect class="bar s0" {shape}><title>{escape(label)}</title></rect>'
