"""Folders as `evaluate` leaves them, made without a network: the predictions are the references moved by one voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as PillowImage

from tests.conftest import save_nifti
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.evaluation.cases import evaluate_pairs
from unet_pipeline.evaluation.files import DataRecord, SummaryFacts, build_summary, write_rows, write_summary
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.files import write_json

SHAPE = (40, 36, 30)
LABELS = {"background": 0, "core": 1, "rim": 2}


def draw_oblique(root: Path, name: str, seed: int = 0, dtype: type = np.int16) -> None:
    """A case whose axes are flipped and permuted, with voxels of three sizes: two boxes, values 1 and 2, off the centre."""
    rng = np.random.default_rng(seed)
    label = np.zeros(SHAPE, np.uint8)
    label[18:24, 12:20, 10:18], label[24:28, 12:18, 10:16] = 1, 2
    image = (label.astype(np.int16) * 300 + rng.integers(-200, 200, SHAPE)).astype(dtype)
    affine = np.array([[0, 0, 1.5, -20], [-1.2, 0, 0, 30], [0, 0.9, 0, -10], [0, 0, 0, 1]], float)
    save_nifti(root / "images" / f"{name}.nii.gz", image, affine=affine)
    save_nifti(root / "labels" / f"{name}.nii.gz", label, affine=affine)


def shift_file(source: Path, target: Path) -> None:
    """Write a label map moved by one voxel along its first axis."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name.endswith(".nii.gz"):
        image = nib.load(source)
        nib.save(nib.Nifti1Image(np.roll(np.asarray(image.dataobj), 1, axis=0), image.affine, image.header), target)
    else:
        PillowImage.fromarray(np.roll(np.asarray(PillowImage.open(source)), 1, axis=1)).save(target)


def write_evaluation(
    out: Path, dataset: Dataset, cases: Sequence[Case], labels: Mapping[str, int], ignore_value: int | None = None
) -> Path:
    """Predictions, metrics.csv, summary.json and the part of run.json that says what the labels mean."""
    pairs = []
    for case in cases:
        reference = dataset.root / case.require_label()
        prediction = out / "predictions_0" / f"{case.name}{''.join(reference.suffixes[-2:])}"
        shift_file(reference, prediction)
        pairs.append(Pair(case.name, reference, prediction, fold=len(pairs) % 2))
    rows = write_rows(out, evaluate_pairs(pairs, labels, ignore_value))
    scored = list(labels)[1:]
    facts = SummaryFacts("t", DataRecord(name="d", manifest_sha256=None), dict(labels))
    write_summary(out, build_summary(rows, scored, facts))
    write_json(out / "run.json", {"plan": {"label_table": dict(labels), "ignore_value": ignore_value, "regions": {}}})
    return out
