"""Lines on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.check import CheckReport, check_dataset
from pipeline.dataset.dataset import Dataset
from pipeline.dataset.layouts import read_dataset
from pipeline.dataset.problems import ERROR, NOTE, Problem
from pipeline.printing import print_report, show_path


def test_show_path_below_the_current_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert show_path(tmp_path / "a" / "b") == "a/b"
    assert show_path(Path("a")) == "a"
    assert show_path(Path("/elsewhere")) == "/elsewhere"


def test_print_report_many_alike_are_counted(nifti_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_dataset(read_dataset(nifti_folders))
    many = [Problem(NOTE, f"{number}.png", "has a palette", "Look.", "label-palette") for number in range(40)]
    one = Problem(ERROR, "x.png", "is constant (0)", "Export it again.", "constant")
    capsys.readouterr()
    print_report(type(report)(report.dataset, (one, *many), report.fingerprint, ()))
    lines = capsys.readouterr().out.splitlines()
    assert lines[4] == "  error: x.png is constant (0). Export it again."
    assert lines[5:10] == [f"  note: {number}.png has a palette. Look." for number in range(5)]
    assert lines[10:] == ["  note: 35 more files with the problem 'label-palette'"]


def test_print_report_unusable_dataset_has_no_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    print_report(CheckReport(Dataset(tmp_path, "plain folders", ()), (), None, ()))
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path.name}: plain folders, 0 cases",
        "  no problem found",
    ]
