"""What it costs to hide one label in each half of the cases: paired Dice against a training with all labels.

    .venv/bin/python benchmarks/partial_labels.py DATASET [--steps 300] [--seeds 3] [--trainings 0 1 2] [--held-back 42] [--work FOLDER]

Three trainings for every seed, all else equal: (0) all labels; (1) one hidden in each half and said so in labels.csv; (2) the same label
maps without labels.csv, so that what is hidden counts as background. Hidden labels are removed from the copies of the label maps. All train
on fold 0 of the same cases, and are measured on cases that were held back, with their complete references, because `plan` deals out folds
by the labels that it knows of. Writes results/partial_labels.md, of all lengths in the folder, after every training; begun again, it does
what is missing. Once the copies are there, `--trainings 0` and `--trainings 1` may run side by side in one folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

import unet_pipeline
from unet_pipeline.evaluation.bootstrap import compute_interval
from unet_pipeline.evidence.records.machine import describe_machine
from unet_pipeline.files import write_json, write_text
from unet_pipeline.text_files import read_json_object

TARGET = Path(__file__).parent / "results" / "partial_labels.md"
TRAININGS = FULL, PARTIAL, AS_BACKGROUND = (
    "all labels",
    "one hidden in each half, and said",
    "the same, taken as background",
)
EPOCHS = 10

Dice = dict[str, dict[str, float]]  # label -> case -> Dice


def write_copy(source: Path, target: Path, cases: Sequence[Path], is_hidden: bool, is_said: bool) -> Path:
    """A Decathlon dataset of these label maps, with one label hidden in every case, by turns, if asked; the images are links."""
    if (target / "dataset.json").is_file():
        return target
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    description = read_json_object(source / "dataset.json")
    labels = {name: int(value) for value, name in description["labels"].items()}
    names, rows = [name for name, value in labels.items() if value], ["case,labels"]
    for number, path in enumerate(cases):
        link = target / "imagesTr" / path.name
        if not link.is_symlink():
            link.symlink_to((source / "imagesTr" / path.name).resolve())
        image, hidden = nib.load(path), names[number % len(names)] if is_hidden else None
        array = np.asarray(image.dataobj).astype(np.uint8)
        if hidden is not None:
            array[array == labels[hidden]] = 0
        nib.save(nib.Nifti1Image(array, image.affine), target / "labelsTr" / path.name)
        rows.append(f"{path.name.removesuffix('.nii.gz')},{';'.join(name for name in names if name != hidden)}")
    if is_said:
        write_text(target / "labels.csv", "\n".join(rows) + "\n")
    training = [{"image": f"./imagesTr/{path.name}", "label": f"./labelsTr/{path.name}"} for path in cases]
    write_json(target / "dataset.json", {**description, "numTraining": len(training), "training": training})
    return target


def measure(dataset: Path, held_back: Path, bundle: Path, steps: int, seed: int) -> Dice:
    """Dice of every label and case that was held back, after a training of fold 0."""
    options = unet_pipeline.ReadOptions(follow_links=True)
    if not (bundle / "configs").is_dir():
        unet_pipeline.plan(dataset, bundle, preset="quick", seed=seed, options=options)
    overrides = {"num_epochs": EPOCHS, "iterations_per_epoch": steps // EPOCHS, "val_interval": EPOCHS}
    unet_pipeline.train(bundle, 0, overrides=overrides)
    out = bundle.with_name(f"{bundle.name}_held_back")
    rows = unet_pipeline.evaluate(bundle, held_back, out=out, follow_links=True).rows
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


def read_results(work: Path) -> dict[int, dict[str, dict[int, Dice]]]:
    """What is finished: steps -> training -> seed -> Dice."""
    results: dict[int, dict[str, dict[int, Dice]]] = {}
    for path in sorted(work.glob("steps_*_seed_*/[0-9].json")):
        _, steps, _, seed = path.parent.name.split("_")
        by_name = results.setdefault(int(steps), {})
        by_name.setdefault(TRAININGS[int(path.stem)], {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    return results


def write_table(work: Path, dataset: str) -> None:
    """The table of what is finished."""
    machine = describe_machine()
    lines = [
        "# One label hidden in each half of the cases",
        "",
        f"`benchmarks/partial_labels.py {dataset} --steps STEPS`, preset quick, fold 0, {machine.num_cores} cores "
        f"{machine.processor}, {machine.gpu or 'no GPU'}. Mean Dice of cases that no training has seen, on complete references.",
        "",
        "| steps | training | seeds | n | mean Dice | of single labels | paired difference to all labels (95 %) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for steps, results in sorted(read_results(work).items()):
        for name in filter(results.__contains__, TRAININGS):
            by_seed = results[name]
            labels = {
                label: float(np.mean([list(dice[label].values()) for dice in by_seed.values()]))
                for label in next(iter(by_seed.values()))
            }
            both = {seed: dice for seed, dice in by_seed.items() if seed in results.get(FULL, {})}
            difference = "" if name == FULL or not both else compare(results[FULL], both)
            shown = ", ".join(f"{label} {dice:.4f}" for label, dice in labels.items())
            mean, num_cases = np.mean(list(labels.values())), len(next(iter(by_seed[min(by_seed)].values())))
            lines.append(f"| {steps:,} | {name} | {len(by_seed)} | {num_cases} | {mean:.4f} | {shown} | {difference} |")
    write_text(TARGET, "\n".join(lines) + "\n")


def main() -> None:
    """Run every training that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=int, nargs="+", choices=(0, 1, 2), default=[0, 1, 2], help="those to run")
    parser.add_argument("--held-back", type=int, default=42, help="cases that no training sees")
    parser.add_argument("--work", type=Path, default=Path("partial_labels"), help="folder for copies and bundles")
    arguments = parser.parse_args()
    source, work = arguments.dataset, arguments.work
    cases = sorted((source / "labelsTr").glob("*.nii.gz"))
    held = set(cases[:: max(1, len(cases) // arguments.held_back)][: arguments.held_back])
    kept = [path for path in cases if path not in held]
    held_back = write_copy(source, work / "held_back", sorted(held), is_hidden=False, is_said=False)
    datasets = {
        FULL: write_copy(source, work / "full", kept, is_hidden=False, is_said=False),
        PARTIAL: write_copy(source, work / "said", kept, is_hidden=True, is_said=True),
        AS_BACKGROUND: write_copy(source, work / "silent", kept, is_hidden=True, is_said=False),
    }
    for seed in range(arguments.seeds):
        folder = work / f"steps_{arguments.steps}_seed_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for place in arguments.trainings:
            done = folder / f"{place}.json"
            if not done.is_file():
                dataset = datasets[TRAININGS[place]]
                write_json(done, measure(dataset, held_back, folder / f"bundle_{place}", arguments.steps, seed))
            write_table(work, source.name)


if __name__ == "__main__":
    main()
