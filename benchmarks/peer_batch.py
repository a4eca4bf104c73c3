"""nnU-Net's loading and augmentation of one batch as a worker of `data.py`, in its own process. Runs in its environment."""

from __future__ import annotations

import os
import time
from pathlib import Path

from nnunetv2.paths import nnUNet_preprocessed
from peer_training import build_trainer


def main() -> None:
    """Seconds per patch of one batch per line of the input."""
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 - in this process, and under this name
    (preprocessed,) = Path(str(nnUNet_preprocessed)).glob("Dataset004_*")
    trainer = build_trainer(preprocessed)
    next(trainer.dataloader_train)
    print("ready", flush=True)
    while input():
        started_s = time.process_time()
        batch = next(trainer.dataloader_train)
        print((time.process_time() - started_s) / len(batch["data"]), flush=True)


if __name__ == "__main__":
    main()
