"""Lists with `training` in JSON: nnU-Net's first version and MONAI's data lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write_list(root: Path, training: list[Any], name: str = "dataset.json", **more: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps({"training": training, **more}))
    return root / name


def codes(dataset: Dataset) -> list[tuple[str, str]]:
    return [(problem.code, problem.severity) for problem in dataset.problems_of_layout]


def build_nnunet_1(root: Path, num_channels: int = 2, **changes: Any) -> Path:
    """Three cases of nnU-Net's first version."""
    channels = range(num_channels)
    for name in ("a", "b_1", "c"):
        touch(root, f"labelsTr/{name}.nii.gz", *(f"imagesTr/{name}_{number:04d}.nii.gz" for number in channels))
    content = {
        "modality": {str(number): f"MR{number}" for number in channels},
        "labels": {"0": "background", "1": "blob"},
        "numTraining": 3,
        "test": ["./imagesTs/x.nii.gz"],
    }
    entries = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("a", "b_1", "c")
    ]
    write_list(root, entries, **{**content, **changes})
    return root


@pytest.mark.parametrize("num_channels", [1, 2, 12])
@pytest.mark.parametrize("named", [True, False])
def test_read_nnunet_1_finds_the_files_of_every_channel(tmp_path: Path, num_channels: int, named: bool) -> None:
    build_nnunet_1(tmp_path, num_channels, **({} if named else {"modality": {}}))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "nnU-Net raw, version 1"
    assert [case.name for case in dataset.cases] == ["a", "b_1", "c"]
    assert dataset.cases[1].images == tuple(Path(f"imagesTr/b_1_{number:04d}.nii.gz") for number in range(num_channels))
    assert dataset.cases[1].label == Path("labelsTr/b_1.nii.gz")
    assert dataset.channels == (tuple(f"MR{number}" for number in range(num_channels)) if named else None)
    assert dataset.problems_of_layout == ()


def test_read_nnunet_1_missing_and_further_channels_are_named(tmp_path: Path) -> None:
    build_nnunet_1(tmp_path)
    (tmp_path / "imagesTr/c_0001.nii.gz").unlink()
    touch(tmp_path, "imagesTr/a_0002.nii.gz")
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["a", "b_1"]
    missing, extra = (problem for problem in dataset.problems_of_layout if problem.severity == "error")
    assert str(missing).startswith(
        "error: imagesTr/a_0002.nii.gz is channel 2, and dataset.json names 2 channel(s). Name it in modality"
    )
    assert extra.cause == "has no file of channel 1 (imagesTr/c_0001.nii.gz)"


def test_read_nnunet_1_list_beside_names_of_version_2_is_version_2(tmp_path: Path) -> None:
    build_nnunet_1(
        tmp_path, channel_names={"0": "T1", "1": "T2"}, file_ending=".nii.gz", labels={"background": 0, "blob": 1}
    )
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.channels) == ("nnU-Net raw", ("T1", "T2"))


def entries(kind: str, base: str = "") -> list[dict[str, Any]]:
    """Four cases in folders of their own, with one or two channels and a fold."""
    listed: list[dict[str, Any]] = []
    for number in range(4):
        paths = [f"{base}p{number}/p{number}_{channel}.nii.gz" for channel in ("t1", "flair")]
        image = paths if kind == "several" else paths[:1] if kind == "list of one" else paths[0]
        listed.append({"image": image, "label": f"{base}p{number}/p{number}_seg.nii.gz", "fold": number % 2})
    return listed


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    for number in range(4):
        touch(tmp_path / "data", *(f"p{number}/p{number}_{part}.nii.gz" for part in ("t1", "flair", "seg")))
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["dataset.json", "datalist.json", "brats21_folds.json"])
@pytest.mark.parametrize("kind", ["one", "list of one", "several"])
def test_read_monai_list_channels_and_folds(patients: Path, name: str, kind: str) -> None:
    write_list(patients, entries(kind), name, testing=[{"image": "x.nii.gz"}])
    for place in (patients, patients / name):
        dataset = read_dataset(place)
        assert dataset.layout == f"MONAI data list ({name})"
        further = (Path("p0/p0_flair.nii.gz"),) if kind == "several" else ()
        named = "p0" if kind == "several" else "p0_t1"
        assert dataset.cases[0] == Case(named, Path("p0/p0_t1.nii.gz"), Path("p0/p0_seg.nii.gz"), further)
        assert dataset.channels == (("t1", "flair") if kind == "several" else None)
        assert dataset.labels is None
        assert [[name[:2] for name in fold[1]] for fold in dataset.folds] == [["p0", "p2"], ["p1", "p3"]]
        assert dataset.problems_of_layout == ()


def test_read_monai_list_labels_and_modality_are_taken(patients: Path) -> None:
    table = {"0": "background", "1": "blob"}
    write_list(patients, entries("several"), labels=table, modality={"0": "T1", "1": "FLAIR"})
    dataset = read_dataset(patients)
    assert (dataset.labels, dataset.channels) == ({"background": 0, "blob": 1}, ("T1", "FLAIR"))


def test_read_monai_list_parts_become_splits(patients: Path) -> None:
    listed = [{key: value for key, value in entry.items() if key != "fold"} for entry in entries("one")]
    unlabelled = {"image": "p9/x.nii.gz"}
    path = write_list(
        patients, listed[:2], "list.json", validation=[listed[2], unlabelled], testing=[listed[3], unlabelled]
    )
    dataset = read_dataset(path)
    assert [case.split for case in dataset.cases] == [None, None, "validation", "test"]
    (note,) = dataset.problems_of_layout
    assert (note.severity, note.cause) == ("note", "lists 1 case(s) without label under 'validation'")


def test_read_monai_list_same_names_in_patient_folders(tmp_path: Path) -> None:
    listed = [{"image": f"p{n}/ct.nii.gz", "label": f"p{n}/label.nii.gz"} for n in range(3)]
    touch(tmp_path, *(path for entry in listed for path in entry.values()))
    write_list(tmp_path, listed)
    assert [case.name for case in read_dataset(tmp_path).cases] == ["p0", "p1", "p2"]


def test_read_monai_list_absolute_paths(patients: Path) -> None:
    write_list(patients, entries("several", f"{patients}/"), "inside.json")
    far = write_list(patients.parent / "far", entries("several", f"{patients}/"), "far.json")
    inside, outside = read_dataset(patients / "inside.json"), read_dataset(far)
    assert inside.cases == outside.cases
    assert (inside.root, outside.root) == (patients, patients)
    assert (codes(inside), codes(outside)) == ([], [("data-root", "note")])


def test_read_monai_list_paths_from_a_data_root(patients: Path) -> None:
    near = write_list(patients / "splits" / "a", entries("one"), "near.json")
    within = write_list(patients.parent, entries("one"), "within.json")
    far = write_list(patients.parent / "far" / "far" / "far" / "far", entries("one"), "far.json")
    for path in (near, within):
        dataset = read_dataset(path)
        assert (dataset.root.resolve(), codes(dataset)) == (patients.resolve(), [("data-root", "note")])
    assert codes(read_dataset(far)) == [("data-root-unknown", "error")]
    assert codes(read_dataset(far, data_root=patients)) == []


def test_read_monai_list_several_in_one_folder_are_asked_about(patients: Path) -> None:
    for name in ("fold_0.json", "fold_1.json"):
        write_list(patients / "lists", entries("one"), name)
    with pytest.raises(DatasetError, match=r"has the lists of cases fold_0\.json, fold_1\.json; expected one"):
        read_dataset(patients / "lists")


@pytest.mark.parametrize("label", [["a.nii.gz", "b.nii.gz"], None, 3, []])
def test_read_monai_list_label_of_another_form_is_numbered(tmp_path: Path, label: object) -> None:
    path = write_list(tmp_path, [{"image": ["a.nii.gz"], "label": label}], "list.json")
    with pytest.raises(DatasetError, match=r"list\.json, training entry 0, is"):
        read_dataset(path)


def test_read_dataset_damaged_description_beside_other_layouts_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"training": [')
    with pytest.raises(DatasetError, match=r"dataset\.json is not valid JSON"):
        read_dataset(tmp_path)
