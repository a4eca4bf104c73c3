"""Kill one of several processes of a training and resume it: `.venv/bin/python benchmarks/kill_processes.py [--kills 20] [--seed 0]`.

Each trial trains nine phantom pictures in 2 or 4 processes, one of which kills itself (SIGKILL) before a random step; the message must
name it. The training is resumed in 1, 2 or 4 processes, and must end with the weights of one that nobody killed, bit by bit.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shlex
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from unet_pipeline.files import write_text

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import joint_trainings as trainings

TARGET = Path(__file__).parent / "results" / "kill_processes.md"
NUM_STEPS = 50


def read_weights(bundle: Path) -> dict[str, torch.Tensor]:
    """Those of the last step."""
    (path,) = bundle.glob("evidence/runs/*/checkpoint_last.pt")
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["network"]
    return weights


def try_once(planned: Path, expected: dict[str, torch.Tensor], generator: random.Random) -> tuple[str, float, bool]:
    """One kill and its resumption; a row of the table, seconds until all processes had ended, and whether all was right."""
    size, resumed_size = generator.choice((2, 4)), generator.choice((1, 2, 4))
    trainings.TRACE.kill = generator.randrange(size), generator.randrange(2, NUM_STEPS)
    rank, step = trainings.TRACE.kill
    bundle = trainings.copy(planned, "killed")
    message = trainings.train(bundle, size)
    ended_s = time.time() - float((bundle / "killed_at_s").read_text())
    trainings.TRACE.kill = None
    is_named = message.startswith(f"Process {rank} of 0 to {size - 1} was ended by the signal SIGKILL")
    failure = trainings.train(bundle, resumed_size, resume=True)
    weights = read_weights(bundle)
    is_same = not failure and all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    shutil.rmtree(bundle)
    words = "yes" if is_named else f"no: {message}"
    row = f"| {size} | {rank} | {step} | {ended_s:.1f} | {words} | {resumed_size} | {'yes' if is_same else 'no'} |"
    return row, ended_s, is_named and is_same and ended_s < 60


def write_table(rows: list[str], num_right: int, duration_s: float) -> None:
    """All trials so far."""
    lines = "\n".join(rows)
    text = f"""# One of several processes killed

`.venv/bin/python {shlex.join(["benchmarks/kill_processes.py", *sys.argv[1:]])}`, {datetime.now(UTC).date()}, {platform.machine()},
{os.cpu_count()} cores (shared), Python {platform.python_version()}, torch {torch.__version__}; {duration_s:.0f} s.

A deterministic training of a DynUNet on nine pictures, {NUM_STEPS} steps of a batch of 9 (Gloo, float32), a checkpoint after every step. One
process kills itself before a random step. Seconds: from the kill to the message, when all processes had ended. Same weights: those of the
last step are, bit by bit, those of the training that nobody killed, in one process. Right: {num_right} of {len(rows)}.

| processes | killed | before step | seconds | named in the message | resumed in | same weights |
| --- | --- | --- | --- | --- | --- | --- |
{lines}
"""
    write_text(TARGET, text)


def main() -> None:
    """Run the trials and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started_s, generator = time.monotonic(), random.Random(arguments.seed)
    trainings.fork_processes()
    trainings.TRACE.install()
    rows, num_right = list[str](), 0
    with tempfile.TemporaryDirectory() as name:
        planned = trainings.plan(
            Path(name), batch_size=9, num_epochs=5, iterations_per_epoch=NUM_STEPS // 5, val_interval=5
        )
        undisturbed = trainings.copy(planned, "undisturbed")
        trainings.train(undisturbed, 1)
        expected = read_weights(undisturbed)
        for _ in range(arguments.kills):
            row, _, is_right = try_once(planned, expected, generator)
            rows, num_right = [*rows, row], num_right + is_right
            print(row, flush=True)
            write_table(rows, num_right, time.monotonic() - started_s)
    if num_right != arguments.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
