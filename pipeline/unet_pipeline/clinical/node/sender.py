"""How results leave a node: C-STORE to one destination, tried again until it takes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from unet_pipeline.clinical.node.receiver import check_title
from unet_pipeline.clinical.source import keep_quiet
from unet_pipeline.errors import PredictionError

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
_WARNINGS = range(0xB000, 0xC000)  # the object is stored
_MAX_PORT = 65535


@dataclass(frozen=True)
class Destination:
    """Where results go."""

    title: str
    host: str
    port: int


def read_destination(text: str) -> Destination:
    """A destination, of `AET@HOST:PORT`.

    Raises:
        PredictionError: it is none.
    """
    title, _, place = text.partition("@")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= _MAX_PORT:
        raise PredictionError(f"--to is {text!r}; expected AET@HOST:PORT, such as ARCHIVE@127.0.0.1:4242. Correct it.")
    return Destination(check_title(title, "--to"), host.strip("[]"), int(port))


class Sender:
    """A thread that sends; `sent` has the names of what the destination has stored.

    Args:
        destination: that stores.
        title: of this node.
        say: told what fails, once for each kind of failure in a row.
    """

    def __init__(self, destination: Destination, title: str, say: Callable[[str], None]) -> None:
        self.destination, self.title, self.say = destination, title, say
        self.sent: SimpleQueue[str] = SimpleQueue()
        self._due_s: dict[Path, tuple[float, int, str]] = {}
        self._changed, self._ends = threading.Condition(), False
        self._said = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def submit(self, name: str, paths: Sequence[Path]) -> None:
        """Send the files of a name as soon as it can be; each until it was stored."""
        with self._changed:
            self._due_s.update(dict.fromkeys(paths, (time.monotonic(), 0, name)))
            self._changed.notify()

    def _run(self) -> None:
        while (batch := self._wait()) is not None:
            failures = self._send(batch)
            now_s = time.monotonic()
            with self._changed:
                for path, problem in failures.items():
                    _, failed, name = self._due_s[path]
                    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failed, 20))
                    self._due_s[path] = (now_s + wait_s, failed + 1, name)
                    self._tell(problem)
                stored = {self._due_s.pop(path)[2] for path in batch if path not in failures}
                for name in stored - {name for _, _, name in self._due_s.values()}:
                    self.sent.put(name)
                    self._said = ""

    def _tell(self, problem: str) -> None:
        if problem != self._said:
            self.say(f"kept     results for {self.destination.title}: {problem}; tried again until it takes them")
        self._said = problem

    def _wait(self) -> list[Path] | None:
        """What is to be sent now; None at the end."""
        with self._changed:
            while not self._ends:
                now_s = time.monotonic()
                if due := [path for path, (due_s, _, _) in self._due_s.items() if due_s <= now_s]:
                    return due
                until_s = min((due_s for due_s, _, _ in self._due_s.values()), default=now_s + LONGEST_WAIT_S)
                self._changed.wait(until_s - now_s)
            return None

    def _send(self, batch: Sequence[Path]) -> dict[Path, str]:
        """Send files through one association; those that were not stored, and why."""
        from pydicom import dcmread
        from pynetdicom import AE

        failures = dict.fromkeys(batch, "it cannot be reached")
        try:
            with keep_quiet():
                objects = {path: dcmread(path) for path in batch}
            entity = AE(ae_title=self.title)
            for kind, syntax in {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in objects.values()}:
                entity.add_requested_context(kind, syntax)
            place = self.destination
            association = entity.associate(place.host, place.port, ae_title=place.title)
            if association.is_rejected:
                return dict.fromkeys(batch, "it rejects the association; see --aet, and its own list of senders")
            for path, one in objects.items() if association.is_established else ():
                if problem := _store(association, one):
                    failures[path] = problem
                else:
                    del failures[path]
            if association.is_established:
                association.release()
        except (
            Exception
        ) as error:  # whatever a network or a damaged file raises; its text may have values of the header
            return {path: f"{problem} ({type(error).__name__})" for path, problem in failures.items()}
        return failures


def _store(association: Any, one: Any) -> str:
    """Why an object was not stored; "" if it was."""
    if not association.is_established:
        return "it ended the association"
    try:
        answer = association.send_c_store(one)
    except ValueError:
        return f"it does not accept {one.SOPClassUID.name}"
    if "Status" not in answer:
        return "it gave no answer"
    status = int(answer.Status)
    return "" if status == 0 or status in _WARNINGS else f"it answered with the status 0x{status:04X}"
