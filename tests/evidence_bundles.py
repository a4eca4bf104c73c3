"""Bundles with an evaluation, run records and learning curves, made in a second without a training.

The predictions are the reference label maps shifted by some voxels, and go through the real evaluation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image as PillowImage
from torch.utils.tensorboard import SummaryWriter

import unet_pipeline
from unet_pipeline.files import write_json

from . import phantom_bundles as phantoms

PREDICTIONS = "predictions_shifted"
RUN = {
    "id": "fold_0-001",
    "state": "finished",
    "started": "2026-01-02T03:04:05+00:00",
    "command": "python -m monai.bundle run --config_file BUNDLE/configs/train.json",
    "settings": {"bundle_root": "BUNDLE", "fold": "0", "num_epochs": "3"},
    "code": {"commit": "0123456789abcdef", "changed": False},
    "versions": {"monai": "1.6.1", "torch": "2.13.0"},
    "environment": {},
    "machine": {"processor": "AMD EPYC", "num_cores": 2, "memory_gib": 23.5, "gpu": None, "python": "3.11.7"},
    "result": {"best_epoch": 2, "best_dice_resampled_grid": 0.81, "num_epochs": 3, "weights_sha256": "ab" * 32},
    "duration_s": 93.0,
    "peak_memory_gib": 1.25,
}


def list_answers() -> set[str]:
    """Names of all answers that the documents can ask for."""
    template = Path(unet_pipeline.__file__).parent / "evidence" / "report" / "templates" / "answers.jinja"
    return set(re.findall(r"macro (\w+)\(\)", template.read_text(encoding="utf-8")))


def write_evaluated(folder: Path, spatial_dims: int, num_cases: int = 8) -> Path:
    """A bundle that was "trained" for fold 0 and evaluated on its validation cases."""
    if spatial_dims == 3:
        dataset = phantoms.write_volumes(folder / "organs", num_cases)
        bundle = phantoms.plan_small(dataset, folder / "organ_bundle")
    else:
        dataset = phantoms.write_pictures(folder / "cells", num_cases)
        bundle = phantoms.plan_small(dataset, folder / "cell_bundle", labels={"background": 0, "cell": 255})
    for name in ("model.pt", "model_fold_0.pt"):
        torch.save({"weight": torch.zeros(1)}, bundle / "models" / name)
    write_json(bundle / "evidence" / "weights.json", {"fold": 0, "sha256": "ab" * 32})
    write_run(bundle)
    made = bundle / "evidence" / "evaluations" / "validation" / PREDICTIONS
    write_shifted(dataset, bundle, made)
    phantoms.silently(unet_pipeline.evaluate, bundle, predictions=made)
    return bundle


def write_run(bundle: Path) -> None:
    """A run record with TensorBoard events as MONAI's handlers write them."""
    run_dir = bundle / "evidence" / "runs" / "fold_0-001"
    write_json(run_dir / "run.json", RUN)
    with SummaryWriter(str(run_dir)) as writer:
        for step in range(1, 61):
            writer.add_scalar("train_loss", 2.0 / step, step)
        for epoch, dice in ((1, 0.5), (2, 0.81), (3, 0.8)):
            writer.add_scalar("val_mean_dice", dice, epoch)


def write_shifted(dataset: Path, bundle: Path, out: Path) -> None:
    """Label maps of fold 0's validation cases, shifted more from case to case."""
    cases = json.loads((bundle / "evidence" / "splits" / "fold_0.json").read_text())["validation"]
    out.mkdir(parents=True)
    for number, case in enumerate(cases, start=1):
        label = dataset / case["label"]
        if label.suffix == ".png":
            rows = np.roll(np.asarray(PillowImage.open(label)), 3 * number, axis=1)
            PillowImage.fromarray(rows).save(out / f"{case['case']}.png")
        else:
            volume = nib.load(label)
            shifted = np.roll(np.asarray(volume.dataobj), 2 * number, axis=0)
            nib.save(nib.Nifti1Image(shifted.astype(np.uint8), volume.affine), out / f"{case['case']}.nii.gz")
