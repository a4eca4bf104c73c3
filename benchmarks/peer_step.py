"""nnU-Net's training step as a worker of `train_step.py`: loading of the batch, forward, backward, step. Runs in its environment."""

from __future__ import annotations

import time
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed
from peer_training import build_trainer


def main() -> None:
    """One step per line of the input."""
    (preprocessed,) = Path(str(nnUNet_preprocessed)).glob("Dataset004_*")
    trainer = build_trainer(preprocessed)
    trainer.network.train()
    trainer.train_step(next(trainer.dataloader_train))
    print("ready", flush=True)
    while input():
        started_s = time.monotonic()
        trainer.train_step(next(trainer.dataloader_train))
        print(time.monotonic() - started_s, flush=True)


if __name__ == "__main__":
    main()
