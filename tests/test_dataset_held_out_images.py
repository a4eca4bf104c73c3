"""A test image that is trained on as well is an error, in whatever file its voxels lie."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.held_out_images import list_test_images
from unet_pipeline.dataset.layouts import read_dataset

SHAPE = (8, 9, 7)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 2:5, 2:5] = 1
    return np.random.default_rng(seed).integers(0, 500, SHAPE).astype(np.int16), label


def write_folders(root: Path, write_nifti: Callable) -> Path:
    for seed in range(3):
        image, label = draw(seed)
        write_nifti(root / "imagesTr" / f"c{seed}.nii.gz", image)
        write_nifti(root / "labelsTr" / f"c{seed}.nii.gz", label)
    return root


def list_errors(root: Path) -> list[str]:
    return [str(problem) for problem in check_dataset(read_dataset(root)).errors]


def test_check_ordinary_test_images_are_no_problem(tmp_path: Path, write_nifti: Callable) -> None:
    root = write_folders(tmp_path, write_nifti)
    write_nifti(root / "imagesTs" / "t.nii.gz", draw(9)[0])
    write_nifti(root / "imagesTs" / "larger.nii.gz", np.zeros((30, 30, 30), np.int16))
    (root / "imagesTs" / "broken.nii.gz").write_bytes(b"x")
    assert list_errors(root) == []
    assert len(list_test_images(root)) == 3


@pytest.mark.parametrize("kind", ["copy", "float", "channel file", "metaimage"])
def test_check_test_image_that_is_trained_on_names_both(tmp_path: Path, write_nifti: Callable, kind: str) -> None:
    root, image = write_folders(tmp_path, write_nifti), draw(1)[0]
    if kind == "metaimage":
        written = SimpleITK.GetImageFromArray(np.ascontiguousarray(image.transpose(2, 1, 0)))
        (root / "imagesTs").mkdir()
        SimpleITK.WriteImage(written, str(root / "imagesTs" / "t.mha"))
    else:
        name = "t_0000.nii.gz" if kind == "channel file" else "t.nii.gz"
        write_nifti(root / "imagesTs" / name, image.astype(np.float32) if kind == "float" else image)
    (error,) = list_errors(root)
    assert "imagesTs/t" in error
    assert "has the same voxels as imagesTr/c1.nii.gz, which is trained on" in error


@pytest.mark.parametrize(("first", "later", "is_error"), [
    ("train", "test", True),
    ("", "test", True),
    ("test", "", True),
    ("validation", "test", True),
    ("train", "validation", True),
    ("train", "", False),
    ("test", "test", False),
    ("", "", False),
])  # fmt: skip
def test_check_twins_of_a_list_on_both_sides_are_an_error(
    tmp_path: Path, write_nifti: Callable, first: str, later: str, is_error: bool
) -> None:
    splits = [first, later, "train", "train"]
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label", "split"])
        for number, (split, seed) in enumerate(zip(splits, (0, 0, 1, 2), strict=True)):
            image, label = draw(seed)
            dtype = np.float32 if number == 1 else np.int16
            write_nifti(tmp_path / f"i{number}.nii.gz", image.astype(dtype))
            write_nifti(tmp_path / f"l{number}.nii.gz", label)
            writer.writerow([f"i{number}.nii.gz", f"l{number}.nii.gz", split])
    errors = list_errors(tmp_path)
    assert len(errors) == is_error
    assert all("has the same voxels as i0.nii.gz" in error for error in errors)


def test_check_empty_channel_of_a_test_image_is_nobodys_copy(tmp_path: Path, write_nifti: Callable) -> None:
    root = write_folders(tmp_path, write_nifti)
    write_nifti(root / "imagesTs" / "t.nii.gz", np.zeros(SHAPE, np.int16))
    assert list_errors(root) == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("caf\u00e9", "cafe\u0301", "only in how Unicode writes its letters"),
        ("Case1", "case1", "in upper and lower case only"),
        ("\u00c9tude", "e\u0301tude", "in upper and lower case only"),
    ],
)
def test_check_case_names_that_look_alike_are_errors(
    tmp_path: Path, write_nifti: Callable, first: str, second: str, words: str
) -> None:
    for seed, name in enumerate((first, second)):
        image, label = draw(seed)
        write_nifti(tmp_path / "images" / f"{name}.nii.gz", image)
        write_nifti(tmp_path / "labels" / f"{name}.nii.gz", label)
    errors = list_errors(tmp_path)
    assert len(errors) == 2, "one for the image, one for the label map"
    assert all(words in error and "Rename one of them" in error for error in errors)


def test_check_case_names_of_a_list_that_look_alike_are_errors(tmp_path: Path, write_nifti: Callable) -> None:
    lines = ["case,image,label"]
    for seed, name in enumerate(("caf\u00e9", "cafe\u0301", "other")):
        image, label = draw(seed)
        write_nifti(tmp_path / f"i{seed}.nii.gz", image)
        write_nifti(tmp_path / f"l{seed}.nii.gz", label)
        lines.append(f"{name},i{seed}.nii.gz,l{seed}.nii.gz")
    (tmp_path / "cases.csv").write_text("\n".join(lines), encoding="utf-8")
    (error,) = list_errors(tmp_path)
    assert "caf\u00e9 differs from cafe\u0301 only in how Unicode" in error
