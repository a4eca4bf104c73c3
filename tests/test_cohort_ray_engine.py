"""Workers of Ray: what the engine does when its driver or the cluster is gone, and (`make test-ray`) on a real cluster."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from unet_pipeline.cohort import ray_engine
from unet_pipeline.cohort.items import Attempt, Item, Outcome, Share, State, Work
from unet_pipeline.cohort.ray_engine import RayEngine
from unet_pipeline.cohort.record import open_record
from unet_pipeline.cohort.run import run_items
from unet_pipeline.errors import CohortError

from . import ray_works

# plays the driver: the first life dies with the attempt that is called "last" in hand, and the next one in the queue; the second finishes all
DRIVER = """
import json, os, sys
asked = json.loads(sys.stdin.readline())
life = asked["arguments"]["life"]
first = not os.path.exists(life)
open(life, "a").close()
def reply(**words):
    print(json.dumps(words), flush=True)
reply(ready="node")
for line in sys.stdin:
    message = json.loads(line)
    name = message["attempt"]["item"]["name"]
    reply(begun=message["number"], host="node", at=1.0)
    if first and name == "last":
        os._exit(1)
    reply(over=message["number"], outcome={"state": "finished", "result": {"name": name}})
"""


def build_attempt(name: str, **arguments: Any) -> Attempt:
    return Attempt(Item(name, name, arguments))


def collect(engine: RayEngine, num_outcomes: int) -> dict[str, Outcome]:
    outcomes: list[Outcome] = []
    while len(outcomes) < num_outcomes:
        outcomes += engine.collect()
    assert len(outcomes) == num_outcomes
    return {outcome.attempt.item.name: outcome for outcome in outcomes}


@pytest.fixture
def with_ray_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: name)


# without Ray


@pytest.mark.parametrize(
    "address", ["", "10.0.0.1", "http://127.0.0.1:8265", "10.0.0.1:", "ray://", "10.0.0.1:6379/x", "localhost:many"]
)
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(CohortError, match=r"is auto, HOST:PORT or ray://HOST:PORT, not .*`ray start --head`"):
        RayEngine(2, Share(), address=address)


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CohortError, match=r"needs the library ray, .*pip install 'unet-pipeline\[ray\]'"):
        RayEngine(2, Share())


@pytest.mark.usefixtures("with_ray_installed")
@pytest.mark.parametrize(("num_workers", "num_in_flight"), [(1, 3), (4, 6), (1000, 1250)])
def test_a_few_more_attempts_are_taken_than_there_are_workers(num_workers: int, num_in_flight: int) -> None:
    engine = RayEngine(num_workers, Share())
    assert (engine.num_workers, engine.num_in_flight) == (num_workers, num_in_flight)


@pytest.mark.usefixtures("with_ray_installed")
def test_what_a_worker_had_is_lost_with_the_cluster_and_what_waited_is_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_engine, "_DRIVER", DRIVER)
    engine = RayEngine(1, Share(), address="head:6379")
    with contextlib.closing(engine):
        engine.start(Work("module:function", {"life": str(tmp_path / "life")}))
        for name in ("first", "last", "waiting"):
            engine.submit(build_attempt(name))
        outcomes = collect(engine, 3)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "first": State.FINISHED,
        "last": State.LOST,
        "waiting": State.FINISHED,
    }
    assert outcomes["last"].message == "the Ray cluster went away before it had answered"
    assert outcomes["last"].host == "node"
    assert outcomes["waiting"].result == {"name": "waiting"}
    told = capsys.readouterr().err
    assert "The Ray cluster at head:6379 is gone; trying for 300 s to reach it again." in told
    assert "The Ray cluster at head:6379 is back." in told


@pytest.mark.usefixtures("with_ray_installed")
def test_a_driver_that_cannot_begin_is_an_error_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_DRIVER", "raise SystemExit('no memory for a raylet')")
    with pytest.raises(CohortError, match=r"Ray ended while it was started: no memory for a raylet"):
        RayEngine(1, Share()).start(Work("module:function"))


@pytest.mark.usefixtures("with_ray_installed")
def test_what_is_over_is_handed_out_before_the_error_that_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = DRIVER.replace("os._exit(1)", "reply(failed='A worker of Ray on node cannot begin.'); break")
    monkeypatch.setattr(ray_engine, "_DRIVER", failing.replace("first and", ""))
    engine = RayEngine(1, Share())
    engine.start(Work("module:function", {"life": os.devnull}))
    with contextlib.closing(engine):
        engine.submit(build_attempt("first"))
        engine.submit(build_attempt("last"))
        assert collect(engine, 1)["first"].state == State.FINISHED
        with pytest.raises(CohortError, match="on node cannot begin"):
            engine.collect()


def test_nothing_of_ray_is_imported_with_the_engine() -> None:
    script = "import sys, unet_pipeline.cli, unet_pipeline.cohort.ray_engine; print('ray' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"


# on a real cluster

needs_ray = pytest.mark.ray


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed; `make test-ray` installs it")
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[RayEngine]:
    """Two workers of two threads on a cluster of this machine alone."""
    engine = RayEngine(2, Share(num_threads=2))
    with contextlib.closing(engine):
        engine.start(Work("tests.ray_works:open_work", {"folder": str(folder)}))
        yield engine


@needs_ray
def test_outcomes_come_in_the_order_in_which_they_end(engine: RayEngine) -> None:
    collect_all_workers(engine)
    engine.submit(build_attempt("long", seed=1, sleep_s=1.5))
    for seed in range(4):
        engine.submit(build_attempt(f"short {seed}", seed=seed))
    assert list(collect(engine, 5)) == ["short 0", "short 1", "short 2", "short 3", "long"]


def collect_all_workers(engine: RayEngine) -> dict[str, Outcome]:
    """Long attempts until both workers have had some: the second may begin later than the first."""
    for _ in range(60):
        for name in ("one", "two"):
            engine.submit(build_attempt(name, seed=0, sleep_s=0.5))
        outcomes = collect(engine, 2)
        if len({outcome.result["pid"] for outcome in outcomes.values()}) == 2:
            return outcomes
    raise AssertionError("one worker never began")


@needs_ray
def test_threads_are_those_asked_for_and_the_host_is_told(engine: RayEngine) -> None:
    for outcome in collect_all_workers(engine).values():
        assert outcome.result["threads"] == [2, 2]
        assert outcome.result["device"] == "cpu"
        assert outcome.host == socket.gethostname()
        assert 0.5 <= outcome.duration_s < 5
        assert abs(outcome.started - time.time()) < 60


@needs_ray
def test_outputs_are_those_of_a_plain_loop(engine: RayEngine, tmp_path: Path) -> None:
    for seed in range(12):
        engine.submit(build_attempt(str(seed), seed=seed))
    on_ray = {name: outcome.result["outputs"] for name, outcome in collect(engine, 12).items()}
    alone = Work("tests.ray_works:open_work", {"folder": str(tmp_path)}).open(Share(2))
    assert on_ray == {str(seed): alone({"seed": seed}, False)["outputs"] for seed in range(12)}


@needs_ray
def test_kinds_of_failure_are_told_apart(engine: RayEngine) -> None:
    engine.submit(build_attempt("input", seed=0, problem="input"))
    engine.submit(build_attempt("memory", seed=0, problem="memory"))
    engine.submit(build_attempt("result", seed=0, problem="result"))
    engine.submit(Attempt(Item("smaller", "smaller", {"seed": 0, "problem": "memory"}), 2, smaller=True))
    outcomes = collect(engine, 4)
    assert (outcomes["input"].state, outcomes["input"].message) == (
        State.BAD_INPUT,
        "image.nii.gz has no voxels. Remove it.",
    )
    assert outcomes["memory"].state == State.OUT_OF_MEMORY
    assert outcomes["result"].state == State.ERROR
    assert "its result cannot travel: Object of type object" in outcomes["result"].message
    assert outcomes["smaller"].state == State.FINISHED


@needs_ray
def test_a_killed_worker_loses_its_attempt_alone_and_is_replaced(engine: RayEngine) -> None:
    victim = collect_all_workers(engine)["one"].result["pid"]
    for number in range(4):
        engine.submit(build_attempt(f"{number}", seed=number, sleep_s=1.0))
    time.sleep(0.5)  # both are at work, two attempts wait
    os.kill(victim, signal.SIGKILL)
    outcomes = collect(engine, 4)
    lost = [outcome for outcome in outcomes.values() if outcome.state == State.LOST]
    assert len(lost) == 1
    assert lost[0].message == f"its worker on {socket.gethostname()} ended without an answer"
    assert [outcome.state for outcome in outcomes.values()].count(State.FINISHED) == 3
    assert victim not in {outcome.result["pid"] for outcome in collect_all_workers(engine).values()}


@needs_ray
def test_closing_ends_workers_at_work_and_imports_nothing_of_ray(folder: Path) -> None:
    engine = RayEngine(1, Share(num_threads=1))
    engine.start(Work("tests.ray_works:open_work", {"folder": str(folder)}))
    engine.submit(build_attempt("one", seed=0))
    worker = psutil.Process(collect(engine, 1)["one"].result["pid"])
    engine.submit(build_attempt("hour", seed=0, sleep_s=3600))
    time.sleep(0.5)
    begun_s = time.monotonic()
    engine.close()
    assert time.monotonic() - begun_s < 15
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running()
    assert "ray" not in sys.modules


@needs_ray
@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("missing", r"on \S+ cannot begin: The bundle is not there"),
        ("dies", r"cannot begin: its process ended while it opened the work.*run the same command again\."),
    ],
)
def test_work_that_cannot_be_opened_ends_the_run(folder: Path, problem: str, message: str) -> None:
    engine = RayEngine(1, Share())
    with contextlib.closing(engine), pytest.raises(CohortError, match=message):
        engine.start(Work("tests.ray_works:open_work", {"folder": str(folder), "problem": problem}))


@needs_ray
def test_workers_that_are_killed_while_they_begin_are_begun_again(tmp_path: Path, folder: Path) -> None:
    engine = RayEngine(2, Share())
    with contextlib.closing(engine):
        engine.start(Work("tests.ray_works:open_work", {"folder": str(tmp_path), "problem": "dies at first"}))
        engine.submit(build_attempt("alive", seed=1))
        assert collect(engine, 1)["alive"].state == State.FINISHED


@needs_ray
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_not_there_is_told_at_once(folder: Path, form: str) -> None:
    address = form.format(find_free_port())
    begun_s = time.monotonic()
    with pytest.raises(
        CohortError, match=rf"No Ray cluster answers at {address}: .*refused.* Start it with `ray start --head`"
    ):
        RayEngine(1, Share(), address=address).start(Work("tests.ray_works:open_work", {"folder": str(folder)}))
    assert time.monotonic() - begun_s < 30


@needs_ray
def test_a_run_with_killed_workers_does_every_item_once(folder: Path, tmp_path: Path) -> None:
    items = [Item(f"{seed}", f"{seed}", {"seed": seed, "sleep_s": 0.02}) for seed in range(300)]
    num_finished = 0

    def kill_some(outcome: Outcome) -> None:
        nonlocal num_finished
        num_finished += 1
        if num_finished % 100 == 50:
            with contextlib.suppress(ProcessLookupError):
                os.kill(outcome.result["pid"], signal.SIGKILL)

    work = Work("tests.ray_works:open_work", {"folder": str(folder)})
    with open_record(tmp_path) as record:
        run = run_items(items, work, RayEngine(2, Share()), record, on_finish=kill_some)
        settled = list(run.iterate())
    alone = Work(work.opener, {"folder": str(tmp_path)}).open(Share())
    assert [one.row.outputs for one in settled] == [alone({"seed": seed}, False)["outputs"] for seed in range(300)]
    assert num_finished == 300
    assert 300 <= sum(one.row.attempts for one in settled) <= 303
    assert all(one.is_finished and not one.is_kept for one in settled)


@needs_ray
def test_a_restarted_head_is_survived(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    port = find_free_port()
    with start_head(port):
        engine = RayEngine(1, Share(), address=f"127.0.0.1:{port}")
        with contextlib.closing(engine):
            engine.start(Work("tests.ray_works:open_work", {"folder": str(folder)}))
            engine.submit(build_attempt("hour", seed=1, sleep_s=3600))
            engine.submit(build_attempt("waiting", seed=2))
            time.sleep(1)
            stop_head(port)
            assert collect(engine, 1)["hour"].state == State.LOST
            with start_head(port):
                assert collect(engine, 1)["waiting"].state == State.FINISHED
    told = capsys.readouterr().err
    assert f"The Ray cluster at 127.0.0.1:{port} is back." in told
    assert len(told.splitlines()) == 2


@needs_ray
def test_a_cluster_that_asks_for_a_token_or_has_no_room_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = find_free_port()
    address, work = f"127.0.0.1:{port}", Work("tests.ray_works:open_work", {"folder": str(folder)})
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    with start_head(port):
        engine = RayEngine(1, Share(num_threads=9), address=address, patience_s=2)
        with contextlib.closing(engine), pytest.raises(CohortError) as no_room:
            engine.start(work)
        monkeypatch.delenv("RAY_AUTH_MODE")
        with pytest.raises(CohortError, match=rf"{address} asks for its token\. Set RAY_AUTH_MODE=token"):
            RayEngine(1, Share(), address=address).start(work)
    assert "each needs 9 CPU (the cluster has 2, 2 free). Ask for less" in str(no_room.value)


_heads: dict[int, psutil.Process] = {}


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def start_head(port: int) -> Iterator[None]:
    """The head of a cluster with two CPUs, in processes of its own."""
    command = (
        f"start --head --block --port {port} --num-cpus 2 --num-gpus 0 --include-dashboard false --disable-usage-stats"
    )
    ports = {"ray-client-server-port": 0, "dashboard-agent-listen-port": 0, "object-store-memory": 100 << 20}
    ports = {name: value or find_free_port() for name, value in ports.items()}
    words = [*command.split(), *(f"--{name}={value}" for name, value in ports.items())]
    head = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    _heads[port] = psutil.Process(head.pid)
    try:
        told = []
        for line in head.stdout or ():
            told.append(line)
            if "Ray runtime started" in line:
                break
        else:
            raise AssertionError(f"the head did not start: {''.join(told)}")
        yield
    finally:
        stop_head(port)
        head.communicate()


def stop_head(port: int) -> None:
    """Kill every process of the head, as a machine does that loses its power."""
    with contextlib.suppress(psutil.NoSuchProcess):
        head = _heads[port]
        for process in [head, *head.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_the_work_of_these_tests_is_a_function_of_its_seed(tmp_path: Path) -> None:
    carry_out = ray_works.open_work({"folder": str(tmp_path)}, Share())
    first, second = carry_out({"seed": 1}, False)["outputs"], carry_out({"seed": 2}, False)["outputs"]
    assert first["1.bin"] != second["2.bin"]
    assert first["1.bin"] == hashlib.sha256((tmp_path / "1.bin").read_bytes()).hexdigest()
