"""Paired comparison: known differences, symmetry, undefined sides, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.case_values import ALL_LABELS
from unet_pipeline.evaluation.comparison import (
    ComparisonRow,
    MeasuredCases,
    compare_cases,
    read_measured_cases,
    write_comparison,
)
from unet_pipeline.evaluation.files import SummaryRecord

SCHEMA = Path(__file__).parents[1] / "docs" / "comparison.schema.json"
FACTS: dict[str, Any] = {
    "title": "Phantoms, validation of fold 0 of 5",
    "dataset": {"name": "Phantoms", "manifest_sha256": "a" * 64},
    "grid": "native",
    "labels": {"background": 0, "x": 1},
    "scored_labels": ["x"],
    "folds": [0],
    "num_folds": 5,
    **dict.fromkeys(("excluded", "notes", "rows", "per_fold", "subgroups", "failures"), ()),
}
SUMMARY = SummaryRecord(**FACTS)


def measured(name: str, dice: dict[str, float], **columns: Any) -> MeasuredCases:
    rows = {
        "fold": 0.0,
        "case": list(dice),
        "patient": list(dice),
        "label": "x",
        "dice": list(dice.values()),
        "num_voxels_reference": 50.0,
        "num_voxels_prediction": 50.0,
        "voxel_volume": 2.0,
        **columns,
    }
    return MeasuredCases(name, pd.DataFrame(rows), SUMMARY)


def compare(a: MeasuredCases, b: MeasuredCases, label: str = "x") -> ComparisonRow:
    return next(row for row in compare_cases(a, b).rows if (row.label, row.metric) == (label, "dice"))


def names(count: int) -> list[str]:
    return [f"c{number:02d}" for number in range(count)]


@pytest.fixture
def pair() -> tuple[MeasuredCases, MeasuredCases]:
    generator = np.random.default_rng(0)
    first = generator.uniform(0.5, 0.9, 20)
    gain = generator.normal(0.03, 0.02, 20)
    second = dict(zip(names(20), first + gain, strict=True))
    return measured("old", dict(zip(names(20), first, strict=True))), measured("new", second)


def test_compare_cases_known_difference(pair: tuple[MeasuredCases, MeasuredCases]) -> None:
    row = compare(*pair)
    gain = pair[1].rows["dice"].to_numpy() - pair[0].rows["dice"].to_numpy()
    assert (row.n, row.num_patients, row.num_undefined) == (20, 20, 0)
    assert row.difference == pytest.approx(gain.mean())
    assert row.mean_b - row.mean_a == pytest.approx(row.difference)
    assert row.effect_size == pytest.approx(gain.mean() / gain.std(ddof=1))
    assert row.share_better == pytest.approx((gain > 0).mean())
    assert row.share_worse == pytest.approx((gain < 0).mean())
    assert row.p_value == pytest.approx(stats.wilcoxon(gain).pvalue)
    assert 0 < row.low < row.difference < row.high
    assert row.better == "b"


def test_compare_cases_the_other_way_round_changes_the_sign(pair: tuple[MeasuredCases, MeasuredCases]) -> None:
    forth, back = compare(*pair), compare(pair[1], pair[0])
    assert back.difference == pytest.approx(-forth.difference)
    assert (back.low, back.high) == (pytest.approx(-forth.high, abs=1e-3), pytest.approx(-forth.low, abs=1e-3))
    assert (back.share_better, back.better) == (forth.share_worse, "a")


def test_compare_cases_paired_interval_is_narrower_than_the_spread_of_cases(
    pair: tuple[MeasuredCases, MeasuredCases],
) -> None:
    row = compare(*pair)
    spread = pair[0].rows["dice"].std() / math.sqrt(20)
    assert row.high - row.low < spread


def test_compare_cases_with_itself_has_no_difference(pair: tuple[MeasuredCases, MeasuredCases]) -> None:
    row = compare(pair[0], pair[0])
    assert (row.difference, row.low, row.high, row.p_value, row.better) == (0.0, 0.0, 0.0, 1.0, "")
    assert math.isnan(row.effect_size)


def test_compare_cases_only_shared_cases_count() -> None:
    a, b = measured("a", {"one": 0.5, "two": 0.6, "mine": 0.0}), measured("b", {"yours": 1.0, "two": 0.7, "one": 0.7})
    record = compare_cases(a, b)
    assert (record.num_cases, record.only_a, record.only_b) == (2, ["mine"], ["yours"])
    assert record.rows[0].difference == pytest.approx(0.15)


def test_compare_cases_false_alarm_on_one_side_is_not_dropped() -> None:
    """a is silent where nothing is; b sees a structure there."""
    silent = measured("a", {"empty": math.nan, "full": 0.8})
    silent.rows.loc[0, ["num_voxels_reference", "num_voxels_prediction"]] = 0.0
    alarmed = measured("b", {"empty": 0.0, "full": 0.8})
    alarmed.rows.loc[0, "num_voxels_reference"] = 0.0
    row = compare(silent, alarmed)
    assert (row.n, row.num_undefined, row.difference) == (2, 0, pytest.approx(-0.5))
    assert compare(silent, alarmed, ALL_LABELS).difference == pytest.approx(-0.5)


def test_compare_cases_undefined_on_both_sides_is_left_out() -> None:
    sides = [measured(name, {"empty": math.nan, "full": 0.8}) for name in "ab"]
    assert (compare(*sides).n, compare(*sides).num_undefined) == (1, 1)


def test_compare_cases_of_one_patient_are_one_piece_of_evidence(pair: tuple[MeasuredCases, MeasuredCases]) -> None:
    grouped = [
        MeasuredCases(one.name, one.rows.assign(patient=lambda rows: rows["case"].str[:2]), SUMMARY) for one in pair
    ]
    row = compare(*grouped)
    assert (row.n, row.num_patients, row.p_value) == (20, 2, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": {"name": "Others", "manifest_sha256": "b" * 64}}, "was measured on Phantoms, b on Others"),
        ({"grid": "resampled"}, "on the grid 'native', b on 'resampled'"),
        ({"labels": {"background": 0, "x": 2}}, "expected the same names and values"),
    ],
)
def test_compare_cases_other_setting_is_refused(change: dict[str, Any], message: str) -> None:
    a, b = measured("a", {"one": 0.5}), measured("b", {"one": 0.5})
    with pytest.raises(EvaluationError, match=message):
        compare_cases(a, MeasuredCases("b", b.rows, SummaryRecord(**FACTS | change)))


def test_compare_cases_same_manifest_under_another_name_is_accepted() -> None:
    a, b = measured("a", {"one": 0.5}), measured("b", {"one": 0.6})
    moved = SummaryRecord(**FACTS | {"dataset": {"name": "Moved", "manifest_sha256": "a" * 64}})
    assert compare_cases(a, MeasuredCases("b", b.rows, moved)).num_cases == 1


@pytest.mark.parametrize(
    ("column", "message"), [("voxel_volume", "another grid"), ("num_voxels_reference", "another reference")]
)
def test_compare_cases_other_reference_is_refused(column: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=f"Case one has {message}"):
        compare_cases(measured("a", {"one": 0.5}), measured("b", {"one": 0.5}, **{column: 51.0}))


def test_compare_cases_no_common_case_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no case in common"):
        compare_cases(measured("a", {"one": 0.5}), measured("b", {"two": 0.5}))


def test_compare_cases_unknown_metric_is_refused() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'dice'"):
        compare_cases(measured("a", {"one": 0.5}), measured("b", {"one": 0.5}), ["dise"])


def test_write_comparison_is_valid_by_the_schema(tmp_path: Path, pair: tuple[MeasuredCases, MeasuredCases]) -> None:
    record = compare_cases(*pair)
    write_comparison(tmp_path, record)
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, json.loads(SCHEMA.read_text(encoding="utf-8")))
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert list(table["label"]) == [row["label"] for row in content["rows"]]
    assert table["difference"][0] == content["rows"][0]["difference"]


def test_read_measured_cases_without_summary_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("case,label,dice\na,x,0.5\n")
    with pytest.raises(EvaluationError, match=r"has no summary\.json beside its metrics\.csv"):
        read_measured_cases(tmp_path, "a")
