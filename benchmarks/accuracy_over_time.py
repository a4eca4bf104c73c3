"""Dice after some minutes of training, ours and nnU-Net's, on the same fold and machine.

    .venv/bin/python benchmarks/accuracy_over_time.py DATASET [--minutes 2 5 10 15] [--side-by-side] [--short-schedule] [--device cuda]

DATASET is in the layout of the Medical Segmentation Decathlon. Ours is one training of the preset quick; its clock begins with the
process, nnU-Net's with its first step. One after the other with all cores, or side by side with half of the cores each. Both
predict without mirroring; Dice is taken from the label map files on the native grid by the same code. Writes
results/accuracy_over_time.md, on a GPU results/accuracy_over_time_cuda.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import peer_environment as peer
import torch
import yaml

from unet_pipeline.bundle.folder import LAST_CHECKPOINT, BundleFolder
from unet_pipeline.evaluation.cases import evaluate_pairs
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.evaluation.summary import ALL_LABELS, summarize
from unet_pipeline.evidence.records.record import describe_machine, read_code_version
from unet_pipeline.files import write_text

RESULTS = Path(__file__).parent / "results"
FOLD = 0


@dataclass(frozen=True)
class Point:
    """One training at one time: minutes and steps so far, and where its label maps are."""

    minutes: float
    steps: int
    predictions: Path


def train_ours(
    bundle: Path, minutes: list[float], environment: dict[str, str], cores: list[int], device: str
) -> list[tuple[float, Path]]:
    """Train a bundle and copy the newest checkpoint at each of the times; a training that ends before the last is at its end there."""
    kept: list[tuple[float, Path]] = []
    command = [sys.executable, "-m", "unet_pipeline", "train", str(bundle), "--fold", str(FOLD)]
    command.append(f"device=$torch.device('{device}')")
    started_s = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    while process.poll() is None:
        time.sleep(1)
        found = sorted(bundle.glob(f"evidence/runs/fold_{FOLD}-*/{LAST_CHECKPOINT}"))
        if found and len(kept) < len(minutes) and time.monotonic() - started_s >= 60 * minutes[len(kept)]:
            target = bundle.with_name(f"{bundle.name}_checkpoint_{len(kept)}.pt")
            shutil.copyfile(found[-1], target)
            kept.append((found[-1].stat().st_mtime - (time.time() - (time.monotonic() - started_s)), target))
        if len(kept) == len(minutes):
            process.kill()
            process.wait()
            return [(elapsed_s / 60, path) for elapsed_s, path in kept]
    if process.returncode:
        raise SystemExit("our training failed")
    if len(kept) < len(minutes):
        target = bundle.with_name(f"{bundle.name}_checkpoint_{len(kept)}.pt")
        shutil.copyfile(sorted(bundle.glob(f"evidence/runs/fold_{FOLD}-*/{LAST_CHECKPOINT}"))[-1], target)
        kept.append((time.monotonic() - started_s, target))
    return [(elapsed_s / 60, path) for elapsed_s, path in kept]


def predict_ours(bundle: Path, checkpoints: list[tuple[float, Path]], device: str) -> list[Point]:
    """Label maps of the validation cases with the weights of every checkpoint."""
    points = []
    folder = BundleFolder(bundle)
    plan = yaml.safe_load(folder.plan.read_text(encoding="utf-8"))
    images = bundle.with_name(f"{bundle.name}_images")
    images.mkdir(exist_ok=True)
    for case in folder.read_split(FOLD).validation:
        shutil.copyfile(bundle / plan["dataset_dir"] / case.image, images / Path(case.image).name)
    for number, (minutes, path) in enumerate(checkpoints):
        state = torch.load(path, map_location="cpu", weights_only=True)
        torch.save(state["network"], folder.weights)
        out = bundle.with_name(f"{bundle.name}_predictions_{number}")
        shutil.rmtree(out, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "unet_pipeline",
            "predict",
            str(bundle),
            str(images),
            str(out),
            "--device",
            device,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        points.append(Point(minutes, state["epoch"] * plan["iterations_per_epoch"], out))
    return points


def start_peer(
    work: Path, minutes: list[float], cores: list[int], short_schedule: bool, device: str
) -> subprocess.Popen[bytes]:
    """nnU-Net's training in a process of its own."""
    command = [str(peer.find_python(work)), str(Path(__file__).with_name("peer_training.py"))]
    command += ["--dataset-id", str(peer.DATASET_ID), "--out", str(work / "curve"), "--device", device]
    command += ["--minutes", *map(str, minutes), *(["--short-schedule"] if short_schedule else [])]
    return subprocess.Popen(
        command,
        env=peer.build_environment(work, len(cores) if device == "cpu" else None),
        stdout=(work / "training.log").open("wb"),
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def read_peer(work: Path) -> list[Point]:
    """What nnU-Net's training left."""
    points = json.loads((work / "curve" / "points.json").read_text(encoding="utf-8"))
    return [
        Point(point["minutes"], int(point["steps"]), work / "curve" / f"predictions_{number}")
        for number, point in enumerate(points)
    ]


def measure(bundle: Path, point: Point) -> dict[str, str]:
    """Mean Dice of every label with its interval, from the files."""
    folder = BundleFolder(bundle)
    plan = yaml.safe_load(folder.plan.read_text(encoding="utf-8"))
    root = bundle / plan["dataset_dir"]
    pairs = []
    for case in folder.read_split(FOLD).validation:
        name = case.case
        pairs.append(Pair(name, root / case.label, point.predictions / f"{name}.nii.gz", FOLD))
    rows = evaluate_pairs(pairs, plan["label_table"])
    scored = [name for name in plan["label_table"] if name != "background"]
    found = {row.label: row for row in summarize(rows, scored) if row.metric == "dice" and row.in_mean}
    return {
        name: f"{found[name].mean:.4f} ({found[name].low:.4f} to {found[name].high:.4f})"
        for name in (ALL_LABELS, *scored)
    }


def write_table(
    arguments: argparse.Namespace, bundle: Path, curves: dict[str, list[Point]], cores: dict[str, list[int]]
) -> None:
    """The curves side by side."""
    machine, code = describe_machine(), read_code_version()
    num_cases = len(BundleFolder(bundle).read_split(FOLD).validation)
    options = f"--minutes {' '.join(map(str, arguments.minutes))}"
    options += " --side-by-side" if arguments.side_by_side else ""
    options += " --short-schedule" if arguments.short_schedule else ""
    options += f" --device {arguments.device}"
    how = "side by side" if arguments.side_by_side else "one after the other"
    lines = [
        f"# Dice over training time on {arguments.dataset.name}",
        "",
        f"`benchmarks/accuracy_over_time.py {arguments.dataset.name} {options}`, {datetime.now(UTC):%Y-%m-%d}, commit "
        f"{str(code.commit)[:10]}, {machine.num_cores} cores {machine.processor}, {machine.gpu or 'no GPU'}, torch "
        f"{torch.__version__}, nnunetv2 {peer.VERSION}. Fold {FOLD}, n = {num_cases}, native grid, 95 % bootstrap interval over "
        f"cases, no mirroring, one seed; {how}, {len(cores['ours'])} core(s) each. nnU-Net's learning rate falls over "
        f"{'these minutes' if arguments.short_schedule else 'its 250,000 steps'}.",
        "",
    ]
    names = list(measure(bundle, next(iter(curves.values()))[0]))
    lines += [f"| training | minutes | steps | {' | '.join(names)} |", f"| --- | --- | --- |{' --- |' * len(names)}"]
    for name, points in curves.items():
        for point in points:
            cells = measure(bundle, point).values()
            lines.append(f"| {name} | {point.minutes:.1f} | {point.steps} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    write_text(RESULTS / f"accuracy_over_time{'' if arguments.device == 'cpu' else '_cuda'}.md", text)
    print(text)


def main() -> None:
    """Train both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 10, 15])
    parser.add_argument("--side-by-side", action="store_true", help="half of the cores each, at the same time")
    parser.add_argument("--short-schedule", action="store_true", help="nnU-Net's schedule in these minutes")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--work", type=Path, default=peer.WORK, help="folder for both environments and results")
    arguments = parser.parse_args()
    arguments.minutes.sort()
    every = sorted(os.sched_getaffinity(0))
    half = max(1, len(every) // 2)
    cores = (
        {"ours": every[:half], "nnU-Net": every[-half:]}
        if arguments.side_by_side
        else dict.fromkeys(("ours", "nnU-Net"), every)
    )
    bundle = arguments.work / "ours"
    if not bundle.is_dir():
        command = [
            sys.executable,
            "-m",
            "unet_pipeline",
            "plan",
            str(arguments.dataset),
            str(bundle),
            "--preset",
            "quick",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    python = peer.find_python(arguments.work)
    peer.write_dataset(arguments.dataset, BundleFolder(bundle).read_split(FOLD).model_dump(), arguments.work)
    peer.prepare(python, arguments.work, len(every))
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores["ours"]))}
    theirs = start_peer(arguments.work, arguments.minutes, cores["nnU-Net"], arguments.short_schedule, arguments.device)
    if not arguments.side_by_side:
        theirs.wait()
    checkpoints = train_ours(bundle, arguments.minutes, environment, cores["ours"], arguments.device)
    if theirs.wait():
        raise SystemExit(f"nnU-Net's training failed; see {arguments.work / 'training.log'}")
    curves = {"ours, quick": predict_ours(bundle, checkpoints, arguments.device), "nnU-Net": read_peer(arguments.work)}
    write_table(arguments, bundle, curves, cores)


if __name__ == "__main__":
    main()
