"""Bundles trained on phantoms in seconds, for the tests of everything that needs weights.

The plans are real ones with a few numbers made small; the trainings run through `unet_pipeline.train`.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.files import write_json, write_text
from unet_pipeline.planning.plan import read_plan

SPACING_MM = (1.5, 1.5, 2.0)
VOLUME_SHAPE = (30, 34, 22)
PICTURE_SIZE = (72, 52)  # width, height: not square


def draw_organ(seed: int, shape: tuple[int, ...] = VOLUME_SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Image (float32) and labels (uint8): an ellipsoid, 1, with a brighter ball inside, 2, on noise."""
    generator = np.random.default_rng(seed)
    grid = np.indices(shape).astype(float)
    centre = np.array([(size - 1) / 2 for size in shape]) + generator.uniform(-2, 2, len(shape))
    axes = np.array([10.0, 11.0, 7.0][: len(shape)]) * generator.uniform(0.9, 1.1, len(shape))
    distance = np.sqrt(sum(((g - c) / a) ** 2 for g, c, a in zip(grid, centre, axes, strict=True)))
    label = (distance < 1).astype(np.uint8) + (distance < 0.55)
    image = 100.0 * label + generator.normal(0, 12, shape)
    return image.astype(np.float32), label.astype(np.uint8)


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*SPACING_MM, 1.0]) if affine is None else affine), path)
    return path


def write_volumes(root: Path, num_cases: int = 8) -> Path:
    """Dataset in the layout of the Medical Segmentation Decathlon."""
    names = [f"organ_{index:02d}" for index in range(num_cases)]
    for seed, name in enumerate(names):
        image, label = draw_organ(seed)
        write_volume(root / "imagesTr" / f"{name}.nii.gz", image)
        write_volume(root / "labelsTr" / f"{name}.nii.gz", label)
    entries = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    labels = {"0": "background", "1": "organ", "2": "tumour"}
    write_json(root / "dataset.json", {"modality": {"0": "MRI"}, "labels": labels, "training": entries})
    return root


def draw_cell(seed: int, size: tuple[int, int] = PICTURE_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask, uint8 with shape (height, width): a wide ellipse off the centre, 255 in the mask."""
    width, height = size
    generator = np.random.default_rng(seed)
    row, column = np.indices((height, width)).astype(float)
    middle_row, middle_column = height * generator.uniform(0.35, 0.5), width * generator.uniform(0.5, 0.65)
    inside = ((row - middle_row) / 12) ** 2 + ((column - middle_column) / 20) ** 2 < 1
    picture = np.clip(60 + 110 * inside + generator.normal(0, 10, inside.shape), 0, 255)
    return picture.astype(np.uint8), (255 * inside).astype(np.uint8)


def write_pictures(root: Path, num_cases: int = 8) -> Path:
    """Dataset of plain folders."""
    for seed in range(num_cases):
        picture, mask = draw_cell(seed)
        for folder, rows in (("images", picture), ("labels", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(rows).save(root / folder / f"cell_{seed:02d}.png")
    return root


def plan_small(
    dataset: Path,
    bundle: Path,
    labels: dict[str, int] | None = None,
    network: str = "dynunet",
    padded: bool = False,
    folds: int = 4,
    **numbers: Any,
) -> Path:
    """Plan a bundle and make some of its numbers small, as a user would: edit plan.yaml, then refresh."""
    silently(
        unet_pipeline.plan, dataset, bundle, preset="quick", folds=folds, labels=labels, network=network, padded=padded
    )
    return change_plan(bundle, **numbers)


def change_plan(bundle: Path, **numbers: Any) -> Path:
    """Edit numbers of plan.yaml, then refresh."""
    path = bundle / "configs" / "plan.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, value in numbers.items():
        lines = [f"{name}: {value!r}" if line.startswith(f"{name}:") else line for line in lines]
    write_text(path, "\n".join(lines) + "\n")
    assert all(str(getattr(read_plan(path), name)).replace("(", "[").replace(")", "]") for name in numbers)
    unet_pipeline.refresh(bundle)
    return bundle


def run_stock_inference(python: Path, bundle: Path, images: Path, out: Path) -> None:
    """The command of the bundle's card, from the bundle's folder; not with this package on PYTHONPATH."""
    command = [str(python), "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    places = ["--dataset_dir", str(images), "--output_dir", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*command, *places], cwd=bundle, check=True, capture_output=True, env=environment)


def list_label_maps(folder: Path) -> list[Path]:
    """What `predict` wrote, without its record and the table of it."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in (".json", ".csv"))


def silently(function: Any, *arguments: Any, **keywords: Any) -> Any:
    """Call without progress lines in the test report."""
    with contextlib.redirect_stderr(io.StringIO()):
        return function(*arguments, **keywords)


SMALL_3D = {
    "filters": [8, 16, 32],
    "kernel_size": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "num_supervised_heads": 1,
    "supervision_weights": [0.666667, 0.333333],
    "patch_size": [24, 24, 16],
    "window_size": [32, 32, 24],
    "num_epochs": 4,
    "iterations_per_epoch": 20,
    "val_interval": 2,
    "warmup_iterations": 5,
    "learning_rate": 0.01,
    "affine_probability": 0.3,
}
SMALL_2D = {
    "filters": [8, 16, 32, 32],
    "kernel_size": [[3, 3]] * 4,
    "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
    "num_supervised_heads": 2,
    "supervision_weights": [0.571429, 0.285714, 0.142857],
    "patch_size": [48, 48],
    "window_size": [48, 48],
    "num_epochs": 4,
    "iterations_per_epoch": 25,
    "val_interval": 2,
    "warmup_iterations": 5,
    "learning_rate": 0.01,
    "rotation_range_rad": [3.141593],
    "mirror_probability": [0.5, 0.5],
}
