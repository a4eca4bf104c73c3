"""Workers on a Ray cluster, or on one that Ray starts on this machine.

Ray ends a process whose head node is gone, and writes to its terminal. So it is loaded in a process of its own (`ray_driver.py`), which
this one talks to in lines of JSON; that process may die with the cluster and is started again when the cluster is back.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict

from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Outcome, Share, State, Work
from unet_pipeline.cohort.ray_words import Asked, Reply
from unet_pipeline.errors import CohortError
from unet_pipeline.progress import say_progress

PATIENCE_S = 300.0
_RETRY_S = 2.0
_CLOSE_S = 10.0
_ADDRESS = re.compile(r"auto|(ray://)?[^\s/:]+:\d{1,5}")
_DRIVER = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import unet_pipeline.cohort.ray_driver as driver; driver.main()"
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise a warning; a worker without a GPU is told to use the CPU
}


class RayEngine:
    """The engine (`engine.Engine`) of Ray actors, one per worker.

    Args:
        num_workers: actors that are asked for; fewer work as long as the cluster has no place for all.
        share: threads of each; they are also the CPUs that are requested of Ray. With a GPU the device is the one that Ray gives.
        address: "auto", HOST:PORT of the head, or ray://HOST:PORT from outside of the cluster; None starts one on this machine.
        num_gpus_per_worker: requested of Ray, also parts such as 0.5; None for one where the cluster has GPUs and `share` allows them.
        patience_s: how long the cluster may be away, or have no place for a worker.
    """

    def __init__(
        self,
        num_workers: int,
        share: Share,
        address: str | None = None,
        num_gpus_per_worker: float | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise CohortError(
                f"The address of a Ray cluster is auto, HOST:PORT or ray://HOST:PORT, not {address!r}. "
                "`ray start --head` prints that of the head, whose port is 6379 by default; ray://HOST:10001 is for a machine outside."
            )
        if importlib.util.find_spec("ray") is None:
            raise CohortError(
                "The engine ray needs the library ray, which is not installed. Run `pip install 'unet-pipeline[ray]'`."
            )
        if num_gpus_per_worker is None and share.device is not None:
            num_gpus_per_worker = 1 if share.device.startswith("cuda") else 0
        self._num_workers, self._address, self._patience_s = num_workers, address, patience_s
        self.on_begin: OnBegin = ignore_beginning
        self._asked: Asked = {
            "num_workers": num_workers,
            "num_threads": share.num_threads,
            "device": share.device,
            "num_gpus": num_gpus_per_worker,
            "address": address,
            "patience_s": patience_s,
            "opener": "",  # of the work, which is known when it starts
            "arguments": {},
        }
        self._driver: subprocess.Popen[str] | None = None
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._attempts: dict[int, Attempt] = {}
        self._begun: dict[int, tuple[str, float]] = {}  # host and time of those that a worker has
        self._num_submitted = 0
        self._failure: str | None = None

    @property
    def num_workers(self) -> int:
        """Actors that are asked for."""
        return self._num_workers

    @property
    def num_in_flight(self) -> int:
        """A few more than workers, so that the next attempt lies beside the worker when it is done with one."""
        return self._num_workers + max(2, self._num_workers // 4)

    def start(self, work: Work) -> None:
        """Reach or start the cluster, and wait for the first worker.

        Raises:
            CohortError: the cluster cannot be reached, has no place for a worker, or the work cannot be opened on it.
        """
        self._asked["opener"], self._asked["arguments"] = work.opener, dict(work.arguments)
        refusal = self._connect()
        if refusal is not None:
            raise CohortError(refusal["failed"])

    def submit(self, attempt: Attempt) -> None:
        """Hand an attempt to the driver, which keeps it for the next worker that is free."""
        self._num_submitted += 1
        self._attempts[self._num_submitted] = attempt
        self._send(self._num_submitted)

    def collect(self) -> list[Outcome]:
        """Wait until at least one attempt is over.

        Raises:
            CohortError: the cluster did not come back in time, or its workers cannot open the work any more.
        """
        outcomes: list[Outcome] = []
        while not outcomes or not self._replies.empty():
            if self._failure is not None:
                if outcomes:
                    break  # they are recorded first
                raise CohortError(self._failure)
            if self._driver is None:
                self._reconnect()
            reply = self._replies.get()
            outcomes += self._lose() if reply is None else self._read(reply)
        return outcomes

    def close(self) -> None:
        """End the actors, also those at work, and leave the cluster; one that was started here ends."""
        self._end_driver()
        self._attempts.clear()
        self._begun.clear()

    def _end_driver(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        with contextlib.suppress(OSError):
            if driver.stdin is not None:
                driver.stdin.close()  # it takes that as the end
        try:
            driver.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(OSError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()

    def _connect(self) -> Reply | None:
        """Start the driver and wait for its first worker; the driver's refusal otherwise."""
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (the driver's own)
        self._driver = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            env={**os.environ, **_ENVIRONMENT, **(_list_local_variables() if self._address is None else {})},
            start_new_session=True,  # Ctrl-C is this process's
        )
        self._replies = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(self._driver, self._replies), name="ray", daemon=True).start()
        self._write(json.dumps(self._asked))
        while (reply := self._replies.get()) is not None:
            if "failed" in reply:
                self._end_driver()
                return reply
            if "ready" in reply:
                return None
            self._read(reply)
        self._end_driver()
        log.seek(0)
        words = [line.strip() for line in log if line.strip()][-1:] or ["it said nothing"]
        return {"failed": f"Ray ended while it was started: {words[0]}", "may_come": True}

    def _reconnect(self) -> None:
        """Begin again with the attempts that no worker had, as soon as the cluster is there."""
        name = "The local Ray cluster" if self._address is None else f"The Ray cluster at {self._address}"
        say_progress(f"{name} is gone; trying for {self._patience_s:.0f} s to reach it again.")
        end_s = time.monotonic() + self._patience_s
        while (refusal := self._connect()) is not None:
            if not refusal.get("may_come") or time.monotonic() > end_s:
                raise CohortError(
                    f"{name} did not come back: {refusal['failed']} Start it and give the same command; what is finished stays."
                )
            time.sleep(_RETRY_S)
        say_progress(f"{name} is back.")
        for number in self._attempts:
            self._send(number)

    def _send(self, number: int) -> None:
        attempt = self._attempts[number]
        self._write(json.dumps({"number": number, "attempt": asdict(attempt)}))

    def _write(self, line: str) -> None:
        """A driver that is gone says so by the end of its replies."""
        if self._driver is not None:
            with contextlib.suppress(OSError):
                print(line, file=self._driver.stdin, flush=True)

    def _read(self, reply: Reply) -> list[Outcome]:
        if "failed" in reply:
            self._end_driver()
            self._failure = reply["failed"]
        if "say" in reply:
            say_progress(reply["say"])
        if "begun" in reply:
            self._begun[reply["begun"]] = (reply["host"], reply["at"])
            self.on_begin(self._attempts[reply["begun"]], reply["host"], reply["at"])
        number = reply.get("over")
        if number is None:
            return []
        host, started = self._begun.pop(number, ("", 0.0))
        told = reply["outcome"]
        outcome = Outcome(
            self._attempts.pop(number),
            State(told["state"]),
            told.get("result", {}),
            told.get("message", ""),
            told.get("host", host),
            told.get("started", started),
            told.get("duration_s", time.time() - started),
        )
        return [outcome]

    def _lose(self) -> list[Outcome]:
        """The driver is gone and with it every attempt that a worker had."""
        self._end_driver()
        lost, self._begun = self._begun, {}
        message = "the Ray cluster went away before it had answered"
        return [
            Outcome(self._attempts.pop(number), State.LOST, {}, message, host, started, time.time() - started)
            for number, (host, started) in lost.items()
        ]


def _list_local_variables() -> dict[str, str]:
    """Of a cluster of this machine alone, for Ray: on the loopback address, and for nobody but who has the token."""
    variables = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # its name for that
    if "RAY_AUTH_MODE" not in os.environ:
        variables |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # Ray leaves one in the home otherwise
    return variables


def _read_lines(driver: subprocess.Popen[str], replies: queue.SimpleQueue[Reply | None]) -> None:
    """Put what the driver says into the queue, and None when it has ended."""
    for line in driver.stdout or ():
        replies.put(json.loads(line))
    replies.put(None)
