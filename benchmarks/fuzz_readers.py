"""Opens damaged files with every reader: `.venv/bin/python benchmarks/fuzz_readers.py --inputs 100000 [--seed 0]`.

Each input is an intact file of one format, truncated, changed in some bytes or extended. A reader may give an image or an error of
this project. Anything else is a failure: another exception, more than 10 s, memory beyond 256 MiB, a crash. Inputs follow from the
seed and their number alone, so that `--first N --inputs 1` repeats one.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fuzz_samples import Sample, build_samples

from unet_pipeline.dataset.image import read_grid, read_image, read_label_map
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import PipelineError

MAX_SECONDS = 10
MAX_MIB = 256  # above what the process takes with all readers loaded; the files have up to 10 kB
_INTERESTING = (0, 1, 2, 127, 128, 254, 255)


def damage(content: bytes, generator: np.random.Generator) -> bytes:
    """Content with one to three kinds of damage: bytes changed, mostly near the start; pieces lost, repeated or added."""
    changed = bytearray(content)
    for _ in range(int(generator.integers(1, 4))):
        kind, size = int(generator.integers(6)), len(changed)
        place = int(generator.integers(min(size, 600) if generator.random() < 0.6 else size)) if size else 0
        if kind <= 1 and size:
            changed[place] = int(generator.choice(_INTERESTING)) if kind else int(generator.integers(256))
        elif kind == 2:
            del changed[place:]
        elif kind == 3:
            length = int(generator.choice([1, 2, 4, 8]))
            changed[place : place + length] = generator.bytes(length)
        elif kind == 4:
            changed += generator.bytes(int(generator.integers(1, 300)))
        else:
            piece = changed[place : place + int(generator.integers(1, 40))]
            changed[place:place] = piece if generator.random() < 0.5 else bytes(len(piece))
    return bytes(changed)


def open_input(number: int, seed: int, samples: Sequence[Sample], folder: Path) -> str:
    """Write one input into an empty folder and read it in every way; returns what failed, or ""."""
    generator = np.random.default_rng((seed, number))
    sample = samples[number % len(samples)]
    names = list(sample.files)
    broken = names[0] if generator.random() < 0.8 or sample.is_dataset else names[int(generator.integers(len(names)))]
    for name, content in sample.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(damage(content, generator) if name == broken else content)
    path = folder if sample.opened == "." else folder / sample.opened
    for read in (read_dataset,) if sample.is_dataset else (read_image, read_grid, read_label_map):
        signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
        try:
            read(path)
        except PipelineError:
            continue
        except Exception:
            return f"input {number} ({sample.name}, {read.__name__}): {traceback.format_exc(limit=-4)}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def _give_up(*_: object) -> None:
    raise TimeoutError(f"more than {MAX_SECONDS} s")


def run_worker(first: int, inputs: int, seed: int, progress: Path) -> int:
    """Open inputs in this process, whose memory is limited; the number under way is in a file, for the time after a crash."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _give_up)
    num_failures = 0
    with tempfile.TemporaryDirectory() as name:
        samples = build_samples(Path(name))
        _load_readers(samples, Path(name))
        limit = _read_own_bytes() + MAX_MIB * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(first, first + inputs):
            progress.write_text(str(number))
            with tempfile.TemporaryDirectory(dir=name) as place:
                if failure := open_input(number, seed, samples, Path(place)):
                    num_failures += 1
                    print(failure, flush=True)
    progress.write_text(str(first + inputs))
    return 1 if num_failures else 0


def _load_readers(samples: Sequence[Sample], folder: Path) -> None:
    """Read every intact sample once, so that libraries are loaded before the memory is limited.

    Raises:
        PipelineError: an intact image is refused, and nothing would be tried.
    """
    for position, sample in enumerate(samples):
        for name, content in sample.files.items():
            path = folder / str(position) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        opened = folder / str(position) / ("" if sample.opened == "." else sample.opened)
        if sample.is_dataset:
            read_dataset(opened)
        else:
            (read_label_map if "palette" in sample.name else read_image)(opened)


def _read_own_bytes() -> int:
    """Address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def run(inputs: int, seed: int, first: int = 0) -> tuple[int, str]:
    """Open inputs in processes of their own, a new one after each crash.

    Returns:
        Number of failures, and what was printed about them.
    """
    end, found, crashes = first + inputs, "", 0
    with tempfile.TemporaryDirectory() as name:
        progress = Path(name) / "number"
        while first < end:
            progress.unlink(missing_ok=True)
            arguments = [
                "--worker",
                str(progress),
                "--first",
                str(first),
                "--inputs",
                str(end - first),
                "--seed",
                str(seed),
            ]
            done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
            found += done.stdout
            if not progress.is_file():
                raise RuntimeError(f"the samples cannot be read: {done.stderr[-2000:]}")
            reached = int(progress.read_text())
            if reached < end:
                crashes += 1
                found += f"input {reached}: the process ended with status {done.returncode}\n{done.stderr[-2000:]}\n"
            first = max(reached, first) + (reached < end)
    return found.count("\ninput ") + found.startswith("input "), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return run_worker(options.first, options.inputs, options.seed, options.worker)
    start = time.monotonic()
    num_failures, found = run(options.inputs, options.seed, options.first)
    print(found, end="")
    print(f"{options.inputs} inputs, seed {options.seed}: {num_failures} failures in {time.monotonic() - start:.0f} s")
    return 1 if num_failures else 0


if __name__ == "__main__":
    sys.exit(main())
