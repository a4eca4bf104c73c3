"""Every file that is no module reaches the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_beside_the_modules_is_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath("pipeline", *package.split(".")).glob(pattern)
    }
    there = {path for path in (ROOT / "pipeline" / "unet_pipeline").rglob("*") if path.is_file()}
    others = {path for path in there if path.suffix not in {".py", ".pyc"}}
    assert others == listed
    assert {path.suffix for path in others} >= {".jinja", ".html", ".css", ".svg", ".yaml"}
