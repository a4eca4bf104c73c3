"""Problems on a terminal: by kind, wrapped at words, in colour where it is wanted; no class name of an error."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unet_pipeline.commands.problem_lines import (
    count_severities,
    format_error,
    format_line,
    has_colours,
    say_wrapped,
)
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, WARNING, Problem, list_problems

LINE = "  error: labels/a_name_that_is_long.png has no value other than 0. Make sure that nothing is to be seen."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def build(severity: str, code: str, number: int, remedy: str = "Look.") -> Problem:
    return Problem(severity, f"{number}.png", "is odd", remedy, code)


def test_list_problems_one_is_a_sentence_and_several_of_a_kind_have_a_heading() -> None:
    problems = [build(ERROR, "x", 0), build(NOTE, "z", 1), build(NOTE, "y", 2), build(NOTE, "z", 3)]
    assert list(list_problems(problems)) == [
        "error: 0.png is odd. Look.",
        "note: 2 files with the problem 'z'. Look.",
        "  1.png is odd",
        "  3.png is odd",
        "note: 2.png is odd. Look.",
    ]


def test_list_problems_remedies_that_differ_stand_with_each() -> None:
    lines = list(list_problems([build(ERROR, "x", 0, "Add a."), build(ERROR, "x", 1, "Add b.")]))
    assert lines == ["error: 2 files with the problem 'x'.", "  0.png is odd. Add a.", "  1.png is odd. Add b."]


def test_list_problems_many_are_counted() -> None:
    lines = list(list_problems([build(NOTE, "x", number) for number in range(40)]))
    assert len(lines) == 7
    assert lines[-1] == "  and 35 more"
    assert list(list_problems([build(NOTE, "x", number) for number in range(4)], most=3))[-1] == "  and 1 more"


def test_count_severities_in_singular_and_plural() -> None:
    assert (
        count_severities([build(ERROR, "x", 0), build(WARNING, "x", 0), build(WARNING, "x", 1)])
        == "1 error, 2 warnings"
    )


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 200])
def test_format_line_wraps_at_words_and_loses_none(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    lines = format_line(LINE, Terminal()).splitlines()
    assert " ".join(lines).split() == LINE.split()
    longest_word = max(map(len, LINE.split()))
    assert all(len(line) <= max(width, 20, longest_word + 4) for line in lines)
    assert f"{lines[0]} ".startswith("  error: ")
    assert all(line.startswith("    ") for line in lines[1:])


def test_format_line_of_a_pipe_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # a shell may export it
    assert format_line(LINE, io.StringIO()) == LINE


@pytest.mark.parametrize(
    ("stream", "variables", "expected"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"TERM": ""}, False),
    ],
)
def test_has_colours_only_where_a_terminal_has_them_and_the_user_wants_them(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, variables: dict[str, str], expected: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    assert has_colours(stream) is expected
    assert format_line(LINE, stream).startswith("\x1b[1;31m  error:\x1b[0m " if expected else "  error: ")


def test_format_error_has_no_class_name() -> None:
    assert format_error(DatasetError("a.png is odd.\n  error: b")) == "Error: a.png is odd.\n  error: b"


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_check_on_a_terminal_of_60_columns(png_folders: Path, no_color: str) -> None:
    (png_folders / "labels" / "case_01.png").unlink()
    (png_folders / "labels" / "case_02.png").write_bytes(b"no picture")
    first, second = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    subprocess.run(["stty", "cols", "60"], stdin=second, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "unet_pipeline", "check", png_folders.name],
        cwd=png_folders.parent,
        env={**variables, "TERM": "xterm", "NO_COLOR": no_color},
        stdin=second,
        stdout=second,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(second)
    out = os.read(first, 100_000).decode()
    plain = re.sub(r"\x1b\[[\d;]*m", "", out).splitlines()
    assert done.returncode == 1
    assert ("\x1b[1;31m  error:" in out) is (no_color == "")
    assert max(map(len, plain)) <= 60
    assert "DatasetError" not in out + done.stderr
    assert "\nError: 2 error(s)" in f"\n{done.stderr}"


def test_check_labels_without_names_get_a_command_that_works(
    png_folders: Path, call_main: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    status, out, _ = call_main("check", png_folders, "--out", tmp_path / "a report")
    assert status == 0
    (line,) = [line for line in out.splitlines() if "without a name" in line]
    command = line.partition("name them with: ")[2]
    assert (
        command
        == f"unet-pipeline check {png_folders} --out '{tmp_path / 'a report'}' --label background=0 --label NAME=255"
    )
    named = ["--label", "background=0", "--label", "cell=255"]
    status, out, _ = call_main("check", png_folders, *named)
    assert (status, "without a name" in out) == (0, False)
    assert "cell=255" in out


def test_check_value_that_the_table_lacks_is_named_beside_the_others(
    png_folders: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, _ = call_main("check", png_folders, "--label", "nothing here=0", "--label", "cell=7")
    assert status == 1
    command = out.splitlines()[-1].partition("name them with: ")[2]
    assert command == f"unet-pipeline check {png_folders} --label 'nothing here=0' --label cell=7 --label NAME=255"


def test_say_wrapped_counts_no_colours_as_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that fills the terminal once its colours are left out is not wrapped a second time."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "60"}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    say_wrapped("error: " + "word " * 40)
    lines = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()
    assert lines[0] == "error:" + " word" * 10
    assert all(line.startswith("  word") and len(line) > 50 for line in lines[1:-1])
