"""Reader of a list of cases: a CSV or JSON file with the columns image and label, and optional case, patient, split, spacing_mm.

Further columns are kept as text, for results by subgroup. Several channels are several columns (image_0, image_1, ...),
several paths separated by a semicolon, or a list in JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from unet_pipeline.dataset.annotated_labels import COLUMN, parse_annotated
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.listed_paths import describe_place, find_data_root, name_cases
from unet_pipeline.dataset.paths import parse_path
from unet_pipeline.dataset.table_columns import COLUMNS, SPLITS, parse_spacing
from unet_pipeline.dataset.table_rows import SPREADSHEET_SUFFIXES, TEXT_SUFFIXES, Row, read_rows, require_no_spreadsheet
from unet_pipeline.errors import DatasetError, suggest
from unet_pipeline.messages import ERROR, Message, Problem

LAYOUT = "list of cases"
SUFFIXES = (*TEXT_SUFFIXES, ".json")
NAMES = ("cases.csv", "cases.tsv", "cases.json")

REPEATED_IMAGE = Message(
    "image-listed-twice", ERROR, "is the image of {first} and of {second}", "Keep one of both rows."
)


def matches(root: Path) -> bool:
    """Whether `root` is a list of cases, or a folder with exactly one."""
    return find_table(root) is not None


def find_table(root: Path) -> Path | None:
    """The list of cases at `root`: the file itself, cases.csv or cases.json, or the only file that is such a list.

    Raises:
        DatasetError: it is a spreadsheet.
    """
    if root.is_file():
        if root.suffix.lower() in SPREADSHEET_SUFFIXES:
            require_no_spreadsheet(root)
        suffix = root.suffix.lower()
        return root if suffix in SUFFIXES and (suffix != ".txt" or _looks_like_a_list(root)) else None
    files = _list_files(root)
    by_name = {path.name.lower(): path for path in files}
    for name in NAMES:
        if name in by_name:
            return by_name[name]
    for path in files:
        if path.stem.lower() == "cases" and path.suffix.lower() in SPREADSHEET_SUFFIXES:
            require_no_spreadsheet(path)
    tables = find_lists(root)
    return tables[0] if len(tables) == 1 else None


def find_lists(root: Path) -> list[Path]:
    """The files of a folder that are lists of cases, whatever their names."""
    return [path for path in _list_files(root) if path.suffix.lower() in SUFFIXES and _looks_like_a_list(path)]


def _list_files(root: Path) -> list[Path]:
    """Files, but for hidden ones and those that a spreadsheet program keeps while it is open."""
    return [path for path in sorted(root.iterdir()) if not path.name.startswith((".", "~$")) and path.is_file()]


def _looks_like_a_list(path: Path) -> bool:
    try:
        rows = read_rows(path)
    except DatasetError:
        return False
    columns = set(rows[0].fields) if rows else set()
    return "label" in columns and bool({"image", "image_0"} & columns)


def read(root: Path, data_root: Path | None = None) -> Dataset:
    """The dataset that the list at `root` describes; its folder, or the one that its paths start from, is the dataset's root.

    Args:
        root: the list, or its folder.
        data_root: the folder that the paths start from; found by looking when None.

    Raises:
        DatasetError: the list has no rows, lacks a column, or has a value that cannot be used; names the row.
    """
    table = find_table(root)
    if table is None:
        raise DatasetError(
            f"{root} has no list of cases. Expected cases.csv or cases.json with the columns image and label."
        )
    rows = read_rows(table)
    if not rows:
        raise DatasetError(f"{table.name} has no rows. Expected one per case, with the columns image and label.")
    _require_columns(table, set(rows[0].fields))
    listed = [[*_list_images(row), row.text("label")] for row in rows]
    place = data_root or find_data_root(table.parent, [path for paths in listed for path in paths])
    cases = _read_cases(rows, place)
    _require_unique_names(table, cases)
    problems = _find_repeated_images(cases)
    problems += describe_place(table.name, table.parent, place, data_root, [case.image for case in cases])
    listed_in = Path(os.path.relpath(table, place))
    return Dataset(
        root=place,
        layout=f"{LAYOUT} ({table.name})",
        cases=tuple(cases),
        problems_of_layout=tuple(problems),
        lists=(listed_in,),
        given_list=listed_in,
    )


def _require_columns(table: Path, columns: set[str]) -> None:
    if "label" in columns and {"image", "image_0"} & columns:
        return
    missing = "label" if "label" not in columns else "image"
    raise DatasetError(
        f"{table.name} has no column {missing!r}; {suggest(missing, columns or {'none'})}. Expected the columns image and label."
    )


def _read_cases(rows: Sequence[Row], root: Path) -> list[Case]:
    images = [
        [parse_path(text, f"{row.where}, column image", root) for text in _list_images(row) if text] for row in rows
    ]
    named = zip(rows, images, name_cases(images), strict=True)
    return [_read_case(row, root, case, name) for row, case, name in named]


def _read_case(row: Row, root: Path, images: list[Path], name: str) -> Case:
    if not row.text("label"):
        raise DatasetError(f"{row.where}, has an empty label. Expected a path in every row.")
    split = row.text("split").lower()
    if split and split not in SPLITS:
        raise DatasetError(f"{row.where}, has the split {split!r}. Expected train, validation or test.")
    first, *others = images
    return Case(
        name=row.text("case") or name,
        image=first,
        label=parse_path(row.text("label"), f"{row.where}, column label", root),
        further_channels=tuple(others),
        missing_channels=tuple(place for place, text in enumerate(_list_images(row)) if not text),
        patient=row.text("patient") or None,
        split=SPLITS[split] if split else None,
        spacing_mm=_read_spacing(row),
        columns=_read_further_columns(row),
        annotated=_read_annotated(row),
    )


def _read_annotated(row: Row) -> tuple[str, ...] | None:
    value = row.fields.get(COLUMN)
    text = ";".join(map(str, value)) if isinstance(value, list) else row.text(COLUMN)
    return parse_annotated(text, row.where)


def _read_further_columns(row: Row) -> dict[str, str]:
    return {
        name: row.text(name)
        for name, value in row.fields.items()
        if name and name not in COLUMNS and not re.fullmatch(r"image_\d+", name) and not isinstance(value, list | dict)
    }


def _list_images(row: Row) -> list[str]:
    """The paths of the channels; "" for one that the case lacks.

    Raises:
        DatasetError: it lacks all.
    """
    value = row.fields.get("image")
    if isinstance(value, list):
        texts = ["" if path is None else str(path).strip() for path in value]
    elif row.text("image"):
        texts = [text.strip() for text in row.text("image").split(";")]
    else:
        numbered = sorted(
            (int(name.removeprefix("image_")), name) for name in row.fields if re.fullmatch(r"image_\d+", name)
        )
        texts = [row.text(name) for _, name in numbered]
    if not any(texts):
        raise DatasetError(f"{row.where}, has an empty image. Expected a path in every row.")
    return texts


def _read_spacing(row: Row) -> tuple[float, ...] | None:
    value = row.fields.get("spacing_mm")
    if value is None or not str(value).strip():
        return None
    spacing = parse_spacing(value)
    if spacing is None:
        raise DatasetError(
            f"{row.where}, has the spacing_mm {value!r}. Expected a positive number, or one per axis as 0.5x0.5x2."
        )
    return spacing


def _require_unique_names(table: Path, cases: list[Case]) -> None:
    names = [case.name for case in cases]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(
            f"{table.name} has the case {repeated[0]} more than once. Give every row a name of its own in the column case."
        )


def _find_repeated_images(cases: list[Case]) -> list[Problem]:
    first_of: dict[Path, str] = {}
    problems = []
    for case in cases:
        for image in case.images:
            first = first_of.setdefault(image, case.name)
            if first != case.name:
                problems.append(REPEATED_IMAGE.about(image.as_posix(), first=first, second=case.name))
    return problems
