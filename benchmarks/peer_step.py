"""nnU-Net's training step, for `train_step.py` and `gpu.py`: loading of the batch, forward, backward, step. Runs in its environment.

    PEER_PYTHON benchmarks/peer_step.py [--device cuda] [--steps 50] [--turns 6]

A line of the input is one turn of that many steps, or with --turns all turns follow one another; each answers with seconds of a step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path

import torch
from nnunetv2.paths import nnUNet_preprocessed
from peer_training import build_trainer


def main() -> None:
    """One line per turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=1, help="of a turn")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before the first turn")
    parser.add_argument("--turns", type=int, help="that follow one another; as many as lines come in, if not given")
    arguments = parser.parse_args()
    (preprocessed,) = Path(str(nnUNet_preprocessed)).glob("Dataset004_*")
    device = torch.device(arguments.device)
    trainer = build_trainer(preprocessed, device)
    trainer.network.train()

    def run(num_steps: int) -> float:
        _synchronize(device)
        started_s = time.monotonic()
        for _ in range(num_steps):
            trainer.train_step(next(trainer.dataloader_train))
        _synchronize(device)
        return (time.monotonic() - started_s) / num_steps

    warm_s = arguments.warm_up * run(arguments.warm_up)
    if arguments.turns is None:
        print("ready", flush=True)
        while input():
            print(run(arguments.steps), flush=True)
        return
    for _ in range(arguments.turns):
        print(run(arguments.steps), flush=True)
    print(json.dumps(_describe(trainer, device, warm_s)), flush=True)
    for loader in multiprocessing.active_children():
        loader.kill()
    os._exit(0)  # its loaders wait for workers that have nothing more to do


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _describe(trainer: object, device: torch.device, warm_s: float) -> dict[str, object]:
    """What its plan says, and what its step takes."""
    settings = trainer.configuration_manager  # type: ignore[attr-defined]
    return {
        "patch": "x".join(map(str, settings.patch_size)),
        "batch": trainer.batch_size,  # type: ignore[attr-defined]
        "warm-up (s)": round(warm_s, 1),
        "peak memory (GiB)": round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
        if device.type == "cuda"
        else None,
    }


if __name__ == "__main__":
    main()
