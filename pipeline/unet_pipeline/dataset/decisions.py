"""What a person decided about each case when looking at results: the CSV file that the viewer exports, taken by `check` and `plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.table_rows import Row, read_rows
from unet_pipeline.errors import DatasetError, suggest
from unet_pipeline.messages import NOTE, WARNING, Message, Problem

ACCEPT, FIX, EXCLUDE = "accept", "fix", "exclude"
LEFT_OUT = Message(
    "left-out", NOTE, "was left out, as {table} says{note}", "To take the case, change its line in that file."
)
TO_BE_FIXED = Message(
    "to-be-fixed",
    WARNING,
    "is marked to be fixed in {table}{note}",
    "Correct the label map, then change the line in that file to accept; or to exclude, to leave the case out.",
)


def apply_decisions(dataset: Dataset, table: Path | str | None) -> Dataset:
    """The dataset without the cases that were excluded, with a note about each and a warning about those to be fixed.

    Args:
        dataset: from `read_dataset`.
        table: CSV with the columns case, decision (accept, fix, exclude; empty for none yet) and note; None for no decisions.

    Raises:
        DatasetError: no such table, an unknown case or decision, a case twice, or no case is left.
    """
    if table is None:
        return dataset
    table = Path(table)
    if not table.is_file():
        raise DatasetError(
            f"{table.name} of --decisions does not exist. Expected the CSV file that the viewer exports."
        )
    decided = _read_decisions(dataset, table)
    problems, excluded = [], set()
    for case in dataset.cases:
        row = decided.get(case.name)
        if row is None or row.text("decision").lower() not in (FIX, EXCLUDE):
            continue
        message = TO_BE_FIXED if row.text("decision").lower() == FIX else LEFT_OUT
        problems.append(_describe(message, (case.label or case.image).as_posix(), table, row))
        if message is LEFT_OUT:
            excluded.add(case.name)
    cases = tuple(case for case in dataset.cases if case.name not in excluded)
    if not cases:
        raise DatasetError(
            f"{table.name} excludes all {len(excluded)} cases of the dataset. Expected one that is left. Exclude fewer."
        )
    folds = tuple((_keep(training, excluded), _keep(validation, excluded)) for training, validation in dataset.folds)
    return replace(dataset, cases=cases, folds=folds, problems_of_layout=(*dataset.problems_of_layout, *problems))


def _keep(names: tuple[str, ...], excluded: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in excluded)


def _describe(message: Message, file: str, table: Path, row: Row) -> Problem:
    note = " ".join(row.text("note").split())
    return message.about(file, table=table.name, note=f": {note}" if note else "")


def _read_decisions(dataset: Dataset, table: Path) -> dict[str, Row]:
    """Each row by its case."""
    known = {case.name for case in dataset.cases}
    decided: dict[str, Row] = {}
    rows = read_rows(table)
    if rows and not {"case", "decision"} <= rows[0].fields.keys():
        raise DatasetError(
            f"{table.name} has the columns {', '.join(rows[0].fields)}; expected case, decision and note. Export it from the viewer again."
        )
    for row in rows:
        case, decision = row.text("case"), row.text("decision").lower()
        if case not in known:
            raise DatasetError(
                f"{row.where}, is about case {case!r}, which the dataset does not have; {suggest(case, known)}. Correct or remove the row."
            )
        if decision not in ("", ACCEPT, FIX, EXCLUDE):
            raise DatasetError(
                f"{row.where}, has the decision {decision!r}; expected {ACCEPT}, {FIX} or {EXCLUDE}. Correct it."
            )
        if case in decided:
            raise DatasetError(
                f"{row.where}, is about case {case}, as an earlier row is. Expected one row per case. Remove one."
            )
        decided[case] = row
    return decided
