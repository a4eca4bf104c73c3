"""Writes the schemas of `RECORDS` into docs/ from the code: `.venv/bin/python docs/build_schemas.py`.

A test compares the files with what is made here.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from unet_pipeline.evaluation.comparison import ComparisonRecord
from unet_pipeline.evaluation.files import SummaryRecord
from unet_pipeline.quality.claim import ClaimRecord
from unet_pipeline.quality.contract import ContractRecord
from unet_pipeline.quality.expected_dice import ExpectedDiceRecord
from unet_pipeline.studies.external_validation import ValidationResult
from unet_pipeline.studies.learning_curve import LearningCurve
from unet_pipeline.studies.look_log import Look
from unet_pipeline.studies.protocol import ValidationProtocol
from unet_pipeline.studies.sample_size import SampleSize

RECORDS: dict[str, type] = {
    "summary.schema.json": SummaryRecord,
    "comparison.schema.json": ComparisonRecord,
    "contract.schema.json": ContractRecord,
    "expected_dice.schema.json": ExpectedDiceRecord,
    "quality.schema.json": ClaimRecord,
    "protocol.schema.json": ValidationProtocol,
    "look.schema.json": Look,
    "sample_size.schema.json": SampleSize,
    "validation.schema.json": ValidationResult,
    "learning_curve.schema.json": LearningCurve,
}


def build_schema_text(name: str) -> str:
    """Contents of one schema file."""
    return json.dumps(TypeAdapter(RECORDS[name]).json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    for file in RECORDS:
        Path(__file__).with_name(file).write_text(build_schema_text(file), encoding="utf-8")
