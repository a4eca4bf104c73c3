"""How long a verb takes to start: whole processes against the bare imports of torch and monai.

    .venv/bin/python benchmarks/start.py BUNDLE IMAGE [--turns 7]

IMAGE is one small image that BUNDLE takes. Writes results/start.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import alternating
import nibabel as nib
import numpy as np
from predict_cases import time_process

from unet_pipeline.files import write_text

TARGET = Path(__file__).parent / "results" / "start.md"
BARE = "bare imports of torch and monai"


def write_one_case(folder: Path) -> Path:
    """A data set of one tiny volume."""
    array = np.zeros((24, 20, 16), np.int16)
    array[8:16, 8:12, 4:8] = 100
    for name, content in (("images", array), ("labels", (array > 0).astype(np.uint8))):
        (folder / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image(content, np.eye(4)), folder / name / "case.nii.gz")
    return folder


def main() -> None:
    """Measure in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    one = write_one_case(work / "one")
    program = [sys.executable, "-m", "unet_pipeline"]
    out = work / "predicted"
    commands = {
        BARE: [sys.executable, "-c", "import torch, monai"],
        "--help": [*program, "--help"],
        "check of one volume": [*program, "check", str(one)],
        "predict of one image": [*program, "predict", str(arguments.bundle), str(arguments.image), str(out)],
    }
    command = f"benchmarks/start.py {arguments.bundle.name} {arguments.image.name} --turns {arguments.turns}"
    described = alternating.describe_run(command, f"Python {sys.version.split()[0]}")
    rows: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(arguments.turns):
        for name, words in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            rows[name].append(time_process(words, os.environ))
    shutil.rmtree(work)
    text = f"# Start\n\n{described}\n\n{alternating.build_table(rows, BARE)}\n"
    write_text(TARGET, text)
    print(text)


if __name__ == "__main__":
    main()
