"""What `compare` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_commands_evaluate import build_evaluation
from unet_pipeline.commands.compare import print_comparison
from unet_pipeline.evaluation.comparison import MeasuredCases, compare_cases


def test_print_comparison_shows_signed_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [
        MeasuredCases(name, result.rows, result.record)
        for name, result in (("old", build_evaluation(tmp_path)), ("new", build_evaluation(tmp_path, shift=0.05)))
    ]
    print_comparison(compare_cases(*sides))
    out = capsys.readouterr().out
    assert "24 cases in both, native grid" in out
    assert f"{0.05 * 23 / 24:+.4f}" in out
    assert "96%" in out, "23 of 24 cases are better"
