"""Plain folders under their several names, and files side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def names(dataset: Dataset) -> list[str]:
    return [case.name for case in dataset.cases]


@pytest.mark.parametrize("images", ["images", "Image", "imgs", "img", "imagesTr"])
@pytest.mark.parametrize(
    "labels", ["labels", "label", "Masks", "mask", "segmentations", "annotations", "gt", "labelsTr"]
)
def test_read_folders_known_names_are_taken(tmp_path: Path, images: str, labels: str) -> None:
    (case,) = read_dataset(touch(tmp_path, f"{images}/a.png", f"{labels}/a.png")).cases
    assert case == Case("a", Path(f"{images}/a.png"), Path(f"{labels}/a.png"))


def test_read_folders_two_that_could_be_the_images_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "imgs/a.png", "labels/a.png")
    with pytest.raises(DatasetError, match="has images/ and imgs/; expected one of them"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("ending", ["_mask", "_seg", "_label", "_gt", "_SEG", "_segmentation"])
def test_read_folders_endings_of_labels_are_taken_off(tmp_path: Path, ending: str) -> None:
    dataset = read_dataset(
        touch(tmp_path, "images/a.png", "images/b.png", f"masks/a{ending}.tif", f"masks/b{ending}.tif")
    )
    assert names(dataset) == ["a", "b"]
    assert dataset.problems_of_layout == ()


def test_read_folders_endings_of_images_are_taken_off(tmp_path: Path) -> None:
    dataset = read_dataset(
        touch(tmp_path, "images/a_img.png", "images/b_img.png", "masks/a_mask.png", "masks/b_mask.png")
    )
    assert names(dataset) == ["a", "b"]


def test_read_folders_endings_that_would_join_two_files_stay(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/a_img.png", "labels/a.png", "labels/a_img.png")
    assert names(read_dataset(tmp_path)) == ["a", "a_img"]


def test_read_folders_names_that_differ_in_case_are_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/A.png", "labels/a.png", "labels/A.png")
    found = {(problem.code, problem.file) for problem in read_dataset(tmp_path).problems_of_layout}
    assert ("names-differ-in-case", "images/a.png") in found


def test_read_folders_subfolder_of_files_is_a_series(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/1.dcm", "images/a/2.dcm", "images/__MACOSX/x", "labels/a.nii.gz")
    assert read_dataset(tmp_path).cases == (Case("a", Path("images/a"), Path("labels/a.nii.gz")),)


def test_read_folders_link_out_of_the_dataset_is_a_problem(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "images/a.png", "labels/b.png", "images/b.png")
    (root / "labels" / "a.png").symlink_to(touch(tmp_path, "elsewhere.png") / "elsewhere.png")
    (problem,) = read_dataset(root).problems_of_layout
    assert (problem.code, problem.file) == ("path-leaves-dataset", "labels/a.png")


@pytest.mark.parametrize("control", ["\n", "\x07", "\u202e"])
def test_read_folders_name_with_a_control_character_is_refused(tmp_path: Path, control: str) -> None:
    touch(tmp_path, f"images/a{control}b.png", f"labels/a{control}b.png")
    with pytest.raises(DatasetError, match="cannot be a file name"):
        read_dataset(tmp_path)


def test_read_side_by_side_pairs_by_stem(tmp_path: Path) -> None:
    dataset = read_dataset(touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz", "c.nii.gz"))
    assert dataset.layout == "files side by side"
    assert names(dataset) == ["a", "b"]
    (problem,) = dataset.problems_of_layout
    assert (problem.file, problem.cause) == ("c.nii.gz", "has no label")


def test_read_side_by_side_lone_pair_is_taken_with_a_note(tmp_path: Path) -> None:
    dataset = read_dataset(touch(tmp_path, "scan_small.nii.gz", "other_seg.nii.gz"))
    (case,) = dataset.cases
    assert (case.image, case.label) == (Path("scan_small.nii.gz"), Path("other_seg.nii.gz"))
    (note,) = dataset.problems_of_layout
    assert (note.severity, note.code) == ("note", "lone-pair")


@pytest.mark.parametrize("files", [("a.nii.gz", "b.nii.gz"), ("a.nii.gz",), ("a_seg.nii.gz", "b_seg.nii.gz")])
def test_read_side_by_side_unrelated_files_are_images_without_labels(tmp_path: Path, files: tuple[str, ...]) -> None:
    dataset = read_dataset(touch(tmp_path, *files))
    assert dataset.layout == "images without labels"
    assert [problem.code for problem in dataset.problems_of_layout] == ["no-labels"]


def test_read_folders_files_of_no_image_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no known layout"):
        read_dataset(touch(tmp_path, "x.txt", "y.pdf"))


@pytest.mark.real_data
def test_read_side_by_side_two_loose_ct_files(pipeline_data: Path) -> None:
    dataset = read_dataset(pipeline_data / "ct_abdomen")
    (case,) = dataset.cases
    assert (case.image, case.label) == (Path("example_ct_sm.nii.gz"), Path("example_seg.nii.gz"))
    assert [problem.code for problem in dataset.problems_of_layout] == ["lone-pair"]
