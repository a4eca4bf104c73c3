"""Lines on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.commands.output import say, show_path, tell_next

from .screens import fake_terminal


def test_show_path_below_the_current_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert show_path(tmp_path / "a" / "b") == "a/b"
    assert show_path(Path("a")) == "a"
    assert show_path(Path("/elsewhere")) == "/elsewhere"


def test_say_terminal_wraps_at_words_below_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = fake_terminal(monkeypatch, 60, "stdout")
    say("  time      about 3 hours for one fold on this machine (60,000 steps of 180 ms on cpu)")
    say("the interval is from 2 patients only: such intervals cover the true mean in 87 to 91 %")
    assert terminal.lines == [
        "  time      about 3 hours for one fold on this machine",
        "            (60,000 steps of 180 ms on cpu)",
        "the interval is from 2 patients only: such intervals cover",
        "the true mean in 87 to 91 %",
    ]


def test_say_terminal_leaves_a_command_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = fake_terminal(monkeypatch, 60, "stdout")
    monkeypatch.setattr("sys.argv", ["unet-pipeline"])
    tell_next("evaluate", "a_bundle_" * 10)
    say("The same:\n  cd bundle && python -m monai.bundle run --config_file configs/train.json --fold 0")
    assert [line for line in terminal.getvalue().splitlines() if line] == [
        f"Next: unet-pipeline evaluate {'a_bundle_' * 10}",
        "The same:",
        "  cd bundle && python -m monai.bundle run --config_file configs/train.json --fold 0",
    ]


def test_say_not_a_terminal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 60)
    assert capsys.readouterr().out == "word " * 60 + "\n"
