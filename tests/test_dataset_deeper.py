"""A folder that holds the dataset one level deeper, or deeper still: the message names the one to give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unet_pipeline.dataset.deeper import suggest_deeper
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError, PredictionError
from unet_pipeline.prediction.inputs import list_inputs

from . import phantom_bundles as phantoms


@pytest.mark.parametrize("place", ["heads", "a/heads", "a/b/heads"])
def test_read_dataset_that_lies_deeper_is_named(tmp_path: Path, place: str) -> None:
    phantoms.write_pictures(tmp_path / "mine" / place, num_cases=2)
    (tmp_path / "mine" / "README.txt").write_text("notes")
    with pytest.raises(DatasetError, match=rf"has no images of its own. It lies deeper: give .*/mine/{place}\.$"):
        read_dataset(tmp_path / "mine")


def test_read_dataset_several_that_lie_deeper_are_named(tmp_path: Path) -> None:
    for name in ("feet", "heads"):
        phantoms.write_pictures(tmp_path / name, num_cases=2)
    with pytest.raises(DatasetError, match=r"They lie deeper: give one of .*/feet, .*/heads\.$"):
        read_dataset(tmp_path)


def test_read_dataset_images_without_labels_that_lie_deeper_are_named(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "heads", num_cases=2)
    shutil.rmtree(dataset / "labels")
    (dataset / "images").rename(dataset / "new")
    with pytest.raises(DatasetError, match=r"It lies deeper: give .*/heads/new\.$"):
        read_dataset(tmp_path)


def test_read_dataset_nothing_deeper_lists_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "empty" / "folders").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"has no known layout. Expected"):
        read_dataset(tmp_path)


def test_read_dataset_pairs_one_level_below_images_and_labels_are_named(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "heads", num_cases=3)
    for side in ("images", "labels"):
        (dataset / side).rename(dataset / "train")
        (dataset / side).mkdir()
        (dataset / "train").rename(dataset / side / "train")
    with pytest.raises(DatasetError, match=r"in images/train and labels/train. Move them up into images/ and labels/"):
        read_dataset(dataset)


def test_suggest_deeper_looks_into_few_folders(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03d}" / "inner").mkdir(parents=True)
    seen: list[Path] = []
    assert suggest_deeper(tmp_path, lambda folder: bool(seen.append(folder))) == ""
    assert 0 < len(seen) <= 60


def test_list_inputs_images_of_several_cases_that_lie_deeper_are_named(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "heads", num_cases=3)
    shutil.rmtree(dataset / "labels")
    with pytest.raises(PredictionError, match=r"if they are images of several cases, give .*/heads/images"):
        list_inputs(dataset)
    shutil.rmtree(dataset / "images")
    with pytest.raises(PredictionError, match=r"has no image; .* Check the path"):
        list_inputs(dataset)
