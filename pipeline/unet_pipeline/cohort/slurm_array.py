"""One array of Slurm, seen from the coordinating process: its files, what its tasks have answered, and what they have not.

A folder per array: `work.json`; `items/N.jsonl`, the attempts of task N; `parts/N.jsonl`, to which task N appends; `recorded.json`, how
much of each part file is in the record.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from unet_pipeline.cohort.items import Outcome, Share, State, Work
from unet_pipeline.cohort.parts import read_outcomes_from
from unet_pipeline.cohort.slurm_commands import FORGOTTEN, TaskState
from unet_pipeline.cohort.slurm_task import find_items_file, find_part_file, read_attempts, read_work, write_work
from unet_pipeline.files import write_json

NAME_PREFIX = "unet-pipeline-"
_RECORDED = "recorded.json"
_LINES_AT_ONCE = 64  # of each task, while items are dealt


@dataclass
class ArrayTask:
    """A task of an array.

    Attributes:
        number: in the array.
        pending: keys of the items without an outcome, by name.
        size: bytes of the part file that are read.
        begun: the item that it was at, if there is no outcome yet.
        told: the last one of these that `list_begun` had.
        state: what Slurm said last.
        num_over: how often one after another Slurm has said that the task is over.
    """

    number: int
    pending: dict[str, str]
    size: int = 0
    begun: Outcome | None = None
    told: Outcome | None = None
    state: TaskState = FORGOTTEN
    num_over: int = 0

    def read(self, array: Path, until: int | None = None) -> list[Outcome]:
        """Outcomes that are new in the part file; LOST of an item that the task has left behind for another.

        Args:
            array: folder.
            until: byte at which to stop.
        """
        outcomes: list[Outcome] = []
        for outcome, end in read_outcomes_from(find_part_file(array, self.number), self.size, until):
            self.size, name = end, outcome.attempt.item.name
            if outcome.state != State.LOST:
                self.begun = None
            elif self.begun is not None and self.begun.attempt.item.name != name:
                outcomes += self._answer(self.begun)
            if outcome.state == State.LOST:
                self.begun = outcome
            else:
                outcomes += self._answer(outcome)
        return outcomes

    def lose(self) -> list[Outcome]:
        """LOST for the item that a task was at when it ended."""
        begun, self.begun = self.begun, None
        return [] if begun is None else self._answer(begun)

    def forget(self) -> None:
        """Wait for nothing more of the task."""
        self.pending, self.begun = {}, None

    def _answer(self, outcome: Outcome) -> list[Outcome]:
        """An outcome, unless the item has one already."""
        return [] if self.pending.pop(outcome.attempt.item.name, None) is None else [outcome]


@dataclass
class Array:
    """An array of tasks.

    Attributes:
        folder: of its files.
        tasks: all of them.
        is_joined: whether it was submitted by a process before this one.
    """

    folder: Path
    tasks: list[ArrayTask] = field(default_factory=list)
    is_joined: bool = False

    @property
    def name(self) -> str:
        """Of the job."""
        return NAME_PREFIX + self.folder.name

    def list_live(self) -> list[ArrayTask]:
        """Tasks that have not answered for everything."""
        return [task for task in self.tasks if task.pending]

    def count_pending(self) -> int:
        """Items without an outcome."""
        return sum(len(task.pending) for task in self.tasks)

    def read(self) -> list[Outcome]:
        """Outcomes that are new, of all tasks."""
        return [outcome for task in self.list_live() for outcome in task.read(self.folder)]

    def list_begun(self) -> list[Outcome]:
        """Beginnings of the items that tasks are at, as far as part files were read; each once."""
        begun = []
        for task in self.list_live():
            if task.begun is not None and task.begun is not task.told:
                task.told = task.begun
                begun.append(task.begun)
        return begun

    def note_states(self, states: Mapping[int, TaskState]) -> None:
        """Take note of what Slurm says; a task that it does not know is over."""
        for task in self.list_live():
            state = states.get(task.number, FORGOTTEN)
            is_over = state.is_over or state is FORGOTTEN
            task.num_over = task.num_over + 1 if is_over else 0
            task.state = state if state is not FORGOTTEN else task.state

    def acknowledge(self) -> None:
        """Note that everything that was read is in the record."""
        write_json(self.folder / _RECORDED, {str(task.number): task.size for task in self.tasks})

    def list_lines(self, task: ArrayTask) -> Iterator[str]:
        """Lines of the items for which a task has not answered."""
        with find_items_file(self.folder, task.number).open(encoding="utf-8") as stream:
            for line in stream:
                if json.loads(line)["item"]["name"] in task.pending:
                    yield line

    def has_work(self, work: Work, share: Share) -> bool:
        """Whether its tasks do this work."""
        return json.dumps(read_work(self.folder), default=vars) == json.dumps((work, share), default=vars)


def deal(folder: Path, lines: Iterator[str], num_tasks: int, work: Work, share: Share) -> Array:
    """Deal items to the tasks of a new array, one to each in turn.

    Args:
        folder: of all arrays.
        lines: of the attempts; at least as many as tasks.
        num_tasks: at least 1.
        work, share: of all tasks.

    Returns:
        The array, its files written, not submitted.
    """
    array = Array(folder / secrets.token_hex(4))
    array.tasks = [ArrayTask(number, {}) for number in range(num_tasks)]
    for path in (find_items_file(array.folder, 0), find_part_file(array.folder, 0)):
        path.parent.mkdir(parents=True)
    for task in array.tasks:  # so that no node's file system remembers that there was none
        find_part_file(array.folder, task.number).touch()
    while hand := list(islice(lines, num_tasks * _LINES_AT_ONCE)):
        for task in array.tasks:
            _append(array, task, hand[task.number :: num_tasks])
    write_work(array.folder, work, share)  # last: without it the folder is not an array
    return array


def _append(array: Array, task: ArrayTask, lines: list[str]) -> None:
    with find_items_file(array.folder, task.number).open("a", encoding="utf-8") as stream:
        stream.writelines(lines)
        stream.flush()
        os.fsync(stream.fileno())
    for line in lines:
        item = json.loads(line)["item"]
        task.pending[item["name"]] = item["key"]


def load(folder: Path) -> Array:
    """An array of an earlier process, as far as the record has it.

    Raises:
        OSError, ValueError: files are missing or damaged.
    """
    array = Array(folder, is_joined=True)
    recorded: dict[str, int] = {}
    if (folder / _RECORDED).is_file():
        recorded = json.loads((folder / _RECORDED).read_text(encoding="utf-8"))
    for path in sorted((folder / "items").glob("*.jsonl"), key=lambda path: int(path.stem)):
        pending = {attempt.item.name: attempt.item.key for attempt in read_attempts(path)}
        task = ArrayTask(int(path.stem), pending)
        task.read(folder, until=recorded.get(path.stem, 0))
        array.tasks.append(task)
    return array
