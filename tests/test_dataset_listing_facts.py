"""What a dataset's lists say is compared by content, case by case, whatever their bytes are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.listing_facts import Listing, describe_case, describe_listing, find_changed_facts

CASES = (
    Case("a", Path("i/a.png"), Path("l/a.png"), patient="1", split="train", spacing_mm=(0.5,)),
    Case("b", Path("i/b.png"), Path("l/b.png"), patient="2", split="test", spacing_mm=(0.5, 0.25)),
    Case("c", Path("i/c.png"), Path("l/c.png"), further_channels=(Path("i/c2.png"),)),
)
DATASET = Dataset(
    root=Path("data"),
    layout="list of cases",
    cases=CASES,
    channels=("t1",),
    labels={"background": 0, "liver": 1, "tumour": 2},
    ignore_value=9,
    regions={"whole": (1, 2)},
    folds=((("a", "b"), ("c",)), (("c",), ("a", "b"))),
)


def compare(now: Dataset, before: Dataset = DATASET) -> list[str]:
    stored = Listing.model_validate_json(describe_listing(before).model_dump_json())
    return find_changed_facts({case.name: describe_case(case) for case in before.cases}, stored, now)


def change_case(name: str, **changes: Any) -> Dataset:
    return replace(
        DATASET, cases=tuple(replace(case, **changes) if case.name == name else case for case in DATASET.cases)
    )


def test_find_changed_facts_nothing_changed() -> None:
    assert compare(DATASET) == []
    assert compare(replace(DATASET, cases=CASES[::-1])) == [], "the order of rows says nothing"
    assert compare(replace(DATASET, labels={"tumour": 2, "liver": 1, "background": 0})) == []
    assert compare(change_case("a", columns={"site": "north"})) == [], "a further column"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a", {"patient": "1.0"}),  # as pandas writes a number where another row has none
        ("a", {"patient": "01"}),
        ("a", {"spacing_mm": (0.5, 0.5)}),
        ("b", {"spacing_mm": (0.5, 0.25000000001)}),
    ],
)
def test_find_changed_facts_another_spelling_is_no_change(name: str, changes: dict[str, Any]) -> None:
    assert compare(change_case(name, **changes)) == []


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("a", {"label": Path("l/b.png")}, "the label of case a is l/b.png, was l/a.png"),
        ("a", {"label": None}, "the label of case a is none, was l/a.png"),
        ("b", {"image": Path("i/a.png")}, "the image of case b is i/a.png, was i/b.png"),
        ("c", {"further_channels": ()}, "the image of case c is i/c.png, was i/c.png, i/c2.png"),
        ("a", {"patient": "2"}, "case a has another patient"),
        ("a", {"patient": None}, "case a has another patient"),
        ("c", {"patient": "jane"}, "case c has another patient"),
        ("a", {"split": "test"}, "the split of case a is test, was train"),
        ("b", {"split": None}, "the split of case b is none, was test"),
        ("b", {"spacing_mm": (0.25, 0.5)}, "the spacing_mm of case b is 0.25x0.5, was 0.5x0.25"),
        ("b", {"spacing_mm": (0.5,)}, "the spacing_mm of case b is 0.5, was 0.5x0.25"),
        ("a", {"spacing_mm": None}, "the spacing_mm of case a is none, was 0.5"),
        ("c", {"spacing_mm": (2.0,)}, "the spacing_mm of case c is 2, was none"),
    ],
)
def test_find_changed_facts_names_the_case_and_both_values(name: str, changes: dict[str, Any], words: str) -> None:
    assert compare(change_case(name, **changes)) == [words]


def test_find_changed_facts_cases_that_left_and_came() -> None:
    assert compare(replace(DATASET, cases=CASES[1:])) == ["case a is gone"]
    assert compare(replace(DATASET, cases=(*CASES, Case("d", Path("d.png"), None)))) == ["case d is new"]
    renamed = (replace(CASES[0], name="z"), *CASES[1:])
    assert compare(replace(DATASET, cases=renamed)) == ["case a is gone", "case z is new"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"labels": {"background": 0, "liver": 2, "tumour": 1}},
            "the label table is background=0, liver=2, tumour=1, was background=0, liver=1, tumour=2",
        ),
        ({"labels": None}, "the label table is none, was background=0, liver=1, tumour=2"),
        ({"channels": ("t1", "t2")}, "the list of channels is t1, t2, was t1"),
        ({"ignore_value": None}, "the value to ignore is none, was 9"),
        ({"regions": {"whole": (1,)}}, "the table of regions is whole=1, was whole=1+2"),
        ({"regions": {}}, "the table of regions is none, was whole=1+2"),
        ({"folds": ()}, "there are 0 folds, were 2"),
    ],
)
def test_find_changed_facts_of_the_whole_dataset(changes: dict[str, Any], words: str) -> None:
    assert compare(replace(DATASET, **changes)) == [words]


def test_find_changed_facts_folds_name_the_cases_that_moved() -> None:
    moved = ((("a",), ("b", "c")), (("c",), ("a", "b")))
    assert compare(replace(DATASET, folds=moved)) == [
        "case b left the training of fold 0",
        "case b is in the validation of fold 0",
    ]
