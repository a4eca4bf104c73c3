"""What `evaluate` prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unet_pipeline.commands.evaluate import print_evaluation
from unet_pipeline.evaluation.files import DataRecord, SummaryFacts, build_summary
from unet_pipeline.evaluation.subgroups import Cut, add_columns
from unet_pipeline.verbs.evaluate import Evaluation


def build_evaluation(tmp_path: Path, shift: float = 0.0) -> Evaluation:
    """Two folds of 12 cases; the first case is missed."""
    dice = np.clip(np.random.default_rng(0).uniform(0.6, 0.9, 24) + shift, 0, 1)
    dice[0] = 0.0
    cases = [f"c{number:02d}" for number in range(24)]
    rows = pd.DataFrame({"fold": [0.0] * 12 + [3.0] * 12, "case": cases, "label": "x", "dice": dice})
    rows["missed"], rows["false_alarm"] = dice == 0, False
    rows = add_columns(rows, [Cut("site")], {case: {"site": "b" if case > "c19" else "a"} for case in cases})
    facts = SummaryFacts(
        title="Phantoms, validation, pooled over folds 0, 3 (of 5)",
        dataset=DataRecord(name="Phantoms", manifest_sha256=None),
        labels={"background": 0, "x": 1},
        folds=[0, 3],
        num_folds=5,
        notes=["not trained and not in this result: folds 1, 2, 4 of 5"],
    )
    record = build_summary(rows, ["x"], facts, [Cut("site")])
    return Evaluation(record.title, rows, tuple(record.rows), (), tmp_path, (), record)


def test_print_evaluation_pooled_folds_failures_and_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = build_evaluation(tmp_path)
    print_evaluation(result)
    out = capsys.readouterr().out
    assert "pooled over folds 0, 3 (of 5), native grid" in out
    means = {fold: result.rows["dice"][result.rows["fold"] == fold].mean() for fold in (0, 3)}
    assert f"by fold: fold 0 {means[0]:.4f} (n = 12), fold 3 {means[3]:.4f} (n = 12)" in out
    assert "  c00  x  Dice 0.0000  missed, outlier, among the worst" in out
    assert "folds 1, 2, 4 of 5" in out
    site = [line.split() for line in out.splitlines() if line.strip().startswith(("a ", "b "))]
    assert [line[:2] for line in site] == [["a", "20"], ["b", "4"]]
    assert site[1][-2:] == ["too", "few"]
