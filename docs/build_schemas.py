"""Writes docs/summary.schema.json, comparison.schema.json and contract.schema.json from the code: `.venv/bin/python docs/build_schemas.py`.

A test compares the files with what is made here.
"""

from __future__ import annotations

import json
from pathlib import Path

from unet_pipeline.evaluation.comparison import ComparisonRecord
from unet_pipeline.evaluation.files import SummaryRecord
from unet_pipeline.quality.contract import ContractRecord
from unet_pipeline.quality.expected_dice import ExpectedDiceRecord

RECORDS = {
    "summary.schema.json": SummaryRecord,
    "comparison.schema.json": ComparisonRecord,
    "contract.schema.json": ContractRecord,
    "expected_dice.schema.json": ExpectedDiceRecord,
}


def build_schema_text(name: str) -> str:
    """Contents of one schema file."""
    return json.dumps(RECORDS[name].model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    for file in RECORDS:
        Path(__file__).with_name(file).write_text(build_schema_text(file), encoding="utf-8")
