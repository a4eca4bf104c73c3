"""Reader of a list of cases: a CSV or JSON file with the columns image and label, and optional case, patient, split, spacing_mm.

Further columns are kept as text, for results by subgroup. Several channels are several columns (image_0, image_1, ...),
several paths separated by a semicolon, or a list in JSON.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dataset.dataset import Case, Dataset, case_name
from pipeline.dataset.paths import parse_path
from pipeline.dataset.problems import ERROR, Message, Problem
from pipeline.errors import DatasetError, suggest
from pipeline.text_files import parse_json, read_text

LAYOUT = "list of cases"
SUFFIXES = (".csv", ".json")
_COLUMNS = ("case", "image", "label", "patient", "split", "spacing_mm")
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}

REPEATED_IMAGE = Message(
    "image-listed-twice", ERROR, "is the image of {first} and of {second}", "Keep one of both rows."
)


@dataclass(frozen=True)
class _Row:
    """One row; `where` names it in messages, with the number that a spreadsheet shows."""

    where: str
    fields: dict[str, Any]

    def text(self, column: str) -> str:
        value = self.fields.get(column)
        return "" if value is None else str(value).strip()


def matches(root: Path) -> bool:
    """Whether `root` is a list of cases, or a folder with exactly one."""
    return find_table(root) is not None


def find_table(root: Path) -> Path | None:
    """The list of cases at `root`: the file itself, cases.csv or cases.json, or the only file that is such a list."""
    if root.is_file():
        return root if root.suffix.lower() in SUFFIXES else None
    for name in ("cases.csv", "cases.json"):
        if (root / name).is_file():
            return root / name
    candidates = [path for path in sorted(root.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    found = [path for path in candidates if not path.name.startswith(".") and _looks_like_a_list(path)]
    return found[0] if len(found) == 1 else None


def _looks_like_a_list(path: Path) -> bool:
    try:
        rows = _read_rows(path)
    except DatasetError:
        return False
    columns = set(rows[0].fields) if rows else set()
    return "label" in columns and bool({"image", "image_0"} & columns)


def read(root: Path) -> Dataset:
    """The dataset that the list at `root` describes; its folder is the dataset's root.

    Raises:
        DatasetError: the list has no rows, lacks a column, or has a value that cannot be used; names the row.
    """
    table = find_table(root)
    if table is None:
        raise DatasetError(
            f"{root} has no list of cases. Expected cases.csv or cases.json with the columns image and label."
        )
    rows = _read_rows(table)
    if not rows:
        raise DatasetError(f"{table.name} has no rows. Expected one per case, with the columns image and label.")
    _require_columns(table, set(rows[0].fields))
    cases = [_read_case(row) for row in rows]
    _require_unique_names(table, cases)
    problems = _find_repeated_images(cases)
    return Dataset(
        root=table.parent, layout=f"{LAYOUT} ({table.name})", cases=tuple(cases), problems_of_layout=tuple(problems)
    )


def _read_rows(table: Path) -> list[_Row]:
    text = read_text(table, DatasetError, table.name)
    if table.suffix.lower() == ".json":
        return _read_json_rows(table, text)
    lines = text.splitlines()
    if not lines:
        return []
    delimiter = max(",;\t", key=lines[0].count)
    reader = csv.DictReader(lines, delimiter=delimiter, restkey="", skipinitialspace=True)
    if not reader.fieldnames:
        return []
    rows = []
    for row in reader:
        where = f"{table.name}, row {reader.line_num}"
        if "" in row and any(row[""]):
            raise DatasetError(f"{where}, has more cells than the header. Correct the delimiters ({delimiter!r}).")
        fields = {str(name).strip().lower(): value for name, value in row.items()}
        if any(str(value or "").strip() for value in fields.values()):
            rows.append(_Row(where, fields))
    return rows


def _read_json_rows(table: Path, text: str) -> list[_Row]:
    content = parse_json(text, table, DatasetError, table.name, "Correct it.")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f'{table.name} is no list of objects. Expected [{{"image": PATH, "label": PATH}}, ...].')
    return [
        _Row(f"{table.name}, entry {number}", {str(name).lower(): value for name, value in entry.items()})
        for number, entry in enumerate(content)
    ]


def _require_columns(table: Path, columns: set[str]) -> None:
    if "label" in columns and {"image", "image_0"} & columns:
        return
    missing = "label" if "label" not in columns else "image"
    raise DatasetError(
        f"{table.name} has no column {missing!r}; {suggest(missing, columns or {'none'})}. Expected the columns image and label."
    )


def _read_case(row: _Row) -> Case:
    first, *others = (parse_path(text, f"{row.where}, column image") for text in _list_images(row))
    label = parse_path(row.text("label"), f"{row.where}, column label")
    split = row.text("split").lower()
    if split and split not in _SPLITS:
        raise DatasetError(f"{row.where}, has the split {split!r}. Expected train, validation or test.")
    return Case(
        name=row.text("case") or case_name(first),
        image=first,
        label=label,
        further_channels=tuple(others),
        patient=row.text("patient") or None,
        split=_SPLITS[split] if split else None,
        spacing_mm=_read_spacing(row),
        columns=_read_further_columns(row),
    )


def _read_further_columns(row: _Row) -> dict[str, str]:
    return {
        name: row.text(name)
        for name, value in row.fields.items()
        if name and name not in _COLUMNS and not re.fullmatch(r"image_\d+", name) and not isinstance(value, list | dict)
    }


def _list_images(row: _Row) -> list[str]:
    value = row.fields.get("image")
    if isinstance(value, list):
        texts = [str(path) for path in value]
    elif row.text("image"):
        texts = row.text("image").split(";")
    else:
        numbered = sorted(
            (int(name.removeprefix("image_")), name) for name in row.fields if re.fullmatch(r"image_\d+", name)
        )
        texts = [row.text(name) for _, name in numbered]
    if not texts or not all(text.strip() for text in texts):
        raise DatasetError(f"{row.where}, has an empty image. Expected a path in every row.")
    return texts


def _read_spacing(row: _Row) -> tuple[float, ...] | None:
    value = row.fields.get("spacing_mm")
    if value is None or value == "":
        return None
    parts = value if isinstance(value, list) else re.split(r"[x;\s]+", str(value).strip())
    try:
        spacing = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        spacing = ()
    if not 1 <= len(spacing) <= 3 or not all(0 < size < float("inf") for size in spacing):
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
