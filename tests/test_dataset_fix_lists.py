"""Lists of a corrected copy: kept where they still hold, corrected where they can be, new where they cannot."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.fix_lists import format_cases, keep_cases, list_list_changes, write_lists
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.files import compute_sha256, write_json


def copy(source: Path) -> Path:
    target = source.with_name(f"{source.name}_copy")
    shutil.copytree(source, target)
    return target


def rename_label(folder: Path, dataset: Dataset, old: str, new: str) -> Dataset:
    """A copy in which one label file has another name, and what is expected of it."""
    (folder / old).rename(folder / new)
    cases = tuple(replace(case, label=Path(new)) if case.label == Path(old) else case for case in dataset.cases)
    return replace(dataset, cases=cases)


def test_write_lists_list_that_still_holds_stays_as_it_is(decathlon_folder: Path) -> None:
    source, folder = read_dataset(decathlon_folder), copy(decathlon_folder)
    write_lists(folder, source, source)
    assert compute_sha256(folder / "dataset.json") == compute_sha256(decathlon_folder / "dataset.json")
    assert not (folder / "cases.csv").exists()


def test_write_lists_decathlon_gets_other_paths_names_and_number(decathlon_folder: Path) -> None:
    content = json.loads((decathlon_folder / "dataset.json").read_text())
    write_json(decathlon_folder / "dataset.json", {**content, "numTraining": 4, "extra": "./imagesTr"})
    source, folder = read_dataset(decathlon_folder), copy(decathlon_folder)
    expected = rename_label(folder, source, "labelsTr/case_02.nii.gz", "labelsTr/case_02_corrected.nii.gz")
    labels = {"background": 0, "rind": 1, "core": 2}
    expected = replace(keep_cases(expected, expected.cases[:3], {}), labels=labels)
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind / "case_04.nii.gz").unlink()
    found = write_lists(folder, expected, source)
    rewritten = json.loads((folder / "dataset.json").read_text())
    assert rewritten["numTraining"] == 3
    assert rewritten["labels"] == {"0": "background", "1": "rind", "2": "core"}
    assert [entry["label"] for entry in rewritten["training"]][1] == "labelsTr/case_02_corrected.nii.gz"
    assert (rewritten["extra"], rewritten["licence"]) == ("./imagesTr", "CC0")
    assert found.labels == labels
    assert len(found.cases) == 3


def test_write_lists_patients_of_a_decathlon_folder_need_a_list_of_cases(decathlon_folder: Path) -> None:
    source, folder = read_dataset(decathlon_folder), copy(decathlon_folder)
    expected = keep_cases(source, source.cases, {"case_01": "p", "case_02": "p"})
    found = write_lists(folder, expected, source)
    assert not (folder / "dataset.json").exists()
    assert (found.labels, found.channels, found.licence) == (source.labels, source.channels, "CC0")
    assert [case.patient for case in found.cases] == ["p", "p", None, None]


def test_write_lists_names_of_plain_folders_need_no_list_of_cases(png_folders: Path) -> None:
    source, folder = read_dataset(png_folders), copy(png_folders)
    write_lists(folder, replace(source, labels={"background": 0, "cell": 255}), source)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset_facts.json", "images", "labels"]


def test_write_lists_other_stem_of_plain_folders_needs_a_list(png_folders: Path) -> None:
    source, folder = read_dataset(png_folders), copy(png_folders)
    expected = rename_label(folder, source, "labels/case_02.png", "labels/case_02_corrected.png")
    found = write_lists(folder, expected, source)
    assert found.layout == "list of cases (cases.csv)"
    assert {case.label for case in found.cases} == {case.label for case in expected.cases}


def test_write_lists_old_list_under_another_name_goes(png_folders: Path) -> None:
    (png_folders / "mine.csv").write_text(
        "case,image,label\n" + "".join(f"c{n},images/case_0{n}.png,labels/case_0{n}.png\n" for n in (1, 2))
    )
    source, folder = read_dataset(png_folders), copy(png_folders)
    expected = rename_label(folder, source, "labels/case_02.png", "labels/case_02_corrected.png")
    assert write_lists(folder, expected, source).layout == "list of cases (cases.csv)"
    assert not (folder / "mine.csv").exists()


def test_format_cases_has_only_columns_that_say_something() -> None:
    plain = Case("a", Path("a.png"), Path("b.png"))
    assert format_cases([plain]) == "case,image,label\na,a.png,b.png\n"
    full = replace(
        plain,
        name='with "quotes", and comma',
        further_channels=(Path("c.png"),),
        patient="p",
        split="test",
        spacing_mm=(0.5, 0.25),
        columns={"age": "40"},
    )
    rows = list(csv.DictReader(format_cases([plain, full]).splitlines()))
    assert rows[0] == dict.fromkeys(("patient", "split", "spacing_mm", "age"), "") | {
        "case": "a",
        "image": "a.png",
        "label": "b.png",
    }
    assert rows[1] == {
        "case": 'with "quotes", and comma',
        "image": "a.png;c.png",
        "label": "b.png",
        "patient": "p",
        "split": "test",
        "spacing_mm": "0.5x0.25",
        "age": "40",
    }


def test_format_cases_semicolon_in_a_path_takes_a_column_per_channel() -> None:
    case = Case("a", Path("a;1.png"), Path("b.png"), further_channels=(Path("c.png"),))
    assert format_cases([case]) == "case,image_0,image_1,label\na,a;1.png,c.png,b.png\n"


def test_keep_cases_folds_lose_the_cases_and_those_without_a_side_go(tmp_path: Path) -> None:
    cases = tuple(Case(name, Path(f"{name}.png"), None) for name in "abc")
    folds = ((("a", "b"), ("c",)), (("a", "c"), ("b",)))
    dataset = Dataset(root=tmp_path, layout="test", cases=cases, folds=folds)
    assert keep_cases(dataset, cases[:2], {}).folds == ((("a",), ("b",)),)


def test_list_list_changes_names_what_is_new_other_or_gone(decathlon_folder: Path) -> None:
    source, folder = read_dataset(decathlon_folder), copy(decathlon_folder)
    assert list_list_changes(folder, source) == []
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind / "case_04.nii.gz").unlink()
    write_lists(folder, keep_cases(source, source.cases[:3], {}), source)
    (rewritten,) = list_list_changes(folder, source)
    assert (rewritten.file, rewritten.done, rewritten.result) == ("dataset.json", "written again", "dataset.json")
    assert rewritten.source_sha256 == compute_sha256(decathlon_folder / "dataset.json")
    write_lists(folder, keep_cases(source, source.cases[:3], {"case_01": "p"}), source)
    done = {change.file + change.result: change.done for change in list_list_changes(folder, source)}
    assert done == {
        "dataset.json": "left out for cases.csv and dataset_facts.json",
        "datasetcases.csv": "written",
        "datasetdataset_facts.json": "written",
    }
