"""Tables of results: as wide as they are, and on a narrow terminal in a narrow form instead of wrapped cells."""

from __future__ import annotations

import pytest

from unet_pipeline.commands.tables import print_table

from .screens import FakeTerminal, fake_terminal

HEADINGS = ("label", "metric", "n", "a", "b", "b - a", "95 % interval", "effect", "b better", "p")
ROWS = [
    (label, metric, "42", "0.8852", "0.8900", "+0.0041", "+0.0010 to +0.0080", "+0.41", "63%", "0.0021")
    for label in ("Anterior", "Posterior")
    for metric in ("Dice", "HD95, mm")
]


def show(monkeypatch: pytest.MonkeyPatch, width: int, rows: list[tuple[str, ...]] = ROWS) -> FakeTerminal:
    terminal = fake_terminal(monkeypatch, width, "stdout")
    print_table("42 cases in both", HEADINGS, rows, num_texts=2)
    return terminal


def test_print_table_wide_terminal_has_a_line_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = show(monkeypatch, 120).lines
    assert lines[0] == "42 cases in both"
    assert [line.split()[:2] for line in lines if "0.8852" in line] == [
        ["Anterior", "Dice"],
        ["Anterior", "HD95,"],
        ["Posterior", "Dice"],
        ["Posterior", "HD95,"],
    ]


def test_print_table_80_columns_has_the_labels_between_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.strip() for line in show(monkeypatch, 80).lines]
    assert lines[lines.index("Anterior") + 1].split() == ["Dice", *" ".join(ROWS[0][2:]).split()]
    assert lines.index("Posterior") == lines.index("Anterior") + 3


def test_print_table_60_columns_has_a_paragraph_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(monkeypatch, 60, ROWS[:1]).lines == [
        "42 cases in both",
        "",
        "Anterior, Dice",
        "  n 42  a 0.8852  b 0.8900  b - a +0.0041",
        "  95 % interval +0.0010 to +0.0080  effect +0.41",
        "  b better 63%  p 0.0021",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("label", ["head", "left_ventricle_of_the_heart (not in the mean)"])
def test_print_table_any_width_cuts_and_wraps_no_cell(monkeypatch: pytest.MonkeyPatch, width: int, label: str) -> None:
    terminal = show(monkeypatch, width, [(label, *row[1:]) for row in ROWS])
    written = terminal.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in terminal.lines)
    assert len(terminal.lines) <= len(written)  # the terminal itself had to break none
    text = " ".join(" ".join(terminal.lines).split())
    assert "…" not in text
    for cell in (label, *ROWS[0][1:], *ROWS[1][1:]):
        assert cell in text


def test_print_table_not_a_terminal_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("many", HEADINGS, [("a_label_" * 20, *ROWS[0][1:])], num_texts=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) == 4  # title, headings, rule, row
    assert lines[-1].split()[0] == "a_label_" * 20


def test_print_table_no_rows_has_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("none", HEADINGS, [], num_texts=2)
    assert "95 % interval" in capsys.readouterr().out
