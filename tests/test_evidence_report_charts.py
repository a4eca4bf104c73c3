"""Charts: points lie where they belong, ticks are round, and no series is told by its colour alone."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.evidence.report.charts import NUM_SERIES, Axis, Chart, choose_ticks, fit_axis, format_number


def build_chart() -> Chart:
    return Chart("Title <1>", "What & where.", Axis(0, 10, "x"), Axis(0, 1, "y"))


def test_at_corners_are_those_of_the_frame() -> None:
    chart = build_chart()
    (left, bottom), (right, top) = chart.at(0, 0), chart.at(10, 1)
    assert left < right
    assert bottom > top  # upwards on the page
    assert chart.at(5, 0.5) == ((left + right) / 2, (bottom + top) / 2)
    assert chart.at(-99, 99) == (left, top)


def test_place_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    axis = Axis(0.01, 100, "loss", logarithmic=True)
    assert [axis.place(value) for value in (0.01, 0.1, 1, 10, 100)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6))
def test_choose_ticks_any_range_gives_a_few_within_it(low: float, size: float) -> None:
    axis = Axis(low, low + size, "x")
    values = [value for value, _ in choose_ticks(axis)]
    assert 1 <= len(values) <= 9
    assert all(axis.low - size * 1e-6 <= value <= axis.high + size * 1e-6 for value in values)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 24, 110])
def test_choose_ticks_of_what_is_counted_are_whole(most: int) -> None:
    ticks = choose_ticks(Axis(0, 1.05 * most, "cases", whole=True), 5)
    assert all(value == round(value) == float(text) for value, text in ticks)
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize("values", [[], [math.nan], [0.5], [0.0, 0.0]])
def test_fit_axis_without_a_range_has_one(values: list[float]) -> None:
    axis = fit_axis(values, "x")
    assert axis.low < axis.high


def test_render_is_xml_with_escaped_texts_and_a_description() -> None:
    chart = build_chart()
    chart.line([0, 1, math.nan], [0, 1, 1], 0, "a <b>")
    chart.points([3], [0.5], 1, "c")
    root = ElementTree.fromstring(str(chart.render()))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Title <1>. What & where."
    assert root[0].text == "Title <1>"
    assert {"a <b>", "c", "x", "y"} <= {element.text for element in root.iter("text")}


def test_series_differ_by_more_than_colour() -> None:
    lines, marks = set(), set()
    for series in range(NUM_SERIES):
        chart = build_chart()
        chart.line([0, 1], [0, 1], series)
        lines.add(re.search(r'stroke-dasharray="([^"]*)"', chart.parts[0])[1] if "dasharray" in chart.parts[0] else "")
        chart.points([5], [0.5], series)
        marks.add(re.sub(r'class="[^"]*"', "", chart.parts[1]))
    assert len(lines) == len(marks) == NUM_SERIES


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,350"), (1e6, "1,000,000"), (-0.01234567, "-0.01235"), (0.0, "0"), (math.nan, "nan")],
)
def test_format_number_separates_thousands(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize("most", [1.0, 2.5e4, 9.9e6, 0.00004])
def test_render_titles_and_ticks_are_clear_of_each_other(most: float) -> None:
    svg = Chart("t", "d", fit_axis([0, most], "size"), fit_axis([0, most], "a long name of an axis " * 4)).render()
    left = float(re.search(r'class="axis" d="M([\d.]+) 12V', svg)[1])
    ticks = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(end|middle)">([^<]*)<', svg)
    assert all(left - 6 - 6.6 * len(text) >= 20 for _, anchor, text in ticks if anchor == "end")  # 13 and half a line
    along = sorted((float(x), 6.6 * len(text)) for x, anchor, text in ticks if anchor == "middle")
    assert along
    assert all(x + width / 2 < other - size / 2 for (x, width), (other, size) in pairwise(along))
    assert float(re.search(r'textLength="(\d+)"', svg)[1]) <= 290 - 12 - 46


@pytest.mark.parametrize("most", [12.4, 1240.0, 1_000_000.0])
def test_render_last_tick_of_the_x_axis_is_within_the_drawing(most: float) -> None:
    axis = Axis(0, most, "x", ticks=((0, "0"), (most, f"{most:,.1f}")))
    root = ElementTree.fromstring(Chart("t", "d", axis, Axis(0, 1, "y")).render())
    width = float(root.attrib["viewBox"].split()[2])
    (text,) = [one for one in root.iter() if one.text == f"{most:,.1f}"]
    assert text.attrib["text-anchor"] == "middle"
    assert float(text.attrib["x"]) + 6.6 * len(text.text or "") / 2 <= width
