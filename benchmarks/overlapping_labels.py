"""Nested and crossing structures as regions of one network, against a network for each: paired Dice on phantoms that no training has seen.

    .venv/bin/python benchmarks/overlapping_labels.py [--steps 300] [--seeds 3] [--cases 40] [--held-back 60] [--work overlapping_labels]

A phantom is a noisy picture with an organ, a tumour inside it, and a vessel that crosses both and leaves the organ; each structure has a
mask of its own. For every seed: one training of all masks with `overlaps`, and one for each structure with its mask alone; images, steps
and patches are the same (folds are dealt out by `plan`, by what each training knows). Writes results/overlapping_labels.md after every
seed; begun again, it does what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

import unet_pipeline
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evidence.records.machine import describe_machine, read_code_version
from unet_pipeline.files import write_json, write_text

TARGET = Path(__file__).parent / "results" / "overlapping_labels.md"
STRUCTURES = ("organ", "tumour", "vessel")
TOGETHER = "together"
SIDE, EPOCHS = 96, 5
CONTRAST = {"organ": 1.0, "tumour": 0.8, "vessel": -0.9}
NOISE = 0.7  # spread, so that no structure is found everywhere

Dice = dict[str, dict[str, float]]  # structure -> case -> Dice


def draw_phantom(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A grey picture and the mask of each structure, of shape (SIDE, SIDE); the masks overlap."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    centre = random.uniform(0.4, 0.6, 2) * SIDE
    radii = random.uniform(0.22, 0.34, 2) * SIDE
    organ = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
    inner = centre + random.uniform(-0.35, 0.35, 2) * radii
    radius = random.uniform(0.3, 0.5) * radii.min()
    tumour = ((y - inner[0]) ** 2 + (x - inner[1]) ** 2 < radius**2) & organ
    angle = random.uniform(0, np.pi)
    off = random.uniform(-0.6, 0.6) * radius  # of the vessel from the middle of the tumour, so that it crosses both
    along = (y - inner[0]) * np.sin(angle) - (x - inner[1]) * np.cos(angle) - off
    vessel = np.abs(along) < random.uniform(2.5, 4.5)
    masks = {"organ": organ, "tumour": tumour, "vessel": vessel}
    clean = sum(CONTRAST[name] * mask for name, mask in masks.items())
    image = clean + random.normal(0, NOISE, (SIDE, SIDE))
    return np.clip(image * 40 + 110, 0, 255).astype(np.uint8), masks


def write_phantoms(root: Path, structures: tuple[str, ...], seeds: range) -> Path:
    """A folder per case, with the picture and a mask for each of the structures."""
    for seed in seeds:
        image, masks = draw_phantom(seed)
        folder = root / f"case_{seed:04d}"
        (folder / "segmentations").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "image.png")
        for name in structures:
            Image.fromarray(masks[name].astype(np.uint8) * 255).save(folder / "segmentations" / f"{name}.png")
    return root


def measure(dataset: Path, held_back: Path, bundle: Path, steps: int, seed: int) -> Dice:
    """Train fold 0 and measure the phantoms that were held back."""
    if not (bundle / "configs").is_dir():
        options = unet_pipeline.ReadOptions(overlaps=True)
        unet_pipeline.plan(dataset, bundle, preset="quick", seed=seed, options=options)
    overrides = {"num_epochs": EPOCHS, "iterations_per_epoch": steps // EPOCHS, "val_interval": EPOCHS}
    unet_pipeline.train(bundle, 0, overrides=overrides)
    rows = unet_pipeline.evaluate(bundle, held_back, out=bundle.with_name(f"{bundle.name}_held_back")).rows
    scored = rows[rows["label"].isin(STRUCTURES)]
    return {label: dict(zip(part["case"], part["dice"], strict=True)) for label, part in scored.groupby("label")}


def compare(results: Mapping[int, Mapping[str, Dice]], structures: tuple[str, ...]) -> tuple[float, float, float]:
    """Mean of Dice together less Dice alone over the structures, and its 95 % interval over cases; seeds are averaged in each case."""
    cases = sorted(next(iter(results.values()))[TOGETHER][structures[0]])
    differences = [
        np.mean([one[TOGETHER][name][case] - one[name][name][case] for one in results.values() for name in structures])
        for case in cases
    ]
    return (float(np.mean(differences)), *compute_interval(np.array(differences), cases))


def write_table(results: Mapping[int, Mapping[str, Dice]], arguments: argparse.Namespace) -> None:
    """The table of the seeds that are finished."""
    machine, code = describe_machine(), read_code_version()
    lines = [
        "# Structures that overlap: together, and each by itself",
        "",
        f"`benchmarks/overlapping_labels.py --steps {arguments.steps} --seeds {len(results)} --cases {arguments.cases} "
        f"--held-back {arguments.held_back}`, commit {str(code.commit)[:10]}, preset quick, fold 0 of 5, {machine.num_cores} cores "
        f"{machine.processor}, {machine.gpu or 'no GPU'}. Mean Dice of {arguments.held_back} phantoms that no training has seen.",
        "",
        "| structure | seeds | alone | together | paired difference (95 % over cases) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for names in (*((name,) for name in STRUCTURES), STRUCTURES):
        alone, together = (
            np.mean([list(one[key or name][name].values()) for one in results.values() for name in names])
            for key in ("", TOGETHER)
        )
        mean, low, high = compare(results, names)
        title = names[0] if len(names) == 1 else "all three"
        lines.append(
            f"| {title} | {len(results)} | {alone:.4f} | {together:.4f} | {mean:+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    write_text(TARGET, "\n".join(lines) + "\n")


def main() -> None:
    """Run every training that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--held-back", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("overlapping_labels"), help="folder for phantoms and bundles")
    arguments = parser.parse_args()
    sets = {TOGETHER: STRUCTURES, **{name: (name,) for name in STRUCTURES}}
    results: dict[int, dict[str, Dice]] = {}
    for seed in range(arguments.seeds):
        of_seed: dict[str, Dice] = {}
        for title, structures in sets.items():
            folder = arguments.work / title
            dataset = write_phantoms(folder / "cases", structures, range(arguments.cases))
            held_back = write_phantoms(folder / "held_back", structures, range(1000, 1000 + arguments.held_back))
            done = folder / f"steps_{arguments.steps}_seed_{seed}.json"
            if not done.is_file():
                bundle = folder / f"bundle_{arguments.steps}_{seed}"
                write_json(done, measure(dataset, held_back, bundle, arguments.steps, seed))
            of_seed[title] = json.loads(done.read_text(encoding="utf-8"))
        results[seed] = of_seed
        write_table(results, arguments)


if __name__ == "__main__":
    main()
