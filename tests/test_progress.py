"""The progress bar: lines for a log, a bar for a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from unet_pipeline import progress
from unet_pipeline.progress import PLAIN_INTERVAL_S, format_duration, progress_bar


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now_s))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0:00"),
        (9.4, "0:09"),
        (59.6, "1:00"),
        (125, "2:05"),
        (3599.7, "1:00:00"),
        (3725, "1:02:05"),
        (90000, "25:00:00"),
    ],
)
def test_format_duration_known_seconds_give_known_text(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


def test_progress_bar_fast_work_prints_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with progress_bar("check", 10) as bar:
        for _ in range(10):
            clock.now_s += 0.5
            bar.advance()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "check: 10/10  0:05 elapsed, 0:00 left\n"


def test_progress_bar_slow_work_prints_at_the_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with progress_bar("train", 100) as bar:
        for step in range(1, 61):
            clock.now_s += 1
            bar.advance(note=f"loss {step}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 60 // PLAIN_INTERVAL_S
    assert lines[0] == "train: 15/100  loss 15  0:15 elapsed, 1:25 left"
    assert lines[-1] == "train: 60/100  loss 60  1:00 elapsed, 0:40 left"


def test_progress_bar_several_steps_at_once_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with progress_bar("train", 10) as bar:
        clock.now_s += 20
        bar.advance(2)
    assert capsys.readouterr().err == "train: 2/10  0:20 elapsed, 1:20 left\n"


def test_progress_bar_error_in_the_block_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError), progress_bar("check", 3):
        raise ZeroDivisionError


def test_progress_bar_terminal_draws_count_and_note(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("train", 4) as bar:
        bar.advance(3, "loss 0.5")
        bar.advance(1, "loss 0.4")
    drawn = terminal.getvalue()
    assert "train" in drawn
    assert "4/4" in drawn
    assert "loss 0.4" in drawn


def test_report_plain_lines_come_at_the_interval_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with progress_bar("train", 10) as bar:
        for step in range(1, 11):
            clock.now_s += 2
            bar.advance()
            bar.report(f"time {step}")
    lines = [line for line in capsys.readouterr().err.splitlines() if "time " in line]
    assert lines == ["train: time 1", "train: time 9", "train: time 10"]
