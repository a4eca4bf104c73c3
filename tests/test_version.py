"""The version is written in one place, and a source tree needs no installed metadata."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import unet_pipeline

ROOT = Path(__file__).parents[1]
# as on a machine where the source tree is on PYTHONPATH and was never installed
WITHOUT_METADATA = """
import sys
from importlib import metadata

find = metadata.Distribution.from_name

def from_name(name):
    if name.lower().replace("_", "-") == "unet-pipeline":
        raise metadata.PackageNotFoundError(name)
    return find(name)

metadata.Distribution.from_name = from_name
from unet_pipeline.cli import main
sys.argv[0] = "unet-pipeline"
main()
"""


def test_source_tree_without_metadata_plans_a_bundle(tmp_path: Path, decathlon_folder: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "pipeline", tree / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", WITHOUT_METADATA, "plan", str(decathlon_folder), str(tmp_path / "bundle")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree / "pipeline"), os.environ["PYTHONPATH"]])}
    done = subprocess.run(
        [*command, "--folds", "2", "--no-forecast"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    required = written["required_packages_version"]
    assert required["unet-pipeline"] == unet_pipeline.__version__
    assert required["nibabel"] == metadata.version("nibabel")


def test_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "unet_pipeline.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", unet_pipeline.__version__)


def test_versions_of_a_record_name_this_package_as_it_runs() -> None:
    from unet_pipeline.evidence.records.machine import read_versions

    assert read_versions()["unet-pipeline"] == unet_pipeline.__version__
