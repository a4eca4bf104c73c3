"""Readers of dataset folders: plain folders, the Decathlon's layout, and the choice between them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.dataset import decathlon, folders
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset, case_name, image_suffix, list_images
from unet_pipeline.dataset.layouts import READERS, read_dataset
from unet_pipeline.dataset.names import order_labels
from unet_pipeline.errors import DatasetError

NAMES = ["case_01", "case_02", "case_03", "case_04"]


def edit_dataset_json(root: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Let `edit` change the content of dataset.json."""
    path = root / "dataset.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def read_error(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(root)
    return str(caught.value)


# names and label tables


@pytest.mark.parametrize(
    ("name", "suffix", "case"),
    [
        ("liver_1.nii.gz", ".nii.gz", "liver_1"),
        ("liver_1.nii", ".nii", "liver_1"),
        ("slice.png", ".png", "slice"),
        ("SLICE.PNG", ".png", "SLICE"),
        ("a.b.c.nii.gz", ".nii.gz", "a.b.c"),
        ("notes.txt", "", "notes.txt"),
        ("archive.gz", "", "archive.gz"),
    ],
)
def test_case_name_known_file_names_lose_their_image_suffix(name: str, suffix: str, case: str) -> None:
    assert image_suffix(Path("images") / name) == suffix
    assert case_name(Path("images") / name) == case


def test_list_images_mixed_folder_gives_visible_images_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.nii.gz", "._a.nii.gz", ".hidden.png", "notes.txt", "c.nii"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.nii.gz", "b.png", "c.nii"]


def test_suffix_one_format_is_given_and_two_are_refused() -> None:
    first = Case("a", Path("images/a.png"), Path("labels/a.png"))
    second = Case("b", Path("images/b.nii.gz"), Path("labels/b.nii.gz"))
    assert Dataset(root=Path("mixed"), layout="plain folders", cases=(first,)).suffix == ".png"
    with pytest.raises(DatasetError, match=r"mixed mixes the image formats \.nii\.gz, \.png"):
        _ = Dataset(root=Path("mixed"), layout="plain folders", cases=(first, second)).suffix


def test_order_labels_unordered_table_is_sorted_by_value() -> None:
    table = order_labels({"core": 2, "background": 0, "shell": 1})
    assert list(table.items()) == [("background", 0), ("shell", 1), ("core", 2)]


def test_order_labels_values_with_gaps_are_kept() -> None:
    assert order_labels({"cell": 255, "membrane": 0}) == {"membrane": 0, "cell": 255}


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ({}, "0 label(s)"),
        ({"background": 0}, "1 label(s) (background=0)"),
        ({"background": 0, "left": 1, "right": 1}, "left=1, right=1"),
        ({"left": 1, "right": 2}, "no value 0"),
        ({"background": 0, "organ": 256}, "value 256"),
        ({"outside": -1, "background": 0}, "outside=-1"),
    ],
)
def test_order_labels_unusable_table_is_refused_with_its_values(table: dict[str, int], shown: str) -> None:
    with pytest.raises(DatasetError) as caught:
        order_labels(table)
    assert shown in str(caught.value)


# the choice of a reader


def test_read_dataset_plain_folders_finds_every_pair(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    assert dataset.layout == folders.LAYOUT
    assert [case.name for case in dataset.cases] == NAMES
    assert dataset.cases[0] == Case("case_01", Path("images/case_01.nii.gz"), Path("labels/case_01.nii.gz"))
    assert (dataset.labels, dataset.channels, dataset.problems_of_layout) == (None, None, ())
    assert (dataset.name, dataset.suffix) == ("phantoms_nifti", ".nii.gz")


def test_read_dataset_decathlon_reads_table_channels_and_source(decathlon_folder: Path) -> None:
    dataset = read_dataset(decathlon_folder)
    assert dataset.layout == decathlon.LAYOUT
    assert [case.name for case in dataset.cases] == NAMES
    assert dataset.cases[0] == Case("case_01", Path("imagesTr/case_01.nii.gz"), Path("labelsTr/case_01.nii.gz"))
    assert dataset.labels == {"background": 0, "shell": 1, "core": 2}
    assert (dataset.channels, dataset.licence, dataset.reference) == (("MRI",), "CC0", "nobody")
    assert dataset.problems_of_layout == ()


def test_read_dataset_text_path_equals_path(png_folders: Path) -> None:
    assert read_dataset(str(png_folders)) == read_dataset(png_folders)


def test_read_dataset_both_layouts_prefer_dataset_json(decathlon_folder: Path) -> None:
    (decathlon_folder / "images").mkdir()
    (decathlon_folder / "labels").mkdir()
    assert read_dataset(decathlon_folder).layout == decathlon.LAYOUT


@pytest.mark.parametrize(
    "content", ['{"channel_names": {"0": "CT"}}', "{}", "[]", '"a"', "3", '{"training": {"image": "a"}}']
)
def test_read_dataset_description_that_nobody_can_use_is_not_passed_over(png_folders: Path, content: str) -> None:
    (png_folders / "dataset.json").write_text(content)
    message = read_error(png_folders)
    assert "dataset.json has" in message
    assert "which is no known description of a dataset" in message
    assert "--layout folders" in message
    assert read_dataset(png_folders, "folders").layout == folders.LAYOUT


def test_read_dataset_unusable_description_shows_its_keys(png_folders: Path) -> None:
    (png_folders / "dataset.json").write_text('{"name": "x", "channel_names": {"0": "CT"}}')
    assert "has the keys 'name', 'channel_names', which" in read_error(png_folders)


def test_read_dataset_missing_folder_is_named() -> None:
    assert "no_such_folder does not exist" in read_error(Path("no_such_folder"))


def test_read_dataset_file_instead_of_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    assert "is a file, not a folder" in read_error(tmp_path / "scan.nii.gz")


def test_read_dataset_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "spleen").mkdir()
    message = read_error(tmp_path / "spleen")
    assert "spleen is empty" in message


def test_read_dataset_unknown_layout_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    message = read_error(tmp_path)
    for name in READERS:
        assert f" ({name})" in message


def test_read_dataset_empty_image_folder_says_what_a_pair_is(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    assert "no pair of image and label" in read_error(tmp_path)


def test_read_dataset_names_that_never_match_show_an_example(png_folders: Path) -> None:
    for path in sorted((png_folders / "labels").iterdir()):
        path.rename(path.with_name(f"of_another_{path.stem}_kind.png"))
    assert "images/case_01.png has no label" in read_error(png_folders)


def test_read_dataset_case_listed_twice_is_named(decathlon_folder: Path) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content["training"].append(content["training"][1]))
    assert "case_02 more than once" in read_error(decathlon_folder)


def test_read_dataset_layout_can_be_forced(decathlon_folder: Path) -> None:
    assert read_dataset(decathlon_folder, "decathlon").layout == decathlon.LAYOUT
    assert read_dataset(decathlon_folder, "folders").layout == folders.LAYOUT  # imagesTr and labelsTr
    with pytest.raises(
        DatasetError, match=r"has not the layout nnunet\. Expected a dataset\.json with `channel_names`"
    ):
        read_dataset(decathlon_folder, "nnunet")
    with pytest.raises(DatasetError, match="Unknown layout 'nnunett'; did you mean 'nnunet'"):
        read_dataset(decathlon_folder, "nnunett")


# plain folders


@pytest.mark.parametrize(
    ("removed", "left", "cause"),
    [
        ("labels/case_02.png", "images/case_02.png", "has no label"),
        ("images/case_03.png", "labels/case_03.png", "has no image"),
    ],
)
def test_read_folders_file_without_partner_is_a_problem(png_folders: Path, removed: str, left: str, cause: str) -> None:
    (png_folders / removed).unlink()
    dataset = read_dataset(png_folders)
    assert len(dataset.cases) == 3
    assert [(problem.file, problem.cause) for problem in dataset.problems_of_layout] == [(left, cause)]
    assert removed in dataset.problems_of_layout[0].remedy


def test_read_folders_hidden_and_other_files_are_passed_over(png_folders: Path) -> None:
    (png_folders / "images" / "._case_01.png").touch()
    (png_folders / "images" / "Thumbs.db").touch()
    (png_folders / "instances").mkdir()
    dataset = read_dataset(png_folders)
    assert (len(dataset.cases), dataset.problems_of_layout) == (4, ())


def test_read_folders_image_and_label_in_different_formats_are_a_pair(tmp_path: Path) -> None:
    for path in ("images/a.nii.gz", "labels/a.nii"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    assert read_dataset(tmp_path).cases == (Case("a", Path("images/a.nii.gz"), Path("labels/a.nii")),)


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_read_folders_one_stem_in_two_formats_is_not_dropped_silently(nifti_folders: Path, folder: str) -> None:
    (nifti_folders / folder / "case_01.nii").touch()
    try:
        dataset = read_dataset(nifti_folders)
    except DatasetError as error:
        assert "case_01" in str(error)  # noqa: PT017 - a refusal and a listed problem are both right
    else:
        assert any("case_01" in problem.file for problem in dataset.problems_of_layout)


# Medical Segmentation Decathlon


def test_read_decathlon_more_than_ten_channels_are_in_numerical_order(decathlon_folder: Path) -> None:
    modality = {str(number): f"channel {number}" for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    edit_dataset_json(decathlon_folder, lambda content: content.update(modality=modality))
    assert read_dataset(decathlon_folder).channels == tuple(f"channel {number}" for number in range(11))


def test_read_decathlon_without_modality_has_no_channel_names(decathlon_folder: Path) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.pop("modality"))
    assert read_dataset(decathlon_folder).channels is None


@pytest.mark.parametrize("modality", [{"T1": "MRI"}, None, 3])
def test_read_decathlon_modality_of_another_form_is_a_dataset_error(decathlon_folder: Path, modality: object) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(modality=modality))
    assert "modality" in read_error(decathlon_folder)


@pytest.mark.parametrize(
    "labels", [None, [], "background", {"background": 0}, {"0": "background"}, {"1": "left", "2": "right"}]
)
def test_read_decathlon_unusable_labels_are_refused(decathlon_folder: Path, labels: object) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(labels=labels))
    assert "label" in read_error(decathlon_folder)


def test_read_decathlon_unusable_labels_show_the_expected_form(decathlon_folder: Path) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(labels=None))
    assert '{"0": "background"' in read_error(decathlon_folder)


def test_read_decathlon_labels_by_name_are_the_same_table(decathlon_folder: Path) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(labels={"liver": 1, "background": 0}))
    assert read_dataset(decathlon_folder).labels == {"background": 0, "liver": 1}


@pytest.mark.parametrize("modality", ["MRI", ["MRI"], {"0": "MRI"}])
def test_read_decathlon_modality_may_be_a_name_or_a_list(decathlon_folder: Path, modality: object) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(modality=modality))
    assert read_dataset(decathlon_folder).channels == ("MRI",)


@pytest.mark.parametrize("content", ["{", "", '{"training": ['])
def test_read_decathlon_broken_json_is_named(decathlon_folder: Path, content: str) -> None:
    (decathlon_folder / "dataset.json").write_text(content)
    message = read_error(decathlon_folder)
    assert message.startswith("dataset.json is not valid JSON")
    assert str(decathlon_folder) not in message


def test_read_decathlon_json_in_another_encoding_is_named(decathlon_folder: Path) -> None:
    (decathlon_folder / "dataset.json").write_bytes('{"name": "Größe"}'.encode("latin-1"))
    assert "dataset.json is not text in UTF-8: byte 13 is 0xf6" in read_error(decathlon_folder)


@pytest.mark.parametrize("entry", ["imagesTr/a.nii.gz", {"image": "imagesTr/a.nii.gz"}, {"image": 1, "label": 2}, None])
def test_read_decathlon_incomplete_entry_is_numbered(decathlon_folder: Path, entry: object) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content["training"].insert(2, entry))
    assert "training entry 2" in read_error(decathlon_folder)


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("path", ["../other/a.nii.gz", "/elsewhere/a.nii.gz", "imagesTr/../../a.nii.gz"])
def test_read_decathlon_path_out_of_the_dataset_is_refused(decathlon_folder: Path, key: str, path: str) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content["training"][1].update({key: path}))
    assert "training entry 1, leads out of the dataset" in read_error(decathlon_folder)


def test_read_decathlon_unlisted_files_are_noted(decathlon_folder: Path) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content["training"].pop(0))
    dataset = read_dataset(decathlon_folder)
    assert {problem.severity for problem in dataset.problems_of_layout} == {"warning"}
    assert check_dataset(dataset).errors == (), "the others can be used"
    assert [(problem.file, problem.cause) for problem in dataset.problems_of_layout] == [
        ("imagesTr/case_01.nii.gz", "is not listed in dataset.json and is left out"),
        ("labelsTr/case_01.nii.gz", "is not listed in dataset.json and is left out"),
    ]


@pytest.mark.parametrize("declared", [3, 5, "5", 260])
def test_read_decathlon_number_of_cases_that_contradicts_the_list_is_a_warning(
    decathlon_folder: Path, declared: object
) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(numTraining=declared))
    (problem,) = read_dataset(decathlon_folder).problems_of_layout
    assert (problem.severity, problem.file) == ("warning", "dataset.json")
    assert problem.cause == f"says numTraining {declared}, and there are 4 cases"


@pytest.mark.parametrize("declared", [4, "4", 4.0])
def test_read_decathlon_number_of_cases_that_fits_is_taken(decathlon_folder: Path, declared: object) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content.update(numTraining=declared))
    assert read_dataset(decathlon_folder).problems_of_layout == ()


@pytest.mark.parametrize(
    ("declared", "shown"),
    [
        ("1e400", "inf"),
        ("-1e400", "-inf"),
        ("NaN", "nan"),
        ('"many"', "'many'"),
        ("null", "None"),
        ("[4]", "[4]"),
        ("{}", "{}"),
        ("2.5", "2.5"),
        ("true", "True"),
    ],
)
def test_read_decathlon_number_of_cases_that_is_none_is_a_warning(
    decathlon_folder: Path, declared: str, shown: str
) -> None:
    path = decathlon_folder / "dataset.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + f', "numTraining": {declared}}}')
    (problem,) = read_dataset(decathlon_folder).problems_of_layout
    assert (problem.severity, problem.file, problem.code) == ("warning", "dataset.json", "case-count-unusable")
    assert problem.cause == f"says numTraining {shown}, which is no whole number, and there are 4 cases"


@pytest.mark.parametrize(
    ("folds", "reason"),
    [
        ([0, 1, "x", 1], "training entry 2 has the fold 'x'"),
        ([0, -1, 0, 1], "training entry 1 has the fold -1"),
        ([0, 1, None, 1], "training entry 2 has no fold"),
        ([0, 1, 1.5, 1], "training entry 2 has the fold 1.5"),
        ([True, 1, 0, 1], "training entry 0 has the fold True"),
        ([float("inf"), 1, 0, 1], "training entry 0 has the fold inf"),
        ([2, 2, 2, 2], "all entries have the fold 2"),
        ([0, "0", 0, 0], "all entries have the fold 0"),
    ],
)
def test_read_decathlon_folds_that_cannot_be_used_are_said(
    decathlon_folder: Path, folds: list[object], reason: str
) -> None:
    def number(content: dict) -> None:
        for entry, fold in zip(content["training"], folds, strict=True):
            entry.update({} if fold is None else {"fold": fold})

    edit_dataset_json(decathlon_folder, number)
    dataset = read_dataset(decathlon_folder)
    (note,) = dataset.problems_of_layout
    assert (note.severity, note.code, dataset.folds) == ("warning", "folds-unused", ())
    assert note.cause.startswith(f"numbers folds that are left out: {reason}; expected")


@pytest.mark.parametrize("folds", [[0, 1, 0, 1], ["0", "1", "0", "1"], [0.0, 1.0, 0.0, 1.0]])
def test_read_decathlon_folds_may_be_text_or_real(decathlon_folder: Path, folds: list[object]) -> None:
    def number(content: dict) -> None:
        for entry, fold in zip(content["training"], folds, strict=True):
            entry["fold"] = fold

    edit_dataset_json(decathlon_folder, number)
    dataset = read_dataset(decathlon_folder)
    assert [fold[1] for fold in dataset.folds] == [("case_01", "case_03"), ("case_02", "case_04")]
    assert dataset.problems_of_layout == ()


def put(path: Path, kind: str) -> None:
    """Something that is no file in the place of one."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))
    else:
        targets = {"a device": "/dev/null", "a link that leads back to itself": path.name}
        path.symlink_to(targets.get(kind, "gone"))


@pytest.mark.parametrize(
    "kind",
    [
        "a folder",
        "a pipe",
        "a socket",
        "a device",
        "a link that leads back to itself",
        "a link to gone, which does not exist",
    ],
)
@pytest.mark.parametrize(
    "name", ["dataset.json", "cases.csv", "cases.json", "cases.tsv", "splits_final.json", "dataset_facts.json"]
)
def test_read_dataset_description_that_is_no_file_is_not_passed_over(
    png_folders: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(png_folders)  # the path of a socket is short
    put(Path(name), kind)
    message = read_error(png_folders)
    assert message.startswith(f"{name} is {kind}")
    assert "\n" not in message
    if name != "dataset_facts.json":
        assert read_dataset(png_folders, "folders").layout == folders.LAYOUT


@pytest.mark.parametrize("content", ["[]", "null", '{"training": {"a": 1}}', '{"training": null}'])
def test_read_dataset_unusable_description_is_not_passed_over_for_a_table(png_folders: Path, content: str) -> None:
    (png_folders / "cases.csv").write_text("image,label\nimages/a.png,labels/a.png\n")
    (png_folders / "dataset.json").write_text(content)
    assert "which is no known description of a dataset" in read_error(png_folders)
    assert read_dataset(png_folders, "table").layout == "list of cases (cases.csv)"
    assert read_dataset(png_folders / "cases.csv").layout == "list of cases (cases.csv)"


def test_read_dataset_pipe_instead_of_a_folder_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.json")
    assert "list.json is a pipe. Expected a folder" in read_error(tmp_path / "list.json")


def test_read_decathlon_fold_of_every_entry_is_taken_over(decathlon_folder: Path) -> None:
    def number(content: dict) -> None:
        for position, entry in enumerate(content["training"]):
            entry["fold"] = position % 2

    edit_dataset_json(decathlon_folder, number)
    assert read_dataset(decathlon_folder).folds == (
        (("case_02", "case_04"), ("case_01", "case_03")),
        (("case_01", "case_03"), ("case_02", "case_04")),
    )


@pytest.mark.parametrize("path", ["../a.nii.gz", "/etc/a.nii.gz", "x/../../a.nii.gz"])
def test_read_dataset_list_that_leads_out_is_refused(decathlon_folder: Path, path: str) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content["training"][1].update(image=path))
    assert "training entry 1, leads out of the dataset" in read_error(decathlon_folder)


def test_read_dataset_folder_that_is_a_link_to_elsewhere_is_a_problem(decathlon_folder: Path) -> None:
    outside = decathlon_folder.parent / "elsewhere"
    (decathlon_folder / "labelsTr").rename(outside)
    (decathlon_folder / "labelsTr").symlink_to(outside)
    problems = read_dataset(decathlon_folder).problems_of_layout
    assert {problem.code for problem in problems} == {"path-leaves-dataset"}
    assert len(problems) == 4


def test_read_decathlon_empty_training_list_has_no_pair(decathlon_folder: Path) -> None:
    edit_dataset_json(decathlon_folder, lambda content: content["training"].clear())
    assert "no pair of image and label" in read_error(decathlon_folder)


@pytest.mark.real_data
def test_read_dataset_hippocampus_has_the_published_table(pipeline_data: Path) -> None:
    dataset = read_dataset(pipeline_data / "Task04_Hippocampus")
    assert len(dataset.cases) == 208
    assert dataset.labels == {"background": 0, "Anterior": 1, "Posterior": 2}
    assert dataset.channels == ("MRI",)
    assert dataset.problems_of_layout == ()
