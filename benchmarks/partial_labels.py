"""What it costs to hide one label in each half of the cases: paired Dice against a training with all labels.

    .venv/bin/python benchmarks/partial_labels.py Task04_Hippocampus [--steps 300] [--seeds 3] [--work partial_labels]

Three trainings for every seed, all else equal: all labels; one hidden in each half and said so in labels.csv; the same label maps without
labels.csv, so that what is hidden counts as background. Hidden labels are removed from the copies of the label maps. All are measured on the
complete references of fold 0. Writes results/partial_labels.md after every training; begun again, it does what is missing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

import unet_pipeline
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evidence.records.machine import describe_machine
from unet_pipeline.files import write_json, write_text
from unet_pipeline.text_files import read_json_object

TARGET = Path(__file__).parent / "results" / "partial_labels.md"
FULL, PARTIAL, AS_BACKGROUND = "all labels", "one hidden in each half, and said", "the same, taken as background"
EPOCHS = 10

Dice = dict[str, dict[str, float]]  # label -> case -> Dice


def write_copy(source: Path, target: Path, is_said: bool) -> Path:
    """The Decathlon dataset with one label hidden in every case, by turns; the images are links."""
    if (target / "dataset.json").is_file():
        return target
    (target / "labelsTr").mkdir(parents=True, exist_ok=True)
    if not (target / "imagesTr").is_symlink():
        (target / "imagesTr").symlink_to((source / "imagesTr").resolve())
    description = read_json_object(source / "dataset.json")
    labels = {name: int(value) for value, name in description["labels"].items()}
    names, rows = [name for name, value in labels.items() if value], ["case,labels"]
    for number, path in enumerate(sorted((source / "labelsTr").glob("*.nii.gz"))):
        image, hidden = nib.load(path), names[number % len(names)]
        array = np.asarray(image.dataobj).astype(np.uint8)
        array[array == labels[hidden]] = 0
        nib.save(nib.Nifti1Image(array, image.affine), target / "labelsTr" / path.name)
        rows.append(f"{path.name.removesuffix('.nii.gz')},{';'.join(name for name in names if name != hidden)}")
    if is_said:
        write_text(target / "labels.csv", "\n".join(rows) + "\n")
    write_json(target / "dataset.json", description)
    return target


def measure(dataset: Path, complete: Path, bundle: Path, steps: int, seed: int) -> Dice:
    """Dice of every label and case of fold 0, against the references of the bundle `complete`."""
    if not (bundle / "configs").is_dir():
        unet_pipeline.plan(
            dataset, bundle, preset="quick", seed=seed, options=unet_pipeline.ReadOptions(follow_links=True)
        )
    overrides = {"num_epochs": EPOCHS, "iterations_per_epoch": steps // EPOCHS, "val_interval": EPOCHS}
    unet_pipeline.train(bundle, 0, overrides=overrides)
    maps = unet_pipeline.evaluate(bundle).predictions[0]
    rows = unet_pipeline.evaluate(complete, predictions=maps, out=bundle.with_name(f"{bundle.name}_complete")).rows
    scored = rows[rows["label"] != "background"]
    return {label: dict(zip(part["case"], part["dice"], strict=True)) for label, part in scored.groupby("label")}


def compare(full: Mapping[int, Dice], other: Mapping[int, Dice]) -> str:
    """Mean paired difference of the mean over labels, with its interval over cases; seeds are averaged in each case."""
    cases = sorted(next(iter(next(iter(full.values())).values())))
    differences = [
        np.mean([other[seed][label][case] - full[seed][label][case] for seed in other for label in other[seed]])
        for case in cases
    ]
    low, high = compute_interval(np.array(differences), cases)
    return f"{np.mean(differences):+.4f} ({low:+.4f} to {high:+.4f})"


def write_table(results: Mapping[str, Mapping[int, Dice]], steps: int) -> None:
    """The table of what is finished."""
    machine = describe_machine()
    lines = [
        "# One label hidden in each half of the cases",
        "",
        f"`benchmarks/partial_labels.py Task04_Hippocampus --steps {steps}`, preset quick, fold 0, {machine.num_cores} cores "
        f"{machine.processor}, {machine.gpu or 'no GPU'}. Mean Dice on complete references.",
        "",
        "| training | seeds | mean Dice | of single labels | paired difference to all labels (95 %) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, by_seed in results.items():
        labels = {
            label: float(np.mean([list(dice[label].values()) for dice in by_seed.values()]))
            for label in next(iter(by_seed.values()))
        }
        both = {seed: dice for seed, dice in by_seed.items() if seed in results[FULL]}
        difference = "" if name == FULL or not both else compare(results[FULL], both)
        shown = ", ".join(f"{label} {dice:.4f}" for label, dice in labels.items())
        lines.append(f"| {name} | {len(by_seed)} | {np.mean(list(labels.values())):.4f} | {shown} | {difference} |")
    write_text(TARGET, "\n".join(lines) + "\n")


def main() -> None:
    """Run every training that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("partial_labels"), help="folder for copies and bundles")
    arguments = parser.parse_args()
    datasets = {
        FULL: arguments.dataset,
        PARTIAL: write_copy(arguments.dataset, arguments.work / "said", True),
        AS_BACKGROUND: write_copy(arguments.dataset, arguments.work / "silent", False),
    }
    results: dict[str, dict[int, Dice]] = {}
    for seed in range(arguments.seeds):
        folder = arguments.work / f"steps_{arguments.steps}_seed_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for place, (name, dataset) in enumerate(datasets.items()):
            done = folder / f"{place}.json"
            if not done.is_file():
                write_json(
                    done, measure(dataset, folder / "bundle_0", folder / f"bundle_{place}", arguments.steps, seed)
                )
            results.setdefault(name, {})[seed] = json.loads(done.read_text(encoding="utf-8"))
            write_table(results, arguments.steps)


if __name__ == "__main__":
    main()
