"""What `check` prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unet_pipeline.commands.check import print_fixes, print_report
from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.fix import FixedDataset
from unet_pipeline.dataset.fix_record import KINDS, Change, FixRecord, Remaining
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.messages import ERROR, NOTE, Problem


def print_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **fields: Any
) -> str:
    monkeypatch.chdir(tmp_path)
    record = FixRecord(**{"source": "s", "options": {}, "changes": [], "not_fixed": [], "left_out": [], **fields})
    print_fixes(cast(FixedDataset, SimpleNamespace(out=tmp_path / "copy", record=record)))
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_print_fixes_names_every_kind_with_its_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    changes = [Change(file=f"file_{n}", kind=kind, wrong="w", done="d", after={"a": 1}) for n in range(7)]
    out = print_record(capsys, monkeypatch, tmp_path, changes=changes)
    assert f"  {KINDS[kind]}: " in out
    if kind not in ("labels-named", "patients-named", "channels-named"):
        assert "file_0, file_1, file_2, file_3, file_4 and 2 more" in out


def test_print_fixes_nothing_changed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = print_record(capsys, monkeypatch, tmp_path, left_out=["loop"])
    assert "nothing had to be changed" in out
    assert "not copied (links that lead elsewhere, or no readable files): loop" in out
    assert "not corrected" not in out


def test_print_fixes_what_is_left_has_reason_and_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = Remaining(severity="error", code="x", file="a.png", cause="is odd", remedy="Mend it.", reason="too odd")
    out = print_record(capsys, monkeypatch, tmp_path, not_fixed=[left])
    assert "not corrected\n  error: a.png is odd (too odd). Mend it.\n" in out


def test_print_fixes_taken_headers_ask_for_a_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change = Change(file="a", kind="header-copied", wrong="w", done="d")
    out = print_record(capsys, monkeypatch, tmp_path, changes=[change])
    assert "unet-pipeline check copy --out copy_report" in out


def test_print_report_many_alike_are_counted(nifti_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_dataset(read_dataset(nifti_folders))
    many = [Problem(NOTE, f"{number}.png", "has a palette", "Look.", "label-palette") for number in range(40)]
    one = Problem(ERROR, "x.png", "is constant (0)", "Export it again.", "constant")
    capsys.readouterr()
    print_report(type(report)(report.dataset, (one, *many), report.fingerprint, ()))
    lines = capsys.readouterr().out.splitlines()
    assert lines[4:6] == ["  1 error, 40 notes", "  error: x.png is constant (0). Export it again."]
    assert lines[6] == "  note: 40 files with the problem 'label-palette'. Look."
    assert lines[7:12] == [f"    {number}.png has a palette" for number in range(5)]
    assert lines[12:] == ["    and 35 more"]


def test_print_report_unusable_dataset_has_no_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    print_report(CheckReport(Dataset(tmp_path, "plain folders", ()), (), None, ()))
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path.name}: plain folders, 0 cases",
        "  no problem found",
    ]
