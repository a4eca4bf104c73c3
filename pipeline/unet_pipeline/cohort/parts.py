"""Outcomes as lines of JSON, for tasks that cannot talk to the process that keeps the record, as in a Slurm array.

A task appends to a part file of its own; the coordinating process joins the parts into the record. A line that a dying task left
unfinished does not count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from unet_pipeline.cohort.items import Arguments, Attempt, Outcome, read_values


def append_outcome(part: Path, outcome: Outcome) -> None:
    """Add a line to a part file; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    with part.open("ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size and os.pread(stream.fileno(), 1, size - 1) != b"\n":
            stream.write(b"\n")  # behind half a line
        stream.write(json.dumps(outcome_as_data(outcome)).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_outcomes(part: Path) -> Iterator[Outcome]:
    """The outcomes of a part file in their order; none where there is no file."""
    for outcome, _ in read_outcomes_from(part):
        yield outcome


def read_outcomes_from(part: Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[Outcome, int]]:
    """Outcomes of a part file that grows, each with the byte behind it, where the next reading starts.

    Args:
        part: file; may not be there.
        start: byte where a line begins.
        stop: byte behind the last line that is read.
    """
    if not part.is_file():
        return
    with part.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            start += len(line)
            if not line.endswith(b"\n") or (stop is not None and start > stop):
                return
            try:
                data = json.loads(line)
            except ValueError:  # what a task that died left of a line
                continue
            yield outcome_from_data(data), start


def outcome_as_data(outcome: Outcome) -> dict[str, object]:
    """An outcome as plain values."""
    return asdict(outcome)


def outcome_from_data(data: Arguments) -> Outcome:
    """The outcome of plain values."""
    return read_values(data, Outcome, "Outcomes in a part file of Slurm")


def attempt_from_data(data: Arguments) -> Attempt:
    """The attempt of plain values, as `dataclasses.asdict` makes them."""
    return read_values(data, Attempt, "Attempts in a file of Slurm")
