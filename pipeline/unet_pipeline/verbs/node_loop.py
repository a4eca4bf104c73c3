"""What a node does with a series that is complete: received, predicted, sent, each a state of the record of jobs.

In the record a series waits (waiting), is predicted (running), is to be sent (predicted), was sent (finished), or is in quarantine (bad
input). Each step may be done twice by a process that is killed between it and its record; the second time changes nothing, because results
have UIDs that follow from what they are made of.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty
from traceback import extract_tb
from typing import TYPE_CHECKING

from unet_pipeline.boundary import explain, is_disk_full, is_out_of_memory
from unet_pipeline.clinical.node.spool import LATE, Spool
from unet_pipeline.cohort.items import Arguments, Attempt, Item, Outcome, State, carry_out, hash_parts
from unet_pipeline.cohort.record import PREDICTED, RUNNING, WAITING, Record, Row

if TYPE_CHECKING:
    from unet_pipeline.clinical.node.sender import Sender
    from unet_pipeline.verbs.node import Predictor

_PACKAGE = __package__.partition(".")[0]
MAX_ATTEMPTS = 20  # of a series with which the process ends each time
POLL_S = 0.2
DISK_WAIT_S = 30.0
_LATE = "came after the result of its series was sent. Send the whole series again."
_GONE = "has no instances any more. Send the whole series again."
_POISON = "ended the node each time that it was predicted: killed for its memory, or a crash of a library."
_KEPT = "It stays in taken/; the next start of the node tries it again."
# those of an earlier process: what ended it may not happen again
_TRIED_ANEW = (RUNNING, State.ERROR, State.OUT_OF_MEMORY, State.DISK_FULL)


class ProgramError(RuntimeError):
    """A defect, without its text."""


def describe_defect(error: BaseException) -> str:
    """The kind of an error and the last line of this package that it passed, without values."""
    frames = [frame for frame in extract_tb(error.__traceback__) if _PACKAGE in Path(frame.filename).parts]
    place = ""
    if frames:
        parts = Path(frames[-1].filename).parts
        inside = "/".join(parts[len(parts) - parts[::-1].index(_PACKAGE) :])
        place = f" in {inside}, line {frames[-1].lineno}"
    return f"{type(error).__name__}{place}. It is an error of the program: please report it."


class Loop:
    """The one thread of a node that writes the record.

    Args:
        spool, record, sender, predictor: of the node.
        keep: what was sent stays on the disk.
        say: told what happens.
    """

    def __init__(
        self,
        spool: Spool,
        record: Record,
        sender: Sender,
        predictor: Predictor,
        keep: bool,
        say: Callable[[str], None],
    ) -> None:
        self.spool, self.record, self.sender, self.predictor = spool, record, sender, predictor
        self.keep, self.say = keep, say
        self._not_before_s = 0.0

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Note this process in the record, and that it has ended in order, without copies of images."""
        self.record.start_run("node", self.predictor.describe_origin(), "node", 1, 0)
        self.record.release(_TRIED_ANEW)
        for row in self.record.list_in(WAITING):  # `jobs --again`
            if not row.name.endswith(LATE) and (self.spool.quarantine / row.name).is_dir():
                self.spool.join_quarantined(row.name)
        for name in self.spool.list_taken():
            self._enter(name)
        self._settle_gone()
        try:
            yield
        finally:
            self.spool.remove_staging()
            self.record.end_run()

    def _settle_gone(self) -> None:
        """What was predicted and has no files any more was sent: the record of it was lost with the machine's power."""
        for state in (WAITING, PREDICTED):
            for row in self.record.list_in(state):
                if (self.spool.taken / row.name).is_dir():
                    continue
                if row.outputs:
                    self._settle(row, State.FINISHED)
                else:
                    outcome = Outcome(
                        Attempt(Item(row.name, row.key, {})), State.BAD_INPUT, message=f"{row.name} {_GONE}"
                    )
                    self.record.settle(outcome, State.BAD_INPUT)
                    self.record.commit()

    def run(self, wait_s: float, num_instances: int | None) -> None:
        """Work until an exception of a signal."""
        while True:
            for name in self.spool.take_complete(wait_s, num_instances):
                self._enter(name)
            self._settle_sent()
            waiting = self.record.list_in(WAITING) if time.monotonic() >= self._not_before_s else []
            if not waiting:
                time.sleep(POLL_S)
                continue
            self._predict(min(waiting, key=lambda row: (row.attempts, row.name)))

    def _enter(self, name: str) -> None:
        """Let the record have a complete series, or go on with what it has about it."""
        row = self.record.find(name)
        files = self.spool.hash_instances(name)
        if row is not None and not row.is_finished and row.key != self._compute_key(files):
            self.spool.join_quarantined(name)
            files = self.spool.hash_instances(name)
        key = self._compute_key(files)
        if row is not None and row.is_finished:
            self._enter_again(row, files)
        elif row is None or row.key != key:
            self.record.add(Item(name, key, {"name": name}, inputs_sha256=files))
            self.say(f"received {name}: {len(files)} instance(s)")
        elif row.state == State.BAD_INPUT:
            self.spool.set_aside(name, row.message)
        elif row.state == PREDICTED and all((self.spool.results / file).is_file() for file in row.outputs):
            self.sender.submit(name, self.spool.list_results(name))
        else:
            self._settle(row, WAITING)

    def _enter_again(self, row: Row, files: Mapping[str, str]) -> None:
        """A series, or some of it, that comes after its result was sent."""
        name, known = row.name, row.inputs_sha256
        if set(files.items()) <= set(known.items()):
            self.spool.drop(name, self.keep)
            return
        if known.keys() <= files.keys():
            self.record.add(Item(name, self._compute_key(files), {"name": name}, inputs_sha256=files))
            self.say(f"received {name} again, with other instances: {len(files)} instance(s)")
            return
        late = Item(name + LATE, self._compute_key(files), {}, inputs_sha256=files)
        self.record.add(late)
        self._put_into_quarantine(Outcome(Attempt(late), State.BAD_INPUT, message=f"{name} {_LATE}"), LATE)

    def _compute_key(self, files: Mapping[str, str]) -> str:
        return hash_parts([sorted(files.items()), self.predictor.describe_origin()])

    def _settle(self, row: Row, state: str) -> None:
        """Change the state of a series, and nothing else that the record has about it."""
        item = Item(row.name, row.key, {})
        outcome = Outcome(Attempt(item), State.FINISHED, row.as_result(), "", row.host, row.started, row.duration_s)
        self.record.settle(outcome, state)
        self.record.commit()

    def _settle_sent(self) -> None:
        while True:
            try:
                name = self.sender.sent.get_nowait()
            except Empty:
                return
            if (row := self.record.find(name)) is not None:
                self._settle(row, State.FINISHED)
                self.spool.drop(name, self.keep)
                self.say(f"sent     {name}")

    def _predict(self, row: Row) -> None:
        attempt = Attempt(Item(row.name, row.key, {"name": row.name}))
        if row.attempts >= MAX_ATTEMPTS:
            self._put_into_quarantine(Outcome(attempt, State.BAD_INPUT, message=f"{row.name} {_POISON}"))
            return
        self.record.begin(attempt)
        self.record.note_beginning(attempt, socket.gethostname(), time.time())
        self.record.commit()
        outcome = carry_out(self._predict_series, attempt)
        if outcome.state == State.OUT_OF_MEMORY:
            outcome = carry_out(self._predict_series, replace(attempt, smaller=True))
        if outcome.state == State.FINISHED:
            self.record.settle(outcome, PREDICTED)
            self.record.commit()
            self.say(f"predicted {row.name} in {outcome.duration_s:.1f} s")
            self.sender.submit(row.name, self.spool.list_results(row.name))
        elif outcome.state == State.BAD_INPUT:
            self._put_into_quarantine(outcome)
        else:
            self._hold(outcome)

    def _predict_series(self, item: Arguments, smaller: bool) -> Arguments:
        """As the predictor does; of what is a defect only the kind and the place, because its text may have values of a header."""
        try:
            return self.predictor.predict(item, smaller)
        except Exception as error:
            if explain(error) is not None or is_out_of_memory(error) or is_disk_full(error):
                raise
            raise ProgramError(describe_defect(error)) from None

    def _put_into_quarantine(self, outcome: Outcome, ending: str = "") -> None:
        name = outcome.attempt.item.name.removesuffix(LATE)
        self.record.settle(outcome, State.BAD_INPUT)
        self.record.commit()
        self.spool.set_aside(name, outcome.message, ending)
        self.say(f"quarantine/{name}{ending}  {outcome.message}")

    def _hold(self, outcome: Outcome) -> None:
        """What is not the fault of the series: a full disk is waited for, anything else for the next start of the node."""
        is_full = outcome.state == State.DISK_FULL
        self.record.settle(outcome, WAITING if is_full else outcome.state)
        self.record.commit()
        further = "" if is_full else f" {_KEPT}"
        self.say(f"kept     {outcome.attempt.item.name} ({outcome.state}): {outcome.message}{further}")
        if is_full:
            self._not_before_s = time.monotonic() + DISK_WAIT_S
