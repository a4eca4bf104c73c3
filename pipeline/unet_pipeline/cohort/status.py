"""How far a run is, read from its record beside the process that writes it, and what `jobs` does to the record."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.cohort.items import State
from unet_pipeline.cohort.record import (
    FIELDS,
    PREDICTED,
    RECORD,
    RUNNING,
    WAITING,
    Row,
    decode_text,
    explaining_sqlite,
    open_record,
    read_row,
)
from unet_pipeline.cohort.run import SET_ASIDE
from unet_pipeline.errors import CohortError
from unet_pipeline.results import Result

# what was given to the engine and has no worker yet waits
_SHOWN_STATE = f"CASE WHEN state = '{RUNNING}' AND host IS NULL THEN '{WAITING}' ELSE state END"


@dataclass(frozen=True, repr=False)
class Jobs(Result):
    """How far the last run of a folder is.

    Attributes:
        title: of the work, such as "predict".
        engine: its name.
        host, process: of the coordinating process.
        is_alive: whether that works now; None where it is on another machine.
        num_workers: of the engine.
        num_items: that are wanted.
        counts: items by state.
        running: what workers have at this moment, or had when the run was cut off.
        failed: without a result, with the reasons; those that are set aside too.
        left_s: forecast of the time until all are done; None where nothing is known.
        started: of the run, in seconds since 1970.
        ended: likewise; None where it did not end in order.
        read_s: when this was read, likewise.
    """

    title: str
    engine: str
    host: str
    process: int
    is_alive: bool | None
    num_workers: int
    num_items: int
    counts: Mapping[str, int]
    running: tuple[Row, ...]
    failed: tuple[Row, ...]
    left_s: float | None
    started: float
    ended: float | None
    read_s: float

    @property
    def num_finished(self) -> int:
        """Items whose result is there."""
        return self.counts.get(State.FINISHED, 0)


def read_jobs(folder: Path) -> Jobs:
    """How far the run of a folder is.

    Raises:
        CohortError: the folder has no record.
        FileError: its record cannot be read.
    """
    with _open_for_reading(folder) as connection:
        run = connection.execute(
            "SELECT title, engine, host, process, process_started, num_workers, started, ended, run FROM runs ORDER BY run DESC LIMIT 1"
        ).fetchone()
        if run is None:
            raise _describe_missing(folder)
        states = f"SELECT {_SHOWN_STATE} AS shown, COUNT(*) FROM items WHERE is_wanted GROUP BY shown"
        counts = dict(connection.execute(states).fetchall())
        running = _read_rows(connection, f"{_SHOWN_STATE} = '{RUNNING}'")
        failed = _read_rows(connection, f"state NOT IN ('{RUNNING}', '{WAITING}', '{PREDICTED}', '{State.FINISHED}')")
        title, engine, host, process, process_started, num_workers, started, ended, number = run
        return Jobs(
            title=title,
            engine=engine,
            host=host,
            process=process,
            is_alive=False if ended else _is_alive(host, process, process_started),
            num_workers=num_workers,
            num_items=sum(counts.values()),
            counts=counts,
            running=running,
            failed=failed,
            left_s=_estimate_left(connection, number, num_workers, running),
            started=started,
            ended=ended,
            read_s=time.time(),
        )


def forget_failures(folder: Path) -> int:
    """Let the next run try again what was set aside; how many items that are.

    Raises:
        CohortError: the folder has no record.
        InUseError: a run works in the folder.
    """
    if not (folder / RECORD).is_file():
        raise _describe_missing(folder)
    with open_record(folder) as record:
        return record.release(SET_ASIDE)


@contextmanager
def _open_for_reading(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / RECORD
    if not path.is_file():
        raise _describe_missing(folder)
    with explaining_sqlite(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        connection.text_factory = decode_text
        with closing(connection):
            connection.execute("BEGIN")  # one moment for all questions
            yield connection


def _describe_missing(folder: Path) -> CohortError:
    return CohortError(
        f"The folder {folder.name} has no record of jobs ({RECORD}). Give the output folder of a command that ran with --jobs or --engine."
    )


def _read_rows(connection: sqlite3.Connection, condition: str) -> tuple[Row, ...]:
    rows = connection.execute(f"SELECT {FIELDS} FROM items WHERE is_wanted AND {condition} ORDER BY name")
    return tuple(map(read_row, rows))


def _is_alive(host: str, process: int, process_started: float) -> bool | None:
    import psutil

    if host != socket.gethostname():
        return None
    try:
        return abs(psutil.Process(process).create_time() - process_started) < 1.0
    except psutil.Error:
        return False


def _estimate_left(
    connection: sqlite3.Connection, run: int, num_workers: int, running: tuple[Row, ...]
) -> float | None:
    """The work that is left by what a unit of the forecast, or else an item, took in this run: shared by the workers, but no item by two."""
    unit = "CASE WHEN expected_s > 0 THEN expected_s ELSE 1 END"
    question = f"SELECT SUM({unit}), SUM(duration_s) FROM items WHERE is_wanted AND state = ? AND run = ?"
    done, took_s = connection.execute(question, (State.FINISHED, run)).fetchone()
    question = f"SELECT COUNT(*), SUM({unit}), MAX({unit}) FROM items WHERE is_wanted AND {_SHOWN_STATE} = ?"
    num_waiting, waiting, longest = connection.execute(question, (WAITING,)).fetchone()
    if not num_waiting and not running:
        return 0.0
    if not done:
        return None
    unit_s, now_s = took_s / done, time.time()
    left_s = [max(0.0, (row.expected_s or 1.0) * unit_s - max(0.0, now_s - row.started)) for row in running]
    if num_waiting:
        left_s.append(longest * unit_s)
    shared_s = sum(left_s) + ((waiting - longest) * unit_s if num_waiting else 0.0)
    return float(max(shared_s / num_workers, *left_s))


def jobs_as_data(jobs: Jobs) -> dict[str, object]:
    """As plain values, for `--json`."""
    data = {name: value for name, value in vars(jobs).items() if name not in ("running", "failed", "counts")}
    kept = ("name", "state", "attempts", "message", "host", "started", "duration_s")
    rows = {
        name: [{field: getattr(row, field) for field in kept} for row in getattr(jobs, name)]
        for name in ("running", "failed")
    }
    plain: dict[str, object] = json.loads(json.dumps({**data, "counts": dict(jobs.counts), **rows}))
    return plain
