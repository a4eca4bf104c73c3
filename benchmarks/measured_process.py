"""A verb as a process of its own: how long it takes from start to end, and the most memory that it had."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PEAK = "PEAK_KIB"
# VmHWM and not ru_maxrss, which begins with the peak of the process that started this one
_PROGRAM = f"""
import sys
from pathlib import Path
from pipeline.cli import main
sys.argv = ["unet-pipeline", *sys.argv[1:]]
try:
    main()
finally:
    print("{_PEAK}", Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], flush=True)
"""


@dataclass(frozen=True)
class Measured:
    """Seconds of a process from start to end, those of all its threads on processors, and the peak of its own resident memory in MiB."""

    seconds: float
    processor_s: float
    peak_mib: float


def measure_verb(words: Sequence[str | Path]) -> Measured:
    """Run `unet-pipeline WORDS`, on Linux.

    Raises:
        SystemExit: the verb failed; with the end of what it said.
    """
    started_s, used_s = time.monotonic(), _read_processor_s()
    command = [sys.executable, "-c", _PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started_s
    if done.returncode:
        raise SystemExit(f"unet-pipeline {' '.join(map(str, words))} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    used_s = _read_processor_s() - used_s
    return Measured(seconds, used_s, int(done.stdout.rsplit(_PEAK, 1)[1].split()[0]) / 1024)


def _read_processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
