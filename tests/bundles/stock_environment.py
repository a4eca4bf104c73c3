"""An interpreter that sees stock MONAI and what it needs, and nothing of this project.

Made of links to the installed distributions, so that it takes no download and no time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

# fire parses the command line of `python -m monai.bundle`; pillow reads the pictures of 2D bundles
DISTRIBUTIONS = ("monai", "pytorch-ignite", "nibabel", "pillow", "fire")

# of its processes: nothing of this one's paths may lead to the package
ENVIRONMENT = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}


def make_stock_environment(folder: Path, further: tuple[str, ...] = ()) -> Path:
    """Build the environment in `folder`, with further distributions if asked; returns its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    site_packages = next(folder.glob("lib/python*/site-packages"))
    for name in find_requirements((*DISTRIBUTIONS, *further)):
        for file in metadata.files(name) or ():
            top = file.parts[0]
            if top in ("..", "__pycache__"):
                continue
            link = site_packages / top
            if not link.exists():
                link.symlink_to(Path(str(metadata.distribution(name).locate_file(top))).resolve())
    start = Path(__file__).parents[1] / "quick_start" / "sitecustomize.py"
    (site_packages / start.name).symlink_to(start)
    python = folder / "bin" / "python"
    command = [python, "-c", "import unet_pipeline"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=ENVIRONMENT, check=False)
    assert "No module named 'unet_pipeline'" in found.stderr, "the stock environment must not see this package"
    return python


def find_requirements(names: tuple[str, ...]) -> set[str]:
    """The distributions and all that they require here, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # required on another platform only
        found.add(name)
        waiting += [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements if "extra ==" not in text]
    return found


if __name__ == "__main__":
    print(make_stock_environment(Path(sys.argv[1])))
