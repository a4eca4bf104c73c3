"""What a task does with its items and its part file; no Slurm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unet_pipeline.cohort.items import Attempt, Outcome, Share, State, Work
from unet_pipeline.cohort.parts import append_outcome, read_outcomes
from unet_pipeline.cohort.slurm_array import Array, deal
from unet_pipeline.cohort.slurm_task import (
    CANNOT_BEGIN,
    MAX_BEGINNINGS,
    Task,
    begin,
    find_part_file,
    format_attempt,
    read_work,
    run_task,
)

from .slurm_work import build_items, build_work, count_attempts


def deal_one(tmp_path: Path, work: Work, count: int, **fates: str) -> tuple[Array, list[Attempt]]:
    attempts = [Attempt(item) for item in build_items(count, **fates)]
    return deal(tmp_path / "slurm", map(format_attempt, attempts), 1, work, Share(2, "cpu")), attempts


def list_states(array: Array) -> list[tuple[str, State]]:
    return [(one.attempt.item.name, one.state) for one in read_outcomes(find_part_file(array.folder, 0))]


def test_run_task_marks_each_item_before_its_outcome(tmp_path: Path) -> None:
    array, attempts = deal_one(tmp_path, build_work(tmp_path / "work"), 2, item_1="bad")
    run_task(array.folder, 0)
    assert list_states(array) == [
        ("item_0", State.LOST),
        ("item_0", State.FINISHED),
        ("item_1", State.LOST),
        ("item_1", State.BAD_INPUT),
    ]
    assert [one.attempt for one in read_outcomes(find_part_file(array.folder, 0))][::2] == attempts


def test_run_task_once_more_does_nothing(tmp_path: Path) -> None:
    array, _ = deal_one(tmp_path, build_work(tmp_path / "work"), 3)
    run_task(array.folder, 0)
    run_task(array.folder, 0)
    assert count_attempts(tmp_path / "work") == {"item_0": 1, "item_1": 1, "item_2": 1}


def test_run_task_after_half_a_line_does_what_is_left(tmp_path: Path) -> None:
    array, attempts = deal_one(tmp_path, build_work(tmp_path / "work"), 3)
    part = find_part_file(array.folder, 0)
    append_outcome(part, begin(attempts[0]))
    append_outcome(part, Outcome(attempts[0], State.FINISHED))
    append_outcome(part, begin(attempts[1]))
    with part.open("a") as stream:
        stream.write('{"attempt": {"item": {"name": "item_1"')
    run_task(array.folder, 0)
    assert count_attempts(tmp_path / "work") == {"item_1": 1, "item_2": 1}
    outcomes = [outcome for outcome in array.read() if outcome.state == State.FINISHED]
    assert [outcome.attempt.item.name for outcome in outcomes] == ["item_0", "item_1", "item_2"]


def test_run_task_leaves_an_item_that_was_begun_too_often(tmp_path: Path) -> None:
    array, attempts = deal_one(tmp_path, build_work(tmp_path / "work"), 2)
    for _ in range(MAX_BEGINNINGS):
        append_outcome(find_part_file(array.folder, 0), begin(attempts[0]))
    run_task(array.folder, 0)
    assert count_attempts(tmp_path / "work") == {"item_1": 1}
    assert [(one.attempt.item.name, one.state) for one in array.read()] == [
        ("item_0", State.LOST),
        ("item_1", State.FINISHED),
    ]


def test_run_task_says_why_it_cannot_begin(tmp_path: Path) -> None:
    array, _ = deal_one(tmp_path, build_work(tmp_path / "work", cannot_open=True), 1)
    run_task(array.folder, 0)
    assert json.loads((array.folder / CANNOT_BEGIN).read_text()) == "The network is not there. Train one."
    assert list_states(array) == []


def test_read_work_is_what_was_written(tmp_path: Path) -> None:
    work = build_work(tmp_path / "work", weights=["a.pt"])
    array, _ = deal_one(tmp_path, work, 1)
    assert read_work(array.folder) == (work, Share(2, "cpu"))
    assert array.has_work(work, Share(2, "cpu"))
    assert array.has_work(build_work(tmp_path / "work", weights=("a.pt",)), Share(2, "cpu"))
    assert not array.has_work(work, Share(1, "cpu"))
    assert not array.has_work(build_work(tmp_path / "work"), Share(2, "cpu"))


def test_checkpoint_is_the_same_task() -> None:
    pytest.importorskip("submitit")
    assert Task("folder", 3).checkpoint().function == Task("folder", 3)
