"""Structures that overlap, trained as one network, against one training for each structure: paired Dice on phantoms.

    .venv/bin/python benchmarks/overlapping_labels.py [--cases 30] [--steps 300] [--seeds 3] [--work FOLDER]

Each phantom has an organ, a tumour that lies in it and sometimes leaves it, and a vessel that crosses both, so that masks are nested and
overlap. `plan --overlaps` joins them; the other trainings see the same images with the mask of one structure. All have the same preset,
fold, steps and seed. Writes results/overlapping_labels.md after every training; begun again, it does what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

import unet_pipeline
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evidence.records.machine import describe_machine
from unet_pipeline.files import write_json, write_text

TARGET = Path(__file__).parent / "results" / "overlapping_labels.md"
STRUCTURES = ("organ", "tumour", "vessel")
SHAPE, EPOCHS = (24, 24, 24), 10
MARGIN = 0.005

Dice = dict[str, dict[str, float]]  # structure -> case -> Dice


def draw_phantom(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """An image of shape SHAPE and the mask of each structure, on its grid."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(length) for length in SHAPE), indexing="ij"), axis=-1).astype(float)
    center = np.array(SHAPE) / 2 + generator.uniform(-2, 2, 3)
    radii = generator.uniform(5, 8, 3)
    organ = (((grid - center) / radii) ** 2).sum(-1) < 1
    direction = generator.normal(size=3)
    direction /= np.linalg.norm(direction)
    site = center + direction * radii * generator.uniform(0.3, 0.9)
    tumour = np.linalg.norm(grid - site, axis=-1) < generator.uniform(2, 3.5)
    axis = generator.normal(size=3)
    axis /= np.linalg.norm(axis)
    offset = grid - center
    vessel = np.linalg.norm(offset - (offset @ axis)[..., None] * axis, axis=-1) < generator.uniform(1.2, 1.8)
    image = 40.0 * organ + 45.0 * tumour - 50.0 * vessel
    image = ndimage.gaussian_filter(image, 0.7) + ndimage.gaussian_filter(generator.normal(0, 60, SHAPE), 0.8)
    return image.astype(np.float32), {"organ": organ, "tumour": tumour, "vessel": vessel}


def write_cases(root: Path, structures: tuple[str, ...], num_cases: int) -> Path:
    """A folder for each case, with the masks of some structures."""
    for number in range(num_cases):
        image, masks = draw_phantom(number)
        folder = root / f"case_{number:02d}"
        (folder / "segmentations").mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "image.nii.gz")
        for name in structures:
            nib.save(
                nib.Nifti1Image(masks[name].astype(np.uint8), np.eye(4)), folder / "segmentations" / f"{name}.nii.gz"
            )
    return root


def measure(dataset: Path, bundle: Path, steps: int, seed: int, overlaps: bool) -> Dice:
    """Dice of each structure in each case of fold 0."""
    if not (bundle / "configs").is_dir():
        options = unet_pipeline.ReadOptions(overlaps=overlaps)
        unet_pipeline.plan(dataset, bundle, preset="quick", seed=seed, options=options)
    unet_pipeline.train(
        bundle,
        0,
        overrides={"num_epochs": EPOCHS, "iterations_per_epoch": steps // EPOCHS, "val_interval": EPOCHS},
    )
    rows = unet_pipeline.evaluate(bundle).rows
    scored = rows[rows["label"].isin(STRUCTURES)]
    return {label: dict(zip(part["case"], part["dice"], strict=True)) for label, part in scored.groupby("label")}


def compare(joined: Mapping[int, Dice], single: Mapping[int, Dice], structure: str) -> tuple[str, bool]:
    """Mean paired difference of one structure with its interval over cases, seeds averaged; whether it is as good within MARGIN."""
    cases = sorted(single[0][structure])
    differences = np.array(
        [np.mean([joined[seed][structure][case] - single[seed][structure][case] for seed in joined]) for case in cases]
    )
    low, high = compute_interval(differences, cases)
    return f"{differences.mean():+.4f} ({low:+.4f} to {high:+.4f})", differences.mean() >= -MARGIN


def write_table(joined: Mapping[int, Dice], single: Mapping[int, Dice], command: str) -> None:
    """The table of what is finished."""
    machine = describe_machine()
    lines = [
        "# One training of structures that overlap, and one for each",
        "",
        f"`{command}`, preset quick, fold 0, {len(joined)} seeds, {machine.num_cores} cores {machine.processor}, "
        f"{machine.gpu or 'no GPU'}. Mean Dice of {len(next(iter(single[0].values())))} phantoms of {'x'.join(map(str, SHAPE))}.",
        "",
        f"| structure | one network | one for each | paired difference (95 %) | as good within {MARGIN} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for structure in STRUCTURES:
        means = [np.mean([list(dice[structure].values()) for dice in of.values()]) for of in (joined, single)]
        difference, is_as_good = compare(joined, single, structure)
        answer = "yes" if is_as_good else "no"
        lines.append(f"| {structure} | {means[0]:.4f} | {means[1]:.4f} | {difference} | {answer} |")
    write_text(TARGET, "\n".join(lines) + "\n")


def main() -> None:
    """Run every training that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("overlapping_labels"), help="folder for phantoms and bundles")
    arguments = parser.parse_args()
    command = f"benchmarks/overlapping_labels.py --cases {arguments.cases} --steps {arguments.steps} --seeds {arguments.seeds}"
    joined, single = {}, {}
    for seed in range(arguments.seeds):
        folder = arguments.work / f"steps_{arguments.steps}_seed_{seed}"
        dice: dict[str, Dice] = {}
        for name, structures in {"all": STRUCTURES, **{one: (one,) for one in STRUCTURES}}.items():
            done = folder / f"{name}.json"
            if not done.is_file():
                dataset = write_cases(arguments.work / f"cases_{name}", structures, arguments.cases)
                folder.mkdir(parents=True, exist_ok=True)
                write_json(done, measure(dataset, folder / f"bundle_{name}", arguments.steps, seed, name == "all"))
            dice[name] = json.loads(done.read_text(encoding="utf-8"))
        joined[seed] = dice["all"]
        single[seed] = {structure: dice[structure][structure] for structure in STRUCTURES}
        write_table(joined, single, command)


if __name__ == "__main__":
    main()
