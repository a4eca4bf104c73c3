"""Kill a small deterministic training at random and resume it: `.venv/bin/python benchmarks/kill_resume.py [--kills 100] [--full-disk 20]`.

Each trial trains a phantom from the start in a process that is killed with SIGKILL after a random time, is resumed until it
ends, and must leave the weights and the last checkpoint of the training that nobody killed, bit by bit. In the trials on a full disk a file
fills a small file system (tmpfs, where the user may mount one) but for less than a checkpoint, or a limit on the size of files
(RLIMIT_FSIZE) does the same, just before a random write; an earlier checkpoint must then still be readable.

The processes are forks of one that has imported PyTorch and run no tensor operation, which costs seconds only once.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import platform
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ignite.engine  # noqa: F401
import monai
import monai.bundle
import numpy as np
import torch

import unet_pipeline
import unet_pipeline.training.checkpoint as checkpoint
from unet_pipeline.bundle import folder
from unet_pipeline.errors import PipelineError
from unet_pipeline.files import write_text
from unet_pipeline.training import run as _warm  # noqa: F401
from unet_pipeline.training.events import TIME_SHARE

TARGET = Path(__file__).parent / "results" / "kill_resume.md"
TINY = {
    "filters": [4, 8, 8, 8],
    "num_epochs": 4,
    "iterations_per_epoch": 4,
    "val_interval": 1,
    "warmup_iterations": 2,
    "batch_size": 2,
}
SMALL_MIB = 32
BALLAST = "ballast.bin"
OVERRIDES = {"checkpoint_interval_s": 0, "num_threads": 1}  # a checkpoint after every step


def plan_tiny(folder: Path) -> Path:
    """A dataset of pictures and its bundle, not trained."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import phantom_bundles as phantoms

    dataset = phantoms.write_pictures(folder / "cells", num_cases=6)
    return phantoms.plan_small(
        dataset, folder / "bundle", labels={"background": 0, "cell": 255}, **{**phantoms.SMALL_2D, **TINY}
    )


def start(action: Callable[[], Any]) -> int:
    """Run in a fork without output; its exit status is 0 without an error, 3 after one of this package's, otherwise 1."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            action()
        status = 0
    except PipelineError:
        status = 3
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def train(bundle: Path, resume: bool = False, before_write: Callable[[int], None] | None = None, **more: Any) -> None:
    """One deterministic training; `before_write` gets the number of each weights file or checkpoint before it is written."""
    if before_write is not None:
        write, counter = checkpoint._write, itertools.count(1)

        def write_after(*arguments: Any) -> None:
            before_write(next(counter))
            write(*arguments)

        checkpoint._write = write_after
    unet_pipeline.train(bundle, resume=resume, deterministic=True, overrides={**OVERRIDES, **more})


@contextlib.contextmanager
def small_file_system() -> Iterator[tuple[Path, bool]]:
    """A temporary folder, and whether it is a file system of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "kill_resume", folder]
        mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
        try:
            yield Path(folder), mounted
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


def fill_disk(folder: Path, room_bytes: int) -> None:
    """Leave room for so many bytes only."""
    with (folder / BALLAST).open("wb", buffering=0) as stream:
        free = shutil.disk_usage(folder).free
        os.posix_fallocate(stream.fileno(), 0, max(1, free - room_bytes))


def limit_files(room_bytes: int) -> None:
    """Let no file be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, resource.RLIM_INFINITY))


def wait(number: int) -> int:
    """Exit status; negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def digest(content: Any) -> str:
    """Of nested dictionaries and lists with tensors and numbers."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(str((value.dtype, tuple(value.shape))).encode() + value.cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, part in value.items():
                found.update(str(key).encode())
                add(part)
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)
        else:
            found.update(repr(value).encode())

    add(content)
    return found.hexdigest()


def describe_end(bundle: Path) -> tuple[str, str, str]:
    """Digests of the best weights, the last checkpoint, and TensorBoard's tags with their steps.

    Without the shares of the time: those of an epoch are known behind its checkpoint, and a kill in between loses them.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (run_dir,) = (bundle / "evidence" / "runs").iterdir()
    steps = [
        (value.tag, event.step)
        for path in sorted(run_dir.glob("events.*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if not value.tag.startswith(f"{TIME_SHARE}/")
    ]
    return (
        digest(torch.load(bundle / "models" / "model_fold_0.pt", weights_only=True)),
        digest(checkpoint.read_checkpoint(run_dir / folder.LAST_CHECKPOINT)),
        digest(sorted(steps)),
    )


def forget(bundle: Path) -> None:
    """Back to the bundle before its training."""
    shutil.rmtree(bundle / "evidence" / "runs", ignore_errors=True)
    for path in (bundle / "models").iterdir():
        path.unlink()


def kill_after(number: int, delay_s: float) -> int:
    """Exit status of a process that is killed after a time, unless it ends before."""
    deadline_s = time.monotonic() + delay_s
    while time.monotonic() < deadline_s:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(number, signal.SIGKILL)
    return wait(number)


def kill_and_resume(bundle: Path, duration_s: float, generator: random.Random) -> int:
    """One trial: a kill, or two in a row, then a resumed training that ends by itself. Returns the number of kills."""
    forget(bundle)
    num_kills, wanted = 0, generator.choice((1, 1, 2))
    while True:
        # one that was killed before its record was written has nothing to resume
        resume = any((bundle / "evidence").glob("runs/*/run.json"))
        number = start(lambda resume=resume: train(bundle, resume=resume))
        status = kill_after(number, generator.uniform(0, duration_s)) if num_kills < wanted else wait(number)
        if status == -signal.SIGKILL:
            num_kills += 1
        elif status != 0:
            raise RuntimeError(f"a resumed training ended with status {status}")
        elif num_kills:
            return num_kills
        else:
            forget(bundle)  # it ended before the kill came: begin again


def fill_and_resume(bundle: Path, mounted: bool, generator: random.Random) -> None:
    """One trial on a full disk: a checkpoint fails, none is lost, and the training goes on when there is room."""
    forget(bundle)
    number_of_write, room_bytes = generator.randrange(3, 20), generator.randrange(4096, 40_000)

    def fill(count: int) -> None:
        if count == number_of_write:
            if mounted:
                fill_disk(bundle.parent, room_bytes)
            else:
                limit_files(room_bytes)

    status = wait(start(lambda: train(bundle, before_write=fill)))
    (bundle.parent / BALLAST).unlink(missing_ok=True)
    if status != 3:
        raise RuntimeError(f"a training on a full disk ended with status {status}; expected the error of this package")
    (run_dir,) = (bundle / "evidence" / "runs").iterdir()
    checkpoint.read_checkpoint(run_dir / folder.LAST_CHECKPOINT)
    if wait(start(lambda: train(bundle, resume=True))) != 0:
        raise RuntimeError("a training did not go on after the disk had been full")


def run_trials(num_kill_trials: int, num_full_trials: int, seed: int) -> dict[str, Any]:
    """All trials; counts of what ended as it must."""
    generator = random.Random(seed)
    with small_file_system() as (folder, mounted):
        bundle = plan_tiny(folder)
        started_s = time.monotonic()
        if wait(start(lambda: train(bundle))) != 0:
            raise RuntimeError("the training that nobody kills failed")
        duration_s = time.monotonic() - started_s
        expected = describe_end(bundle)
        means = f"tmpfs of {SMALL_MIB} MiB" if mounted else "RLIMIT_FSIZE"
        found: dict[str, Any] = {"duration_s": duration_s, "means": means, "kills": 0, "identical": 0, "after_full": 0}
        for trial in range(num_kill_trials):
            found["kills"] += kill_and_resume(bundle, duration_s, generator)
            found["identical"] += describe_end(bundle) == expected
            print(f"killed {trial + 1}/{num_kill_trials}: {found['identical']} identical", flush=True)
        for trial in range(num_full_trials):
            fill_and_resume(bundle, mounted, generator)
            found["after_full"] += describe_end(bundle) == expected
            print(f"full disk {trial + 1}/{num_full_trials}: {found['after_full']} identical", flush=True)
    return found


def main() -> None:
    """Run the trials and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full-disk", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started_s = time.monotonic()
    found = run_trials(arguments.kills, arguments.full_disk, arguments.seed)
    command = shlex.join(["benchmarks/kill_resume.py", *sys.argv[1:]])
    text = f"""# Killed and resumed

`.venv/bin/python {command}`, {datetime.now(UTC).date()}, {platform.machine()}, {os.cpu_count()} cores (shared), Python
{platform.python_version()}, torch {torch.__version__}, monai {monai.__version__}, numpy {np.__version__};
{time.monotonic() - started_s:.0f} s.

A DynUNet on six pictures of 72 x 52 pixels, 4 epochs of 4 iterations, a validation in each, a checkpoint after every step, one thread;
{found["duration_s"]:.1f} s without a kill. Identical: the best weights, the last checkpoint (weights, optimizer, schedule, best metric) and
TensorBoard's steps are those of the training that nobody killed.

| trial | n | identical |
| --- | --- | --- |
| SIGKILL at a random moment, {found["kills"]} in all, each resumed | {arguments.kills} | {found["identical"]} |
| full disk while a checkpoint or weights are written ({found["means"]}), resumed | {arguments.full_disk} | {found["after_full"]} |
"""
    write_text(TARGET, text)
    print(text)
    if found["identical"] != arguments.kills or found["after_full"] != arguments.full_disk:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
