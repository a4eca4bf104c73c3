"""Which labels of the label table a case is annotated with: a column of the list of cases, or labels.csv beside the images.

What a case is not annotated with is unknown there, and not absent: it is left out of the loss and of every result of that case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.table_rows import Row, read_rows
from unet_pipeline.errors import DatasetError, suggest
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem
from unet_pipeline.types import BACKGROUND

if TYPE_CHECKING:
    from unet_pipeline.dataset.case_check import CaseFindings

FILE, COLUMN = "labels.csv", "annotated"
_MAX_SHOWN = 5

PARTIAL = Message(
    "partly-annotated",
    NOTE,
    "has {count} of {total} cases annotated with {present} ({shown}); {missing} is left out of their loss and of their results",
    "Nothing has to be done, if that is meant; the column annotated, or labels.csv, says which labels a case has.",
)
NOBODY = Message(
    "label-never-annotated",
    ERROR,
    "has the label {name}, which no case is annotated with",
    "Name it in the column annotated, or in labels.csv, of the cases that have it, or remove it from the label table.",
)
UNKNOWN = Message(
    "annotated-label-unknown",
    ERROR,
    "is said to be annotated with {name!r}; {hint}",
    "Correct the column annotated or labels.csv: names of the label table with a semicolon between them.",
)
VALUE_THERE = Message(
    "label-not-annotated",
    WARNING,
    "has {count} voxels of {name}, although its case is said not to be annotated with it; they count as not annotated",
    "Add {name} to the annotated labels of the case, if they are complete there.",
)
NO_BACKGROUND = Message(
    "partly-annotated-without-background",
    ERROR,
    "has cases that are annotated with a part of the labels, and the first label is {name}; expected background",
    "Name the value 0 background, or remove the column annotated or labels.csv.",
)


def parse_annotated(text: str, where: str) -> tuple[str, ...] | None:
    """Names that a cell lists, separated by semicolons, bars, or commas; None for an empty cell: the case has every label.

    Raises:
        DatasetError: separators without a name.
    """
    if not text.strip():
        return None
    names = tuple(name.strip() for name in re.split(r"[;|,]", text) if name.strip())
    if not names:
        raise DatasetError(
            f"{where}, has the annotated labels {text!r}. Expected names such as liver;spleen, or nothing for all."
        )
    return tuple(dict.fromkeys(names))


def add_annotated(dataset: Dataset) -> Dataset:
    """The dataset with what labels.csv at its root says; as it is, without that file.

    Raises:
        DatasetError: the file lacks a column, or names an unknown case or one twice.
    """
    path = dataset.root / FILE
    if not path.is_file():
        return dataset
    rows = read_rows(path)
    fields = rows[0].fields if rows else {}
    if "case" not in fields or "image" in fields:
        return dataset  # about something else, such as the names of values
    column = next((name for name in (COLUMN, "labels", "label") if name in fields), None)
    if column is None:
        raise DatasetError(
            f"{FILE} has the columns {', '.join(fields)}; expected case and labels, with the names of a case's labels such as liver;spleen. "
            "Correct it, or give the file another name if it is about something else."
        )
    listed = _read_listed(rows, column, [case.name for case in dataset.cases])
    cases = tuple(replace(case, annotated=listed.get(case.name, case.annotated)) for case in dataset.cases)
    return replace(dataset, cases=cases, lists=(*dataset.lists, Path(FILE)))


def _read_listed(rows: Sequence[Row], column: str, known: Sequence[str]) -> dict[str, tuple[str, ...] | None]:
    listed: dict[str, tuple[str, ...] | None] = {}
    for row in rows:
        name = row.text("case")
        if name not in known:
            raise DatasetError(
                f"{row.where}, is about case {name!r}, which the dataset does not have; {suggest(name, known)}. Correct or remove the row."
            )
        if name in listed:
            raise DatasetError(
                f"{row.where}, is about case {name}, as an earlier row is. Expected one row per case. Remove one."
            )
        listed[name] = parse_annotated(row.text(column), row.where)
    return listed


def list_missing(case: Case, labels: Mapping[str, int]) -> tuple[str, ...]:
    """Labels of the table, in its order, that the case is not annotated with; the background is never one of them.

    Args:
        labels: name and file value of each label.
    """
    if case.annotated is None:
        return ()
    known = {name.casefold() for name in case.annotated}
    return tuple(
        name for name, value in labels.items() if name != BACKGROUND and not known & {name.casefold(), str(value)}
    )


def find_partial_problems(
    dataset: Dataset, labels: Mapping[str, int] | None, findings: Sequence[CaseFindings]
) -> list[Problem]:
    """What is to be said about cases that are annotated with a part of the labels.

    Args:
        dataset: whose cases they are.
        labels: the label table; None where there is no usable one.
        findings: of the cases that could be read.
    """
    cases = dataset.cases
    if labels is None or all(case.annotated is None for case in cases):
        return []
    unknown = {case.name: errors for case in cases if (errors := _find_unknown(case, labels))}
    if unknown:  # what such a case lacks is not known before its names are right
        cases = tuple(case for case in cases if case.name not in unknown)
    problems = [problem for errors in unknown.values() for problem in errors]
    missing_of = {case.name: list_missing(case, labels) for case in cases if case.label is not None}
    if any(missing_of.values()) and next(iter(labels)) != BACKGROUND:
        problems.append(NO_BACKGROUND.about("dataset", name=next(iter(labels))))
    is_settled = bool(missing_of) and not unknown
    nowhere = [name for name in labels if is_settled and all(name in missing for missing in missing_of.values())]
    problems += [NOBODY.about("dataset", name=name) for name in nowhere]
    for finding in findings:
        for name in missing_of.get(finding.case.name, ()):
            if count := finding.voxels_by_value.get(labels[name], 0):
                problems.append(VALUE_THERE.about(finding.case.require_label().as_posix(), count=count, name=name))
    return [*problems, *_describe_sets(missing_of, labels)]


def _find_unknown(case: Case, labels: Mapping[str, int]) -> list[Problem]:
    known = {text.casefold() for name, value in labels.items() for text in (name, str(value))}
    unknown = [name for name in case.annotated or () if name.casefold() not in known]
    file = (case.label or case.image).as_posix()
    return [UNKNOWN.about(file, name=name, hint=suggest(name, labels)) for name in unknown]


def _describe_sets(missing_of: Mapping[str, tuple[str, ...]], labels: Mapping[str, int]) -> list[Problem]:
    """A note for every set of labels that some cases lack, with the names of these cases."""
    notes = []
    for missing in dict.fromkeys(missing for missing in missing_of.values() if missing):
        cases = [name for name, lacking in missing_of.items() if lacking == missing]
        present = [name for name in labels if name not in missing and name != BACKGROUND]
        shown = ", ".join(cases[:_MAX_SHOWN]) + (", ..." if len(cases) > _MAX_SHOWN else "")
        values = {
            "present": f"{', '.join(present)} only" if present else "no label",
            "missing": ", ".join(missing),
            "shown": shown,
        }
        notes.append(PARTIAL.about("dataset", count=len(cases), total=len(missing_of), **values))
    return notes
