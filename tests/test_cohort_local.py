"""Processes on this machine: threads, what dies with whom, and what the coordinating process says when it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from unet_pipeline.cohort import local
from unet_pipeline.cohort.engines import build_engine
from unet_pipeline.cohort.items import Item, Share, Work
from unet_pipeline.cohort.local import LocalEngine
from unet_pipeline.cohort.record import open_record
from unet_pipeline.cohort.run import MAX_LOST, Settled, run_items
from unet_pipeline.cohort.status import read_jobs
from unet_pipeline.errors import CohortError

from .cohort_toys import TOY

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does")
ROOT = Path(__file__).parents[1]


def build_items(**fates: str) -> list[Item]:
    return [Item(name, "key", {"name": name, "fate": fate}) for name, fate in fates.items()]


def run(folder: Path, items: list[Item], num_workers: int = 2) -> list[Settled]:
    with open_record(folder) as record:
        work = Work(TOY, {"folder": str(folder)})
        return list(run_items(items, work, LocalEngine(num_workers, Share(1)), record).iterate())


def count_attempts(folder: Path) -> Counter[str]:
    return Counter((folder / "attempts").read_text().split())


def test_local_engine_each_kind_of_failure_and_the_rest_done(tmp_path: Path) -> None:
    others = {f"well_{number}": "" for number in range(12)}
    fates = {"flat": "bad", "killer": "kill", "unlucky": "kill once", "large": "memory", "odd": "defect"}
    settled = {one.item.name: one for one in run(tmp_path, build_items(**fates, **others))}
    states = {name: settled[name].row.state for name in fates}
    assert states == {
        "flat": "bad input",
        "killer": "poison",
        "unlucky": "finished",
        "large": "finished",
        "odd": "error",
    }
    assert all(settled[name].is_finished for name in others)
    attempts = count_attempts(tmp_path)
    assert {name: attempts[name] for name in fates} == {
        "flat": 1,
        "killer": MAX_LOST,
        "unlucky": 2,
        "large": 2,
        "odd": 1,
    }
    assert {attempts[name] for name in others} == {1}, "a worker that dies takes no item but its own with it"
    assert f"ended without an answer {MAX_LOST} times (SIGKILL(-9))" in settled["killer"].row.message


def test_local_engine_threads_are_those_of_the_share_before_the_first_import(tmp_path: Path) -> None:
    with open_record(tmp_path) as record:
        work = Work(TOY, {"folder": str(tmp_path), "with_torch": True})
        settled = list(run_items(build_items(a=""), work, LocalEngine(1, Share(3)), record).iterate())
    assert settled[0].row.result["threads"] == ["3", 3]
    assert all(one.row.result["pid"] != os.getpid() for one in settled)


def test_local_engine_several_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_count_gpus", lambda: 2)
    shares = LocalEngine(3, Share(1))._list_shares()
    assert [share.device for share in shares] == ["cuda:0", "cuda:1", "cuda:0"]
    assert {share.device for share in LocalEngine(3, Share(1, "cuda:1"))._list_shares()} == {"cuda:1"}
    assert {share.device for share in LocalEngine(3, Share(1, "cpu"))._list_shares()} == {"cpu"}
    monkeypatch.setattr(local, "_count_gpus", lambda: 1)
    assert {share.device for share in LocalEngine(2, Share(1))._list_shares()} == {None}


def test_local_engine_work_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    work, said = (
        Work(TOY, {"folder": str(tmp_path), "cannot_open": True}),
        "A worker cannot begin: The network is not there",
    )
    with open_record(tmp_path) as record, pytest.raises(CohortError, match=said):
        run_items(build_items(a=""), work, LocalEngine(2, Share(1)), record)
    assert read_jobs(tmp_path).counts == {"waiting": 1}
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if "popen_loky" in command]


def test_local_engine_full_disk_stops_the_run_with_the_project_s_message(tmp_path: Path) -> None:
    items = build_items(**{"full": "disk"}, **{f"well_{number}": "" for number in range(5)})
    with pytest.raises(CohortError, match=r"label\.nii\.gz cannot be written: the disk is full\. Free some space"):
        run(tmp_path, items, num_workers=1)
    assert read_jobs(tmp_path).counts["disk full"] == 1


SCRIPT = """
import sys
from pathlib import Path
from unet_pipeline.cohort.items import Item, Share, Work
from unet_pipeline.cohort.local import LocalEngine
from unet_pipeline.cohort.record import open_record
from unet_pipeline.cohort.run import run_items
folder = Path(sys.argv[1])
items = [Item(f"case_{number}", "key", {"name": f"case_{number}", "seconds": 0.3}) for number in range(200)]
with open_record(folder) as record:
    run_items(items, Work("tests.cohort_toys:open_toy", {"folder": str(folder)}), LocalEngine(2, Share(1)), record)
"""


def start_script(folder: Path) -> subprocess.Popen[str]:
    """A script without the guard that processes usually ask for; returns when its workers work."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "pipeline")])}
    process = subprocess.Popen(
        [sys.executable, script, str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + 120
    while not (folder / "attempts").exists() or len(count_attempts(folder)) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return process


def wait_for_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_local_engine_workers_end_with_the_coordinator_and_the_record_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start_script(tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    jobs = read_jobs(tmp_path)
    assert 1 <= len(jobs.running) <= 2, "four are given to the engine, and it has two workers"
    assert {row.host for row in jobs.running} == {socket.gethostname()}
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    wait_for_end(family)
    jobs = read_jobs(tmp_path)
    assert jobs.is_alive is False
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert jobs.counts["running"] >= 1
    else:
        assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)
        assert f"Stopped: {200 - jobs.num_finished} of 200 left to do. The same command goes on from there." in stderr
        assert jobs.counts == {"finished": jobs.num_finished, "waiting": 200 - jobs.num_finished}
    assert 0 < jobs.num_finished < 200


def test_build_engine_wrong_names_and_numbers_say_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CohortError, match="no engine 'lokal'; did you mean 'local'"):
        build_engine("lokal", 1, Share())
    with pytest.raises(CohortError, match="number of workers is 0; expected at least 1"):
        build_engine("local", 0, Share())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        CohortError, match=r"The engine ray needs the library ray, which .*pip install 'unet-pipeline\[ray\]'"
    ):
        build_engine("ray", 1, Share())
