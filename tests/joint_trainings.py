"""Trainings of one and of several processes, for `test_training_joint_step.py` and `benchmarks/kill_processes.py`.

`python -m tests.joint_trainings FOLDER` writes `results.json` there. The processes that `train` starts are forks of one that has imported
PyTorch and run no tensor operation: that costs seconds only once. So does Dynamo, which every first optimizer imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch._dynamo as _warm_too  # noqa: F401
from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

import unet_pipeline
from unet_pipeline.commands import train_process
from unet_pipeline.errors import PipelineError
from unet_pipeline.training import run as _warm  # noqa: F401
from unet_pipeline.training.processes import rank
from unet_pipeline.training.step import StepResult, TrainingStep

from . import phantom_bundles as phantoms

OVERRIDES = {"autocast": False, "checkpoint_interval_s": 0}  # a checkpoint after every step
SMALL = {
    **phantoms.SMALL_2D,
    "filters": [4, 8, 8, 8],
    "learning_rate": 0.001,
    "warmup_iterations": 5,
    "num_epochs": 2,
    "iterations_per_epoch": 4,
    "val_interval": 2,
}


class Fork:
    """What PyTorch's launcher needs of a process that it has started."""

    def __init__(self, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                os.environ.update(environment)
                train_process.main(Path(words[-1]))
            finally:
                os._exit(9)

    def poll(self) -> int | None:
        if self.returncode is None:
            number, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if number else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        until_s = time.monotonic() + (1e9 if timeout is None else timeout)
        while self.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)
        return self.returncode


def fork_processes() -> None:
    """Let `train` start forks from now on."""
    SubprocessHandler._popen = lambda _, words, environment: Fork(words, environment)  # type: ignore[method-assign]


@dataclass
class Trace:
    """What the steps of a training leave in a folder: losses, and hashes of the samples of each process.

    Attributes:
        kill: a process that ends itself with SIGKILL before a step, as (process, step); None for none.
    """

    folder: Path | None = None
    kill: tuple[int, int] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)

    def install(self) -> None:
        """Let every training from now on leave it, also those of forks."""
        compute = TrainingStep._compute

        def traced(step: TrainingStep, engine: Any, images: Any, labels: Any) -> StepResult:
            if self.kill == (rank(), engine.state.iteration) and self.folder is not None:
                (self.folder / "killed_at_s").write_text(str(time.time()))
                os.kill(os.getpid(), signal.SIGKILL)
            result = compute(step, engine, images, labels)
            batches = engine.state.dataloader.batch_sampler
            num_samples = batches.count_samples(0)[rank()] if hasattr(batches, "count_samples") else len(images)
            pairs = list(zip(images.contiguous(), labels.contiguous(), strict=True))[:num_samples]
            hashes = [hashlib.sha256(i.numpy().tobytes() + t.numpy().tobytes()).hexdigest() for i, t in pairs]
            self.steps.append({"loss": float(result.loss), "samples": hashes})
            if (
                self.folder is not None
                and engine.state.iteration == engine.state.max_epochs * engine.state.epoch_length
            ):
                (self.folder / f"{rank()}.json").write_text(json.dumps(self.steps))
            return result

        TrainingStep._compute = traced  # type: ignore[method-assign]


TRACE = Trace()


def train(bundle: Path, num_processes: int, resume: bool = False) -> str:
    """A deterministic training; the message that it ends with, empty if there is none."""
    TRACE.folder = bundle
    options: dict[str, Any] = {"resume": resume, "deterministic": True, "overrides": {} if resume else OVERRIDES}
    if num_processes == 1:
        child = os.fork()  # what has trained cannot be forked any more
        if child == 0:
            try:
                unet_pipeline.train(bundle, **options)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        return "" if os.waitpid(child, 0)[1] == 0 else "failed"
    try:
        unet_pipeline.train(bundle, **options, processes=num_processes)
    except PipelineError as error:
        return str(error)
    return ""


def plan(folder: Path, batch_size: int, **numbers: Any) -> Path:
    """A bundle of nine pictures, not trained."""
    dataset = folder / "cells"
    if not dataset.is_dir():
        phantoms.write_pictures(dataset, num_cases=9)
    labels = {"background": 0, "cell": 255}
    place = folder / f"batch_{batch_size}"
    return phantoms.plan_small(dataset, place, labels, **{**SMALL, "batch_size": batch_size, **numbers})


def copy(bundle: Path, name: str) -> Path:
    """Beside it."""
    return Path(shutil.copytree(bundle, bundle.parent / name, ignore=shutil.ignore_patterns("*.lock")))


def describe(bundle: Path, num_processes: int) -> dict[str, Any]:
    """Losses of every process, hashes of the samples of every step in the order of the batch, weights and record."""
    traces = [json.loads((bundle / f"{number}.json").read_text()) for number in range(num_processes)]
    (run_dir,) = (bundle / "evidence" / "runs").iterdir()
    return {
        "losses": [[step["loss"] for step in trace] for trace in traces],
        "samples": [[sample for step in steps for sample in step["samples"]] for steps in zip(*traces, strict=True)],
        "checkpoint": str(run_dir / "checkpoint_last.pt"),
        "record": json.loads((run_dir / "run.json").read_text()),
    }


def main(folder: Path) -> None:
    """All trainings of the tests."""
    os.fsync = lambda descriptor: None  # as in conftest.py
    fork_processes()
    TRACE.install()
    results: dict[str, Any] = {}
    for batch_size, sizes in ((9, (1, 2, 4)), (2, (1, 4))):
        planned = plan(folder, batch_size, **({} if batch_size > 2 else {"num_epochs": 1}))
        for size in sizes:
            bundle = copy(planned, f"{batch_size}_{size}")
            if message := train(bundle, size):
                raise RuntimeError(message)
            results[bundle.name] = describe(bundle, size)
    killed = copy(folder / "batch_9", "killed")
    TRACE.kill, started_s = (1, 6), time.monotonic()
    results["killed_message"] = train(killed, 2)
    results["killed_s"], TRACE.kill = time.monotonic() - started_s, None
    if message := train(killed, 4, resume=True):
        raise RuntimeError(message)
    results["resumed_4"] = describe(killed, 4)
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
