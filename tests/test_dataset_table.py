"""Lists of cases in CSV and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.dataset import Case
from pipeline.dataset.layouts import read_dataset
from pipeline.errors import DatasetError


def write(root: Path, text: str, name: str = "cases.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root


def refused(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(root)
    return str(caught.value)


def test_read_table_all_columns_are_taken(tmp_path: Path) -> None:
    text = "case,image,label,patient,split,spacing_mm,age\nx,i/1.png,l/1.png,p1,Val,0.25,70\ny,i/2.png,l/2.png,,,0.5x0.25,\n"
    first, second = read_dataset(write(tmp_path, text)).cases
    assert first == Case("x", Path("i/1.png"), Path("l/1.png"), (), "p1", "validation", (0.25,), {"age": "70"})
    assert second == Case("y", Path("i/2.png"), Path("l/2.png"), (), None, None, (0.5, 0.25), {"age": ""})


def test_read_table_further_columns_of_json_are_text_and_lists_are_passed_over(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "label": "b.png", "Age": 70, "site": None, "boxes": [1, 2], "image_2": "c.png"}]
    (case,) = read_dataset(write(tmp_path, json.dumps(rows), "cases.json")).cases
    assert case.columns == {"age": "70", "site": ""}


@pytest.mark.real_data
def test_read_table_fetal_heads_have_their_circumference(pipeline_data: Path) -> None:
    cases = read_dataset(pipeline_data / "fetal_head_ultrasound").cases
    assert cases[0].columns == {"head_circumference_mm": "44.3"}
    assert all(float(case.columns["head_circumference_mm"]) > 0 for case in cases)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_read_table_delimiters_and_byte_order_mark(tmp_path: Path, delimiter: str, mark: str) -> None:
    text = mark + delimiter.join(("Image", "Label")) + "\r\n" + delimiter.join(("a.png", "b.png")) + "\r\n\r\n"
    assert read_dataset(write(tmp_path, text)).cases == (Case("a", Path("a.png"), Path("b.png")),)


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.nii.gz;b.nii.gz,l.nii.gz\n",
        "image_0,image_1,label\na.nii.gz,b.nii.gz,l.nii.gz\n",
        "image_1,image_0,label\nb.nii.gz,a.nii.gz,l.nii.gz\n",
    ],
)
def test_read_table_several_channels(tmp_path: Path, text: str) -> None:
    (case,) = read_dataset(write(tmp_path, text)).cases
    assert case.images == (Path("a.nii.gz"), Path("b.nii.gz"))


def test_read_table_json_list_says_the_same(tmp_path: Path) -> None:
    rows = [
        {"image": ["a.nii.gz", "b.nii.gz"], "label": "l.nii.gz", "spacing_mm": [1, 1, 2.5], "split": "train"},
        {"image": "c.nii.gz", "label": "m.nii.gz", "spacing_mm": 0.5, "patient": 7},
    ]
    first, second = read_dataset(write(tmp_path, json.dumps(rows), "cases.json")).cases
    assert (first.images, first.spacing_mm) == ((Path("a.nii.gz"), Path("b.nii.gz")), (1.0, 1.0, 2.5))
    assert (second.name, second.spacing_mm, second.patient) == ("c", (0.5,), "7")


def test_read_table_file_itself_may_be_given(tmp_path: Path) -> None:
    write(tmp_path, "image,label\na.png,b.png\n", "mine.csv")
    write(tmp_path, "image,label\nc.png,d.png\n", "other.csv")
    assert read_dataset(tmp_path / "mine.csv").cases[0].name == "a"
    assert read_dataset(tmp_path / "mine.csv").root == tmp_path
    assert "no known layout" in refused(tmp_path)  # two lists: which one?


def test_read_table_only_list_is_found_beside_other_files(tmp_path: Path) -> None:
    write(tmp_path, "image,label\na.png,b.png\n", "mine.csv")
    write(tmp_path, "patient,age\nx,3\n", "patients.csv")
    write(tmp_path, "{}", "notes.json")
    assert read_dataset(tmp_path).layout == "list of cases (mine.csv)"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",l.png", "row 2, has an empty image"),
        ("a.png,", "row 2, has an empty label"),
        ("../a.png,l.png", "row 2, column image, leads out of the dataset: '../a.png'"),
        ("/a.png,l.png", "leads out of the dataset"),
        ("a.png,l.png,,sometimes", "row 2, has the split 'sometimes'"),
        ("a.png,l.png,,,-1", "row 2, has the spacing_mm '-1'"),
        ("a.png,l.png,,,wide", "row 2, has the spacing_mm 'wide'"),
        ("a.png,l.png,,,nan", "row 2, has the spacing_mm 'nan'"),
        ("a.png,l.png,,,1,x,y", "row 2, has more cells than the header"),
    ],
)
def test_read_table_row_that_cannot_be_used_is_named(tmp_path: Path, row: str, message: str) -> None:
    assert message in refused(write(tmp_path, f"image,label,patient,split,spacing_mm\n{row}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,truth\na,b\n", "has no column 'label'"),
        ("image,label,Image\na,b,c\n", "row 1, names the column 'image' twice"),
        ("picture,label\na,b\n", "has no column 'image'"),
        ("image,label\n", "has no rows"),
        ("", "has no rows"),
        ("image,label\na.png,b.png\nx/a.png,c.png\n", "has the case a more than once"),
        ("case,image,label\n../x,a.png,b.png\n", "which cannot be a file name"),
    ],
)
def test_read_table_list_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(write(tmp_path, text))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"image,label\n\xe9.png,b.png\n"])
def test_read_table_other_encoding_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cases.csv").write_bytes(content)
    assert "cannot be read as UTF-8" in refused(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"image": 1}', "[1, 2]"])
def test_read_table_json_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    assert "cases.json" in refused(write(tmp_path, content, "cases.json"))


def test_read_table_image_of_two_cases_is_a_problem(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, "case,image,label\nx,a.png,b.png\ny,a.png,c.png\n"))
    assert [problem.code for problem in dataset.problems_of_layout] == ["image-listed-twice"]


def test_read_table_link_out_of_the_dataset_is_a_problem(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "secret.png").touch()
    (root / "a.png").symlink_to(tmp_path / "secret.png")
    (root / "b.png").touch()
    (problem,) = read_dataset(write(root, "image,label\na.png,b.png\n")).problems_of_layout
    assert str(problem).startswith("error: a.png is a link that leads out of the dataset, to secret.png.")


@given(
    sizes=st.lists(st.floats(0.001, 100).map(lambda size: round(size, 6)), min_size=1, max_size=3),
    separator=st.sampled_from(["x", ";", " ", " x "]),
)
def test_read_table_any_spacing_is_read_back(tmp_path_factory: Any, sizes: list[float], separator: str) -> None:
    root = tmp_path_factory.mktemp("table")
    write(root, f"image,label,spacing_mm\na.png,b.png,{separator.join(map(str, sizes))}\n")
    assert read_dataset(root).cases[0].spacing_mm == tuple(sizes)


@pytest.mark.real_data
def test_read_table_fetal_heads_have_their_spacing(pipeline_data: Path) -> None:
    dataset = read_dataset(pipeline_data / "fetal_head_ultrasound")
    assert (dataset.layout, len(dataset.cases)) == ("list of cases (cases.csv)", 98)
    assert dataset.cases[0].name == "000_HC"
    assert dataset.cases[0].spacing_mm == (0.0691358041432,)
