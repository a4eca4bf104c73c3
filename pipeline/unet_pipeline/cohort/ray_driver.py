"""The process that speaks with Ray, for `ray_engine.RayEngine`: attempts come as lines of JSON, outcomes go as lines of JSON.

It gives each actor one attempt at a time, so that what dies with an actor is one attempt. When its input ends, so do the actors.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

import unet_pipeline
from unet_pipeline.cohort.items import Arguments, Attempt, Item, Share, State, Work, carry_out, judge_error
from unet_pipeline.cohort.local import list_thread_variables, settle_threads
from unet_pipeline.cohort.ray_words import Asked, Opened, Reply, ToldAttempt, ToldOutcome

_CONNECT_S = 5.0
_SAY_S = 60.0  # waited before the user is told what for
_MAX_FAILED_OPENINGS = 3
_MAX_CHARS = 400
_LOG_BYTES = 1 << 20
_ENDED = "its process ended while it opened the work, one time after the other"
_OBJECT_STORE_BYTES = 100 << 20  # arrays do not travel; Ray takes a third of the memory otherwise

Event = tuple[str, int, Any]


class RayWorker:
    """What an actor is: the function of the work, open in its process."""

    def open(self, opener: str, arguments: Arguments, num_threads: int, device: str | None) -> Opened:
        """Open the work, once. PyTorch takes the threads from the environment when it is loaded; if that was earlier, it is told here."""
        reply: Opened = {"host": socket.gethostname(), "version": unet_pipeline.__version__}
        settle_threads(num_threads)
        try:
            self._function = Work(opener, arguments).open(Share(num_threads, device))
        except Exception as error:
            return {**reply, "problem": judge_error(error)[1]}
        settle_threads(num_threads)
        return reply

    def carry_out(self, attempt: ToldAttempt) -> str:
        """The outcome of an attempt as JSON, without the attempt."""
        item = Item(**attempt["item"])
        outcome = carry_out(self._function, Attempt(item, attempt["number"], attempt["smaller"]))
        return json.dumps({name: value for name, value in vars(outcome).items() if name != "attempt"})


@dataclass
class _Worker:
    actor: Any
    host: str = ""
    attempt: int | None = None
    reference: Any = None  # Ray drops the answer of one that nobody holds


class _RefusalError(Exception):
    """The cluster or the work cannot be had."""

    def __init__(self, message: str, may_come: bool = False) -> None:
        super().__init__(message)
        self.may_come = may_come


class Driver:
    """Actors, what each has, and what waits.

    Args:
        asked: number and share of the workers, the address, and the work.
        reply: sends a line to the engine.
    """

    def __init__(self, asked: Asked, reply: Callable[[Reply], None]) -> None:
        import ray

        self._ray, self._asked, self._reply = ray, asked, reply
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._workers: dict[int, _Worker] = {}
        self._idle: deque[int] = deque()
        self._waiting: deque[tuple[int, ToldAttempt]] = deque()
        self._num_started = self._num_failed_openings = 0
        self._without_workers_s: float | None = time.monotonic()
        self._has_said = False

    def connect(self) -> None:
        """Reach the cluster, or start one, and ask for the actors."""
        address = self._asked["address"]
        options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            num_cpus = max(os.cpu_count() or 1, self._asked["num_workers"] * self._asked["num_threads"])
            options |= {"include_dashboard": False, "num_cpus": num_cpus, "object_store_memory": _OBJECT_STORE_BYTES}
        elif address != "auto":
            _knock(address)
        try:
            self._ray.init(address=address or "local", **options)
        except (Exception, SystemExit) as error:
            raise _RefusalError(_describe_connection(address, error), may_come=True) from error
        num_gpus = self._asked["num_gpus"]
        if num_gpus is None:
            num_gpus = 1 if self._ray.cluster_resources().get("GPU") else 0
        self._demand = {"CPU": self._asked["num_threads"], "GPU": num_gpus}
        self._actor_class = self._ray.remote(RayWorker).options(
            num_cpus=self._asked["num_threads"],
            num_gpus=num_gpus,
            max_restarts=0,
            runtime_env={"env_vars": list_thread_variables(self._asked["num_threads"])},
        )
        for _ in range(self._asked["num_workers"]):
            self._start_worker()

    def run(self) -> None:
        """Handle events until the input ends."""
        handlers = {"opened": self._opened, "over": self._over}
        while True:
            try:
                kind, number, content = self.events.get(timeout=1.0)
            except queue.Empty:
                self._check_patience()
                continue
            if kind == "end":
                return
            if kind == "attempt":
                self._waiting.append((number, content))
            else:
                handlers[kind](number, content)
            while self._idle and self._waiting:
                self._give(self._idle.popleft(), *self._waiting.popleft())
            self._check_patience()

    def close(self) -> None:
        """End the actors, whatever they do."""
        for worker in self._workers.values():
            self._ray.kill(worker.actor)
        self._ray.shutdown()

    def _start_worker(self) -> None:
        self._num_started += 1
        number, asked = self._num_started, self._asked
        device = "cuda:0" if self._demand["GPU"] else asked["device"] or "cpu"  # of the GPUs it sees its own
        worker = self._workers[number] = _Worker(self._actor_class.remote())
        self._call(
            number, "opened", worker.actor.open, asked["opener"], asked["arguments"], asked["num_threads"], device
        )

    def _call(self, number: int, kind: str, method: Any, *arguments: Any) -> None:
        """Call a method of an actor; its answer becomes an event."""
        reference = self._workers[number].reference = method.remote(*arguments)
        reference.future().add_done_callback(lambda future: self.events.put((kind, number, future)))

    def _opened(self, number: int, future: Any) -> None:
        worker, error = self._workers[number], future.exception()
        problem = self._describe_death(error) if error is not None else future.result().get("problem")
        if error is None:
            worker.host = future.result()["host"]
            version = future.result()["version"]
            if version != unet_pipeline.__version__:
                problem = (
                    f"unet-pipeline {version} is installed there, here {unet_pipeline.__version__}; install the same"
                )
        if problem is None:
            self._num_failed_openings, self._without_workers_s = 0, None
            self._idle.append(number)
            self._reply({"ready": worker.host})
            return
        self._num_failed_openings += 1
        at_first = self._without_workers_s is not None and error is None
        # a node that goes away takes all of its workers
        num_spared = self._asked["num_workers"] if problem == _ENDED else 0
        if at_first or self._num_failed_openings >= _MAX_FAILED_OPENINGS + num_spared:
            place = f" on {worker.host}" if worker.host else ""
            raise _RefusalError(f"A worker of Ray{place} cannot begin: {problem}. {_list_remedies(problem)}")
        self._replace(number)

    def _over(self, number: int, future: Any) -> None:
        worker, error = self._workers[number], future.exception()
        attempt, worker.attempt = worker.attempt, None
        if error is None:
            outcome: ToldOutcome = json.loads(future.result())
            self._idle.append(number)
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            outcome = {"state": State.ERROR, "message": f"its result cannot travel: {_say(error.cause)}"}
            self._idle.append(number)
        elif isinstance(error, self._ray.exceptions.OutOfMemoryError):
            outcome = {
                "state": State.OUT_OF_MEMORY,
                "message": f"Ray ended its worker on {worker.host}: no memory was left",
            }
            self._replace(number)
        else:
            outcome = {"state": State.LOST, "message": f"its worker on {worker.host} ended without an answer"}
            self._replace(number)
        self._reply({"over": attempt, "outcome": outcome})

    def _give(self, number: int, attempt: int, content: ToldAttempt) -> None:
        worker = self._workers[number]
        worker.attempt = attempt
        self._reply({"begun": attempt, "host": worker.host, "at": time.time()})
        self._call(number, "over", worker.actor.carry_out, content)

    def _replace(self, number: int) -> None:
        """Another actor; the old one may only be out of reach, and must not write any more."""
        self._ray.kill(self._workers.pop(number).actor)
        if not self._idle and all(worker.attempt is None for worker in self._workers.values()):
            self._without_workers_s, self._has_said = time.monotonic(), False
        self._start_worker()

    def _check_patience(self) -> None:
        """Give up when no worker has had a place for long."""
        if self._without_workers_s is None:
            return
        waited_s = time.monotonic() - self._without_workers_s
        if waited_s > min(_SAY_S, self._asked["patience_s"]) and not self._has_said:
            self._has_said = True
            self._reply({"say": f"No worker has begun on the Ray cluster yet; each needs {self._describe_demand()}"})
        if waited_s > self._asked["patience_s"]:
            raise _RefusalError(
                f"In {waited_s:.0f} s no worker began on the Ray cluster; each needs {self._describe_demand()} "
                "Ask for less, add nodes, or wait until others are done."
            )

    def _describe_demand(self) -> str:
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        parts = [
            f"{self._demand[kind]:g} {kind} (the cluster has {total.get(kind, 0):g}, {free.get(kind, 0):g} free)"
            for kind in self._demand
            if self._demand[kind]
        ]
        return " and ".join(parts) + "."

    def _describe_death(self, error: Exception) -> str:
        if "No module named 'unet_pipeline" in str(error):
            return "unet-pipeline is not installed there"
        if isinstance(error, self._ray.exceptions.RayTaskError | self._ray.exceptions.RuntimeEnvSetupError):
            return _say(error)
        return _ENDED


def _list_remedies(problem: str) -> str:
    """What a user can do about workers that cannot begin."""
    if problem == _ENDED:
        return "It was killed for its memory, or a library crashed. Take fewer workers (--jobs), then run the same command again."
    return "Every node needs this package, and the same folders at the same paths."


def _knock(address: str) -> None:
    """Ray waits for minutes at a closed door."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _RefusalError(_describe_connection(address, error), may_come=True) from error


def _describe_connection(address: str | None, error: BaseException) -> str:
    if address is None:
        return f"Ray could not be started on this machine: {_say(error)}."
    if "InvalidAuthToken" in _read_log():
        return (
            f"The Ray cluster at {address} asks for its token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, "
            "as for the cluster."
        )
    remedy = "Start it with `ray start --head`, or give the address that this prints."
    return f"No Ray cluster answers at {address}: {_say(error)}. {remedy}"


def _read_log() -> str:
    """What Ray's libraries have written so far; the error stream is a file."""
    try:
        return os.pread(2, _LOG_BYTES, 0).decode(errors="replace")
    except OSError:
        return ""


def _say(error: BaseException) -> str:
    return " ".join(str(error).split())[:_MAX_CHARS] or type(error).__name__


def main() -> None:
    """Serve one engine: what is asked is the first line of the input. Whatever Ray prints goes to the error stream, a file."""
    replies: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    driver = None

    def send(reply: Reply) -> None:
        print(json.dumps(reply), file=replies, flush=True)

    try:
        driver = Driver(json.loads(sys.stdin.readline()), send)
        threading.Thread(target=_read_attempts, args=(driver.events,), daemon=True).start()
        driver.connect()
        driver.run()
    except _RefusalError as refusal:
        send({"failed": str(refusal), "may_come": refusal.may_come})
    except BrokenPipeError:
        pass  # the engine's process is gone
    finally:
        if driver is not None:
            driver.close()


def _read_attempts(events: queue.SimpleQueue[Event]) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        events.put(("attempt", message["number"], message["attempt"]))
    events.put(("end", 0, None))
