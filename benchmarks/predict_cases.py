"""Prediction of 20 hippocampus cases, and of one, as whole processes: ours and `nnUNetv2_predict`, with and without mirroring.

    .venv/bin/python benchmarks/predict_cases.py DATASET BUNDLE [--turns 5] [--device cuda]

DATASET is Task04_Hippocampus, BUNDLE a trained one. nnU-Net predicts with its own plan and the weights of `accuracy_over_time.py`, or of one
minute where there are none; what it has learnt does not change its time. `bare imports` is a process that imports torch and monai and
ends. Writes results/predict_cases.md, on a GPU results/predict_cases_cuda.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import alternating
import peer_environment as peer

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.files import write_text

RESULTS = Path(__file__).parent / "results"
PEER_WEIGHTS = "checkpoint_0.pth"


def time_process(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds of a process from start to end."""
    started_s = time.monotonic()
    subprocess.run(command, env=dict(environment), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started_s


def require_peer_weights(dataset: Path, bundle: Path, work: Path, python: Path, device: str) -> None:
    """Let nnU-Net train for a minute on the bundle's first fold where it has no weights."""
    if any((work / "results").glob(f"*/*/fold_0/{PEER_WEIGHTS}")):
        return
    num_threads = len(os.sched_getaffinity(0))
    peer.write_dataset(dataset, open_bundle(bundle).read_split(0).model_dump(), work)
    peer.prepare(python, work, num_threads)
    command = [str(python), str(Path(__file__).with_name("peer_training.py")), "--dataset-id", str(peer.DATASET_ID)]
    command += ["--minutes", "1", "--out", str(work / "curve"), "--device", device]
    environment = peer.build_environment(work, num_threads)
    alternating.run_group(command, environment)


def write_inputs(dataset: Path, bundle: Path, work: Path, count: int) -> Path:
    """Folder of validation images under nnU-Net's names, which both take."""
    folder = work / f"inputs_{count}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for case in open_bundle(bundle).read_split(0).validation[:count]:
        shutil.copyfile(dataset / case.image, folder / f"{case.case}_0000.nii.gz")
    return folder


def list_commands(
    bundle: Path, work: Path, python: Path, inputs: Path, out: Path, device: str
) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Every process that is timed, with its environment."""
    num_threads = len(os.sched_getaffinity(0))
    theirs = peer.build_environment(work, num_threads)
    ours = [sys.executable, "-m", "unet_pipeline", "predict", str(bundle), str(inputs), str(out), "--device", device]
    other = [str(python.with_name("nnUNetv2_predict")), "-i", str(inputs), "-o", str(out), "-d", str(peer.DATASET_ID)]
    other += ["-c", "3d_fullres", "-f", "0", "-chk", PEER_WEIGHTS, "-device", device, "-npp", "1", "-nps", "1"]
    return {
        "ours": (ours, dict(os.environ)),
        "ours with --precision auto": ([*ours, "--precision", "auto"], dict(os.environ)),
        "nnU-Net without mirroring": ([*other, "--disable_tta"], theirs),
        "ours with --mirror": ([*ours, "--mirror"], dict(os.environ)),
        "ours with --mirror --precision auto": ([*ours, "--mirror", "--precision", "auto"], dict(os.environ)),
        "nnU-Net with mirroring": (other, theirs),
    }


def main() -> None:
    """Measure in turns and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--work", type=Path, default=peer.WORK)
    arguments = parser.parse_args()
    python = peer.find_python(arguments.work)
    require_peer_weights(arguments.dataset, arguments.bundle, arguments.work, python, arguments.device)
    command = f"benchmarks/predict_cases.py {arguments.dataset.name} {arguments.bundle.name} --turns {arguments.turns}"
    command += f" --device {arguments.device}"
    text = f"# Prediction, whole processes\n\n{alternating.describe_run(command, f'nnunetv2 {peer.VERSION}')}\n"
    text += f"\nOurs mirrors along {count_mirrored(arguments.bundle)} axes, as its training did; nnU-Net along three.\n"
    out = arguments.work / "predicted"
    bare = {"bare imports of torch and monai": ([sys.executable, "-c", "import torch, monai"], dict(os.environ))}
    for count in (20, 1):
        inputs = write_inputs(arguments.dataset, arguments.bundle, arguments.work, count)
        commands = list_commands(arguments.bundle, arguments.work, python, inputs, out, arguments.device)
        rows: dict[str, list[float]] = {}
        for _ in range(arguments.turns):
            for name, (words, environment) in {**commands, **(bare if count == 1 else {})}.items():
                shutil.rmtree(out, ignore_errors=True)
                rows.setdefault(name, []).append(time_process(words, environment))
        text += f"\n{count} case(s):\n\n{alternating.build_table(rows, 'nnU-Net without mirroring')}\n"
        write_text(RESULTS / ("predict_cases.md" if arguments.device == "cpu" else "predict_cases_cuda.md"), text)
    print(text)


def count_mirrored(bundle: Path) -> int:
    """Axes that `--mirror` mirrors along."""
    config = json.loads(open_bundle(bundle).config("train").read_text(encoding="utf-8"))
    return sum(probability > 0 for probability in config["mirror_probability"])


if __name__ == "__main__":
    main()
