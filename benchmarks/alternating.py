"""Measures commands in turns: one process each, which waits for its turn and answers with seconds.

A worker reads a line from stdin, does one piece of work, and prints one number. Nothing else runs while it does; the others wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from unet_pipeline.evidence.records.machine import read_versions
from unet_pipeline.evidence.records.record import describe_machine, read_code_version

READY = "ready"


class Worker:
    """A process that does one piece of work per turn.

    Args:
        command: prints `READY` when it can begin, then one number of seconds per line that it reads.
        environment: of the process.
        log: gets its stderr.
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            start_new_session=True,
        )
        self.log = log
        self._wait_for(lambda line: line == READY)

    def take_turn(self) -> float:
        """Seconds of one piece of work."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self._wait_for(_is_number))

    def _wait_for(self, accept: Callable[[str], bool]) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if accept(line.strip()):
                return line.strip()
        raise SystemExit(f"a worker ended early; see {self.log}")

    def stop(self) -> None:
        """End the process and those that it has started."""
        stop_group(self.process)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def run_group(command: list[str], environment: Mapping[str, str]) -> None:
    """Run to the end, without output, and end what it leaves running, as nnU-Net's loaders where its training fails."""
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        status = process.wait()
    finally:
        stop_group(process)
    if status:
        raise subprocess.CalledProcessError(status, command)


def stop_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a session of its own, with all that it has started; nothing where all have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def answer(work: Callable[[], float]) -> None:
    """The worker's side: one answer per line read, until the input ends."""
    print(READY, flush=True)
    while input():
        print(work(), flush=True)


def check_load() -> str:
    """What else runs on this machine; benchmarks state it, since one busy core more multiplies the time of a step."""
    return f"load average {os.getloadavg()[0]:.1f} before the first measurement"


def list_versions() -> str:
    """Versions of the libraries that do the work."""
    found = read_versions()
    return ", ".join(f"{name} {found[name]}" for name in ("torch", "monai", "numpy", "nibabel") if name in found)


def describe_run(command: str, versions: str) -> str:
    """Command, date, commit, machine and versions in one line."""
    machine, code = describe_machine(), read_code_version()
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, commit {str(code.commit)[:10]}, {machine.num_cores} cores "
        f"{machine.processor}, {machine.memory_gib} GiB, {machine.gpu or 'no GPU'}, {versions}; {check_load()}."
    )


def build_table(rows: Mapping[str, list[float]], reference: str, unit: str = "s") -> str:
    """Medians, extremes and the ratio to the row `reference`, all from the same turns."""
    base = median(rows[reference])
    lines = [
        f"| what | median ({unit}) | smallest | largest | n | ratio to {reference} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, values in rows.items():
        cells = (f"{median(values):.3g}", f"{min(values):.3g}", f"{max(values):.3g}", str(len(values)))
        lines.append(f"| {name} | {' | '.join(cells)} | {median(values) / base:.3f} |")
    return "\n".join(lines)
