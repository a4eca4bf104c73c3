"""The progress bar: lines for a log, a bar for a terminal."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest

from unet_pipeline import progress
from unet_pipeline.progress import (
    PLAIN_INTERVAL_S,
    TimeLeft,
    format_duration,
    preparing,
    progress_bar,
    show_progress,
)

from .screens import fake_terminal


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
    terminal = fake_terminal(monkeypatch, 100)
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


# on a terminal


def test_time_left_slow_first_case_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    left = TimeLeft(42)
    clock.now_s += 29
    left.advance(1)
    assert left.estimate_s() is None  # it said 19:56
    for _ in range(4):
        clock.now_s += 0.37
        left.advance(1)
    assert left.estimate_s() == pytest.approx(37 * 0.37)
    clock.now_s += 0.2  # goes down between two steps
    assert left.estimate_s() == pytest.approx(37 * 0.37 - 0.2)


def test_time_left_one_slow_case_in_the_middle_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    left = TimeLeft(40)
    for step_s in (2, 2, 2, 600, 2, 2):
        clock.now_s += step_s
        left.advance(1)
    assert left.estimate_s() == pytest.approx(34 * 2)


def test_time_left_only_recent_cases_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    left = TimeLeft(200)
    for step_s in [9] * 60 + [1] * 40:
        clock.now_s += step_s
        left.advance(1)
    assert left.estimate_s() == pytest.approx(100)


def test_time_left_cases_that_end_together_count_as_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    left = TimeLeft(40, num_at_once=4)
    for number in range(1, 17):
        if number % 4 == 1:
            clock.now_s += 10
        left.advance(1)
        if number <= 4:
            assert left.estimate_s() is None
    assert left.estimate_s() == pytest.approx(24 / 4 * 10)


def test_time_left_validations_count_as_often_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    left = TimeLeft(100)
    for number in range(1, 51):
        clock.now_s += 0.1
        left.advance(1)
        if number % 25 == 0:
            clock.now_s += 30
            left.pause(30, (100 - number) // 25)
    assert left.estimate_s() == pytest.approx(50 * 0.1 + 2 * 30)


def test_time_left_at_the_end_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    left = TimeLeft(1)
    left.advance(1)
    assert left.estimate_s() == 0


def test_plain_bar_time_left_is_not_told_before_it_is_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with progress_bar("predict", 42) as bar:
        clock.now_s += 29
        bar.advance(note="case_1")
        bar.advance(0, "validating 1/2")
        clock.now_s += 16
        bar.advance(note="case_2")
    assert capsys.readouterr().err.splitlines() == [
        "predict: 1/42  case_1  0:29 elapsed",
        "predict: 2/42  case_2  0:45 elapsed, 10:40 left",
    ]


NOTE = "epoch 100/250  loss 0.4123  Dice 0.8345  112.3 images/s"
PROFILE = "time: data 3 %, augmentation 21 %, network 70 %, validation 5 %; the network is what takes the time"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_progress_bar_terminal_bar_and_numbers_are_on_two_lines(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = fake_terminal(monkeypatch, width)
    clock = Clock(monkeypatch)
    with progress_bar("compare files", 2500) as bar:
        for _ in range(3):
            clock.now_s += 2
            bar.advance(note=NOTE)
        bar.report(PROFILE)
        bar._bar.refresh()  # type: ignore[attr-defined]
        lines = terminal.lines
    assert all(len(line) <= width for line in lines)
    assert re.fullmatch(r"compare files [━╸╺]{8,} +3/2500 (0:06 elapsed, )?1:23:14 left", lines[0]), lines
    assert ("elapsed" in lines[0]) == (width >= 80)
    assert lines[1] == f"  {NOTE}"
    assert " ".join(line.strip() for line in lines[2:]) == PROFILE


def test_report_of_nothing_removes_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = fake_terminal(monkeypatch, 80)
    with progress_bar("train", 1) as bar:
        bar.report(PROFILE)
        bar.advance(note=NOTE)
        bar.report("")
    assert terminal.lines[1:] == [f"  {NOTE}"]
    monkeypatch.undo()
    with progress_bar("train", 1) as bar:
        bar.report("")
    assert capsys.readouterr().err == ""


def test_progress_bar_terminal_prepares_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = fake_terminal(monkeypatch, 60)
    clock = Clock(monkeypatch)
    with progress_bar("train", 4) as bar:
        clock.now_s += 7
        bar._bar.refresh()  # type: ignore[attr-defined]
        assert re.fullmatch(r"train [━╸╺]+ +0/4 preparing, 0:07 elapsed", terminal.lines[0])
        bar.advance()
        bar._bar.refresh()  # type: ignore[attr-defined]
        assert re.fullmatch(r"train [━╸╺]+ +1/4 0:07 elapsed", terminal.lines[0])
        bar.advance(3)
    assert re.fullmatch(r"train [━╸╺]+ +4/4 0:07 elapsed", terminal.lines[-1])


def test_progress_bar_terminal_long_name_of_a_case_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = fake_terminal(monkeypatch, 60)
    with progress_bar("predict", 3) as bar:
        bar.advance(note="patient_" * 12)
    assert terminal.lines[1].endswith("…")
    assert len(terminal.lines) == 2


def test_preparing_terminal_line_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = fake_terminal(monkeypatch, 60)
    with preparing("train"):
        for _ in range(100):  # another thread draws it
            if terminal.lines:
                break
            time.sleep(0.02)
        assert terminal.lines[0].endswith("train  preparing")
    assert terminal.lines == []


def test_preparing_log_has_no_line_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with preparing("train"):
        pass
    assert capsys.readouterr().err == ""


def test_progress_bar_terminal_lines_for_a_pipe_stay_in_the_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = fake_terminal(monkeypatch, 60)
    with progress_bar("predict", 1) as bar:
        print("a result")
        bar.advance()
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in terminal.getvalue()


def test_show_progress_false_shows_nothing_until_it_is_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(False)
    try:
        with preparing("train"), progress_bar("check", 1) as bar:
            bar.advance()
            bar.report("line")
            bar.pause(1.0, 0)
        assert capsys.readouterr().err == ""
    finally:
        show_progress(True)
    with progress_bar("check", 1) as bar:
        bar.advance()
    assert capsys.readouterr().err.startswith("check: 1/1")
