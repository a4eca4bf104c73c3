"""Synthetic CT of any size and number of labels, and a bundle planned for it whose weights are random.

Only time and memory are measured on them. The volumes are noise on blocks, one block per label.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from measured_process import measure_verb

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.files import write_json, write_text

SPACING_MM = (0.8, 0.8, 1.5)
_NOISE_HU = 20


def draw_labels(shape: Sequence[int], num_labels: int) -> np.ndarray:
    """Label map, uint8: a lattice of blocks with the labels 1 to `num_labels` - 1 in turn, in a border of 0.

    Args:
        shape: of the volume; each axis at least 10 voxels, and two per block.
        num_labels: with the background; 2 or more.
    """
    found = np.zeros(tuple(shape), dtype=np.uint8)
    per_axis = math.ceil((num_labels - 1) ** (1 / 3))
    edges = [np.linspace(0.1 * size, 0.9 * size, per_axis + 1).round().astype(int) for size in shape]
    for index, place in enumerate(product(range(per_axis), repeat=3)):
        block = tuple(slice(along[number], along[number + 1]) for along, number in zip(edges, place, strict=True))
        found[block] = 1 + index % (num_labels - 1)
    return found


def draw_image(labels: np.ndarray, seed: int) -> np.ndarray:
    """Image in HU, int16: each label of its own brightness, air around, and noise; slice by slice, for want of memory."""
    generator = np.random.default_rng(seed)
    brightness = np.arange(256, dtype=np.int16) * 7 % 400
    brightness[0] = -1000
    found = np.empty(labels.shape, dtype=np.int16)
    for row, of_row in zip(found, labels, strict=True):
        row[:] = brightness[of_row] + generator.integers(-_NOISE_HU, _NOISE_HU, of_row.shape, dtype=np.int16)
    return found


def write_volume(path: Path, array: np.ndarray, spacing_mm: Sequence[float] = SPACING_MM) -> Path:
    """Write an array as .nii.gz, quickly: the file is thrown away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    level, nib.openers.Opener.default_compresslevel = nib.openers.Opener.default_compresslevel, 1
    nib.save(nib.Nifti1Image(array, np.diag([*spacing_mm, 1.0])), path)
    nib.openers.Opener.default_compresslevel = level
    return path


def write_dataset(root: Path, num_cases: int, shape: Sequence[int], num_labels: int) -> Path:
    """Cases in the layout of the Medical Segmentation Decathlon, every label in every case."""
    labels, entries = draw_labels(shape, num_labels), []
    for number in range(num_cases):
        name = f"case_{number:04d}.nii.gz"
        write_volume(root / "imagesTr" / name, draw_image(labels, number))
        write_volume(root / "labelsTr" / name, labels)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    table = {str(value): "background" if value == 0 else f"organ_{value}" for value in range(num_labels)}
    write_json(root / "dataset.json", {"modality": {"0": "CT"}, "labels": table, "training": entries})
    return root


def set_numbers(bundle: Path, numbers: Mapping[str, Any]) -> None:
    """Edit numbers of a bundle's plan and write its configs again, as a user would.

    Raises:
        KeyError: the plan has no such number.
    """
    path = BundleFolder(bundle).plan
    text = path.read_text(encoding="utf-8")
    for name, value in numbers.items():
        text, count = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
        if count != 1:
            raise KeyError(name)
    write_text(path, text)
    measure_verb(["plan", "--refresh", bundle])


def write_random_weights(bundle: Path) -> None:
    """The network's initial weights as models/model.pt."""
    import torch
    from monai.bundle import ConfigParser

    folder = open_bundle(bundle)
    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(str(folder.config("inference")))
    torch.manual_seed(0)
    folder.models.mkdir(exist_ok=True)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder.weights)
