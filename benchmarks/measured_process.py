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
# writes down a prediction's seconds by stage; the module is watched and not imported, which would change how the verb starts
_NOTE_STAGES = """
import json, sys
from importlib.machinery import PathFinder
from pathlib import Path

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name != "unet_pipeline.prediction.stopwatch":
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_watch(module):
            load(module)
            ask = module.Stopwatch.list_shares

            def list_shares(stopwatch):
                Path(noted).write_text(json.dumps(dict(stopwatch.seconds)))
                return ask(stopwatch)

            module.Stopwatch.list_shares = list_shares

        spec.loader.exec_module = load_and_watch
        return spec

noted = sys.argv.pop(1)
sys.meta_path.insert(0, Watch())
"""
# VmHWM and not ru_maxrss, which begins with the peak of the process that started this one
_PROGRAM = f"""
import sys
from pathlib import Path
from unet_pipeline.cli import main
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


def measure_verb(words: Sequence[str | Path], stages: Path | None = None) -> Measured:
    """Run `unet-pipeline WORDS`, on Linux.

    Args:
        words: the verb and what follows.
        stages: file that gets the seconds of a prediction's stages, as JSON; None for none.

    Raises:
        SystemExit: the verb failed; with the end of what it said.
    """
    started_s, used_s = time.monotonic(), _read_processor_s()
    program = [_PROGRAM] if stages is None else [_NOTE_STAGES + _PROGRAM, str(stages)]
    command = [sys.executable, "-c", *program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started_s
    if done.returncode:
        raise SystemExit(f"unet-pipeline {' '.join(map(str, words))} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    used_s = _read_processor_s() - used_s
    return Measured(seconds, used_s, int(done.stdout.rsplit(_PEAK, 1)[1].split()[0]) / 1024)


def _read_processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
