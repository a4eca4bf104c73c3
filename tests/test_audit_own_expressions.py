"""The wiring's own expressions pass an audit as they stand, and no others in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.audit.audit import Audit, audit_bundle
from unet_pipeline.audit.own_expressions import list_own_expressions

from .hostile_bundles import MARKER, add, write_good_bundle

OWN = list_own_expressions()
WIRING = {
    "config_folders": OWN["config_folders"],
    "bundle_root": OWN["bundle_root"],
    "bundle_path": OWN["bundle_path"],
    "modules": [OWN["modules#0"], OWN["modules#1"]],
    "module_imports": ["$import sys", "$import traceback"],
}


def write_wired_bundle(root: Path, **ids: Any) -> Path:
    network = {"_target_": "unet_networks.net.Net", "_requires_": "%modules"}
    write_good_bundle(root, **{**WIRING, "network_def": network, **ids})
    return add(root, "unet_networks/net.py", "from torch import nn\n\n\nclass Net(nn.Module):\n    pass\n")


def list_dangers(result: Audit) -> list[str]:
    return [finding.place for finding in result.dangers]


def test_audit_own_expressions_pass_and_are_listed(tmp_path: Path) -> None:
    result = audit_bundle(write_wired_bundle(tmp_path / "bundle"))
    assert result.passed, result.dangers
    listed = {run.place: run.severity for run in result.runs}
    assert {place: listed[place] for place in OWN} == dict.fromkeys(OWN, "")


def test_own_expressions_are_those_of_the_wiring() -> None:
    assert set(OWN) == {"config_folders", "bundle_root", "bundle_path", "modules#0", "modules#1"}
    assert all(text.startswith("$") for text in OWN.values())


@pytest.mark.parametrize(
    "ids",
    [
        {"modules": [OWN["modules#0"], "$sys.path.insert(1, '/tmp/elsewhere')"]},
        {"modules": [OWN["modules#0"], "$sys.path.insert(0, @bundle_path)"]},
        {"modules": [OWN["modules#0"].replace("unet_networks.", ""), OWN["modules#1"]]},
        {"modules": [*WIRING["modules"], "$sys.path.append('docs')"]},
        {"modules": OWN["modules#1"]},
        {"bundle_path": "docs"},
        {"bundle_path": "$os.path.realpath('docs')"},
        {"bundle_root": "docs"},
        {"bundle_root": "../other"},
        {"config_folders": ["/tmp/elsewhere/configs"]},
        {"config_folders": OWN["config_folders"].replace("os.path.abspath(folder)", "frame.f_globals")},
        {"+bundle_root": "/docs"},
        {"modules#1": "$sys.path.insert(1, 'docs')"},
        {"modules::1": "$sys.path.insert(1, 'docs')"},
        {"bundle_path#x": "docs"},
        {"first": OWN["modules#1"]},
        {"first": {"modules": WIRING["modules"]}},
        {"first": OWN["config_folders"]},
        {"first": f"$traceback.walk_stack(None) or open('{MARKER}')"},
        {"first": "$traceback.sys.modules"},
        {"first": "$sys.path.insert(1, 'docs')"},
    ],
    ids=str,
)
def test_audit_others_in_their_place_are_refused(tmp_path: Path, ids: dict[str, Any]) -> None:
    assert list_dangers(audit_bundle(write_wired_bundle(tmp_path / "bundle", **ids)))


@pytest.mark.parametrize("other", ["docs", "$'docs'", "%configs/metadata.json#name", ["docs"]])
@pytest.mark.parametrize("file", ["configs/train.json", "configs/more.yaml", "other/overlay.json"])
def test_audit_another_config_that_moves_the_root_is_refused(tmp_path: Path, file: str, other: Any) -> None:
    """Configs are used together: an overlay would lead the search for modules elsewhere."""
    root = write_wired_bundle(tmp_path / "bundle")
    add(root, file, json.dumps({"bundle_root": other}))
    assert "modules#1" in list_dangers(audit_bundle(root))


def test_audit_root_in_the_working_directory_passes(tmp_path: Path) -> None:
    root = write_wired_bundle(tmp_path / "bundle", bundle_root=".")
    add(root, "configs/train.json", json.dumps({"bundle_root": "."}))
    assert audit_bundle(root).passed


def test_audit_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    root = write_wired_bundle(tmp_path / "bundle")
    path = root / "configs" / "inference.json"
    path.write_text(path.read_text().replace('"bundle_path":', '"bundle_path": "docs", "bundle_path":', 1))
    assert list_dangers(audit_bundle(root))


def test_audit_record_of_a_run_may_repeat_the_root_that_it_was_given(tmp_path: Path) -> None:
    root = write_wired_bundle(tmp_path / "bundle")
    assert audit_bundle(add(root, "evidence/runs/run.json", json.dumps({"bundle_root": "elsewhere"}))).passed
