"""Items and what comes of an attempt: the kind of a failure decides whether it is tried again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import BaseModel

from unet_pipeline.cohort.items import (
    Attempt,
    Item,
    Share,
    State,
    Work,
    carry_out,
    hash_parts,
    read_values,
    tell_apart,
    write_values,
)
from unet_pipeline.errors import CohortError, FileError, ImageFileError, PredictionError

ITEM = Item("case", "0" * 64, {"file": "case.nii.gz"}, 2.0, {"case.nii.gz": "1" * 64})


def test_tell_apart_gives_their_part_to_those_alone_that_are_there_twice() -> None:
    assert tell_apart(["a", "b", "a"], ["fold 0", "fold 0", "fold 1"]) == ["a, fold 0", "b", "a, fold 1"]
    assert tell_apart([], []) == []


def fail_with(error: Exception, cause: Exception | None = None, hides: bool = False) -> object:
    def do(arguments: object, smaller: bool) -> dict[str, object]:
        if cause is None:
            raise error
        try:
            raise cause
        except type(cause) as seen:
            raise error from (None if hides else seen)

    return do


def carry_out_failing(error: Exception, cause: Exception | None = None, hides: bool = False) -> tuple[State, str]:
    outcome = carry_out(fail_with(error, cause, hides), Attempt(ITEM))  # type: ignore[arg-type]
    return outcome.state, outcome.message


@pytest.mark.parametrize(
    ("error", "cause", "state"),
    [
        (PredictionError("The image is flat. Take another."), None, State.BAD_INPUT),
        (ImageFileError("a.nii.gz", "is damaged", "Restore it."), OSError("not a gzip file"), State.BAD_INPUT),
        (ImageFileError("a.nii.gz", "cannot be read", "Look."), OSError(errno.EIO, "error"), State.ERROR),
        (ImageFileError("a.nii.gz", "cannot be read", "Look."), OSError(errno.ESTALE, "stale"), State.ERROR),
        (FileError("a.nii.gz", "is locked", "Unlock it."), None, State.ERROR),
        (PermissionError(errno.EACCES, "denied", "a"), None, State.ERROR),
        (OSError(errno.ENOSPC, "full", "a"), None, State.DISK_FULL),
        (OSError(errno.EDQUOT, "quota", "a"), None, State.DISK_FULL),
        (RuntimeError("PytorchStreamWriter failed: No space left on device"), None, State.DISK_FULL),
        (PredictionError("cannot be written"), OSError(errno.ENOSPC, "full"), State.DISK_FULL),
        (MemoryError(), None, State.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate"), None, State.OUT_OF_MEMORY),
        (KeyError("x"), None, State.ERROR),
        (ZeroDivisionError(), None, State.ERROR),
    ],
)
def test_carry_out_kinds_of_failure(error: Exception, cause: Exception | None, state: State) -> None:
    assert carry_out_failing(error, cause)[0] == state


def test_carry_out_memory_that_was_explained_is_still_memory() -> None:
    """`raise ... from None` hides the cause from readers, not from the rule that tries again with less."""
    state, message = carry_out_failing(
        PredictionError("It does not fit. Take --device cpu."), MemoryError(), hides=True
    )
    assert (state, message) == (State.OUT_OF_MEMORY, "It does not fit. Take --device cpu.")


def test_carry_out_messages_are_one_line_and_name_a_defect() -> None:
    assert carry_out_failing(PredictionError("one\n  two"))[1] == "one two"
    assert carry_out_failing(KeyError("x"))[1] == "KeyError: 'x'"
    assert "the disk is full" in carry_out_failing(OSError(errno.ENOSPC, "full", "label.nii.gz"))[1]


def test_carry_out_finished_has_the_result_the_host_and_the_time() -> None:
    outcome = carry_out(
        lambda arguments, smaller: {"file": arguments["file"], "smaller": smaller}, Attempt(ITEM, 2, True)
    )
    assert outcome.state == State.FINISHED
    assert outcome.result == {"file": "case.nii.gz", "smaller": True}
    assert outcome.host == os.uname().nodename
    assert outcome.started > 1e9
    assert 0 <= outcome.duration_s < 5


def test_carry_out_an_end_of_the_process_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        carry_out(fail_with(KeyboardInterrupt()), Attempt(ITEM))  # type: ignore[arg-type]


def test_work_open_calls_the_opener_with_arguments_and_share() -> None:
    function = Work("tests.test_cohort_items:open_echo", {"a": 1}).open(Share(3, "cpu"))
    assert function({"b": 2}, False) == {"a": 1, "b": 2, "num_threads": 3, "device": "cpu"}


def open_echo(arguments: dict[str, object], share: Share) -> object:
    return lambda item, smaller: {**arguments, **item, **asdict(share)}


def test_attempt_travels_as_json_and_by_pickle() -> None:
    attempt = Attempt(ITEM, 2, True)
    assert pickle.loads(pickle.dumps(attempt)) == attempt
    assert json.loads(json.dumps(asdict(attempt)))["item"]["arguments"] == {"file": "case.nii.gz"}


def test_hash_parts_is_that_of_the_json_and_order_counts_in_lists_only() -> None:
    parts = ["a", {"y": 1, "x": [2, 3]}]
    assert hash_parts(parts) == hashlib.sha256(b'["a", {"x": [2, 3], "y": 1}]').hexdigest()
    assert hash_parts(["a", {"x": [2, 3], "y": 1}]) == hash_parts(parts)
    assert (
        len({hash_parts(parts), hash_parts(["a", {"y": 1, "x": [3, 2]}]), hash_parts(["a", {"y": 1, "x": [2]}])}) == 3
    )
    assert hash_parts({"initial": Path("a/b.pt")}) == hash_parts({"initial": "a/b.pt"})


class Measured(BaseModel):
    path: Path
    hashes: dict[str, str]
    sizes: tuple[tuple[int, ...], ...] = ()
    note: str = "none"


def test_values_that_travel_as_json_are_what_they_were_also_with_names_that_are_no_utf_8() -> None:
    name = os.fsdecode(b"p\xff.png")
    measured = Measured(path=Path(name), hashes={name: "0"}, sizes=((1, 2), (3,)))
    written = write_values(measured)
    assert written == {"path": name, "hashes": {name: "0"}, "sizes": [[1, 2], [3]]}, "what was not set is not written"
    assert read_values(json.loads(json.dumps(written)), Measured, "Results") == measured


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"hashes": {}}, "path: field required"),
        ({"path": "a", "hashes": {"b": 1}}, "hashes.b: input should be a valid string"),
        ({"path": "a", "hashes": {}, "sizes": [[1], ["x"]]}, "sizes.1.0: input should be a valid integer"),
    ],
)
def test_values_of_another_version_are_named_by_their_place(values: dict[str, object], place: str) -> None:
    with pytest.raises(
        CohortError, match=f"^The results of case are not those of this version: {place}.*Use one version"
    ):
        read_values(values, Measured, "The results of case")
