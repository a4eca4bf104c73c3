"""The engine on a real Slurm: `make test-slurm` starts one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from unet_pipeline.cohort.items import Item, Share, Work
from unet_pipeline.cohort.record import open_record
from unet_pipeline.cohort.run import Settled, run_items
from unet_pipeline.cohort.slurm_commands import require_slurm
from unet_pipeline.cohort.slurm_engine import SlurmEngine
from unet_pipeline.errors import CohortError

from .slurm_work import build_items, build_work, count_attempts

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[1]
_PATIENCE_S = 90.0


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster without the tasks of other tests: an engine goes when it has its answers, and its tasks end a little later."""
    try:
        require_slurm()
        subprocess.run(["sinfo"], check=True, capture_output=True, timeout=10)
    except (CohortError, subprocess.SubprocessError) as error:
        pytest.skip(f"no Slurm that runs ({error}); make test-slurm starts one")
    paths = [str(ROOT), str(ROOT / "pipeline"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setattr("unet_pipeline.cohort.slurm_engine._ASK_INTERVAL_S", 1.0)
    monkeypatch.setattr("unet_pipeline.cohort.slurm_engine._READ_INTERVAL_S", 0.2)
    yield
    ask("scancel --me --signal=KILL")
    wait_for(lambda: not ask("squeue --me --noheader"))


def run(tmp_path: Path, items: Sequence[Item], work: Work, num_workers: int = 2, **sbatch: str) -> list[Settled]:
    engine = SlurmEngine(num_workers, Share(), tmp_path / "slurm", sbatch)
    with open_record(tmp_path) as record:
        return list(run_items(items, work, engine, record).iterate())


def list_failed(settled: Sequence[Settled]) -> dict[str, tuple[str, str]]:
    """State and message of the items that failed."""
    return {one.item.name: (one.row.state, one.row.message) for one in settled if not one.is_finished}


def ask(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def list_tasks(state: str = "RUNNING") -> list[str]:
    """Job numbers of the tasks that are in a state."""
    return ask(f"squeue --me --array --noheader --format=%i --states={state}").split()


def wait_for(happens: Callable[[], object]) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not happens():
        assert time.monotonic() < until_s, f"not within {_PATIENCE_S} s; {ask('squeue --me --array')}"
        time.sleep(0.1)


class Coordinator:
    """A process of its own that runs items; `folder` holds outputs, record and what Slurm writes."""

    def __init__(self, folder: Path, count: int, seconds: float, num_workers: int = 2, sbatch: str = "{}") -> None:
        self.work_folder = folder / "work"
        code = f"""
from pathlib import Path
from tests import slurm_work, test_cohort_slurm_engine as tests
from unet_pipeline.cohort import slurm_engine
slurm_engine._ASK_INTERVAL_S, slurm_engine._READ_INTERVAL_S = 1.0, 0.2
folder = Path({str(folder)!r})
items, work = slurm_work.build_items({count}, {seconds}), slurm_work.build_work(folder / "work")
assert not tests.list_failed(tests.run(folder, items, work, {num_workers}, **{sbatch}))
"""
        self.process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def has_begun(self, count: int) -> bool:
        return len(count_attempts(self.work_folder)) >= count

    def finish(self) -> str:
        _, said = self.process.communicate(timeout=_PATIENCE_S)
        assert self.process.returncode == 0, said
        return said


def test_an_array_does_all_items_each_once(tmp_path: Path) -> None:
    items, work = build_items(9), build_work(tmp_path / "work")
    done = run(tmp_path, items, work, num_workers=3)
    assert [one.item.name for one in done if one.is_finished] == [item.name for item in items]
    assert count_attempts(tmp_path / "work") == dict.fromkeys([item.name for item in items], 1)
    for one in done:
        assert (one.row.result["threads"], one.row.result["cpus"], one.row.attempts) == ("1", "1", 1)
        assert list(one.row.outputs) == [f"{one.item.name}.txt"]
    assert not (tmp_path / "slurm").exists()


def test_one_item_is_a_job_without_an_array(tmp_path: Path) -> None:
    assert not list_failed(run(tmp_path, build_items(1), build_work(tmp_path / "work"), num_workers=4))


def test_bad_input_is_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    items = build_items(5, item_1="bad", item_3="memory")
    done = run(tmp_path, items, build_work(tmp_path / "work"))
    assert list_failed(done) == {"item_1": ("bad input", "item_1.nii.gz holds no voxels. Restore it.")}
    assert count_attempts(tmp_path / "work") == {"item_0": 1, "item_1": 1, "item_2": 1, "item_3": 2, "item_4": 1}


def test_a_task_that_dies_loses_its_item_only_and_one_that_always_dies_is_set_aside(tmp_path: Path) -> None:
    items = build_items(8, item_2="kill once", item_5="kill")
    done = run(tmp_path, items, build_work(tmp_path / "work"))
    ((name, (state, message)),) = list_failed(done).items()
    assert (name, state) == ("item_5", "poison")
    assert "of Slurm ended as FAILED" in message
    attempts = count_attempts(tmp_path / "work")
    assert (attempts.pop("item_2"), attempts.pop("item_5")) == (2, 3)
    assert set(attempts.values()) == {1}


def test_a_task_that_is_requeued_goes_on_with_what_is_left(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 6, seconds=1.5, num_workers=1)
    wait_for(lambda: coordinator.has_begun(3))
    (task,) = list_tasks()
    ask(f"scontrol requeue {task}")
    said = coordinator.finish()
    assert said.count("slurm    job") == 1
    attempts = count_attempts(tmp_path / "work")
    assert len(attempts) == 6
    assert sum(attempts.values()) <= 7


def test_the_signal_before_the_end_of_its_time_puts_a_task_back(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 6, seconds=1.5, num_workers=1)
    wait_for(lambda: coordinator.has_begun(3))
    (task,) = list_tasks()
    ask(f"scancel --signal=USR2 {task}")
    wait_for(lambda: list_tasks("PENDING"))
    assert coordinator.finish().count("slurm    job") == 1
    assert sum(count_attempts(tmp_path / "work").values()) <= 7


def test_a_task_that_another_job_preempts_goes_on_afterwards(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 5, seconds=1.5, num_workers=1)
    wait_for(lambda: coordinator.has_begun(2))
    command = ["sbatch", "--partition=urgent", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 3"]
    subprocess.run(command, check=True, capture_output=True)
    wait_for(lambda: "urgent" in ask("squeue --me --states=RUNNING"))
    assert coordinator.finish().count("slurm    job") == 1
    assert sum(count_attempts(tmp_path / "work").values()) <= 6


def test_the_items_of_a_cancelled_task_are_dealt_again(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 8, seconds=2.5)
    wait_for(lambda: coordinator.has_begun(3))
    ask(f"scancel {list_tasks()[0]}")
    said = coordinator.finish()
    assert said.count("slurm    job") >= 2
    attempts = count_attempts(tmp_path / "work")
    assert len(attempts) == 8
    assert sum(attempts.values()) <= 10  # Slurm lets it work on for KillWait
    assert "lost" not in said


def test_a_coordinator_that_was_killed_waits_on_for_the_same_array(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 10, seconds=3.0)
    wait_for(lambda: coordinator.has_begun(4))
    os.kill(coordinator.process.pid, signal.SIGKILL)
    coordinator.process.wait()
    time.sleep(2.0)
    assert len(list_tasks()) == 2
    said = Coordinator(tmp_path, 10, seconds=3.0).finish()
    assert "of an earlier call" in said
    assert "slurm    job" not in said
    attempts = count_attempts(tmp_path / "work")
    assert attempts == {f"item_{number}": 1 for number in range(10)}


def test_answers_of_an_array_that_ended_in_the_meantime_count(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 4, seconds=0.5)
    wait_for(lambda: coordinator.has_begun(1))
    os.kill(coordinator.process.pid, signal.SIGKILL)
    coordinator.process.wait()
    wait_for(lambda: not list_tasks("RUNNING,PENDING,COMPLETING"))
    assert "slurm    job" not in Coordinator(tmp_path, 4, seconds=0.5).finish()
    assert set(count_attempts(tmp_path / "work").values()) == {1}


def test_an_array_whose_items_are_not_wanted_any_more_is_ended(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 6, seconds=2.0, num_workers=1)
    wait_for(lambda: coordinator.has_begun(2))
    os.kill(coordinator.process.pid, signal.SIGKILL)
    coordinator.process.wait()
    assert not list_failed(run(tmp_path, build_items(3, 2.0), build_work(tmp_path / "work"), num_workers=1))
    attempts = count_attempts(tmp_path / "work")
    assert not list_tasks("RUNNING,PENDING")
    assert set(attempts) <= {"item_0", "item_1", "item_2", "item_3"}
    assert attempts["item_0"] == 1


def test_an_interrupted_run_ends_its_array_and_goes_on_later(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 6, seconds=1.0)
    wait_for(lambda: coordinator.has_begun(3))
    coordinator.process.send_signal(signal.SIGINT)
    coordinator.process.communicate(timeout=_PATIENCE_S)
    assert not list_tasks("RUNNING,PENDING")
    Coordinator(tmp_path, 6, seconds=1.0).finish()
    attempts = count_attempts(tmp_path / "work")
    assert len(attempts) == 6
    assert sum(attempts.values()) <= 8


def test_options_reach_the_job(tmp_path: Path) -> None:
    options = '{"partition": "urgent", "time": "17", "cpus-per-task": "2", "comment": "of a test", "exclusive": ""}'
    coordinator = Coordinator(tmp_path, 2, seconds=3.0, sbatch=options)
    wait_for(list_tasks)
    job = ask(f"scontrol show job {list_tasks()[0]}")
    coordinator.finish()
    for setting in ("Partition=urgent", "TimeLimit=00:17:00", "CPUs/Task=2", "Comment=of a test", "Requeue=1"):
        assert setting in job
    assert "OverSubscribe=NO" in job


def test_a_job_without_a_time_has_that_of_the_partition(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, 1, seconds=5.0)
    wait_for(lambda: coordinator.has_begun(1))
    (task,) = list_tasks()
    assert "TimeLimit=00:30:00" in ask(f"scontrol show job {task}")
    coordinator.finish()


@pytest.mark.parametrize(
    ("sbatch", "words"),
    [
        ({"partition": "gpuu"}, "invalid partition specified: gpuu"),
        ({"partitoin": "main"}, "unrecognized option '--partitoin=main'"),
        ({"time": "9-00:00:00"}, "Requested time limit is invalid"),
    ],
)
def test_an_option_that_slurm_does_not_take_is_told_in_its_words(
    tmp_path: Path, sbatch: dict[str, str], words: str
) -> None:
    with pytest.raises(CohortError, match="Slurm does not take the job") as caught:
        run(tmp_path, build_items(2), build_work(tmp_path / "work"), **sbatch)
    assert words in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_work_that_cannot_begin_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="A worker cannot begin: The network is not there"):
        run(tmp_path, build_items(3), build_work(tmp_path / "work", cannot_open=True))
    with pytest.raises(CohortError, match="3 tasks of Slurm, one after another, ended before they began an item"):
        run(tmp_path, build_items(3), build_work(tmp_path / "work", dies=True))
