"""Groups by a column: categories, ranges, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evaluation.subgroups import NOT_GIVEN, Cut, add_columns, name_groups, read_cut, summarize_subgroups

COLUMNS = {"a": {"scanner": "A", "age": "50"}, "b": {"scanner": "old", "age": ""}}


def test_read_cut_column_and_edges() -> None:
    assert read_cut("Scanner", COLUMNS) == Cut("scanner")
    assert read_cut("age=40,60.5", COLUMNS) == Cut("age", (40.0, 60.5))


@pytest.mark.parametrize("text", ["age=", "age=old", "age=60,40", "age=1,1", "age=nan", "age=1,inf"])
def test_read_cut_wrong_edges_are_refused(text: str) -> None:
    with pytest.raises(EvaluationError, match="ascending order"):
        read_cut(text, COLUMNS)


def test_read_cut_edges_on_words_are_refused_before_anything_is_predicted() -> None:
    with pytest.raises(EvaluationError, match="Column 'scanner' has the value"):
        read_cut("scanner=1,2", COLUMNS)


def test_name_groups_words_are_categories_and_nothing_comes_last() -> None:
    groups, order = name_groups(["B", "A", "", "B"], Cut("scanner"))
    assert groups == ["B", "A", NOT_GIVEN, "B"]
    assert order == ["A", "B", NOT_GIVEN]


def test_name_groups_few_numbers_are_categories_in_their_order() -> None:
    assert name_groups(["10", "2", "10"], Cut("grade"))[1] == ["2", "10"]


def test_name_groups_edges_include_the_lower_one() -> None:
    groups, order = name_groups(["99.9", "100", "150", "300"], Cut("size", (100.0, 150.0)))
    assert order == ["under 100", "100 to under 150", "150 and more"]
    assert groups == ["under 100", "100 to under 150", "150 and more", "150 and more"]


def test_name_groups_quartiles_divide_evenly() -> None:
    groups, order = name_groups([str(number) for number in range(40)], Cut("size"))
    assert [groups.count(group) for group in order] == [10, 10, 10, 10]


def test_name_groups_edges_on_words_are_refused() -> None:
    with pytest.raises(EvaluationError, match="has the value 'old'; expected numbers"):
        name_groups(["3", "old"], Cut("age", (10.0,)))


@given(st.lists(st.floats(-1e3, 1e3).map(lambda value: f"{value:.3f}"), min_size=1, max_size=40))
def test_name_groups_every_case_is_in_a_listed_group(values: list[str]) -> None:
    groups, order = name_groups(values, Cut("size"))
    assert len(groups) == len(values)
    assert set(groups) <= set(order)


def test_read_cut_unknown_one_names_the_nearest() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'scanner'"):
        read_cut("scaner", COLUMNS)


def test_summarize_subgroups_means_and_intervals_are_those_of_the_group() -> None:
    dice = np.random.default_rng(0).uniform(0.5, 1, 9)
    rows = pd.DataFrame({"case": [f"c{number}" for number in range(9)], "label": "x", "dice": dice})
    columns = {f"c{number}": {"site": "north" if number < 6 else "south"} for number in range(9)}
    found = summarize_subgroups(add_columns(rows, [Cut("site")], columns), ["x"], Cut("site"))
    north, south = (row for row in found if row.label == "x")
    assert (north.group, north.n, north.too_small, north.mean) == ("north", 6, False, pytest.approx(dice[:6].mean()))
    assert (north.low, north.high) == compute_interval(dice[:6])
    assert (south.group, south.n, south.too_small, south.mean) == ("south", 3, True, pytest.approx(dice[6:].mean()))
    assert math.isnan(south.low)


def test_summarize_subgroups_few_patients_with_many_cases_are_too_few() -> None:
    rows = pd.DataFrame(
        {"case": list("abcdefgh"), "patient": list("11112222"), "label": "x", "dice": 0.8, "by_site": "n"}
    )
    row = summarize_subgroups(rows, ["x"], Cut("site"))[0]
    assert (row.n, row.num_patients, row.too_small) == (8, 2, True)


def test_name_groups_by_name_numbers_are_names() -> None:
    values = [str(number) for number in range(1, 13)]
    groups, order = name_groups(values, Cut("site", by_name=True))
    assert groups == values
    assert sorted(order) == sorted(values)
