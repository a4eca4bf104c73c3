"""MONAI Label in an environment of its own, built when it is missing.

Nothing of it is imported by this package or by the tests; a server of it is started, asked over HTTP, and stopped.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "tests" / ".monai_label"  # ignored by git; 3 GB
REQUIREMENTS = Path(__file__).with_name("monai_label_requirements.txt")
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split() if "==" in line)
MONAI_VERSIONS = ("1.5.2", PINS["monai"])  # the last that MONAI Label 0.8.5 was made for, and ours

# MONAI Label imports two functions of torchvision that draw grids of pictures, and its server calls neither. PyPI's torchvision does not
# import beside a CPU build of torch.
TORCHVISION_UTILS = '''"""Stands in for torchvision.utils, which this environment does without."""


def make_grid(*arguments, **keywords):
    raise NotImplementedError("torchvision is not installed here")


save_image = make_grid
'''


def find_python(work: Path = WORK) -> Path:
    """Python of the environment.

    MONAI Label's own requirements are not followed: they name what its server does not import (SAM 2, OpenSlide, MLflow), and
    pydicom-seg asks for a numpy that is too old for torch.
    """
    python = work / "venv" / "bin" / "python"
    finished = work / "venv" / f".{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}-torch-{PINS['torch']}"
    if not finished.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(work / "venv")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, f"torch=={PINS['torch']}"], check=True)
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        torchvision = next((work / "venv").glob("lib/python*/site-packages")) / "torchvision"
        torchvision.mkdir()
        (torchvision / "__init__.py").touch()
        (torchvision / "utils.py").write_text(TORCHVISION_UTILS, encoding="utf-8")
        finished.touch()
    return python


def find_monai(version: str, work: Path = WORK) -> Path:
    """Folder for PYTHONPATH with a version of MONAI, so that one environment serves them all."""
    folder = work / f"monai-{version}"
    if not folder.is_dir():
        partial = folder.with_name(f".partial-{folder.name}")
        pip = [str(find_python(work)), "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        subprocess.run([*pip, "--target", str(partial), f"monai=={version}"], check=True)
        partial.rename(folder)
    return folder


if __name__ == "__main__":
    print(find_python(), *(find_monai(version) for version in MONAI_VERSIONS), sep="\n")
