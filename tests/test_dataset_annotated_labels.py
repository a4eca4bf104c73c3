"""Which labels a case is annotated with: read from a table or labels.csv, compared with the label table and the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.phantom_bundles import write_volumes
from unet_pipeline.dataset.annotated_labels import parse_annotated
from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.fix_lists import format_cases
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.listing_facts import describe_case, describe_listing, find_changed_facts
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_text

LABELS = {"background": 0, "organ": 1, "tumour": 2}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("data") / "organs", num_cases=3)


def check_with(
    volumes: Path, content: str, labels: dict[str, int] | None = None, file: str = "labels.csv"
) -> CheckReport:
    path = volumes / file
    write_text(path, content)
    try:
        return check_dataset(read_dataset(path if file == "list.csv" else volumes), labels)
    finally:
        path.unlink()


def test_parse_annotated_separators_and_empty() -> None:
    assert parse_annotated(" organ ; tumour;", "row 2") == ("organ", "tumour")
    assert parse_annotated("1|2", "row 2") == ("1", "2")
    assert parse_annotated("  ", "row 2") is None
    with pytest.raises(DatasetError, match="row 2, has the annotated labels ';'"):
        parse_annotated(";", "row 2")


@pytest.mark.parametrize("header", ["case,labels", "case,annotated", "Case;Annotated_Labels"])
def test_labels_csv_says_which_case_lacks_which_label(volumes: Path, header: str) -> None:
    separator = header[4]
    rows = [header, f"organ_00{separator}Organ", f'organ_01{separator}"organ|2"', f"organ_02{separator}"]
    report = check_with(volumes, "\n".join(rows))
    fingerprint = report.require_no_errors()
    assert [case.missing_labels for case in fingerprint.cases] == [("tumour",), (), ()]
    assert fingerprint.missing_sets == (("tumour",),)
    assert fingerprint.cases[0].num_voxels["tumour"] == 0 < fingerprint.cases[1].num_voxels["tumour"]
    (note,) = (problem for problem in report.problems if problem.code == "partly-annotated")
    assert "1 of 3 cases annotated with organ only (organ_00); tumour is left out" in note.cause
    (warning,) = (problem for problem in report.problems if problem.code == "label-not-annotated")
    assert warning.file == "labelsTr/organ_00.nii.gz"
    assert "voxels of tumour" in warning.cause


def test_table_column_is_kept_in_a_corrected_copy_and_compared(volumes: Path) -> None:
    rows = ["case,image,label,annotated"]
    rows += [
        f"c{n},imagesTr/organ_0{n}.nii.gz,labelsTr/organ_0{n}.nii.gz,{text}"
        for n, text in enumerate(("organ", "", "2"))
    ]
    report = check_with(volumes, "\n".join(rows), LABELS, "list.csv")
    assert report.require_no_errors().missing_sets == (("organ",), ("tumour",))
    assert "annotated" not in report.dataset.cases[0].columns
    assert format_cases(report.dataset.cases).splitlines()[1].endswith(",organ")
    assert format_cases(report.dataset.cases).splitlines()[2].endswith(",")
    before = {case.name: describe_case(case) for case in report.dataset.cases}
    before["c1"] = before["c1"].model_copy(update={"annotated": ["organ"]})
    changes = find_changed_facts(before, describe_listing(report.dataset), report.dataset)
    assert changes == ["case c1 is annotated with all labels, was with organ"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("case,labels\norgan_7,organ\n", "row 2, is about case 'organ_7'"),
        ("case,labels\norgan_00,organ\norgan_00,organ\n", "row 3, is about case organ_00, as an earlier row"),
        ("case,structure\norgan_00,organ\n", "has the columns case, structure; expected case and labels"),
    ],
)
def test_labels_csv_that_cannot_be_is_refused(volumes: Path, content: str, part: str) -> None:
    with pytest.raises(DatasetError, match=part):
        check_with(volumes, content)


def test_labels_csv_about_something_else_is_left_alone(volumes: Path) -> None:
    report = check_with(volumes, "value,name\n1,organ\n")
    assert not report.require_no_errors().missing_sets
    assert not report.errors


@pytest.mark.parametrize(
    ("content", "labels", "code", "part"),
    [
        ("organ_00,orgn", None, "annotated-label-unknown", "did you mean 'organ'"),
        ("organ_00,organ\norgan_01,organ\norgan_02,organ", None, "label-never-annotated", "the label tumour"),
        (
            "organ_00,1",
            {"air": 0, "organ": 1, "tumour": 2},
            "partly-annotated-without-background",
            "first label is air",
        ),
    ],
)
def test_annotated_labels_that_cannot_be_are_errors(
    volumes: Path, content: str, labels: dict[str, int] | None, code: str, part: str
) -> None:
    report = check_with(volumes, f"case,labels\n{content}\n", labels)
    assert [problem.cause for problem in report.errors if problem.code == code and part in problem.cause]


def test_annotated_label_with_an_unknown_name_is_told_alone(volumes: Path) -> None:
    report = check_with(volumes, "case,labels\norgan_00,orgn\n")
    told = [problem.code for problem in report.problems if "annotated" in problem.cause]
    assert told == ["annotated-label-unknown"], "what the case lacks is not known yet"
