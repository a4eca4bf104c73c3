"""nnU-Net v2 in an environment of its own, and a data set in its folders: what the comparisons have in common.

Nothing of it is imported by this package or by the benchmarks; `peer_training.py` runs with its Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from unet_pipeline.files import write_json

VERSION = "2.8.1"
DATASET_ID = 4
WORK = Path(__file__).parent / ".peer"  # ignored by git; several GB
ROOT = Path(__file__).parents[1]
_PREPARE = (
    "from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry as run; run()"
)


def find_python(work: Path = WORK) -> Path:
    """Python of the peer's environment, which is built when missing.

    torchvision, which timm asks for, does not import beside a CPU build of torch; nnU-Net trains and predicts without it.
    """
    python = work / "venv" / "bin" / "python"
    finished = work / "venv" / f".nnunetv2-{VERSION}"
    if not finished.is_file():
        pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
        limits = work / "constraints.txt"
        work.mkdir(parents=True, exist_ok=True)
        limits.write_text(f"torch=={pins['torch']}\n", encoding="utf-8")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(work / "venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "-c", str(limits)]
        subprocess.run([*pip, f"torch=={pins['torch']}"], check=True)
        subprocess.run([*pip, f"nnunetv2=={VERSION}"], check=True)
        subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"], check=True)
        finished.touch()
    return python


def build_environment(work: Path, num_threads: int | None) -> dict[str, str]:
    """Environment variables that nnU-Net needs, and its number of threads with one loader; None for its own defaults."""
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    limits = {} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads), "nnUNet_n_proc_DA": "1"}
    return {**os.environ, **folders, **limits}


def write_dataset(source: Path, split: dict[str, list[dict[str, str]]], work: Path) -> Path:
    """A data set of the Decathlon in nnU-Net's folders, with one fold that is ours.

    Args:
        source: folder with dataset.json.
        split: "training" and "validation", each a list of case, image, label.
        work: gets raw/ and preprocessed/.

    Returns:
        The raw folder.
    """
    description = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    name = f"Dataset{DATASET_ID:03d}_{source.name}"
    raw = work / "raw" / name
    for case in (*split["training"], *split["validation"]):
        for folder, key, ending in (("imagesTr", "image", "_0000.nii.gz"), ("labelsTr", "label", ".nii.gz")):
            target = raw / folder / f"{case['case']}{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file():
                shutil.copyfile(source / case[key], target)
    content = {
        "channel_names": description.get("modality", {"0": "MRI"}),
        "labels": {label: int(value) for value, label in description["labels"].items()},
        "numTraining": sum(map(len, split.values())),
        "file_ending": ".nii.gz",
    }
    write_json(raw / "dataset.json", content)
    fold = {
        "train": [case["case"] for case in split["training"]],
        "val": [case["case"] for case in split["validation"]],
    }
    write_json(work / "preprocessed" / name / "splits_final.json", [fold])
    return raw


def prepare(python: Path, work: Path, num_threads: int | None, configuration: str = "3d_fullres") -> None:
    """Let nnU-Net plan and preprocess, once; in several processes where it has its own defaults."""
    if any((work / "preprocessed").glob(f"*/nnUNetPlans_{configuration}/*.b2nd")):
        return
    # by its function, because a folder on PYTHONPATH has no commands
    command = [str(python), "-c", _PREPARE, "-d", str(DATASET_ID), "-c", configuration, "-np"]
    command.append("1" if num_threads else str(min(8, os.cpu_count() or 1)))
    environment = build_environment(work, num_threads)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"nnU-Net's preprocessing failed: {' '.join(done.stderr.split())[-300:]}")
