"""metrics.csv and summary.json: read back exactly, computed again to the last digit, valid by the schema."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.files import (
    DataRecord,
    SummaryFacts,
    SummaryRecord,
    build_summary,
    read_rows,
    read_summary,
    summary_as_data,
    write_rows,
    write_summary,
)
from unet_pipeline.evaluation.subgroups import Cut

DOCS = Path(__file__).parents[1] / "docs"
FACTS = SummaryFacts(
    title="Phantoms, validation of fold 0 of 5",
    dataset=DataRecord(name="Phantoms", manifest_sha256="0" * 64),
    labels={"background": 0, "x": 1},
    folds=[0],
    num_folds=5,
    notes=["not trained"],
)


def build_rows(num_cases: int = 12) -> pd.DataFrame:
    generator = np.random.default_rng(3)
    frame = {
        "fold": 0,
        "case": [f"{number:03d}" for number in range(num_cases)],
        "patient": [f"{number // 2}" for number in range(num_cases)],
        "label": "x",
        "dice": [math.nan, 0.0, *generator.beta(8, 1.5, num_cases - 2)],
        "missed": [False, True, *[False] * (num_cases - 2)],
        "false_alarm": False,
        "voxel_volume": 0.0069135804,
        "by_site": ["", *"NA" * (num_cases // 2)][:num_cases],
    }
    return pd.DataFrame(frame)


def build(rows: pd.DataFrame) -> SummaryRecord:
    return build_summary(rows, ["x"], FACTS, [Cut("site")])


def test_write_rows_are_read_back_as_returned(tmp_path: Path) -> None:
    rows = build_rows()
    rows.loc[2, "case"] = "NA"  # a name, not a missing value
    written = write_rows(tmp_path, rows)
    pd.testing.assert_frame_equal(written, read_rows(tmp_path))
    assert list(written["case"]) == list(rows["case"])
    assert list(written["missed"]) == list(rows["missed"])
    np.testing.assert_allclose(written["dice"], rows["dice"], rtol=1e-8)
    assert written["voxel_volume"][0] == pytest.approx(0.0069135804, rel=1e-9)


def test_summary_is_computed_again_from_the_csv_to_the_last_digit(tmp_path: Path) -> None:
    write_summary(tmp_path, build(write_rows(tmp_path, build_rows())))
    again = json.loads(json.dumps(summary_as_data(build(read_rows(tmp_path)))))
    assert again == json.loads((tmp_path / "summary.json").read_text())
    assert again == json.loads(json.dumps(summary_as_data(read_summary(tmp_path))))


def test_summary_json_is_valid_and_has_no_nan(tmp_path: Path) -> None:
    write_summary(tmp_path, build(write_rows(tmp_path, build_rows())))
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    content = json.loads(text)
    jsonschema.validate(content, json.loads((DOCS / "summary.schema.json").read_text(encoding="utf-8")))
    assert content["failures"][0] == {
        "case": "001",
        "fold": 0,
        "label": "x",
        "kinds": ["missed", "outlier", "among the worst"],
        "values": {"dice": 0.0},
    }
    assert [line["group"] for line in content["subgroups"] if line["label"] == "x"] == ["A", "N", "not given"]


def test_read_rows_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"has no metrics\.csv"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("case,label\na,x\n", "no column 'dice'"), ("case,label,dice\na,x,high\n", "column 'dice'")],
)
def test_read_rows_other_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_rows(tmp_path)
