"""What `check --fix` prints: changes by kind with their files, and what is left with its remedy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.dataset.fix import FixedDataset
from pipeline.dataset.fix_record import KINDS, Change, FixRecord, Remaining
from pipeline.printing_fix import print_fixes


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
