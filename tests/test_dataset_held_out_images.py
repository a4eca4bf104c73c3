"""A test image that is trained on as well is an error, in whatever file its voxels lie."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.held_out_images import list_test_images
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError

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


def write_described(root: Path, write_nifti: Callable, version: int, **listed: object) -> Path:
    """Decathlon (0), or nnU-Net's version 1 or 2; `listed` are further keys of dataset.json."""
    write_folders(root, write_nifti)
    entries = [{"image": f"./imagesTr/c{seed}.nii.gz", "label": f"./labelsTr/c{seed}.nii.gz"} for seed in range(3)]
    content: dict[str, object] = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "organ"}}
    content |= {"training": entries}
    if version:
        for path in list((root / "imagesTr").iterdir()):
            path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    if version == 2:
        content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content | listed))
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
    assert "has the same content as imagesTr/c1.nii.gz, which is trained on" in error


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
    assert all("has the same content as i0.nii.gz" in error for error in errors)


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


# test images that dataset.json names

FORMS = {
    "path": lambda path: path,
    "plain path": lambda path: path.removeprefix("./"),
    "object": lambda path: {"image": path},
    "channels": lambda path: [path],
    "object with channels": lambda path: {"image": [path]},
}


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("key", ["test", "testing"])
@pytest.mark.parametrize("form", FORMS)
def test_check_list_that_names_a_training_image_for_testing_is_an_error(
    tmp_path: Path, write_nifti: Callable, form: str, key: str, version: int
) -> None:
    root = write_described(tmp_path, write_nifti, version, **{key: [FORMS[form]("./imagesTr/c1.nii.gz")]})
    file = "imagesTr/c1.nii.gz" if version == 0 else "imagesTr/c1_0000.nii.gz"
    (error,) = list_errors(root)
    assert f"dataset.json names {file} for testing, which case c1 is trained on. Take it out of one of both" in error


@pytest.mark.parametrize("version", [0, 1, 2])
def test_check_listed_test_image_with_the_voxels_of_a_training_image_is_an_error(
    tmp_path: Path, write_nifti: Callable, version: int
) -> None:
    root = write_described(tmp_path, write_nifti, version, test=["./held_out/t.nii.gz", "held_out/u.nii.gz"])
    ending = "_0000.nii.gz" if version else ".nii.gz"
    write_nifti(root / "held_out" / f"t{ending}", draw(2)[0].astype(np.float32))
    write_nifti(root / "held_out" / f"u{ending}", draw(9)[0])
    (error,) = list_errors(root)
    trained = f"imagesTr/c2{ending}"
    assert f"held_out/t{ending} is a test image and has the same content as {trained}, which is trained on" in error


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize(
    "listed", [[], ["./imagesTs/gone.nii.gz"], ["../c1.nii.gz"], [3, None, {}, {"image": 4}], "c1", {"c1": 1}, None]
)
def test_check_test_entries_that_say_nothing_are_no_problem(
    tmp_path: Path, write_nifti: Callable, listed: object, version: int
) -> None:
    assert list_errors(write_described(tmp_path, write_nifti, version, test=listed)) == []


def test_check_labelled_test_entries_are_cases_for_testing(tmp_path: Path, write_nifti: Callable) -> None:
    root = write_described(tmp_path, write_nifti, 0)
    for number, seed in enumerate((8, 9)):
        image, label = draw(seed)
        write_nifti(root / "imagesTs" / f"t{number}.nii.gz", image)
        write_nifti(root / "labelsTs" / f"t{number}.nii.gz", label)
    entries = [{"image": f"imagesTs/t{n}.nii.gz", "label": f"labelsTs/t{n}.nii.gz"} for n in range(2)]
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(content | {"test": entries}))
    assert list_errors(root) == []
    write_nifti(root / "imagesTs" / "t1.nii.gz", draw(0)[0])
    assert any("imagesTr/c0.nii.gz" in error for error in list_errors(root))
    entries[1] = {"image": "imagesTr/c0.nii.gz", "label": "labelsTr/c0.nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content | {"test": entries}))
    with pytest.raises(DatasetError, match="has the case c0 more than once"):
        list_errors(root)


def test_check_monai_list_elsewhere_that_names_a_training_image_for_testing(
    tmp_path: Path, write_nifti: Callable
) -> None:
    root = write_folders(tmp_path, write_nifti)
    entries = [{"image": f"imagesTr/c{n}.nii.gz", "label": f"labelsTr/c{n}.nii.gz", "fold": n} for n in range(3)]
    (root / "lists").mkdir()
    (root / "lists" / "mine.json").write_text(
        json.dumps({"training": entries, "testing": [{"image": "imagesTr/c0.nii.gz"}]})
    )
    (error,) = list_errors(root / "lists" / "mine.json")
    assert "lists/mine.json names imagesTr/c0.nii.gz for testing, which case c0 is trained on" in error
