"""Decisions about cases: what is left out, what is warned about, and which files are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.dataset.decisions import apply_decisions
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError


def write(root: Path, text: str) -> Path:
    path = root / "decisions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_apply_decisions_leaves_out_and_warns(nifti_folders: Path, tmp_path: Path) -> None:
    table = write(
        tmp_path, 'case,decision,note\r\ncase_02,exclude,"cut off, ""half"""\r\ncase_03,fix,rim\r\ncase_01,accept,\r\n'
    )
    found = apply_decisions(read_dataset(nifti_folders), table)
    assert [case.name for case in found.cases] == ["case_01", "case_03", "case_04"]
    told = {problem.code: problem for problem in found.problems_of_layout}
    assert told["left-out"].cause == 'was left out, as decisions.csv says: cut off, "half"'
    assert told["left-out"].severity == "note"
    assert told["to-be-fixed"].file == "labels/case_03.nii.gz"
    assert told["to-be-fixed"].severity == "warning"


def test_apply_decisions_none_changes_nothing(nifti_folders: Path) -> None:
    dataset = read_dataset(nifti_folders)
    assert apply_decisions(dataset, None) == dataset


def test_apply_decisions_given_folds_lose_the_case_too(nifti_folders: Path, tmp_path: Path) -> None:
    dataset = replace(read_dataset(nifti_folders), folds=((("case_01", "case_02"), ("case_03", "case_04")),))
    found = apply_decisions(dataset, write(tmp_path, "case;decision\ncase_02;exclude\n"))
    assert found.folds == ((("case_01",), ("case_03", "case_04")),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("case,decision\ncase_2,exclude\n", "did you mean 'case_02'"),
        ("case,decision\ncase_02,drop\n", "expected accept, fix or exclude"),
        ("case,decision\ncase_02,fix\ncase_02,exclude\n", "one row per case"),
        ("name,verdict\ncase_02,fix\n", "expected case, decision and note"),
        ("case,decision\n" + "".join(f"case_0{n},exclude\n" for n in range(1, 5)), "excludes all 4 cases"),
    ],
)
def test_apply_decisions_wrong_files_are_refused(nifti_folders: Path, tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        apply_decisions(read_dataset(nifti_folders), write(tmp_path, text))


def test_apply_decisions_missing_file(nifti_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.csv of --decisions does not exist"):
        apply_decisions(read_dataset(nifti_folders), tmp_path / "gone.csv")


def test_check_and_plan_take_decisions(nifti_folders: Path, tmp_path: Path, call_main: Callable[..., Any]) -> None:
    table = write(tmp_path, "case,decision,note\ncase_02,exclude,blurred\n")
    for command in (
        ["check", str(nifti_folders)],
        ["plan", str(nifti_folders), str(tmp_path / "b"), "--no-forecast", "--folds", "2"],
    ):
        status, out, _ = call_main(*command, "--decisions", table)
        assert status == 0
        assert "3 cases" in out
        assert "labels/case_02.nii.gz was left out, as decisions.csv says: blurred" in out
    split = json.loads((tmp_path / "b" / "evidence" / "splits" / "fold_0.json").read_text())
    assert "case_02" not in {entry["case"] for entry in split["training"] + split["validation"]}
