"""Workers of a Slurm cluster: a job array over the items, whose tasks answer through files on the file system that all nodes share.

A coordinating process that was killed and comes back finds the array, and waits on.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Outcome, Share, State, Work
from unet_pipeline.cohort.local import MAX_OPENINGS
from unet_pipeline.cohort.slurm_array import Array, ArrayTask, deal, load
from unet_pipeline.cohort.slurm_commands import ask_states, cancel, read_options, require_slurm
from unet_pipeline.cohort.slurm_submission import submit
from unet_pipeline.cohort.slurm_task import CANNOT_BEGIN, WORK, format_attempt
from unet_pipeline.errors import CohortError
from unet_pipeline.progress import say_progress

_READ_INTERVAL_S = 1.0
_ASK_INTERVAL_S = 5.0
_NUM_OVER = (
    2  # answers of Slurm, one after another, that a task is over: its last line has then reached this machine too
)
_SILENT_S = 600.0
_END_S = 60.0
_WAITING, _LOGS = "waiting.jsonl", "logs"
_BLAMELESS = frozenset({"PREEMPTED", "BOOT_FAIL"})  # of these ends the item is not the cause


class SlurmEngine:
    """A Slurm cluster.

    Args:
        num_workers: tasks that run at the same time, at least 1.
        share: of each task; its threads are the CPUs that are asked for.
        folder: on a file system that this machine and all nodes share.
        sbatch: options of sbatch by their long names, such as {"partition": "gpu", "time": "2:00:00"}.

    Raises:
        CohortError: this machine has no Slurm or no submitit, or an option is none.
    """

    def __init__(self, num_workers: int, share: Share, folder: Path, sbatch: Mapping[str, str] | None = None) -> None:
        require_slurm()
        self.num_workers, self.share, self.folder = num_workers, share, folder
        self.on_begin: OnBegin = ignore_beginning
        self._options = read_options(sbatch or {})
        self._work: Work | None = None
        self._arrays: list[Array] = []
        self._wanted: dict[str, str] = {}  # keys of the items in flight, by name
        self._joined: dict[str, str] = {}  # the same of those that an array of an earlier process has
        self._ready: list[Outcome] = []  # of such arrays
        self._waiting: TextIO | None = None
        self._num_waiting, self._num_idle_ends = 0, 0
        self._reasons: set[str] = set()
        self._asked_s = self._answered_s = 0.0
        self._has_lost = self._has_handed_over = False

    @property
    def num_in_flight(self) -> int:
        """See `Engine`; an array is submitted with all that there is."""
        return sys.maxsize

    def start(self, work: Work) -> None:
        """See `Engine`; finds the arrays that an earlier process with the same folder has left."""
        self._work = work
        self.folder.mkdir(parents=True, exist_ok=True)
        self._waiting = (self.folder / _WAITING).open("w+", encoding="utf-8")
        self._answered_s = time.monotonic()
        self._join(list(_load_arrays(self.folder)), work)

    def submit(self, attempt: Attempt) -> None:
        """See `Engine`; the item waits for `collect`, unless a running array has it."""
        item = attempt.item
        self._wanted[item.name] = item.key
        if self._joined.get(item.name) != item.key:
            self._wait(format_attempt(attempt))

    def collect(self) -> list[Outcome]:
        """See `Engine`."""
        self._acknowledge()
        self._end_unwanted()
        while True:
            self._deal()
            read = [outcome for array in self._arrays for outcome in array.read()]
            self._tell_beginnings()
            ready, self._ready = self._ready, []
            if outcomes := self._take([*ready, *read, *self._look_after()]):
                return outcomes
            time.sleep(_READ_INTERVAL_S)

    def _tell_beginnings(self) -> None:
        """Tell which items tasks are at; one that is over between two looks was never seen."""
        for begun in (begun for array in self._arrays for begun in array.list_begun()):
            item = begun.attempt.item
            if self._wanted.get(item.name) == item.key:
                self.on_begin(begun.attempt, begun.host, begun.started)

    def close(self) -> None:
        """See `Engine`; what tasks have answered stays in the folder, unless everything is done."""
        if self._waiting is not None:
            self._waiting.close()
            (self.folder / _WAITING).unlink(missing_ok=True)
        _end([array for array in self._arrays if array.list_live()])
        if self._work is not None and not self._wanted:
            for array in self._arrays:
                shutil.rmtree(array.folder, ignore_errors=True)
            if not self._has_lost:
                shutil.rmtree(self.folder, ignore_errors=True)
        self._arrays, self._work, self._waiting = [], None, None

    # arrays of an earlier process

    def _join(self, arrays: list[Array], work: Work) -> None:
        others = [array for array in arrays if not array.has_work(work, self.share)]
        _end(others)
        states = ask_states(array.name for array in arrays)
        if states is None:
            raise CohortError(
                "Slurm does not answer (squeue). Look whether `squeue` works, then run the same command again."
            )
        for array in arrays:
            array.note_states(states.get(array.name, {}))
            outcomes = array.read()
            if array in others:
                outcomes = [outcome for outcome in outcomes if outcome.state == State.FINISHED]
            for task in array.list_live():
                if task.num_over or array in others:
                    task.forget()
                self._joined |= task.pending
            self._joined |= {outcome.attempt.item.name: outcome.attempt.item.key for outcome in outcomes}
            self._ready += outcomes
        self._arrays = arrays
        if num_tasks := sum(len(array.list_live()) for array in arrays):
            say_progress(f"slurm    {num_tasks} tasks of an earlier call are in the queue or run; they are waited for")

    def _end_unwanted(self) -> None:
        """End arrays of an earlier process that have items which are not wanted now; their others are dealt anew."""
        for array in self._arrays:
            live = array.list_live() if array.is_joined else []
            array.is_joined = False
            if all(self._wanted.get(name) == key for task in live for name, key in task.pending.items()):
                continue
            _end([array])
            self._ready += array.read()
            for task in live:
                self._deal_again(array, task)

    # items

    def _wait(self, line: str) -> None:
        if self._waiting is None:
            raise RuntimeError("the engine is not started")
        self._waiting.write(line)
        self._num_waiting += 1

    def _deal_again(self, array: Array, task: ArrayTask) -> None:
        for line in array.list_lines(task):
            item = json.loads(line)["item"]
            if self._wanted.get(item["name"]) == item["key"]:
                self._wait(line)
        task.forget()

    def _deal(self) -> None:
        """Submit an array over what waits, where workers are free."""
        num_free = self.num_workers - sum(len(array.list_live()) for array in self._arrays)
        if not self._num_waiting or num_free < 1 or self._waiting is None or self._work is None:
            return
        self._waiting.seek(0)
        num_tasks = min(num_free, self._num_waiting)
        array = deal(self.folder, iter(self._waiting), num_tasks, self._work, self.share)
        self._waiting.seek(0)
        self._waiting.truncate()
        self._num_waiting = 0
        try:
            job_id = submit(array, self._find_logs(array), self.share.num_threads, num_tasks, self._options)
        except CohortError:
            shutil.rmtree(array.folder)
            raise
        self._arrays.append(array)
        say_progress(f"slurm    job {job_id} with {num_tasks} task(s) for {array.count_pending()} items")

    def _take(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Those that somebody waits for."""
        taken = []
        for outcome in outcomes:
            item = outcome.attempt.item
            if self._wanted.get(item.name) == item.key:
                del self._wanted[item.name]
                self._joined.pop(item.name, None)
                taken.append(outcome)
        self._has_handed_over = self._has_handed_over or bool(taken)
        if any(outcome.state == State.FINISHED for outcome in taken):
            self._num_idle_ends = 0
        return taken

    def _acknowledge(self) -> None:
        """What was handed over is in the record when the next is asked for."""
        if not self._has_handed_over:
            return
        for array in self._arrays:
            if array.list_live():
                array.acknowledge()
            else:
                shutil.rmtree(array.folder, ignore_errors=True)
        self._arrays = [array for array in self._arrays if array.list_live()]

    # tasks that ended

    def _look_after(self) -> list[Outcome]:
        """Ask Slurm now and then; LOST for the items at which tasks have ended, the others of such tasks are dealt again."""
        now_s = time.monotonic()
        if now_s - self._asked_s < _ASK_INTERVAL_S:
            return []
        self._asked_s = now_s
        live = [array for array in self._arrays if array.list_live()]
        states = ask_states(array.name for array in live)
        if states is None:
            if now_s - self._answered_s > _SILENT_S:
                raise CohortError(
                    f"Slurm has not answered (squeue) for {_SILENT_S / 60:.0f} minutes. When `squeue` works, run the same command again."
                )
            return []
        self._answered_s = now_s
        outcomes = []
        for array in live:
            array.note_states(states.get(array.name, {}))
            self._say_reasons(array)
            for task in array.list_live():
                if task.num_over >= _NUM_OVER:
                    outcomes += [*task.read(array.folder), *self._conclude(array, task)]
        return outcomes

    def _say_reasons(self, array: Array) -> None:
        """Say once why tasks wait: a partition that never takes them looks like one that is busy."""
        for reason, count in Counter(task.state.reason for task in array.list_live()).items():
            if reason and reason not in self._reasons:
                self._reasons.add(reason)
                say_progress(f"slurm    {count} task(s) wait: {reason}")

    def _conclude(self, array: Array, task: ArrayTask) -> list[Outcome]:
        """What is to be said of a task that ended before its items did."""
        if (reason := array.folder / CANNOT_BEGIN).is_file():
            raise CohortError(f"A worker cannot begin: {json.loads(reason.read_text(encoding='utf-8'))}")
        if not task.pending:
            return []
        self._has_lost = True
        message = f"task {task.state.job_id} of Slurm ended as {task.state.state}"
        lost = []
        if task.begun is not None and task.state.state not in _BLAMELESS:
            state = State.OUT_OF_MEMORY if task.state.state == "OUT_OF_MEMORY" else State.LOST
            lost = [_describe_loss(outcome, state, message) for outcome in task.lose()]
        elif task.begun is None and task.state.state not in _BLAMELESS:
            self._num_idle_ends += 1
            if self._num_idle_ends >= MAX_OPENINGS:
                last = _read_last_line(self._find_logs(array), task.number)
                raise CohortError(
                    f"{MAX_OPENINGS} tasks of Slurm, one after another, ended before they began an item ({message}{last}). "
                    "Correct the cause, or the options of --sbatch, then run the same command again."
                )
        self._deal_again(array, task)
        return lost

    def _find_logs(self, array: Array) -> Path:
        return self.folder / _LOGS / array.folder.name


def _describe_loss(outcome: Outcome, state: State, message: str) -> Outcome:
    return replace(outcome, state=state, message=message, duration_s=max(0.0, time.time() - outcome.started))


def _load_arrays(folder: Path) -> Iterator[Array]:
    """Arrays that are whole; what a process left that was killed before it submitted one is removed."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name == _LOGS:
            continue
        if (path / WORK).is_file():
            yield load(path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _end(arrays: list[Array]) -> None:
    """Cancel jobs, and wait until their processes have ended."""
    if not arrays:
        return
    names = [array.name for array in arrays]
    cancel(names)
    until_s = time.monotonic() + _END_S
    while time.monotonic() < until_s:
        states = ask_states(names)
        if states is not None and all(state.is_over for tasks in states.values() for state in tasks.values()):
            return
        time.sleep(_READ_INTERVAL_S / 2)


def _read_last_line(logs: Path, number: int) -> str:
    """What a task said last, for a message."""
    for path in sorted(logs.glob("*_log.err")):
        if path.name.split("_")[1:2] == [str(number)] or len(path.name.split("_")) == 3:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd"))]
            return f": {said[-1]}" if said else ""
    return ""
