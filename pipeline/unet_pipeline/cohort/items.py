"""What a run over many things is made of: items, the work that is done on each, and what came of an attempt.

Everything here travels between processes and machines as JSON: paths travel, arrays do not.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unet_pipeline.boundary import explain, is_disk_full, is_out_of_memory, list_causes
from unet_pipeline.errors import CohortError, FileError, PipelineError

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter

Arguments = Mapping[str, object]  # in JSON; `read_values` gives them their types
Kind = TypeVar("Kind")


class State(StrEnum):
    """What came of an attempt, or of an item in the end."""

    FINISHED = "finished"
    BAD_INPUT = "bad input"  # an error of the project: it would fail in the same way again
    OUT_OF_MEMORY = "out of memory"
    LOST = "lost"  # the worker ended without an answer
    DISK_FULL = "disk full"  # the run stops: every other item would fail in the same way
    POISON = "poison"  # its worker was lost as often as is allowed
    ERROR = "error"  # anything else: tried anew by the next run, not by this one


@dataclass(frozen=True)
class Item:
    """One thing to do: an image to predict, a fold to train, a case to measure.

    Attributes:
        name: told to the user and unique in a run, such as the name of a case; no path and no patient.
        key: SHA-256 of all that the result is a function of: hashes of the inputs, of the bundle and of the options.
        arguments: what the work needs to know about it.
        expected_s: forecast of its duration; only the order is used, the longest first.
        inputs_sha256: SHA-256 of its files by their names, for the record.
    """

    name: str
    key: str
    arguments: Arguments
    expected_s: float = 0.0
    inputs_sha256: Mapping[str, str] = field(default_factory=dict)


def tell_apart(names: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Names of items: of those that are there more than once, as a case in several folds is, with their part behind it."""
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name}, {part}" for name, part in zip(names, parts, strict=True)]


def hash_parts(parts: object) -> str:
    """SHA-256 of all that a result is a function of, as `Item.key` needs it; the order of a mapping's names does not count.

    Args:
        parts: values of JSON, and others that their text tells apart, such as paths.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def read_values(values: Arguments, kind: type[Kind], what: str) -> Kind:
    """Arguments or results that have travelled, as a model of pydantic or a dataclass; values that the kind has not are left out.

    Args:
        what: they are, for the message, which goes on with the place of the first that is wrong.

    Raises:
        CohortError: one is missing, or of another type, as another version may write it.
    """
    from pydantic import ValidationError

    try:
        value: Kind = _adapt(kind).validate_python(values)  # type: ignore[arg-type] # mypy: a class has no hash
        return value
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "their kind"
        raise CohortError(
            f"{what} are not those of this version: {place}: {first['msg'].lower()}. Use one version of unet-pipeline for the whole run, "
            "or begin it in another folder."
        ) from error


@functools.cache
def _adapt(kind: Any) -> TypeAdapter[Any]:
    """What reads a kind takes longer to build than to use."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def write_values(model: BaseModel) -> dict[str, object]:
    """The fields of a model that were set, as `read_values` reads them.

    Not pydantic's own JSON, which changes keys whose bytes are no UTF-8, as those of a file's name may be.
    """
    return {name: _make_plain(value) for name, value in model.model_dump(exclude_unset=True).items()}


def _make_plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _make_plain(part) for key, part in value.items()}
    return [_make_plain(part) for part in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Share:
    """What one worker may use of its machine: threads, and a device such as "cpu" or "cuda:1" (chosen by the work, if None)."""

    num_threads: int = 1
    device: str | None = None


Function = Callable[[Arguments, bool], Arguments]


@dataclass(frozen=True)
class Work:
    """What is done on each item.

    Attributes:
        opener: "module:function". A worker calls it once, with `arguments` and its `Share`, and gets the function that it then calls
            with the arguments of each item, and whether less memory is to be taken than the first time. That returns the result:
            `outputs` maps the name of each file to its SHA-256, anything else are numbers and words for the caller.
        arguments: for the opener, the same for all items.
        grace_s: that a worker gets after SIGTERM to save what it has, where the engine can wait.
    """

    opener: str
    arguments: Arguments = field(default_factory=dict)
    grace_s: float = 0.0

    def open(self, share: Share) -> Function:
        """The function of an item, ready in this process: the network is loaded once."""
        module, _, name = self.opener.partition(":")
        function: Function = getattr(importlib.import_module(module), name)(self.arguments, share)
        return function


@dataclass(frozen=True)
class Attempt:
    """An item that is given to a worker; `number` counts from 1, and `smaller` asks for less memory than the first time."""

    item: Item
    number: int = 1
    smaller: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        attempt: with its item.
        state: any but POISON.
        result: of the function, where it finished.
        message: one line on what failed, as the user should read it.
        host: the machine of the worker.
        started: seconds since 1970.
        duration_s: of the attempt.
    """

    attempt: Attempt
    state: State
    result: Arguments = field(default_factory=dict)
    message: str = ""
    host: str = ""
    started: float = 0.0
    duration_s: float = 0.0


def carry_out(function: Function, attempt: Attempt) -> Outcome:
    """Call the function of an item; no exception leaves it but those that end a process.

    Returns:
        Any state but LOST.
    """
    started, result, message = time.time(), dict[str, object](), ""
    begun_s = time.perf_counter()
    try:
        state, result = State.FINISHED, dict(function(attempt.item.arguments, attempt.smaller))
    except Exception as error:
        state, message = judge_error(error)
    return Outcome(attempt, state, result, message, socket.gethostname(), started, time.perf_counter() - begun_s)


def judge_error(error: Exception) -> tuple[State, str]:
    """The kind of a failure, and one line that says what failed as the user should read it.

    What the system refuses, such as a network drive that is away, is no bad input: it may be there again for the next run.
    """
    explained = explain(error)
    message = " ".join(str(explained or f"{type(error).__name__}: {error}").split())
    causes = list_causes(error, with_hidden=True)
    if any(map(is_disk_full, causes)):
        return State.DISK_FULL, message
    if any(map(is_out_of_memory, causes)):
        return State.OUT_OF_MEMORY, message
    is_refused = any(isinstance(cause, OSError) and cause.errno is not None for cause in causes)
    is_problem = isinstance(error, PipelineError) and not (isinstance(error, FileError) or is_refused)
    return State.BAD_INPUT if is_problem else State.ERROR, message
