"""nnU-Net's own training for some minutes, with weights kept at given times and predictions of the validation fold.

    PEER_PYTHON benchmarks/peer_training.py --dataset-id 4 --minutes 2 5 10 15 --out FOLDER [--short-schedule] [--device cuda]
        [--configuration 2d] [--seed 0] [--mirror]

Runs in nnU-Net's environment (`peer_environment.py`). The clock counts its training steps and the loading of batches, and
nothing else. Its learning rate falls over 250,000 steps, as it does by default, or over the given minutes with --short-schedule.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from energy import EnergyMeter
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

CPU = torch.device("cpu")


def build_trainer(preprocessed: Path, device: torch.device = CPU, configuration: str = "3d_fullres") -> nnUNetTrainer:
    """nnU-Net's trainer for fold 0, as its command line builds it."""
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset = json.loads((preprocessed / "dataset.json").read_text(encoding="utf-8"))
    trainer = nnUNetTrainer({**plans, "continue_training": False}, configuration, 0, dataset, device)
    trainer.initialize()
    trainer.on_train_start()
    return trainer


def train(trainer: nnUNetTrainer, minutes: list[float], short_schedule: bool) -> list[dict[str, float]]:
    """Train until the last of the times; weights of each are kept in the trainer's folder.

    Returns:
        Minutes, steps and loss at each of the times.
    """
    elapsed_s, step, points = 0.0, 0, []
    meter = EnergyMeter()
    trainer.network.train()
    while len(points) < len(minutes):
        progress = elapsed_s / (60 * minutes[-1]) if short_schedule else step // 250 / trainer.num_epochs
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * max(1 - progress, 0.0) ** 0.9
        started_s = time.monotonic()
        loss = float(trainer.train_step(next(trainer.dataloader_train))["loss"])
        elapsed_s += time.monotonic() - started_s
        step += 1
        while len(points) < len(minutes) and elapsed_s >= 60 * minutes[len(points)]:
            trainer.save_checkpoint(str(Path(trainer.output_folder) / f"checkpoint_{len(points)}.pth"))
            points.append({"minutes": elapsed_s / 60, "steps": step, "loss": loss, "joule": meter.read_joule()})
            print(json.dumps(points[-1]), flush=True)
    return points


def predict(trainer: nnUNetTrainer, raw: Path, out: Path, number: int, mirror: bool) -> None:
    """Label maps of the validation cases with the weights of one time."""
    predictor = nnUNetPredictor(use_mirroring=mirror, device=trainer.device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trainer.output_folder_base), (0,), f"checkpoint_{number}.pth")
    _, cases = trainer.do_split()
    ending = trainer.dataset_json["file_ending"]
    images = [[str(raw / "imagesTr" / f"{case}_0000{ending}")] for case in cases]
    out.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(images, [str(out / case) for case in cases], overwrite=True)


def main() -> None:
    """Train, then predict with the weights of every time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset-id", type=int, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--short-schedule", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mirror", action="store_true")
    arguments = parser.parse_args()
    name = f"Dataset{arguments.dataset_id:03d}_*"
    (preprocessed,) = Path(str(nnUNet_preprocessed)).glob(name)
    (raw,) = Path(str(nnUNet_raw)).glob(name)
    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed)
    trainer = build_trainer(preprocessed, torch.device(arguments.device), arguments.configuration)
    points = train(trainer, sorted(arguments.minutes), arguments.short_schedule)
    for number in range(len(points)):
        predict(trainer, raw, arguments.out / f"predictions_{number}", number, arguments.mirror)
    (arguments.out / "points.json").write_text(json.dumps(points), encoding="utf-8")
    for loader in multiprocessing.active_children():  # the exit below skips what would end them
        loader.kill()
    os._exit(0)  # its loaders wait for workers that have nothing more to do


if __name__ == "__main__":
    main()
