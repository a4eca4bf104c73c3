"""The record of a run, `jobs.sqlite` in its folder: what is finished, from what, and what failed why.

The coordinating process alone writes it. Every group of outcomes is committed before the next one is waited for, so that nothing that was
told is lost when the process is killed; every `SYNC_INTERVAL_S` the disk is waited for too, so that a power cut costs the outcomes of the
last few seconds, whose items are then done again.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from unet_pipeline.boundary import show_place
from unet_pipeline.cohort.items import Arguments, Attempt, Item, Kind, Outcome, State, read_values
from unet_pipeline.errors import CohortError, FileError
from unet_pipeline.locks import hold_lock

RECORD = "jobs.sqlite"
LOCK = ".jobs.lock"
WAITING, RUNNING = "waiting", "running"
PREDICTED = "predicted"  # of a node: the result is there, and not sent yet
SYNC_INTERVAL_S = 5.0
_CHUNK = 500  # names in one question; SQLite takes no more than 999 of older versions
_NUM_ENTERED = 100_000
_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS items (
    name TEXT PRIMARY KEY, key TEXT NOT NULL, state TEXT NOT NULL, is_wanted INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0, run INTEGER, inputs TEXT, outputs TEXT, result TEXT, message TEXT, host TEXT,
    started REAL, duration_s REAL, expected_s REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, title TEXT, origin TEXT, engine TEXT, num_workers INTEGER, num_items INTEGER, host TEXT, process INTEGER,
    process_started REAL, started REAL, ended REAL
);
"""
FIELDS = "name, key, state, attempts, inputs, outputs, result, message, host, started, duration_s, expected_s"


@dataclass(frozen=True)
class Row:
    """What the record has about an item.

    Attributes:
        name, key: of the item.
        state: of `State`; or waiting; or running, from when the engine has it, which of a run that has ended means: it was cut off.
        attempts: that were begun, in all runs since the item has this key.
        inputs_sha256: of its files, by name.
        outputs: SHA-256 of what came of it, by name.
        result: the other numbers and words of its result.
        message: why it failed.
        host: machine of the last attempt; empty while that waits for a worker.
        started: of the last attempt, in seconds since 1970; when it was given to the engine, while it waits for a worker.
        duration_s: of the last attempt.
        expected_s: forecast of its duration.
    """

    name: str
    key: str
    state: str
    attempts: int = 0
    inputs_sha256: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    result: Arguments = field(default_factory=dict)
    message: str = ""
    host: str = ""
    started: float = 0.0
    duration_s: float = 0.0
    expected_s: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether its result is there."""
        return self.state == State.FINISHED

    def as_result(self) -> dict[str, object]:
        """The result as the work returned it."""
        return {**self.result, **({"outputs": dict(self.outputs)} if self.outputs else {})}

    def read(self, kind: type[Kind]) -> Kind:
        """The result as a model of pydantic or a dataclass.

        Raises:
            CohortError: another version wrote it.
        """
        return read_values(self.as_result(), kind, f"The results of {self.name} in {RECORD}")


@contextmanager
def open_record(folder: Path) -> Iterator[Record]:
    """The record in a folder, made where there is none, for this process alone.

    Raises:
        InUseError: another process has it.
        FileError: the disk is full, or the file is no record.
    """
    path = folder / RECORD
    with hold_lock(folder / LOCK, f"The folder {folder.resolve().name}", stays=False), explaining_sqlite(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            yield Record(path, connection)
        finally:
            with suppress(sqlite3.Error):  # what went wrong is told, not what fails after it
                _close(connection)
            connection.close()


def _close(connection: sqlite3.Connection) -> None:
    """Keep what was told, and leave one file that can be copied and read where nothing may be written."""
    if connection.in_transaction:
        connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def explaining_sqlite(path: Path) -> Iterator[None]:
    """Let what SQLite says about its file be an error of the project.

    Raises:
        FileError: with what to do.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None) or 0
        shown = show_place(path)
        if code & 0xFF == sqlite3.SQLITE_FULL or code in (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC):
            remedy = "Free some space, then run the same command again; what is finished is kept."
            raise FileError(shown, "cannot be written: the disk is full", remedy) from error
        if code & 0xFF in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            remedy = "Remove it, then run the same command again; results that it alone has are made again."
            raise FileError(shown, "is damaged, or no record of jobs", remedy) from error
        remedy = "Look at the file and its folder, then run the same command again."
        raise FileError(shown, f"cannot be read or written: {error}", remedy) from error


class Record:
    """The record, opened for writing; `open_record` makes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection
        _arrange(connection)
        if self._ask("PRAGMA user_version")[0][0] not in (0, _VERSION):
            raise CohortError(
                f"{show_place(path)} was written by a newer version of this program. Use that, or another folder."
            )
        connection.executescript(f"{_TABLES} PRAGMA user_version={_VERSION};")
        self._run, self._synced_s = 0, time.monotonic()

    def start_run(self, title: str, origin: Arguments, engine: str, num_workers: int, num_items: int) -> None:
        """Note who works on how many items, and what all results are made of beside their own inputs.

        Args:
            title: of the work, such as "predict".
            origin: hashes and options that all items share.
            engine: name of it.
        """
        import psutil

        process = psutil.Process()
        self._begin()
        cursor = self._connection.execute(
            "INSERT INTO runs (title, origin, engine, num_workers, num_items, host, process, process_started, started) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                title,
                json.dumps(origin, sort_keys=True),
                engine,
                num_workers,
                num_items,
                socket.gethostname(),
                os.getpid(),
                process.create_time(),
                time.time(),
            ),
        )
        self._run = cursor.lastrowid or 0

    def end_run(self) -> None:
        """Note that no worker works any more; what was running waits again."""
        self._begin()
        self._connection.execute("UPDATE items SET state=? WHERE state=?", (WAITING, RUNNING))
        self._connection.execute("UPDATE runs SET ended=? WHERE run=?", (time.time(), self._run))
        self.commit()
        self._sync()

    def enter(
        self, items: Sequence[Item], is_settled: Callable[[Item, str], bool] = lambda item, state: False
    ) -> array[int]:
        """Let the record have exactly these items as those that are wanted; one whose key is another begins anew.

        Args:
            items: of the run.
            is_settled: whether an item in that state needs no attempt.

        Returns:
            Places of the items that are to be done.

        Raises:
            ValueError: two items have one name, and the result of one would be taken for that of the other.
        """
        self._begin()
        todo = array("q")
        for place, (item, known) in enumerate(self._pair_states(items)):
            if known is None or known[0] != item.key:
                self._insert(item)
                todo.append(place)
            elif not is_settled(item, known[1]):
                todo.append(place)
            if place % _NUM_ENTERED == 0:
                self.commit()  # or SQLite's log grows to the size of the record
                self._begin()
        wanted = self._ask("SELECT COUNT(*), SUM(is_wanted) FROM items")[0]
        if wanted != (len(items), len(items)):
            self._connection.execute("UPDATE items SET is_wanted=0")
            names = ((_encode(item.name),) for item in items)
            self._connection.executemany("UPDATE items SET is_wanted=1 WHERE name=CAST(? AS TEXT)", names)
            if (num_wanted := self._ask("SELECT SUM(is_wanted) FROM items")[0][0] or 0) != len(items):
                raise ValueError(f"{len(items)} items have {num_wanted} names; expected one for each")
        self.commit()
        return todo

    def _pair_states(self, items: Sequence[Item]) -> Iterator[tuple[Item, tuple[str, str] | None]]:
        """Each item with the key and the state that the record has, without the rest, which takes long to read."""
        for chunk in _divide(items):
            rows = self._select("name, key, state", [item.name for item in chunk])
            known = {name: (key, state) for name, key, state in rows}
            yield from ((item, known.get(item.name)) for item in chunk)

    def adopt(self, item: Item, result: Arguments) -> None:
        """Enter an item that was finished without this record."""
        outcome = Outcome(Attempt(item), State.FINISHED, result)
        self._insert(item)
        self.settle(outcome, State.FINISHED)

    def add(self, item: Item) -> None:
        """Enter one more item beside those that are wanted; it begins anew."""
        self._insert(item)
        self.commit()

    def list_in(self, state: str) -> list[Row]:
        """What the record has about the wanted items in a state, by name."""
        rows = self._ask(f"SELECT {FIELDS} FROM items WHERE is_wanted AND state=? ORDER BY name", (state,))
        return list(map(read_row, rows))

    def _insert(self, item: Item) -> None:
        self._begin()
        self._connection.execute(
            "INSERT OR REPLACE INTO items (name, key, state, inputs, expected_s) VALUES (CAST(? AS TEXT), ?, ?, ?, ?)",
            (_encode(item.name), item.key, WAITING, json.dumps(dict(item.inputs_sha256)), item.expected_s),
        )

    def pair(self, items: Iterable[Item]) -> Iterator[tuple[Item, Row | None]]:
        """Each item with what the record has under its name, in the order of the items."""
        for chunk in _divide(items):
            rows = {row.name: row for row in map(read_row, self._select(FIELDS, [item.name for item in chunk]))}
            yield from ((item, rows.get(item.name)) for item in chunk)

    def find(self, name: str) -> Row | None:
        """What the record has under a name."""
        return next(map(read_row, self._select(FIELDS, [name])), None)

    def _select(self, fields: str, names: Sequence[str]) -> list[Any]:
        marks = ", ".join(["CAST(? AS TEXT)"] * len(names))
        return self._ask(f"SELECT {fields} FROM items WHERE name IN ({marks})", list(map(_encode, names)))

    def begin(self, attempt: Attempt) -> None:
        """Note that an attempt is given to the engine."""
        self._begin()
        self._connection.execute(
            "UPDATE items SET state=?, attempts=attempts+1, run=?, started=?, message=NULL, host=NULL WHERE name=CAST(? AS TEXT)",
            (RUNNING, self._run, time.time(), _encode(attempt.item.name)),
        )

    def note_beginning(self, attempt: Attempt, host: str, started: float) -> None:
        """Note that a worker works on an attempt that was given to the engine; until then it waits there for a worker.

        Args:
            host: machine of the worker.
            started: in seconds since 1970.
        """
        self._begin()
        self._connection.execute(
            "UPDATE items SET host=?, started=? WHERE name=CAST(? AS TEXT)",
            (host, started, _encode(attempt.item.name)),
        )

    def settle(self, outcome: Outcome, state: str) -> None:
        """Note what came of an attempt, and the state in which it leaves its item."""
        result = dict(outcome.result)
        outputs = result.pop("outputs", {})
        self._begin()
        self._connection.execute(
            "UPDATE items SET state=?, outputs=?, result=?, message=CAST(? AS TEXT), host=?, started=?, duration_s=? "
            "WHERE name=CAST(? AS TEXT)",
            (
                state,
                json.dumps(outputs),
                json.dumps(result),
                _encode(outcome.message),
                outcome.host,
                outcome.started,
                outcome.duration_s,
                _encode(outcome.attempt.item.name),
            ),
        )

    def release(self, states: Sequence[str]) -> int:
        """Let items in these states wait again; how many there were."""
        marks = ", ".join("?" * len(states))
        self._begin()
        cursor = self._connection.execute(
            f"UPDATE items SET state=?, message=NULL WHERE is_wanted AND state IN ({marks})", (WAITING, *states)
        )
        self.commit()
        return cursor.rowcount

    def commit(self) -> None:
        """Let what was noted outlive this process; and, every `SYNC_INTERVAL_S`, this machine."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
        if time.monotonic() - self._synced_s >= SYNC_INTERVAL_S:
            self._sync()

    def _sync(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._synced_s = time.monotonic()

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _ask(self, question: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(question, values).fetchall()


def _divide(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _arrange(connection: sqlite3.Connection) -> None:
    connection.text_factory = decode_text
    connection.execute("PRAGMA busy_timeout=60000")  # `jobs` may be reading
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def read_row(values: Sequence[Any]) -> Row:
    """A row of the table, its fields in the order of `Row`."""
    name, key, state, attempts, inputs, outputs, result, message, host, started, duration_s, expected_s = values
    return Row(
        name,
        key,
        state,
        attempts,
        _parse(inputs),
        _parse(outputs),
        _parse(result),
        message or "",
        host or "",
        started or 0.0,
        duration_s or 0.0,
        expected_s,
    )


def _parse(text: str | None) -> dict[str, Any]:  # of SQLite, whose columns `Row` types
    """Most are empty, and JSON takes a third of the time in which a row is read."""
    return json.loads(text) if text and text != "{}" else {}


def _encode(text: str) -> bytes:
    """For SQLite, whose texts are UTF-8: names of files may hold other bytes."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """A text of the record."""
    return data.decode("utf-8", "surrogateescape")
