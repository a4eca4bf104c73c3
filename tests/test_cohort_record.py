"""The record of a run: it holds what was told, whatever dies, and what a task left in a part file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from unet_pipeline.cohort.items import Attempt, Item, Outcome, State
from unet_pipeline.cohort.parts import append_outcome, read_outcomes
from unet_pipeline.cohort.record import LOCK, RECORD, Row, open_record
from unet_pipeline.cohort.status import forget_failures, read_jobs
from unet_pipeline.errors import CohortError, FileError
from unet_pipeline.locks import InUseError

ITEMS = [Item(f"case_{number}", f"key_{number}", {"secret": "s3cr3t"}, inputs_sha256={"a": "0"}) for number in range(4)]


def finish(item: Item, **result: object) -> Outcome:
    return Outcome(
        Attempt(item), State.FINISHED, {"outputs": {f"{item.name}.nii.gz": "f" * 64}, **result}, "", "host", 9.0, 2.0
    )


def read_rows(folder: Path, items: Sequence[Item] = ITEMS) -> list[Row | None]:
    with open_record(folder) as record:
        return [row for _, row in record.pair(items)]


def test_record_has_what_was_told_after_it_was_closed(tmp_path: Path) -> None:
    with open_record(tmp_path) as record:
        record.start_run("predict", {"bundle_sha256": "b"}, "local", 2, 4)
        record.enter(ITEMS)
        record.begin(Attempt(ITEMS[1]))
        record.settle(finish(ITEMS[1], dice=0.5), State.FINISHED)
        record.end_run()
    waiting, done, *_ = read_rows(tmp_path)
    assert waiting == Row("case_0", "key_0", "waiting", inputs_sha256={"a": "0"})
    outputs = {"case_1.nii.gz": "f" * 64}
    assert done == Row("case_1", "key_1", "finished", 1, {"a": "0"}, outputs, {"dice": 0.5}, "", "host", 9.0, 2.0)
    assert done.as_result() == {"dice": 0.5, "outputs": outputs}
    assert [path.name for path in tmp_path.iterdir()] == [RECORD], "one file, which can be copied"


def test_record_holds_no_argument_of_an_item(tmp_path: Path) -> None:
    """Arguments may be addresses with what is needed to reach them."""
    with open_record(tmp_path) as record:
        record.start_run("predict", {}, "local", 2, 4)
        record.enter(ITEMS)
    assert b"s3cr3t" not in (tmp_path / RECORD).read_bytes()


def test_record_another_key_begins_anew_and_the_same_stays(tmp_path: Path) -> None:
    with open_record(tmp_path) as record:
        record.enter(ITEMS)
        for item in ITEMS:
            record.begin(Attempt(item))
            record.settle(finish(item), State.FINISHED)
        record.enter([ITEMS[0], Item("case_1", "other", {})])
    kept, changed, unwanted, _ = read_rows(tmp_path)
    assert (kept.state, kept.attempts) == ("finished", 1)
    assert (changed.key, changed.state, changed.attempts, changed.outputs) == ("other", "waiting", 0, {})
    assert unwanted.state == "finished"
    with open_record(tmp_path) as record:
        record.start_run("predict", {}, "local", 1, 2)
    assert read_jobs(tmp_path).counts == {"finished": 1, "waiting": 1}


def test_record_two_items_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 items have 1 names"), open_record(tmp_path) as record:
        record.enter([ITEMS[0], replace(ITEMS[0], key="other")])


def test_record_names_that_are_no_utf_8_and_long_lists(tmp_path: Path) -> None:
    items = [
        Item(os.fsdecode(b"caf\xe9"), "k", {}),
        *(Item(f"{number}", "k", {}) for number in range(1500)),
        Item("ä'\"", "k", {}),
    ]
    with open_record(tmp_path) as record:
        record.enter(items)
        record.settle(finish(items[0]), State.FINISHED)
        record.commit()
        assert [row.name for _, row in record.pair(items) if row] == [item.name for item in items]
    assert read_rows(tmp_path, items[:1])[0].is_finished


def test_record_is_one_process_s_alone(tmp_path: Path) -> None:
    script = f"from unet_pipeline.cohort.record import open_record\nfrom pathlib import Path\nwith open_record(Path({str(tmp_path)!r})): pass"
    with open_record(tmp_path):
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert InUseError.__name__ in ended.stderr
    assert not (tmp_path / LOCK).exists()


def test_record_of_a_killed_process_has_all_that_was_committed(tmp_path: Path) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from tests.test_cohort_record import ITEMS, finish
        from unet_pipeline.cohort.items import Attempt, State
        from unet_pipeline.cohort.record import open_record
        with open_record(Path({str(tmp_path)!r})) as record:
            record.start_run("predict", {{}}, "local", 2, 4)
            record.enter(ITEMS)
            record.settle(finish(ITEMS[0]), State.FINISHED)
            record.begin(Attempt(ITEMS[1]))
            record.note_beginning(Attempt(ITEMS[1]), "host", 9.0)
            record.commit()
            record.settle(finish(ITEMS[2]), State.FINISHED)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    root = Path(__file__).parents[1]
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    jobs = read_jobs(tmp_path)
    assert (jobs.is_alive, jobs.ended, jobs.num_finished, [row.name for row in jobs.running]) == (
        False,
        None,
        1,
        ["case_1"],
    )
    assert [row.state for row in read_rows(tmp_path) if row] == ["finished", "running", "waiting", "waiting"]


def fill(folder: Path) -> None:
    with open_record(folder) as record:
        record._connection.execute("PRAGMA max_page_count=12")
        record.enter([Item("x" * 3000 + str(number), "k", {}) for number in range(50)])


def test_record_full_disk_and_damaged_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"jobs\.sqlite cannot be written: the disk is full\. Free some space"):
        fill(tmp_path)
    (tmp_path / RECORD).write_bytes(b"no record" * 500)
    for read in (read_rows, read_jobs):
        with pytest.raises(FileError, match=r"jobs\.sqlite is damaged, or no record of jobs\. Remove it"):
            read(tmp_path)


def test_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with open_record(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / RECORD)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(CohortError, match="newer version"), open_record(tmp_path):
        pass


def test_read_jobs_running_run_shows_counts_and_time_left(tmp_path: Path) -> None:
    with open_record(tmp_path) as record:
        record.start_run("predict", {}, "local", 2, 4)
        record.enter(ITEMS)
        record.begin(Attempt(ITEMS[0]))
        record.settle(finish(ITEMS[0]), State.FINISHED)
        record.settle(Outcome(Attempt(ITEMS[1]), State.BAD_INPUT, message="It is flat."), State.BAD_INPUT)
        record.commit()
        jobs = read_jobs(tmp_path)
        assert (jobs.is_alive, jobs.title, jobs.num_items, jobs.num_finished) == (True, "predict", 4, 1)
        assert jobs.left_s == pytest.approx(2 * 2.0 / 2), "two items of two seconds each, by two workers"
        assert [(row.name, row.message) for row in jobs.failed] == [("case_1", "It is flat.")]
        with pytest.raises(InUseError):
            _in_other_process(tmp_path)
    assert forget_failures(tmp_path) == 1
    assert read_jobs(tmp_path).counts == {"finished": 1, "waiting": 3}


def test_read_jobs_what_the_engine_keeps_for_a_worker_waits(tmp_path: Path) -> None:
    with open_record(tmp_path) as record:
        record.start_run("train", {}, "local", 2, 4)
        record.enter(ITEMS)
        for item in ITEMS:
            record.begin(Attempt(item))
        record.note_beginning(Attempt(ITEMS[0]), "node", time.time() - 3600)
        record.commit()
        jobs = read_jobs(tmp_path)
        assert jobs.counts == {"running": 1, "waiting": 3}
        assert [(row.name, row.host) for row in jobs.running] == [("case_0", "node")]
        assert jobs.left_s is None, "nothing is finished"
        record.settle(replace(finish(ITEMS[0]), duration_s=3600.0), State.FINISHED)
        record.note_beginning(Attempt(ITEMS[1]), "node", time.time() - 2700)
        record.commit()
        assert read_jobs(tmp_path).left_s == pytest.approx((900 + 2 * 3600) / 2, abs=60), "by two workers"
        record.settle(replace(finish(ITEMS[1]), duration_s=3600.0), State.FINISHED)
        record.settle(replace(finish(ITEMS[2]), duration_s=3600.0), State.FINISHED)
        record.note_beginning(Attempt(ITEMS[3]), "node", time.time() - 2700)
        record.commit()
        assert read_jobs(tmp_path).left_s == pytest.approx(900, abs=60), "two workers do not share the last item"


def _in_other_process(folder: Path) -> None:
    script = f"from unet_pipeline.cohort.status import forget_failures\nfrom pathlib import Path\nforget_failures(Path({str(folder)!r}))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if InUseError.__name__ in ended.stderr:
        raise InUseError(ended.stderr)


def test_read_jobs_folder_without_record_says_which_folder_has_one(tmp_path: Path) -> None:
    for read in (read_jobs, forget_failures):
        with pytest.raises(CohortError, match=r"has no record of jobs \(jobs.sqlite\)\. Give the output folder"):
            read(tmp_path / "nowhere")


def test_parts_what_was_appended_is_read_and_half_a_line_is_not(tmp_path: Path) -> None:
    part, outcomes = tmp_path / "part_1.jsonl", [finish(item, dice=0.1) for item in ITEMS[:3]]
    for outcome in outcomes[:2]:
        append_outcome(part, outcome)
    assert list(read_outcomes(part)) == outcomes[:2]
    whole = part.read_bytes()
    for length in (len(whole) - 1, len(whole) - 40, 10, 0):
        part.write_bytes(whole[:length])
        assert list(read_outcomes(part)) == outcomes[: whole[:length].count(b"\n")]
    part.write_bytes(whole[:-40])
    append_outcome(part, outcomes[2])
    assert list(read_outcomes(part)) == [outcomes[0], outcomes[2]], "the next task writes behind half a line"
    assert list(read_outcomes(tmp_path / "none")) == []
