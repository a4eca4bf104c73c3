"""dataset_facts.json fills in what a layout leaves open, and is refused with one sentence when it is damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.dataset_facts import FACTS_FILE, add_facts, write_facts
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json

CASES = (Case("a", Path("a.png"), Path("a_seg.png")), Case("b", Path("b.png"), Path("b_seg.png")))


def test_write_facts_and_add_facts_are_inverse(tmp_path: Path) -> None:
    dataset = Dataset(
        root=tmp_path,
        layout="test",
        cases=CASES,
        channels=("T1",),
        labels={"background": 0, "organ": 2},
        licence="CC0",
        reference="nobody",
        ignore_value=9,
        regions={"whole": (1, 2)},
        folds=((("a",), ("b",)), (("b",), ("a",))),
        lists=(Path(FACTS_FILE),),
    )
    write_facts(tmp_path, dataset)
    assert add_facts(Dataset(root=tmp_path, layout="test", cases=CASES)) == dataset


def test_add_facts_what_the_layout_says_stays(tmp_path: Path) -> None:
    write_json(tmp_path / FACTS_FILE, {"labels": {"background": 0, "other": 1}, "channels": ["CT"]})
    dataset = Dataset(root=tmp_path, layout="test", cases=CASES, labels={"background": 0, "organ": 1})
    assert add_facts(dataset) == replace(dataset, channels=("CT",), lists=(Path(FACTS_FILE),))


def test_write_facts_nothing_to_say_writes_nothing(tmp_path: Path) -> None:
    write_facts(tmp_path, Dataset(root=tmp_path, layout="test", cases=CASES))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"labels": {"background": "x"}}, "labels.background"),
        ({"colours": 1}, "colours"),
        ([1], "its content"),
        ({"folds": [{"train": ["a"], "val": ["z"]}]}, "the case z in a fold"),
        ({"labels": {"organ": 1}}, "at least two"),
    ],
)
def test_add_facts_another_form_is_named(tmp_path: Path, content: object, said: str) -> None:
    write_json(tmp_path / FACTS_FILE, content)
    with pytest.raises(DatasetError, match=said):
        add_facts(Dataset(root=tmp_path, layout="test", cases=CASES))


def test_read_dataset_plain_folders_get_their_names_from_the_facts(png_folders: Path) -> None:
    write_json(png_folders / FACTS_FILE, {"labels": {"background": 0, "cell": 255}})
    report = check_dataset(read_dataset(png_folders))
    assert report.problems == ()
    assert report.dataset.labels == {"background": 0, "cell": 255}
