"""predictions.csv: one row for each label map of a folder, with what is known of it without a reference.

Whoever knows more adds columns by name; the rows are those of the record of predictions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from unet_pipeline.bundle.run_record import ContractVerdict, LabelMapEntry
from unet_pipeline.dataset.missing_channels import COLUMN as MISSING_COLUMN
from unet_pipeline.dataset.missing_channels import name_pattern
from unet_pipeline.files import write_text
from unet_pipeline.quality.contract import VERDICTS

PREDICTIONS_TABLE = "predictions.csv"
CONTRACT_COLUMNS = {
    "contract": "verdict",
    "contract_property": "property",
    "contract_value": "value",
    "contract_seen": "seen",
    "contract_ratio": "ratio",
    "contract_compared": "compared",
}
NOT_COMPARED = "not compared"

Row = Mapping[str, object]


def list_contract_rows(entries: Mapping[str, object]) -> dict[str, Row]:
    """The verdict about every image, by case.

    Args:
        entries: of the record of predictions; what another version wrote has no row.
    """
    rows: dict[str, Row] = {}
    for case, entry in entries.items():
        if isinstance(entry, LabelMapEntry):
            judgement = (entry.contract or ContractVerdict(verdict=NOT_COMPARED)).model_dump(exclude_unset=True)
            verdict = {column: judgement.get(key) for column, key in CONTRACT_COLUMNS.items()}
            missing = entry.missing_channels
            lacking = {} if missing is None else {MISSING_COLUMN: name_pattern(missing)}
            rows[case] = {"label_map": entry.label_map, **verdict, **lacking}
    return rows


def write_predictions_table(out: Path, *tables: Mapping[str, Row]) -> Path:
    """Write predictions.csv, whole or not at all; its columns are those of the tables, in their order.

    Args:
        out: folder of the label maps.
        tables: rows by case; a case that a table lacks has empty cells there.
    """
    cases = list(dict.fromkeys(case for table in tables for case in table))
    columns = list(dict.fromkeys(column for table in tables for row in table.values() for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", *columns], restval="", lineterminator="\n")
    writer.writeheader()
    for case in cases:
        cells = {column: value for table in tables for column, value in table.get(case, {}).items()}
        writer.writerow({"case": case, **{column: "" if value is None else value for column, value in cells.items()}})
    path = out / PREDICTIONS_TABLE
    write_text(path, text.getvalue())
    return path


def read_predictions_table(out: Path) -> list[dict[str, str]]:
    """Rows of predictions.csv in a folder; none where there is no such file."""
    path = out / PREDICTIONS_TABLE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def count_verdicts(rows: Iterable[Row]) -> dict[str, int]:
    """How many cases have each verdict, what is most like the training first."""
    counts = dict.fromkeys((*VERDICTS, NOT_COMPARED), 0)
    for row in rows:
        counts[str(row["contract"])] += 1
    return {verdict: count for verdict, count in counts.items() if count}
