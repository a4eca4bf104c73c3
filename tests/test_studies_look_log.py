"""The log of looks: chained lines, and every change of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.studies.look_log import OPENED, PLANNED, RESULT, LookLog, hash_content, read_log

HASH = "a" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "study.log.jsonl"
    LookLog(path, ()).add(PLANNED, HASH).add(OPENED, HASH, data_sha256="b" * 64).add(RESULT, HASH, verdict="shown")
    return path


def test_lines_are_read_as_they_were_added(path: Path) -> None:
    log = read_log(path)
    assert (log.fault, [look.event for look in log.looks]) == ("", ["planned", "opened", "result"])
    assert [look.previous for look in log.looks[1:]] == [look.sha256 for look in log.looks[:-1]]
    assert log.add(OPENED, HASH).looks[-1].number == 3


def test_every_change_of_a_line_that_is_not_the_last_is_noticed(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = {
        "changed, removed or moved": [
            [lines[0].replace(HASH, "c" * 64), *lines[1:]],
            [lines[0], lines[2]],
            [lines[1], lines[0], lines[2]],
            [lines[0], lines[1].replace("b" * 64, "d" * 64), lines[2]],
            [*lines[:2], lines[2].replace("shown", "not shown")],
        ],
        "damaged": [[*lines[:2], lines[2][:-5]], ["", *lines]],
    }
    for words, texts in changed.items():
        for text in texts:
            path.write_text("\n".join(text) + "\n", encoding="utf-8")
            assert words in read_log(path).fault


def test_a_missing_or_empty_log_is_a_fault(tmp_path: Path) -> None:
    assert "earlier looks cannot be excluded" in read_log(tmp_path / "none.jsonl").fault
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    assert "does not begin with the planning" in read_log(tmp_path / "empty.jsonl").fault


def test_the_hash_is_that_of_canonical_json() -> None:
    assert hash_content({"b": 1, "a": [1, 2]}) == hash_content({"a": [1, 2], "b": 1})
    assert hash_content({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # sha256 of {}
