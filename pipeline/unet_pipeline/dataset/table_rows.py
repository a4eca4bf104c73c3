"""The rows of a list of cases, as its file writes them: CSV of pandas, R and spreadsheets with their habits, or a JSON list of objects."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.dataset.table_columns import name_column
from unet_pipeline.errors import DatasetError
from unet_pipeline.text_files import parse_json, read_text

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SPREADSHEET_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's own
_UNNAMED = re.compile(r"|unnamed: \d+(_level_\d+)?|\.\.\.\d+")  # an index, as pandas and R write it or read it back
_SAVE_AS_UTF8 = "Save it as UTF-8, in Excel as 'CSV UTF-8'."
_SPREADSHEET_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # a zip, as xlsx and ods are, and xls


@dataclass(frozen=True)
class Row:
    """One row; `where` names it in messages, with the number that a spreadsheet shows."""

    where: str
    fields: dict[str, object]

    def text(self, column: str) -> str:
        """The value of a column as text; "" without one."""
        value = self.fields.get(column)
        return "" if value is None else str(value).strip()


def read_rows(table: Path) -> list[Row]:
    """All rows that are not empty, columns under their standard names and without those that have no name.

    Raises:
        DatasetError: it is a spreadsheet, no text, no table, or a row has more cells than the header.
    """
    require_no_spreadsheet(table)
    text = read_text(table, DatasetError, table.name, _SAVE_AS_UTF8)
    if table.suffix.lower() == ".json":
        return _read_json_rows(table, text)
    try:
        return list(_read_text_rows(table, text))
    except csv.Error as error:
        raise DatasetError(f"{table.name} is no table of text: {error}. Save it again as CSV.") from error


def require_no_spreadsheet(table: Path) -> None:
    """Whether a file is text rather than a spreadsheet, whatever its name says.

    Raises:
        DatasetError: it is a spreadsheet; says how to save it as CSV.
    """
    named = table.suffix.lower() in SPREADSHEET_SUFFIXES
    try:
        with table.open("rb") as stream:
            named = named or stream.read(4).startswith(_SPREADSHEET_STARTS)
    except OSError:
        return  # said where it is read
    if named:
        raise DatasetError(
            f"{table.name} is a spreadsheet; expected text. Save the sheet as CSV, in Excel with File, Save As, "
            "'CSV UTF-8 (comma delimited)', in LibreOffice with File, Save As, 'Text CSV', with the columns image and label."
        )


def _read_text_rows(table: Path, text: str) -> Iterator[Row]:
    lines = io.StringIO(text, newline="").readlines()
    start, delimiter = _find_header(lines)
    reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True)
    header: list[str] = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{table.name}, row {start + reader.line_num}"
        if not header:
            header = _name_columns(where, cells)
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            raise DatasetError(f"{where}, has more cells than the header. Correct the delimiters ({delimiter!r}).")
        cells += [""] * (len(header) - len(cells))
        yield Row(where, {name: cell for name, cell in zip(header, cells, strict=False) if name})


def _find_header(lines: list[str]) -> tuple[int, str]:
    """The number of lines before the header, and the delimiter."""
    for number, line in enumerate(lines):
        if match := _SEPARATOR_LINE.fullmatch(line.strip("\r\n ")):
            return number + 1, match[1]
        if line.strip('\r\n\t ,;|"'):
            return number, max(_DELIMITERS, key=line.count)
    return len(lines), ","


def _name_columns(where: str, cells: list[str]) -> list[str]:
    """Standard names of the columns; "" for one without a name."""
    names = ["" if _UNNAMED.fullmatch(cell.strip().lower()) else name_column(cell, cells) for cell in cells]
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise DatasetError(f"{where}, names the column {repeated[0]!r} twice. Keep or rename one of them.")
    return names


def _read_json_rows(table: Path, text: str) -> list[Row]:
    content = parse_json(text, table, DatasetError, table.name, "Correct it.")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f'{table.name} is no list of objects. Expected [{{"image": PATH, "label": PATH}}, ...].')
    return [
        Row(f"{table.name}, entry {number}", {name_column(name, list(entry)): value for name, value in entry.items()})
        for number, entry in enumerate(content)
    ]
