"""Charts as inline SVG: a frame with two axes, on which lines, points, boxes and texts are put.

Series have a colour, a dash and a marker each, so that none is told by its colour alone; the colours are classes of the report's style
sheet, which has others for light and dark. Coordinates of the frame are `WIDTH` wide, sized so that texts stay legible on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 290
NUM_SERIES = 7
_RIGHT, _TOP, _BOTTOM = 12, 12, 46
_TITLE_ROOM = 26  # of the title of the y axis, beside the ticks' texts
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 2")
_LETTER = 6.6  # width of a letter at the charts' size


@dataclass(frozen=True)
class Axis:
    """Range and name of an axis; `ticks` are chosen when none are given, whole numbers alone where it counts something."""

    low: float
    high: float
    label: str
    ticks: tuple[tuple[float, str], ...] = ()
    logarithmic: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """0 at the lower end, 1 at the upper."""
        if self.logarithmic:
            return (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (value - self.low) / (self.high - self.low)


def fit_axis(values: Sequence[float], label: str, logarithmic: bool = False) -> Axis:
    """An axis that holds all finite values with a little room; 0 to 1 without values."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
    if not finite:
        return Axis(0.0, 1.0, label)
    low, high = min(finite), max(finite)
    if logarithmic:
        return Axis(low / 1.1, high * 1.1, label, logarithmic=True)
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(low - room, high + room, label)


def format_number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits and separators between thousands, such as 12,350."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = round(value, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{max(digits, 15)}g}"


def choose_ticks(axis: Axis, most: int = 6) -> tuple[tuple[float, str], ...]:
    """Round values within the axis and their texts."""
    if axis.ticks:
        return axis.ticks
    if axis.logarithmic:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        round_values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        return tuple((value, format_number(value)) for value in round_values if axis.low <= value <= axis.high)
    raw = (axis.high - axis.low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= raw * 0.999)
    if axis.whole:
        step = math.ceil(step - 1e-9)
    first = math.ceil(axis.low / step - 1e-9)
    values = [(first + number) * step for number in range(most + 3)]
    return tuple((value, format_number(round(value, 10), 6)) for value in values if value <= axis.high + 1e-9 * step)


@dataclass
class Chart:
    """An SVG that grows; `render` gives it.

    Args:
        title: read aloud first; what the chart shows.
        description: what can be seen in it, for those who cannot.
        x, y: the axes.
    """

    title: str
    description: str
    x: Axis
    y: Axis
    height: int = HEIGHT
    parts: list[str] = field(default_factory=list)
    legend: list[tuple[int, str, bool]] = field(default_factory=list)

    @cached_property
    def _left(self) -> float:
        """Place of the y axis: its title and the widest text of its ticks fit beside it."""
        return _TITLE_ROOM + 8 + _LETTER * max((len(text) for _, text in choose_ticks(self.y, 5)), default=0)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates in the SVG of a point on the axes; points outside lie on the edge."""
        across, up = (min(max(part, 0.0), 1.0) for part in (self.x.place(x), self.y.place(y)))
        width, height = WIDTH - self._left - _RIGHT, self.height - _TOP - _BOTTOM
        return round(self._left + across * width, 1), round(_TOP + (1 - up) * height, 1)

    def line(
        self, xs: Sequence[float], ys: Sequence[float], series: int = 0, name: str = "", style: str = "line"
    ) -> None:
        """A line through the points that are finite; `style` is a class: line, thin, or guide (grey)."""
        points = " ".join(
            f"{px},{py}"
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(x) and math.isfinite(y)
            for px, py in [self.at(x, y)]
        )
        dash = _DASHES[series % len(_DASHES)] if style == "line" else "5 4" if style == "guide" else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline class="{style} s{series % NUM_SERIES}"{dashes} points="{points}"/>')
        if name:
            self.legend.append((series, name, False))

    def points(self, xs: Sequence[float], ys: Sequence[float], series: int = 0, name: str = "") -> None:
        """A marker for each point that is finite."""
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                self.parts.append(_draw_marker(*self.at(x, y), series))
        if name:
            self.legend.append((series, name, True))

    def box(self, middle: float, quartiles: Sequence[float], width: float, series: int = 0) -> None:
        """Box from the first to the third quartile, with a line at the median; `quartiles` has the three."""
        left, top = self.at(middle - width / 2, quartiles[2])
        right, bottom = self.at(middle + width / 2, quartiles[0])
        _, centre = self.at(middle, quartiles[1])
        shape = f'x="{left}" y="{top}" width="{right - left:.1f}" height="{max(bottom - top, 0.5):.1f}"'
        self.parts.append(f'<rect class="box s{series % NUM_SERIES}" {shape}/>')
        self.parts.append(f'<path class="median s{series % NUM_SERIES}" d="M{left} {centre}H{right}"/>')

    def whisker(self, x: float, low: float, high: float, mean: float) -> None:
        """An interval and its mean."""
        (px, bottom), (_, top), (_, centre) = self.at(x, low), self.at(x, high), self.at(x, mean)
        ends = f"M{px - 5} {bottom}h10M{px - 5} {top}h10M{px} {bottom}V{top}"
        self.parts.append(f'<path class="whisker" d="{ends}"/>')
        self.parts.append(
            f'<path class="mean" d="M{px - 5} {centre}l5 -5l5 5l-5 5z"/>',
        )

    def text(self, x: float, y: float, text: str, anchor: str = "end") -> None:
        """A short text at a point."""
        px, py = self.at(x, y)
        self.parts.append(f'<text x="{px}" y="{py - 4}" text-anchor="{anchor}">{escape(text)}</text>')

    def render(self) -> Markup:
        """The SVG, with title and description for those who cannot see it."""
        legend, below = self._draw_legend()
        body = "".join((*self._draw_axes(), *self.parts, *legend))
        return Markup(  # every text that comes from outside was escaped where it was put in
            f'<svg class="chart" viewBox="0 0 {WIDTH} {self.height + below}" role="img" '
            f'aria-label="{escape(f"{self.title}. {self.description}")}"><title>{escape(self.title)}</title>{body}</svg>'
        )

    def _draw_axes(self) -> list[str]:
        drawn = []
        left, bottom, right, top = round(self._left, 1), self.height - _BOTTOM, WIDTH - _RIGHT, _TOP
        for value, text in choose_ticks(self.y, 5):
            _, py = self.at(self.x.low, value)
            drawn.append(f'<path class="grid" d="M{left} {py}H{right}"/>')
            drawn.append(f'<text x="{left - 6}" y="{py + 4}" text-anchor="end">{escape(text)}</text>')
        for value, text in self._choose_x_ticks():
            px, _ = self.at(value, self.y.low)
            drawn.append(f'<path class="axis" d="M{px} {bottom}v4"/>')
            tx = round(min(px, WIDTH - _LETTER * len(text) / 2), 1)  # the last one ends with the drawing
            drawn.append(f'<text x="{tx}" y="{bottom + 17}" text-anchor="middle">{escape(text)}</text>')
        drawn.append(f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>')
        middle = (left + right) / 2
        drawn.append(
            f'<text x="{middle}" y="{self.height - 10}" text-anchor="middle" class="name">{escape(self.x.label)}</text>'
        )
        centre = (top + bottom) / 2
        drawn.append(
            f'<text class="name" text-anchor="middle" transform="translate(13 {centre}) rotate(-90)"'
            f"{_squeeze(self.y.label, bottom - top)}>{escape(self.y.label)}</text>"
        )
        return drawn

    def _choose_x_ticks(self) -> tuple[tuple[float, str], ...]:
        """As many as stand beside each other."""
        for most in range(6, 0, -1):
            ticks = choose_ticks(self.x, most)
            room = (WIDTH - self._left - _RIGHT) / max(len(ticks), 1)
            widths = [_LETTER * len(text) for _, text in ticks]
            if self.x.ticks or all(width + max(8, width / 2 - _RIGHT + 2) <= room for width in widths):
                break
        return ticks

    def _draw_legend(self) -> tuple[list[str], int]:
        """Entries in rows below the chart, and the height that they take."""
        drawn, x, row = [], self._left, 0
        for series, name, is_marker in self.legend:
            width = 30 + _LETTER * len(name) + 14
            if x > self._left and x + width > WIDTH:
                x, row = self._left, row + 1
            y = self.height + 10 + 18 * row
            dash = _DASHES[series % len(_DASHES)]
            sample = (
                _draw_marker(x + 12, y, series)
                if is_marker
                else f'<path class="line s{series % NUM_SERIES}" stroke-dasharray="{dash}" d="M{x} {y}h24"/>'
            )
            drawn.append(f'{sample}<text x="{x + 30}" y="{y + 4}">{escape(name)}</text>')
            x += width
        return drawn, 18 * (row + 1) + 6 if self.legend else 0


def _squeeze(text: str, room: float) -> str:
    """Attributes that make a text as short as its room."""
    return f' textLength="{room:.0f}" lengthAdjust="spacingAndGlyphs"' if _LETTER * len(text) > room else ""


def _draw_marker(x: float, y: float, series: int) -> str:
    shapes = (
        f'<circle cx="{x}" cy="{y}" r="3"',
        f'<rect x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6"',
        f'<path d="M{x} {y - 3.8:.1f}l3.6 6.4h-7.2z"',
        f'<path d="M{x} {y - 4:.1f}l4 4l-4 4l-4 -4z"',
        f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"',
        f'<path d="M{x - 4:.1f} {y}h8m-4 -4v8"',
        f'<path d="M{x} {y + 3.8:.1f}l3.6 -6.4h-7.2z"',
    )
    return f'{shapes[series % len(shapes)]} class="mark s{series % NUM_SERIES}"/>'
