"""Ours and nnU-Net, each trained for the same minutes on the same fold, and their Dice case by case.

    .venv/bin/python benchmarks/against_nnunet.py DATASET... [--minutes 15] [--fold 0] [--seed 0] [--mirror] [--side-by-side]
        [--preset quick] [--device cuda] [--work FOLDER]

DATASET is any labelled folder that `check` reads. Ours is one training whose steps fill the minutes of its whole process (start,
reading and its one validation at the end included); nnU-Net's clock counts training steps and loading alone, and its learning
rate falls to nothing over the minutes, so both are annealed. Nothing is chosen by the validation cases: both predict with their
last weights. nnU-Net gets PNG where the images are pictures, as it reads them (without a size of pixels), and NIfTI otherwise.
Dice is taken from label map files on the native grid by the same code; intervals are of paired differences over cases.

Writes results/against_nnunet_DATASET.md and .json, on a GPU with its name, and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import peer_environment as peer
import torch
from energy import EnergyMeter

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.image import read_image, read_label_map
from unet_pipeline.dataset.writing import write_image
from unet_pipeline.evidence.records.machine import describe_machine, read_code_version
from unet_pipeline.files import write_json, write_text
from unet_pipeline.planning.plan import Plan, read_plan

RESULTS = Path(__file__).parent / "results"
PILOT_STEPS = (10, 40)
TOLERANCE = 1.05  # of the minutes; longer trainings are said


@dataclass(frozen=True)
class Training:
    """One side's training.

    Attributes:
        minutes: by the clock; nnU-Net's are of its steps alone.
        joule: of the machine in that time; None where no counter can be read.
    """

    minutes: float
    steps: int
    joule: float | None


def run(*words: object, environment: dict[str, str] | None = None, cores: list[int] | None = None) -> None:
    """One verb of the command line in a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "unet_pipeline", *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
    )


def train_ours(bundle: Path, arguments: argparse.Namespace, cores: list[int]) -> Training:
    """Time two short trainings, then train for as many steps as fill the minutes."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores))}

    def train(steps: int) -> float:
        begun_s = time.monotonic()
        overrides = {"num_epochs": 1, "iterations_per_epoch": steps, "val_interval": 1, "seed": arguments.seed}
        words = [f"{key}={value}" for key, value in overrides.items()]
        if arguments.device != "cpu":
            words.append(f"device=$torch.device('{arguments.device}')")
        run("train", bundle, "--fold", arguments.fold, *words, environment=environment, cores=cores)
        return time.monotonic() - begun_s

    few, more = PILOT_STEPS
    few_s, more_s = train(few), train(more)
    step_s = max(1e-4, (more_s - few_s) / (more - few))
    steps = max(more, int((60 * arguments.minutes - (few_s - few * step_s)) / step_s))
    meter = EnergyMeter()
    seconds = train(steps)
    return Training(seconds / 60, steps, meter.read_joule())


def train_peer(
    work: Path, python: Path, configuration: str, arguments: argparse.Namespace, cores: list[int]
) -> subprocess.Popen[bytes]:
    """nnU-Net's training and prediction in a process of its own."""
    command = [str(python), str(Path(__file__).with_name("peer_training.py")), "--dataset-id", str(peer.DATASET_ID)]
    command += ["--configuration", configuration, "--out", str(work / "curve"), "--device", arguments.device]
    command += ["--minutes", str(arguments.minutes), "--short-schedule", "--seed", str(arguments.seed)]
    command += ["--mirror"] if arguments.mirror else []
    return subprocess.Popen(
        command,
        env=peer.build_environment(work, len(cores) if arguments.device == "cpu" else None),
        stdout=(work / "training.log").open("wb"),
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def write_peer_dataset(bundle: Path, plan: Plan, arguments: argparse.Namespace, work: Path) -> None:
    """The fold's cases in nnU-Net's folders: labels numbered from 0 in the order of the plan."""
    folder = BundleFolder(bundle)
    root, split = folder.root / plan.dataset_dir, folder.read_split(arguments.fold)
    ending = ".png" if plan.image_suffix == ".png" else ".nii.gz"
    raw = work / "raw" / f"Dataset{peer.DATASET_ID:03d}_set"
    classes = {value: number for number, value in enumerate(plan.label_table.values())}
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for case in (*split.training, *split.validation):
        image = read_image(root / case.image)
        write_image(raw / "imagesTr" / f"{case.case}_0000{ending}", image)
        convert_labels(root / case.label, raw / "labelsTr" / f"{case.case}{ending}", classes)
    content = {
        "channel_names": {str(number): name for number, name in enumerate(name_channels(plan, image.array.shape[0]))},
        "labels": {"background" if number == 0 else name: number for number, name in enumerate(plan.label_table)},
        "numTraining": len(split.training) + len(split.validation),
        "file_ending": ending,
    }
    write_json(raw / "dataset.json", content)
    fold = {"train": [case.case for case in split.training], "val": [case.case for case in split.validation]}
    write_json(work / "preprocessed" / raw.name / "splits_final.json", [fold])


def name_channels(plan: Plan, num_channels: int) -> list[str]:
    """Their names in the plan; nnU-Net normalises those called CT by the data set's intensities, as ours does."""
    return list(plan.channel_names) if len(plan.channel_names) == num_channels else list("RGB"[:num_channels])


def convert_labels(source: Path, target: Path, values: dict[int, int]) -> None:
    """A label map with other values; its grid stays."""
    label_map = read_label_map(source)
    table = np.zeros(max(values) + 1, np.uint8)
    table[list(values)] = list(values.values())
    write_image(target, replace(label_map, array=table[label_map.array.astype(np.int64)]))


def evaluate_both(bundle: Path, plan: Plan, arguments: argparse.Namespace, work: Path) -> dict[str, object]:
    """Evaluate the label maps of both on the fold's validation cases, and compare them case by case."""
    options = ["--device", arguments.device, *(["--mirror"] if arguments.mirror else [])]
    run("evaluate", bundle, "--out", work / "evaluated_ours", *options)
    numbers = dict(enumerate(plan.label_table.values()))
    for file in sorted(
        (work / "curve" / "predictions_0").glob(f"*{'.png' if plan.image_suffix == '.png' else '.nii.gz'}")
    ):
        convert_labels(file, work / "predictions_nnunet" / file.name, numbers)
    run("evaluate", bundle, "--predictions", work / "predictions_nnunet", "--out", work / "evaluated_nnunet")
    run("compare", work / "evaluated_nnunet", work / "evaluated_ours", "--metric", "dice", "--out", work / "compared")
    return json.loads((work / "compared" / "comparison.json").read_text(encoding="utf-8"))


def compare_on(dataset: Path, arguments: argparse.Namespace) -> None:
    """Everything for one data set; steps whose results lie there are not done again."""
    work = arguments.work / f"{dataset.name}-{arguments.minutes:g}min-fold{arguments.fold}-seed{arguments.seed}"
    work.mkdir(parents=True, exist_ok=True)
    bundle, record = work / "ours", work / "trainings.json"
    if not bundle.is_dir():
        run("plan", dataset, bundle, "--preset", arguments.preset)
    plan = read_plan(BundleFolder(bundle).plan)
    python = peer.find_python(arguments.work)
    every = sorted(os.sched_getaffinity(0))
    half = max(1, len(every) // 2)
    cores = (every[:half], every[-half:]) if arguments.side_by_side else (every, every)
    if not record.is_file():
        write_peer_dataset(bundle, plan, arguments, work)
        configuration = "2d" if plan.spatial_dims == 2 else "3d_fullres"
        peer.prepare(python, work, len(every), configuration)
        theirs = train_peer(work, python, configuration, arguments, cores[1])
        if not arguments.side_by_side:
            theirs.wait()
        ours = train_ours(bundle, arguments, cores[0])
        if theirs.wait():
            raise SystemExit(f"nnU-Net's training failed; see {work / 'training.log'}")
        (point,) = json.loads((work / "curve" / "points.json").read_text(encoding="utf-8"))
        peers = Training(point["minutes"], int(point["steps"]), point["joule"])
        write_json(record, {"ours": asdict(ours), "nnU-Net": asdict(peers)})
    comparison = evaluate_both(bundle, plan, arguments, work)
    write_results(dataset.name, arguments, json.loads(record.read_text(encoding="utf-8")), comparison, len(cores[0]))


def write_results(
    name: str, arguments: argparse.Namespace, trainings: dict[str, dict], comparison: dict, num_cores: int
) -> None:
    """A table for one data set, and the same as data."""
    machine, code = describe_machine(), read_code_version()
    how = "side by side" if arguments.side_by_side else "one after the other"
    options = (
        f"--minutes {arguments.minutes:g} --fold {arguments.fold} --seed {arguments.seed} --preset {arguments.preset}"
    )
    options += "".join(
        f" --{word}" for word in ("mirror", "side-by-side") if getattr(arguments, word.replace("-", "_"))
    )
    lines = [
        f"# Against nnU-Net on {name}, {arguments.minutes:g} minutes each",
        "",
        f"`benchmarks/against_nnunet.py {name} {options} --device {arguments.device}`, {datetime.now(UTC):%Y-%m-%d}, commit "
        f"{str(code.commit)[:10]}, {machine.num_cores} cores {machine.processor}, {machine.gpu or 'no GPU'}, torch "
        f"{torch.__version__}, nnunetv2 {peer.VERSION}; {how}, {num_cores} core(s) each. n = {comparison['num_cases']} validation "
        f"cases, native grid, {'mirrored copies averaged' if arguments.mirror else 'no mirroring'}, last weights of both.",
        "",
        "| training | minutes | steps | kJ |",
        "| --- | --- | --- | --- |",
    ]
    for side, training in trainings.items():
        energy = "not readable" if training["joule"] is None else f"{training['joule'] / 1000:.1f}"
        late = "" if training["minutes"] <= TOLERANCE * arguments.minutes else " (longer than asked for)"
        lines.append(f"| {side} | {training['minutes']:.1f}{late} | {training['steps']} | {energy} |")
    lines += ["", "| label | nnU-Net | ours | difference | 95 % interval |", "| --- | --- | --- | --- | --- |"]
    for row in comparison["rows"]:
        values = (f"{row['mean_a']:.4f}", f"{row['mean_b']:.4f}", f"{row['difference']:+.4f}")
        lines.append(f"| {row['label']} | {' | '.join(values)} | {row['low']:+.4f} to {row['high']:+.4f} |")
    card = "" if arguments.device == "cpu" else f"_{(machine.gpu or 'gpu').lower().replace(' ', '_')}"
    target = RESULTS / f"against_nnunet_{name}{card}"
    write_json(
        target.with_suffix(".json"), {"trainings": trainings, "rows": comparison["rows"], "minutes": arguments.minutes}
    )
    write_text(target.with_suffix(".md"), "\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """Train, evaluate and compare, one data set after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--mirror", action="store_true", help="both average over mirrored copies")
    parser.add_argument("--side-by-side", action="store_true", help="half of the cores each, at the same time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=peer.WORK, help="folder for nnU-Net's environment and all results")
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        compare_on(dataset, arguments)


if __name__ == "__main__":
    main()
