"""The rules of a run: what is done, in which order, what is tried again, and what is set aside. Engines carry it out.

Running the same command again does what is missing and nothing else.
"""

from __future__ import annotations

import signal
import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from unet_pipeline.cohort.engine import Engine
from unet_pipeline.cohort.items import Arguments, Attempt, Item, Outcome, State, Work
from unet_pipeline.cohort.record import Record, Row
from unet_pipeline.errors import CohortError, PreemptedError
from unet_pipeline.progress import Bar, progress_bar

MAX_LOST = 3  # workers that an item may lose in one run
SET_ASIDE = (State.BAD_INPUT, State.POISON)  # not tried by the next run either, unless the item's key is another
_EXIT_BY_SIGNAL = 128
_MAX_SHOWN = 20
_DESCRIBE_INTERVAL_S = 2.0


@dataclass(frozen=True)
class Settled:
    """An item in the end.

    Attributes:
        item: as it was given.
        row: what the record has about it.
        is_kept: it was finished, or set aside, by an earlier run.
    """

    item: Item
    row: Row
    is_kept: bool

    @property
    def is_finished(self) -> bool:
        """Whether its result is there."""
        return self.row.is_finished


@dataclass(frozen=True)
class Run:
    """A run that is over; its results are read from the record, in the order of the items, whatever finished first."""

    items: Sequence[Item]
    record: Record
    is_begun: bytearray

    def iterate(self) -> Iterator[Settled]:
        """What came of each item."""
        for place, (item, row) in enumerate(self.record.pair(self.items)):
            if row is None:
                raise LookupError(item.name)
            yield Settled(item, row, not self.is_begun[place])

    def list_failed(self) -> list[Settled]:
        """Items without a result."""
        return [settled for settled in self.iterate() if not settled.is_finished]

    def require_all(self, things: str = "items") -> None:
        """Whether every item has its result.

        Args:
            things: what the items are, for the message.

        Raises:
            CohortError: lists those that do not.
        """
        if failed := self.list_failed():
            raise CohortError(f"{len(failed)} of {len(self.items)} {things} failed:\n{describe_failed(failed)}")


def describe_failed(failed: Sequence[Settled]) -> str:
    """A line for each item that failed, of many for the first ones."""
    lines = [f"  {one.item.name} ({one.row.state}): {one.row.message}" for one in failed[:_MAX_SHOWN]]
    if len(failed) > _MAX_SHOWN:
        lines.append(f"  and {len(failed) - _MAX_SHOWN} more; `unet-pipeline jobs` lists them.")
    return "\n".join(lines)


def run_items(
    items: Sequence[Item],
    work: Work,
    engine: Engine,
    record: Record,
    title: str = "items",
    origin: Arguments | None = None,
    is_there: Callable[[Item, Row], bool] | None = None,
    on_finish: Callable[[Outcome], None] = lambda outcome: None,
    max_lost: int = MAX_LOST,
    describe: Callable[[], str] | None = None,
) -> Run:
    """Do what is missing, the longest first; the record and the engine are in order afterwards, whatever happens.

    Args:
        items: with distinct names; may be made as they are asked for.
        work: done on each.
        engine: not started.
        record: opened.
        title: of the work, for the progress bar and `jobs`.
        origin: hashes and options that all results share, for the record.
        is_there: of an item that the record has as finished: whether its outputs are still what they were; they
            are, if None.
        on_finish: called in this process with each outcome that finished, before it is recorded.
        max_lost: workers that an item may lose before it is set aside.
        describe: how far the items in work are, of long ones, in a line below the bar.

    Raises:
        CohortError: workers cannot be had, or the disk is full.
        PreemptedError: SIGTERM; KeyboardInterrupt likewise leaves everything in order.
    """
    record.start_run(title, origin or {}, type(engine).__name__, engine.num_workers, len(items))
    todo = _order(items, record, is_there)
    runner = _Runner(items, engine, record, on_finish, max_lost)
    try:
        with stoppable(), progress_bar(title, len(todo), num_at_once=engine.num_workers) as bar:
            if todo:
                try:
                    engine.start(work)
                    with _describing(bar, describe):
                        runner.run(todo, bar)
                finally:
                    engine.close()
    except (KeyboardInterrupt, PreemptedError):
        left = len(todo) - runner.num_settled
        print(f"Stopped: {left} of {len(items)} left to do. The same command goes on from there.", file=sys.stderr)
        raise
    finally:
        record.end_run()
    is_begun = bytearray(len(items))  # a byte for each, because a set of names takes 1 GB for ten million
    for place in todo:
        is_begun[place] = True
    return Run(items, record, is_begun)


def _order(items: Sequence[Item], record: Record, is_there: Callable[[Item, Row], bool] | None) -> Sequence[int]:
    """Places of the items that are not done, the longest first."""
    import numpy as np

    def is_settled(item: Item, state: str) -> bool:
        if state != State.FINISHED or is_there is None:
            return state in (State.FINISHED, *SET_ASIDE)
        row = record.find(item.name)
        return row is not None and is_there(item, row)

    todo = record.enter(items, is_settled)
    expected_s = array("d", (items[place].expected_s for place in todo))
    order = np.argsort(-np.asarray(expected_s), kind="stable")
    return array("q", np.asarray(todo)[order].tobytes())


@contextmanager
def _describing(bar: Bar, describe: Callable[[], str] | None) -> Iterator[None]:
    """Report below the bar every few seconds, while the block runs."""
    if describe is None:
        yield
        return
    is_over = threading.Event()

    def report() -> None:
        while not is_over.wait(_DESCRIBE_INTERVAL_S):
            if line := describe():
                bar.report(line)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class _Runner:
    """One run between the start of its engine and its end."""

    def __init__(
        self,
        items: Sequence[Item],
        engine: Engine,
        record: Record,
        on_finish: Callable[[Outcome], None],
        max_lost: int,
    ) -> None:
        self.items, self.engine, self.record = items, engine, record
        self.on_finish, self.max_lost = on_finish, max_lost
        self.num_settled = 0
        self._num_lost: dict[str, int] = {}
        self._again: deque[Attempt] = deque()
        engine.on_begin = self._note_beginning

    def run(self, todo: Iterable[int], bar: Bar) -> None:
        """Keep the engine busy until nothing is left."""
        num_in_flight, places = 0, iter(todo)
        while True:
            while num_in_flight < self.engine.num_in_flight and (attempt := self._next(places)) is not None:
                self.record.begin(attempt)
                self.engine.submit(attempt)
                num_in_flight += 1
            self.record.commit()
            if not num_in_flight:
                return
            outcomes = self.engine.collect()
            num_in_flight -= len(outcomes)
            for outcome in outcomes:
                if self._settle(outcome):
                    self.num_settled += 1
                    bar.advance(note=outcome.attempt.item.name)

    def _note_beginning(self, attempt: Attempt, host: str, started: float) -> None:
        """For `jobs`, at once: the engine may not come back with an outcome for hours."""
        self.record.note_beginning(attempt, host, started)
        self.record.commit()

    def _next(self, places: Iterator[int]) -> Attempt | None:
        if self._again:
            return self._again.popleft()
        place = next(places, None)
        return None if place is None else Attempt(self.items[place])

    def _settle(self, outcome: Outcome) -> bool:
        """Record an outcome; whether its item is not tried again by this run."""
        state = outcome.state
        if state == State.FINISHED:
            self.on_finish(outcome)
        if (again := self._decide(outcome)) is not None:
            self._again.append(again)
        if state == State.LOST and again is None:
            state = State.POISON
            outcome = self._explain_poison(outcome)
        self.record.settle(outcome, state)
        if state == State.DISK_FULL:
            raise CohortError(outcome.message)
        if again is None:
            self._num_lost.pop(outcome.attempt.item.name, None)
        return again is None

    def _decide(self, outcome: Outcome) -> Attempt | None:
        """The next attempt of an item, if there is one."""
        attempt, name = outcome.attempt, outcome.attempt.item.name
        if outcome.state == State.OUT_OF_MEMORY and not attempt.smaller:
            return Attempt(attempt.item, attempt.number + 1, smaller=True)
        if outcome.state == State.LOST:
            self._num_lost[name] = self._num_lost.get(name, 0) + 1
            if self._num_lost[name] < self.max_lost:
                return Attempt(attempt.item, attempt.number + 1, attempt.smaller)
        return None

    def _explain_poison(self, outcome: Outcome) -> Outcome:
        message = (
            f"its worker ended without an answer {self.max_lost} times{f' ({outcome.message})' if outcome.message else ''}: "
            "killed for its memory, or a crash of a library. `unet-pipeline jobs OUT --again` lets the next run try it once more."
        )
        return replace(outcome, message=message)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise `PreemptedError` in the block, with the exit status that shells know; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _: FrameType | None) -> None:
    error = PreemptedError(signal.Signals(number).name)
    error.code = _EXIT_BY_SIGNAL + number
    raise error
