"""What a task of a Slurm array does: its items one after another, each outcome a line in a part file of its own.

A task that is put back into the queue begins again here, and goes on with what its part file does not have.
"""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.cohort.items import Attempt, Outcome, Share, State, Work, carry_out, judge_error
from unet_pipeline.cohort.local import settle_threads
from unet_pipeline.cohort.parts import append_outcome, attempt_from_data, read_outcomes
from unet_pipeline.files import write_json

MAX_BEGINNINGS = 4  # of an item whose task is put back into the queue each time, as for a time limit that is too short
WORK, CANNOT_BEGIN = "work.json", "cannot_begin.json"


def find_items_file(array: Path, number: int) -> Path:
    """File with the attempts of a task, a line each."""
    return array / "items" / f"{number}.jsonl"


def find_part_file(array: Path, number: int) -> Path:
    """File to which a task appends."""
    return array / "parts" / f"{number}.jsonl"


def write_work(array: Path, work: Work, share: Share) -> None:
    """Write what is done on each item of an array."""
    write_json(array / WORK, {"work": asdict(work), "share": asdict(share)})


def read_work(array: Path) -> tuple[Work, Share]:
    """What is done on each item of an array."""
    data = json.loads((array / WORK).read_text(encoding="utf-8"))
    return Work(**data["work"]), Share(**data["share"])


def read_attempts(path: Path) -> Iterator[Attempt]:
    """Attempts of a file, a line each."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield attempt_from_data(json.loads(line))


def format_attempt(attempt: Attempt) -> str:
    """An attempt as a line."""
    return json.dumps(asdict(attempt)) + "\n"


def begin(attempt: Attempt) -> Outcome:
    """What stands in a part file from the beginning of an item to its end: it is lost, if nothing follows."""
    return Outcome(attempt, State.LOST, host=socket.gethostname(), started=time.time())


def list_left(array: Path, number: int) -> list[Attempt]:
    """What a task has still to do; not what was begun too often."""
    beginnings, answered = Counter[str](), set[str]()
    for outcome in read_outcomes(find_part_file(array, number)):
        name = outcome.attempt.item.name
        if outcome.state == State.LOST:
            beginnings[name] += 1
        else:
            answered.add(name)
    return [
        attempt
        for attempt in read_attempts(find_items_file(array, number))
        if attempt.item.name not in answered and beginnings[attempt.item.name] < MAX_BEGINNINGS
    ]


def run_task(array: Path, number: int) -> None:
    """Do the items of a task that are not done.

    Raises:
        OSError: the part file cannot be written.
    """
    if not (left := list_left(array, number)):
        return
    work, share = read_work(array)
    settle_threads(share.num_threads)
    try:
        function = work.open(share)
    except Exception as error:
        write_json(array / CANNOT_BEGIN, judge_error(error)[1])
        return
    settle_threads(share.num_threads)
    part = find_part_file(array, number)
    for attempt in left:
        append_outcome(part, begin(attempt))
        append_outcome(part, carry_out(function, attempt))


@dataclass(frozen=True)
class Task:
    """What submitit carries to a node; `checkpoint` is called by it before a task is preempted or its time is up."""

    array: str
    number: int

    def __call__(self) -> None:
        """Run the task."""
        run_task(Path(self.array), self.number)

    def checkpoint(self) -> Any:
        """The same once more: what is done stands in the part file."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
