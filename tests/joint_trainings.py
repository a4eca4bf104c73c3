"""Trainings of one and of several processes, for `test_training_joint_step.py`: forks of one process, which has imported PyTorch once.

`python -m tests.joint_trainings FOLDER` writes `results.json` there: for each training and number of processes the hashes of the
samples of every step, its losses, and where its weights lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import unet_pipeline
from unet_pipeline.training import run as _warm  # noqa: F401
from unet_pipeline.training.processes import rank
from unet_pipeline.training.step import StepResult, TrainingStep
from unet_pipeline.verbs.train_processes import _describe_process, _hosting_store

from . import phantom_bundles as phantoms

SIZES = (1, 2, 4)
NETWORK = {"filters": [4, 8, 8, 8], "warmup_iterations": 5, "val_interval": 1, "num_epochs": 5}
# a batch that cannot be shared evenly, with regions or voxels without annotation; and one smaller than the number of processes
TRAININGS = {
    "batch_9": {"batch_size": 9, "iterations_per_epoch": 10},
    "batch_2": {"batch_size": 2, "iterations_per_epoch": 10},
}


def train_and_trace(bundle: Path, place: Path, **options: Any) -> None:
    """Train as the process that the environment names; its losses and the hashes of its samples go to a file."""
    steps: list[dict[str, Any]] = []
    compute = TrainingStep._compute

    def trace(self: TrainingStep, engine: Any, images: Any, labels: Any) -> StepResult:
        result = compute(self, engine, images, labels)
        samples = [
            hashlib.sha256(image.numpy().tobytes() + label.numpy().tobytes()).hexdigest()
            for image, label in zip(images.contiguous(), labels.contiguous(), strict=True)
        ]
        sizes = getattr(engine.state.dataloader.batch_sampler, "count_samples", lambda _: [len(samples)])(0)
        steps.append({"loss": float(result.loss), "samples": samples[: sizes[rank()]]})
        return result

    TrainingStep._compute = trace  # type: ignore[method-assign]
    unet_pipeline.train(bundle, deterministic=True, **options)
    place.with_suffix(f".{rank()}.json").write_text(json.dumps(steps))


def run_processes(num_processes: int, action: Any) -> list[int]:
    """Exit status of forks that train together."""
    with _hosting_store(num_processes) as port:
        children = []
        for number in range(num_processes):
            child = os.fork()
            if not child:
                status = 1
                with contextlib.suppress(BaseException), contextlib.redirect_stderr(io.StringIO()) as said:
                    try:
                        if num_processes > 1:
                            os.environ.update(_describe_process(number, num_processes, port))
                        action()
                        status = 0
                    except BaseException:
                        import traceback

                        said.write(traceback.format_exc())
                        print(said.getvalue(), flush=True)
                os._exit(status)
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def main(folder: Path) -> None:
    """All trainings."""
    results: dict[str, Any] = defaultdict(dict)
    dataset = phantoms.write_pictures(folder / "cells", num_cases=9)
    for name, numbers in TRAININGS.items():
        planned = phantoms.plan_small(
            dataset,
            folder / name,
            labels={"background": 0, "cell": 255},
            **{**phantoms.SMALL_2D, **NETWORK, **numbers},
        )
        for size in SIZES:
            bundle = folder / f"{name}_{size}"
            shutil.copytree(planned, bundle)
            place = folder / f"{name}_{size}_steps"
            overrides = {"autocast": False, "dataset_dir": str(dataset)}
            codes = run_processes(size, lambda b=bundle, p=place, o=overrides: train_and_trace(b, p, overrides=o))
            traces = [json.loads(place.with_suffix(f".{number}.json").read_text()) for number in range(size)]
            results[name][str(size)] = {
                "codes": codes,
                "losses": [[step["loss"] for step in trace] for trace in traces],
                "samples": [sum((step["samples"] for step in steps), []) for steps in zip(*traces, strict=True)],
                "weights": str(bundle / "models" / "model_fold_0.pt"),
                "record": str(bundle / "evidence" / "runs" / "fold_0-001" / "run.json"),
            }
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
