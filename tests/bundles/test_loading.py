"""The ready bundles load in stock MONAI from any working directory and from a zip, each with the modules that lie in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import unet_pipeline

from ..warm_python import STOCK, warming_python
from .monai_label_environment import MONAI_VERSIONS, find_monai
from .stock_environment import ENVIRONMENT, make_stock_environment

READY = Path(__file__).parents[2] / "bundles"
NAMES = sorted(path.parents[1].name for path in READY.glob("*/configs/plan.yaml"))
WAYS = ("load", "load of a zip", "create_workflow", "verify_net_in_out", "ckpt_export", "onnx_export")
OLDER, OURS = MONAI_VERSIONS
# both have attention_unet.py and blocks.py; the class of the second says that it is another one
TWINS = {
    "first": "class AttentionUNet(",
    "second": "MARK = 'second'\n\n\nclass AttentionUNet(",
}


@pytest.fixture(scope="module")
def stock_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stock_environment(tmp_path_factory.mktemp("stock") / "env", ("onnx",))


@pytest.fixture(scope="module")
def warm_stock_python(stock_python: Path) -> Iterator[Path]:
    """The same, with MONAI imported already."""
    with warming_python(STOCK, stock_python, ENVIRONMENT) as program:
        yield program


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the bundles under a name that has a meaning in configs, and with the same as zips."""
    folder = tmp_path_factory.mktemp("loading") / "of $PEOPLE @ home"
    for name in NAMES:
        root = shutil.copytree(READY / name, folder / "bundles" / name, ignore=shutil.ignore_patterns("evaluations"))
        unet_pipeline.refresh(root, force=True)
        (folder / "zips").mkdir(exist_ok=True)
        shutil.make_archive(str(folder / "zips" / name), "zip", folder / "bundles", name)
    return folder


def run_stock(python: Path, *arguments: Path | str, cwd: Path, monai: Path | None = None) -> str:
    environment = ENVIRONMENT | ({} if monai is None else {"PYTHONPATH": str(monai)})
    found = subprocess.run(
        [python, "-B", *arguments], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


@pytest.fixture(
    scope="module",
    params=[OURS, pytest.param(OLDER, marks=[pytest.mark.slow, pytest.mark.monai_label])],
)
def results(
    request: pytest.FixtureRequest, copies: Path, stock_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """What each way gave for each bundle; one process for all, as a server would have it."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    script = Path(__file__).with_name("loading_checks.py")
    monai = None if request.param == OURS else find_monai(request.param)
    shutil.rmtree(copies / "unpacked", ignore_errors=True)
    return json.loads(run_stock(stock_python, script, copies, cwd=elsewhere, monai=monai).splitlines()[-1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_ready_bundle_is_found_from_elsewhere(
    name: str, way: str, results: dict[str, dict[str, str]], copies: Path
) -> None:
    found = results[name][way]
    if way not in ("load", "load of a zip", "create_workflow"):
        assert found == "passed"
        return
    own = (copies / ("unpacked" if way == "load of a zip" else "bundles") / name / "unet_networks").resolve()
    assert found.endswith(".py"), found
    assert Path(found).is_relative_to(own) if own.is_dir() else "monai/networks/nets" in found


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")], ids="-".join)
def test_two_bundles_with_modules_of_one_name_keep_their_own(
    order: tuple[str, str], copies: Path, warm_stock_python: Path, tmp_path: Path
) -> None:
    for name, head in TWINS.items():
        shutil.copytree(copies / "bundles" / "nuclei_histology", tmp_path / name)
        module = tmp_path / name / "unet_networks" / "attention_unet.py"
        text = module.read_text()
        assert "\nclass AttentionUNet(" in text
        module.write_text(text.replace("class AttentionUNet(", head, 1))
    code = """
import inspect, sys
from monai import bundle
networks = [bundle.load(name=name, bundle_dir=sys.argv[1], workflow_type="inference") for name in sys.argv[2:]]
print([type(network).__init__.__globals__.get("MARK", "first") for network in networks])
"""
    said = run_stock(warm_stock_python, "-W", "ignore", "-c", code, tmp_path, *order, cwd=tmp_path)
    assert said.splitlines()[-1] == str(list(order))


def test_run_from_elsewhere_finds_weights_and_modules(copies: Path, warm_stock_python: Path, tmp_path: Path) -> None:
    """Nothing but the address of the config is given; no image is there, so that nothing is predicted."""
    root = copies / "bundles" / "nuclei_histology"
    code = """
import sys
from monai.bundle import ConfigWorkflow
workflow = ConfigWorkflow(sys.argv[1], workflow_type="inference", logging_file=False)
workflow.initialize()
print(workflow.parser.get_parsed_content("weights_path"))
"""
    said = run_stock(warm_stock_python, "-W", "ignore", "-c", code, root / "configs" / "inference.json", cwd=tmp_path)
    assert said.splitlines()[-1] == str(root / "models" / "model.pt")


def test_config_outside_of_a_bundle_has_the_working_directory(
    copies: Path, warm_stock_python: Path, tmp_path: Path
) -> None:
    shutil.copyfile(copies / "bundles" / "lung_xray" / "configs" / "inference.json", tmp_path / "mine.json")
    code = """
from monai.bundle import ConfigParser
parser = ConfigParser()
parser.read_config("mine.json")
print(parser.get_parsed_content("bundle_root"))
"""
    assert run_stock(warm_stock_python, "-W", "ignore", "-c", code, cwd=tmp_path).splitlines()[-1] == "."
