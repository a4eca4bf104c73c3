"""predictions.csv: columns by name, a row per label map."""

from __future__ import annotations

import csv
from pathlib import Path

from unet_pipeline.bundle.run_record import LabelMapEntry
from unet_pipeline.quality.predictions_table import count_verdicts, list_contract_rows, write_predictions_table


def build_entry(name: str, contract: dict[str, object] | None) -> LabelMapEntry:
    return LabelMapEntry(
        files_sha256={},
        label_map=name,
        label_map_sha256="",
        weights_sha256=[],
        configs_sha256={},
        options={},
        contract=contract,
    )


def test_rows_join_by_case_and_lacking_cells_are_empty(tmp_path: Path) -> None:
    judged = {
        "verdict": "outside",
        "property": "spacing",
        "value": "2",
        "seen": "1 to 1",
        "ratio": 3.5,
        "compared": "image",
    }
    entries = {"a": build_entry("a.png", judged), "b": build_entry("b.png", None), "c": {"of": "another version"}}
    rows = list_contract_rows(entries)
    path = write_predictions_table(tmp_path, rows, {"b": {"expected_dice": 0.9}})
    with path.open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["case"] for row in read] == ["a", "b"]
    assert (read[0]["contract"], read[0]["contract_ratio"], read[0]["expected_dice"]) == ("outside", "3.5", "")
    assert (read[1]["contract"], read[1]["contract_value"], read[1]["expected_dice"]) == ("not compared", "", "0.9")
    assert list(count_verdicts(rows.values()).items()) == [("outside", 1), ("not compared", 1)]
    assert count_verdicts(read) == count_verdicts(rows.values())
