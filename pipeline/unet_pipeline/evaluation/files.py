"""The files of an evaluation: metrics.csv with a row per case and label, summary.json with what follows from it.

Everything in summary.json is computed from the rows as metrics.csv has them, so that anybody can compute it again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.bootstrap import INTERVAL
from unet_pipeline.evaluation.failures import Failure, list_failures
from unet_pipeline.evaluation.subgroups import Cut, SubgroupRow, summarize_subgroups
from unet_pipeline.evaluation.summary import (
    FoldRow,
    SummaryRow,
    note_few_patients,
    summarize,
    summarize_folds,
    to_records,
)
from unet_pipeline.files import write_atomically, write_json
from unet_pipeline.text_files import read_model, read_text

METRICS_FILE, SUMMARY_FILE = "metrics.csv", "summary.json"
_TEXT = ("case", "patient", "label", "length_unit", "size_unit")
_FLAGS = ("missed", "false_alarm")
_DIGITS = "%.9g"


class DataRecord(BaseModel):
    """Which data were measured.

    `manifest_sha256` is that of the bundle's dataset manifest, for its own cases. `place` is the folder or file, relative to the
    bundle's root; null where no relative path leads to it, and for the summaries of earlier versions.
    """

    name: str
    manifest_sha256: str | None
    place: str | None = None


class SummaryRecord(BaseModel):
    """What summary.json holds.

    `folds` were evaluated, of `num_folds`; both are null for a test set. `excluded` names cases that were left out because the
    network was trained on them. `notes` are sentences that a reader of the numbers must know. A null instead of a number means that it
    is not defined.
    """

    title: str
    dataset: DataRecord
    grid: str = "native"
    interval: str = INTERVAL
    labels: dict[str, int]
    scored_labels: list[str]
    folds: list[int] | None
    num_folds: int | None
    excluded: list[str]
    notes: list[str]
    rows: list[SummaryRow]
    per_fold: list[FoldRow]
    subgroups: list[SubgroupRow]
    failures: list[Failure]


@dataclass(frozen=True)
class SummaryFacts:
    """The fields of `SummaryRecord` that do not follow from the rows."""

    title: str
    dataset: DataRecord
    labels: dict[str, int]
    folds: list[int] | None = None
    num_folds: int | None = None
    excluded: Sequence[str] = ()
    notes: Sequence[str] = ()


def write_rows(target: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Write metrics.csv, whole or not at all.

    Returns:
        The rows as the file has them, with 9 significant digits.
    """
    with write_atomically(target / METRICS_FILE) as partial:
        rows.to_csv(partial, index=False, float_format=_DIGITS)
        return _read_table(partial, target.name)


def read_rows(folder: Path) -> pd.DataFrame:
    """Rows of a folder's metrics.csv: texts, flags and numbers exactly as written; an empty number is NaN.

    Raises:
        EvaluationError: no such file, or one that is no table of cases.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        raise EvaluationError(
            f"{folder.name} has no {METRICS_FILE}. Expected the folder of an evaluation; make one with `unet-pipeline evaluate BUNDLE`."
        )
    return _read_table(path, folder.name)


def _read_table(path: Path, folder_name: str) -> pd.DataFrame:
    table = pd.DataFrame(list(csv.DictReader(io.StringIO(read_text(path, EvaluationError), newline=""))))
    if missing := {"case", "label", "dice"} - set(table.columns):
        raise EvaluationError(
            f"{METRICS_FILE} in {folder_name} has no column {sorted(missing)[0]!r}; expected a row per case and label. "
            "Evaluate again."
        )
    for name in table.columns:
        if name in _FLAGS:
            table[name] = table[name] == "True"
        elif name not in _TEXT and not str(name).startswith("by_"):
            try:
                table[name] = [float(text) if text else float("nan") for text in table[name]]
            except ValueError as error:
                raise EvaluationError(
                    f"{METRICS_FILE} in {folder_name}, column {name!r}: {error}. Expected numbers. Evaluate again."
                ) from error
    return table


def build_summary(
    rows: pd.DataFrame,
    scored_labels: Sequence[str],
    facts: SummaryFacts,
    cuts: Sequence[Cut] = (),
) -> SummaryRecord:
    """Everything that follows from the rows.

    Args:
        rows: from `write_rows` or `read_rows`.
        scored_labels: labels that the mean is taken over.
        facts: what else is known.
        cuts: columns for the subgroups.
    """
    lines = summarize(rows, scored_labels)
    return SummaryRecord.model_construct(
        title=facts.title,
        dataset=facts.dataset,
        labels=facts.labels,
        scored_labels=list(scored_labels),
        folds=facts.folds,
        num_folds=facts.num_folds,
        excluded=list(facts.excluded),
        notes=[*facts.notes, *note_few_patients(lines)],
        rows=list(lines),
        per_fold=list(summarize_folds(rows, scored_labels)),
        subgroups=[line for cut in cuts for line in summarize_subgroups(rows, scored_labels, cut)],
        failures=list(list_failures(rows, scored_labels)),
    )


def summary_as_data(summary: SummaryRecord) -> dict[str, object]:
    """A summary as plain values for JSON; NaN is null."""
    content: dict[str, object] = {}
    for name in SummaryRecord.model_fields:
        value = getattr(summary, name)
        if isinstance(value, BaseModel):
            value = value.model_dump()
        content[name] = to_records(value) if name in ("rows", "per_fold", "subgroups", "failures") else value
    return content


def write_summary(target: Path, summary: SummaryRecord) -> SummaryRecord:
    """Write summary.json, whole or not at all, and give the summary back."""
    write_json(target / SUMMARY_FILE, summary_as_data(summary))
    return summary


def read_summary(folder: Path) -> SummaryRecord:
    """A folder's summary.json.

    Raises:
        EvaluationError: no such file, or it is damaged.
    """
    path = folder / SUMMARY_FILE
    if not path.is_file():
        raise EvaluationError(
            f"{folder.name} has no {SUMMARY_FILE} beside its {METRICS_FILE}. Make both with `unet-pipeline evaluate`."
        )
    return read_model(path, SummaryRecord, EvaluationError, remedy="Evaluate again.")
