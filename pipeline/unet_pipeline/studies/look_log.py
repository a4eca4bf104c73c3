"""What was done with a protocol, in a file beside it to which lines are only added; each line has the hash of the one before.

A line that is changed, removed or put in between is noticed. Who removes the last lines, or writes the whole file anew, is not: the
hash of the protocol has to lie somewhere else for that, such as in a registry, a letter or a commit.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unet_pipeline.text_files import read_text

Event = Literal["planned", "opened", "result"]
PLANNED: Event = "planned"
OPENED: Event = "opened"
RESULT: Event = "result"
_FIRST = "0" * 64


class Look(BaseModel):
    """A line: `event` happened to a protocol; data are opened, then there is a result. `sha256` is that of all the rest."""

    model_config = ConfigDict(extra="forbid")

    number: int
    time: str
    event: Event
    protocol_sha256: str
    data_sha256: str | None = None
    result_sha256: str | None = None
    verdict: str | None = None
    previous: str
    sha256: str = ""

    def seal(self) -> Look:
        """The same with its hash."""
        return self.model_copy(update={"sha256": hash_content(self.model_dump(exclude={"sha256"}))})


@dataclass(frozen=True)
class LookLog:
    """The log of a protocol as it was read: its lines, and what is wrong with the chain; empty if nothing is."""

    path: Path
    looks: tuple[Look, ...]
    fault: str = ""

    def add(self, event: Event, protocol_sha256: str, **facts: str | None) -> LookLog:
        """Append a line, which is on the disk when this returns."""
        last = self.looks[-1] if self.looks else None
        number, previous = (last.number + 1, last.sha256) if last else (0, _FIRST)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        whole = {
            "number": number,
            "time": now,
            "event": event,
            "protocol_sha256": protocol_sha256,
            "previous": previous,
        }
        look = Look.model_validate(whole | facts).seal()
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(look.model_dump_json() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return LookLog(self.path, (*self.looks, look), self.fault)


def hash_content(content: Any) -> str:
    """SHA-256 of values as canonical JSON: keys sorted, no spaces, UTF-8."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def name_log(protocol: Path) -> Path:
    """The log beside a protocol."""
    return protocol.with_name(f"{protocol.stem}.log.jsonl")


def read_log(path: Path) -> LookLog:
    """The log, with what is wrong with it instead of an error: a look goes on, and its result says so."""
    if not path.is_file():
        return LookLog(path, (), f"{path.name} is missing, so earlier looks cannot be excluded")
    looks: list[Look] = []
    previous = _FIRST
    for number, line in enumerate(read_text(path).splitlines()):
        try:
            look = Look.model_validate_json(line)
        except ValidationError:
            return LookLog(path, tuple(looks), f"line {number + 1} of {path.name} is damaged")
        if look.number != number or look.previous != previous or look.seal().sha256 != look.sha256:
            return LookLog(path, (*looks, look), f"line {number + 1} of {path.name} was changed, removed or moved")
        looks.append(look)
        previous = look.sha256
    if not looks or looks[0].event != PLANNED:
        return LookLog(path, tuple(looks), f"{path.name} does not begin with the planning")
    return LookLog(path, tuple(looks))
