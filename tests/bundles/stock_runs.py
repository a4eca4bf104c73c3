"""Runs `python -m monai.bundle WORDS` again and again, each in a fork of one process that has imported MONAI: that costs seconds only once.

`python stock_runs.py` reads a line of JSON for each, `{"folder": ..., "words": [...]}`, and answers with its exit status and what it
printed. A fork begins with what `python -m monai.bundle` has imported by then, and knows nothing of the runs before it.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StockRuns:
    """The process that runs them, which ends when the block of `running_stock` does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, *words: Path | str) -> None:
        """Wait for `python -m monai.bundle WORDS` in a folder, and see that it ends well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "words": list(map(str, words))}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["status"] == 0, answer["printed"][-2000:]


@contextmanager
def running_stock(python: Path) -> Iterator[StockRuns]:
    """Start the process with the Python of a stock environment, and nothing of this one's environment."""
    with subprocess.Popen(
        [python, "-I", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    ) as process:
        yield StockRuns(process)
        assert process.stdin is not None
        process.stdin.close()


def run_as_command(folder: str, words: list[str], printed: int) -> None:
    """In the fork: what `python -m monai.bundle WORDS` does in a folder."""
    status = 1
    try:
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        os.chdir(folder)
        sys.path.insert(0, folder)
        sys.argv = ["monai.bundle", *words]
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Answer until nobody asks any more."""
    import monai.bundle.scripts  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile("w+", errors="replace") as printed:
            child = os.fork()
            if child == 0:
                run_as_command(asked["folder"], asked["words"], printed.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            printed.seek(0)
            print(json.dumps({"status": status, "printed": printed.read()}), flush=True)


if __name__ == "__main__":
    main()
