"""Dealing, part files and what of them is in the record; no Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.cohort.items import Attempt, Outcome, Share, State, Work
from unet_pipeline.cohort.parts import append_outcome
from unet_pipeline.cohort.slurm_array import Array, deal, load
from unet_pipeline.cohort.slurm_commands import TaskState
from unet_pipeline.cohort.slurm_task import begin, find_items_file, find_part_file, format_attempt, read_attempts

from .slurm_work import build_items


def deal_items(tmp_path: Path, count: int, num_tasks: int) -> tuple[Array, list[Attempt]]:
    attempts = [Attempt(item) for item in build_items(count)]
    return deal(tmp_path, map(format_attempt, attempts), num_tasks, Work("nowhere:nothing"), Share()), attempts


def append(array: Array, *outcomes: Outcome, number: int = 0) -> None:
    for outcome in outcomes:
        append_outcome(find_part_file(array.folder, number), outcome)


def finish(attempt: Attempt) -> Outcome:
    return Outcome(attempt, State.FINISHED, {"outputs": {}})


@pytest.mark.parametrize(("count", "num_tasks"), [(1, 1), (7, 3), (3, 3), (1000, 3)])
def test_deal_gives_items_to_each_task_in_turn(tmp_path: Path, count: int, num_tasks: int) -> None:
    array, attempts = deal_items(tmp_path, count, num_tasks)
    hands = [list(read_attempts(find_items_file(array.folder, number))) for number in range(num_tasks)]
    assert hands == [attempts[number::num_tasks] for number in range(num_tasks)]
    assert array.count_pending() == count


def test_read_takes_each_line_once_and_half_a_line_not_yet(tmp_path: Path) -> None:
    array, (first, second) = deal_items(tmp_path, 2, 1)
    append(array, begin(first), finish(first))
    assert array.read() == [finish(first)]
    assert array.read() == []
    part = find_part_file(array.folder, 0)
    whole = part.read_bytes()
    append(array, begin(second), finish(second))
    grown = part.read_bytes()
    part.write_bytes(grown[: len(whole) + (len(grown) - len(whole)) * 3 // 4])
    assert array.read() == []
    part.write_bytes(grown)
    assert array.read() == [finish(second)]
    assert array.list_live() == []


def test_list_begun_has_what_tasks_are_at_each_once(tmp_path: Path) -> None:
    array, (first, second, third, fourth) = deal_items(tmp_path, 4, 2)
    assert array.list_begun() == []
    beginning = begin(third)
    append(array, begin(first), finish(first), beginning)
    assert array.read() == [finish(first)]
    assert array.list_begun() == [beginning], "the first is over, the second and the fourth wait"
    assert array.list_begun() == []
    append(array, again := begin(third))
    append(array, begin(second), number=1)
    array.read()
    assert [one.attempt for one in array.list_begun()] == [third, second], (
        "a task that was put back begins its item anew"
    )
    assert again.started >= beginning.started
    append(array, finish(second), begin(fourth), finish(fourth), number=1)
    array.read()
    assert array.list_begun() == []


def test_read_takes_the_first_of_two_answers(tmp_path: Path) -> None:
    array, (first, second) = deal_items(tmp_path, 2, 1)
    append(array, begin(first), begin(first), finish(first), begin(first), finish(first), begin(second))
    assert array.read() == [finish(first)]
    (task,) = array.list_live()
    (lost,) = task.lose()
    assert (lost.attempt, lost.state) == (second, State.LOST)
    assert task.lose() == []


def test_load_has_what_is_not_in_the_record(tmp_path: Path) -> None:
    array, attempts = deal_items(tmp_path, 4, 2)
    append(array, begin(attempts[0]), finish(attempts[0]))
    array.read()
    array.acknowledge()
    append(array, begin(attempts[1]), finish(attempts[1]), number=1)
    array.read()
    again = load(array.folder)
    assert again.is_joined
    assert (again.name, again.count_pending()) == (array.name, 3)
    assert again.read() == [finish(attempts[1])]
    assert [list(again.list_lines(task)) for task in again.tasks] == [
        [format_attempt(attempts[2])],
        [format_attempt(attempts[3])],
    ]


def test_note_states_counts_answers_that_a_task_is_over(tmp_path: Path) -> None:
    array, _ = deal_items(tmp_path, 1, 1)
    (task,) = array.tasks
    array.note_states({})
    array.note_states({0: TaskState("7", "FAILED")})
    assert (task.num_over, task.state.state) == (2, "FAILED")
    array.note_states({})
    assert (task.num_over, task.state.state) == (3, "FAILED")
    array.note_states({0: TaskState("7", "PENDING", "BeginTime")})
    assert task.num_over == 0
