"""Lists of cases in CSV and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.table_columns import parse_spacing
from unet_pipeline.errors import DatasetError


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
    assert "has the lists of cases mine.csv, other.csv; expected one" in refused(tmp_path)


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
    assert "is not text in UTF-" in (message := refused(tmp_path))
    assert "Save it as UTF-8" in message


@pytest.mark.parametrize("content", ["{", '{"image": 1}', "[1, 2]"])
def test_read_table_json_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    assert "cases.json" in refused(write(tmp_path, content, "cases.json"))


def test_read_table_image_of_two_cases_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
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


# as pandas, R and spreadsheets write it


ROWS = [(f"images/p{number}.png", f"labels/p{number}.png") for number in range(3)]
EXPECTED = tuple(Case(f"p{number}", Path(image), Path(label)) for number, (image, label) in enumerate(ROWS))


def join(header: str, pattern: str) -> str:
    return header + "".join(
        pattern.format(image=image, label=label, number=number) for number, (image, label) in enumerate(ROWS)
    )


@pytest.mark.parametrize(
    "text",
    [
        join(",image,label\n", "{number},{image},{label}\n"),
        join('"","image","label"\n', '"{number}","{image}","{label}"\n'),
        join("Unnamed: 0,image,label\n", "{number},{image},{label}\n"),
        join("image,label,,\n", "{image},{label},,\n"),
        join("image,label,\n", "{image},{label},checked\n"),
        join("image,label\n", "{image},{label},\n"),
        join("image,label\n\n", "{image},{label}\n\n") + ",\n,\n",
        join("\n\nimage,label\n", "{image},{label}\n"),
        join('"Image","Mask"\n', '"{image}","{label}"\n'),
        join("sep=;\r\nImage;Label\r\n", "{image};{label}\r\n"),
        join('"sep=\t"\nimage\tlabel\n', "{image}\t{label}\n"),
        join("image\tmask\n", "{image}\t{label}\n"),
        join("image , label\n", "{image} , {label}\n"),
        join("IMAGE_PATH|SEGMENTATION\n", "{image}|{label}\n"),
        join("image,label\n", "./{image},images/../{label}\n"),
        join("image,label\n", "{image},{label}\n").replace("/", "\\"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_read_table_of_other_programs_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    touch(tmp_path, *(path for row in ROWS for path in row))
    (tmp_path / "cases.csv").write_bytes(text.encode(encoding))
    dataset = read_dataset(tmp_path)
    assert dataset.cases == EXPECTED
    assert dataset.problems_of_layout == ()


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize("name", ["cases.tsv", "list.txt", "Cases.CSV"])
def test_read_table_other_names_are_found(tmp_path: Path, name: str) -> None:
    touch(tmp_path, *(path for row in ROWS for path in row))
    write(tmp_path, join("image\tlabel\n", "{image}\t{label}\n"), name)
    assert read_dataset(tmp_path).cases == EXPECTED


def test_read_table_mask_beside_label_stays_a_column(tmp_path: Path) -> None:
    (case,) = read_dataset(write(tmp_path, "image,label,mask\na.png,b.png,c.png\n")).cases
    assert (case.label, case.columns) == (Path("b.png"), {"mask": "c.png"})


@pytest.mark.parametrize("name", ["cases.xlsx", "cases.xls", "cases.ods", "list.xlsx"])
def test_read_table_spreadsheet_says_how_to_save_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    for place in (tmp_path, tmp_path / name):
        message = refused(place)
        assert f"{name} is a spreadsheet; expected text" in message
        assert "'CSV UTF-8 (comma delimited)'" in message


def test_read_table_spreadsheet_under_the_name_of_a_list_is_seen(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_bytes(b"PK\x03\x04\x00\xff")
    assert "cases.csv is a spreadsheet" in refused(tmp_path)


def test_read_table_spreadsheet_of_cases_is_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, *(path for row in ROWS for path in row), "cases.xlsx")
    assert "cases.xlsx is a spreadsheet" in refused(tmp_path)
    assert read_dataset(tmp_path, "folders").layout == "plain folders"


def test_read_table_absolute_paths_inside_the_dataset(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", *(path for row in ROWS for path in row))
    write(root, join("image,label\n", f"{root}/{{image}},{root}/{{label}}\n"))
    assert read_dataset(root).cases == EXPECTED


def test_read_table_absolute_paths_from_before_the_folder_was_moved(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", *(path for row in ROWS for path in row))
    write(root, join("image,label\n", "C:\\data\\set\\{image},/mnt9/set/{label}\n"))
    assert read_dataset(root).cases == EXPECTED


def test_read_table_absolute_path_to_elsewhere_is_refused(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "a.png")
    touch(tmp_path, "secret.png")
    assert "leads out of the dataset" in refused(write(root, f"image,label\na.png,{tmp_path}/secret.png\n"))


def test_read_table_patient_folders_name_the_cases(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, "image,label\np1/ct.nii.gz,p1/seg.nii.gz\np2/ct.nii.gz,p2/seg.nii.gz\n"))
    assert [case.name for case in dataset.cases] == ["p1", "p2"]


def test_read_table_paths_that_start_elsewhere_are_found_or_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / "data", *(path for row in ROWS for path in row))
    (tmp_path / "data" / "lists").mkdir()
    (tmp_path / "far").mkdir()
    text = join("image,label\n", "{image},{label}\n")
    near = read_dataset(write(tmp_path / "data" / "lists", text) / "cases.csv")
    assert (near.root.resolve(), near.cases) == ((tmp_path / "data").resolve(), EXPECTED)
    assert [(note.code, note.severity) for note in near.problems_of_layout] == [("data-root", "note")]
    far = write(tmp_path / "far", text) / "cases.csv"
    assert [problem.code for problem in read_dataset(far).problems_of_layout] == ["data-root-unknown"]
    given = read_dataset(far, data_root=tmp_path / "data")
    assert (given.root, given.cases, given.problems_of_layout) == (tmp_path / "data", EXPECTED, ())


def test_read_table_data_root_needs_a_list_and_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "set", "images/a.png", "labels/a.png")
    with pytest.raises(DatasetError, match="is no list of cases"):
        read_dataset(tmp_path / "set", data_root=tmp_path)
    with pytest.raises(DatasetError, match="of --data-root does not exist"):
        read_dataset(tmp_path / "set", data_root=tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,5", (0.5,)),
        ("0,5x0,5x2", (0.5, 0.5, 2.0)),
        ("0,5 0,5 2,0", (0.5, 0.5, 2.0)),
        ("0,5;0,5;2", (0.5, 0.5, 2.0)),
        ("[0.5, 0.5, 2.0]", (0.5, 0.5, 2.0)),
        ("(1, 1, 3)", (1.0, 1.0, 3.0)),
        ("1,1,2.5", (1.0, 1.0, 2.5)),
        ("0.5×0.5", (0.5, 0.5)),
        (0.5, (0.5,)),
        ([1, 1, 2], (1.0, 1.0, 2.0)),
        ("wide", None),
        ("0", None),
        ("1 1 1 1", None),
        ("", None),
    ],
)
def test_parse_spacing_decimal_commas_and_lists(text: object, expected: tuple[float, ...] | None) -> None:
    assert parse_spacing(text) == expected
