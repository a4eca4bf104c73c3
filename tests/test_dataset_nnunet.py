"""nnU-Net's raw layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json

CONTENT = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "organ": 1},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def build(root: Path, **changes: Any) -> Path:
    """Three cases with two channels; the files are empty, because the layout opens none."""
    content = {**CONTENT, **changes}
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b", "c"):
        for channel in range(len(content["channel_names"])):
            (root / "imagesTr" / f"{name}_{channel:04d}.nii.gz").touch()
        (root / "labelsTr" / f"{name}.nii.gz").touch()
    write_json(root / "dataset.json", content)
    return root


def codes(dataset: Dataset) -> list[tuple[str, str]]:
    return [(problem.code, problem.file) for problem in dataset.problems_of_layout]


def test_read_nnunet_channels_belong_to_their_case(tmp_path: Path) -> None:
    dataset = read_dataset(build(tmp_path))
    assert dataset.layout == "nnU-Net raw"
    assert dataset.channels == ("T1", "T2")
    assert dataset.labels == {"background": 0, "organ": 1}
    assert dataset.cases[1] == Case(
        "b",
        Path("imagesTr/b_0000.nii.gz"),
        Path("labelsTr/b.nii.gz"),
        further_channels=(Path("imagesTr/b_0001.nii.gz"),),
    )
    assert dataset.problems_of_layout == ()


@pytest.mark.parametrize(
    ("removed", "added", "expected"),
    [
        ("imagesTr/b_0001.nii.gz", None, ("channel-missing", "imagesTr/b_0000.nii.gz")),
        ("labelsTr/b.nii.gz", None, ("nnunet-no-label", "imagesTr/b_0000.nii.gz")),
        (None, "labelsTr/d.nii.gz", ("nnunet-no-image", "labelsTr/d.nii.gz")),
        (None, "imagesTr/a_0002.nii.gz", ("channel-extra", "imagesTr/a_0002.nii.gz")),
        (None, "imagesTr/a.nii.gz", ("channel-number", "imagesTr/a.nii.gz")),
    ],
)
def test_read_nnunet_file_without_partner_is_a_problem(
    tmp_path: Path, removed: str | None, added: str | None, expected: tuple[str, str]
) -> None:
    build(tmp_path)
    if removed:
        (tmp_path / removed).unlink()
    if added:
        (tmp_path / added).touch()
    assert expected in codes(read_dataset(tmp_path))


def test_read_nnunet_wrong_count_is_a_warning(tmp_path: Path) -> None:
    (problem,) = read_dataset(build(tmp_path, numTraining=4)).problems_of_layout
    assert (problem.severity, problem.cause) == ("warning", "says numTraining 4, and there are 3 cases")


def test_read_nnunet_ignore_label_is_no_label(tmp_path: Path) -> None:
    dataset = read_dataset(build(tmp_path, labels={"background": 0, "organ": 1, "ignore": 2}))
    assert (dataset.labels, dataset.ignore_value) == ({"background": 0, "organ": 1}, 2)


def test_read_nnunet_regions_become_their_plain_values(tmp_path: Path) -> None:
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    dataset = read_dataset(build(tmp_path, labels=regions, regions_class_order=[1, 2, 3]))
    assert dataset.labels == {"background": 0, "whole 1": 1, "whole and core 2": 2, "enhancing": 3}
    assert dataset.regions == {"whole": (1, 2, 3), "core": (2, 3)}
    (note,) = dataset.problems_of_layout
    assert (note.severity, note.code) == ("note", "regions")
    assert "whole = 1+2+3, core = 2+3" in note.cause


def test_read_nnunet_listed_files_are_taken(tmp_path: Path) -> None:
    listed = {"x": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    (case,) = read_dataset(build(tmp_path, dataset=listed, numTraining=1)).cases
    assert (case.name, case.images) == ("x", (Path("imagesTr/a_0000.nii.gz"), Path("imagesTr/b_0000.nii.gz")))


def test_read_nnunet_files_that_are_not_listed_are_warnings(tmp_path: Path) -> None:
    listed = {"x": {"images": ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    problems = read_dataset(build(tmp_path, dataset=listed, numTraining=1)).problems_of_layout
    assert {(problem.code, problem.severity) for problem in problems} == {("not-listed", "warning")}
    assert {"imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"} <= {problem.file for problem in problems}
    assert not {"imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"} & {problem.file for problem in problems}


@pytest.mark.parametrize("path", ["../a.nii.gz", "/etc/a.nii.gz", "", "C:\\a.nii.gz"])
def test_read_nnunet_listed_path_that_leaves_is_refused(tmp_path: Path, path: str) -> None:
    listed = {"x": {"images": [path, "imagesTr/b_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}}
    with pytest.raises(DatasetError, match=r"dataset\.json, case x, leads out of the dataset"):
        read_dataset(build(tmp_path, dataset=listed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": {"0": "T1", "2": "T2"}}, "numbers its channel_names with gaps"),
        ({"channel_names": {"x": "T1"}}, "no usable .channel_names"),
        ({"labels": {"background": "none"}}, "no usable .labels"),
        ({"labels": {"background": 0, "organ": 0}}, "gives one value to two names"),
        ({"labels": {"background": 0, "organ": float("inf")}}, "'organ' has the value inf; expected a whole number"),
        ({"labels": {"background": 0, "organ": []}}, r"'organ' has the value \[\]; expected"),
        ({"labels": {"background": 0, "organ": 1, "ignore": [2, 3]}}, "to ignore; expected one"),
        ({"labels": {"background": 0, "organ": 1, "ignore": []}}, "'ignore' has the value"),
        ({"labels": {"background": 0, " ": 1}}, "has the label name ' '; expected text"),
        ({"labels": {"background": 0, "": [1, 2], "b": 1}}, "has the region name ''; expected text"),
        ({"labels": {"background": 0, "all": [1, 2], "all 2": 1}}, "has the label name 'all 2' twice"),
        ({"labels": None}, "no usable .labels"),
        ({"channel_names": {"0": None}}, "has the channel name None; expected text"),
        ({"channel_names": ["T1"]}, "no usable .channel_names"),
        ({"channel_names": {"0": "T1", "00": "T2"}}, "the number 0 twice"),
        ({"file_ending": 3}, "no usable .file_ending"),
        ({"dataset": {"x": {"images": ["a.nii.gz"], "label": "b.nii.gz"}}}, r"expected .* \[2 path"),
    ],
)
def test_read_nnunet_dataset_json_that_cannot_be_used_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    build(tmp_path)
    write_json(tmp_path / "dataset.json", {**CONTENT, **changes})
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


def test_read_nnunet_splits_are_taken_over(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["c", "a"], "val": ["b"]}]))
    assert read_dataset(tmp_path).folds == ((("a", "c"), ("b",)),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"train": ["a"], "val": ["z"]}], "names the case z, which the dataset lacks"),
        ([{"train": ["a", "b"], "val": ["b"]}], "has the case b in train and in val"),
        ([{"train": ["a"]}], "has another form"),
        ({"train": ["a"], "val": ["b"]}, "has another form"),
    ],
)
def test_read_nnunet_splits_that_cannot_be_used_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    build(tmp_path)
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path)


def test_read_nnunet_channels_are_checked_together(tmp_path: Path, write_nifti: Callable) -> None:
    build(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for channel in range(2):
            array = generator.integers(0, 100, (6, 7, 8)).astype(np.int16)
            write_nifti(tmp_path / "imagesTr" / f"{name}_{channel:04d}.nii.gz", array)
        label = np.zeros((6, 7, 8), np.uint8)
        label[2:4, 2:4, 2:4] = 1
        write_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", label)
    report = check_dataset(read_dataset(tmp_path))
    assert report.require_no_errors().channels == ("T1", "T2")
    assert report.needs_preparation == "has a file per channel"


@pytest.mark.real_data
def test_read_nnunet_lung_xray(pipeline_data: Path) -> None:
    dataset = read_dataset(pipeline_data / "Dataset101_LungXray")
    assert (dataset.layout, len(dataset.cases), dataset.channels) == ("nnU-Net raw", 111, ("xray",))
    assert dataset.labels == {"background": 0, "lung": 1}
    assert dataset.problems_of_layout == ()
