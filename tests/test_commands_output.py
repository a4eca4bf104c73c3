"""Lines on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.commands.output import show_path


def test_show_path_below_the_current_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert show_path(tmp_path / "a" / "b") == "a/b"
    assert show_path(Path("a")) == "a"
    assert show_path(Path("/elsewhere")) == "/elsewhere"
