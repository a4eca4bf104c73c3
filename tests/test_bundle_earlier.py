"""Bundles of earlier versions: what their configs name is gone, and `plan --refresh` brings them along."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import unet_pipeline
from unet_pipeline.audit.audit import audit_bundle
from unet_pipeline.bundle.earlier import is_same_value, require_current_config
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError, PlanError, TrainingError
from unet_pipeline.evidence.records.continuation import check_unchanged
from unet_pipeline.evidence.records.record import resolve_config
from unet_pipeline.files import write_json

from . import phantom_bundles as phantoms

CONFIGS = ("train", "evaluate", "multi_gpu_train")


def write_as_earlier(folder: BundleFolder) -> None:
    """The bundle as a version wrote it whose package was called `pipeline`."""
    hashes = {}
    for path in sorted(folder.configs.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        if path.stem in CONFIGS:
            text = re.sub(r'"unet_pipeline\.\w+\.(\w+\.\w+)"', r'"pipeline.training.\1"', text)
            assert "pipeline.training." in text
            path.write_text(text, encoding="utf-8")
        if path.stem in (*CONFIGS, "inference"):
            hashes[path.stem] = hashlib.sha256(text.encode()).hexdigest()
    write_json(folder.generated_configs, hashes)


@pytest.fixture
def earlier(tmp_path: Path) -> BundleFolder:
    """A bundle as `plan` made it before the package was called unet_pipeline."""
    phantoms.write_pictures(tmp_path / "cells", num_cases=4)
    labels = {"background": 0, "cell": 255}
    phantoms.silently(
        unet_pipeline.plan, tmp_path / "cells", tmp_path / "bundle", preset="quick", folds=2, labels=labels
    )
    folder = BundleFolder(tmp_path / "bundle")
    write_as_earlier(folder)
    return folder


def test_require_current_config_names_the_part_and_the_remedy(earlier: BundleFolder) -> None:
    with pytest.raises(
        PlanError,
        match=r"configs/train\.json names pipeline\.training\.\w+\.\w+, .*`unet-pipeline plan --refresh .*bundle`",
    ):
        require_current_config(earlier)


def test_train_offers_the_refresh_and_then_trains(earlier: BundleFolder) -> None:
    with pytest.raises(PlanError, match="plan --refresh"):
        unet_pipeline.train(earlier.root)
    with pytest.raises(PlanError, match="plan --refresh"):
        unet_pipeline.forecast_training(earlier.root)
    unet_pipeline.refresh(earlier.root)
    for name in CONFIGS:
        assert '"pipeline.' not in earlier.config(name).read_text(encoding="utf-8")
    require_current_config(earlier)


def test_audit_warns_and_lets_it_pass(earlier: BundleFolder) -> None:
    found = audit_bundle(earlier.root)
    assert found.passed
    told = [finding for finding in found.findings if finding.code == "earlier-version"]
    assert {finding.file for finding in told} == {f"configs/{name}.json" for name in CONFIGS}
    assert all("plan --refresh" in finding.remedy for finding in told)
    unet_pipeline.refresh(earlier.root)
    assert not [finding for finding in audit_bundle(earlier.root).findings if finding.code == "earlier-version"]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("inference", "pipeline.training.losses.CentreOfTarget"),
        ("train", "pipeline.files.write_text"),
        ("train", "pipeline.training.run"),
        ("train", "pipeline.training.losses.os.system"),
    ],
)
def test_audit_refuses_what_no_earlier_version_wrote(earlier: BundleFolder, name: str, target: str) -> None:
    path = earlier.config(name)
    path.write_text(
        path.read_text(encoding="utf-8").replace("{", f'{{"extra": {{"_target_": "{target}"}}, ', 1), encoding="utf-8"
    )
    found = audit_bundle(earlier.root)
    assert not found.passed
    assert any(target in finding.what for finding in found.dangers)


@pytest.mark.parametrize("module", ["training.no_such_part", "no_such_folder.part"])
def test_require_current_config_part_that_moved_inside_the_package(earlier: BundleFolder, module: str) -> None:
    unet_pipeline.refresh(earlier.root)
    path = earlier.config("train")
    text = path.read_text(encoding="utf-8")
    assert "unet_pipeline.training.losses.DeepSupervisionLoss" in text
    path.write_text(text.replace("unet_pipeline.training.losses", f"unet_pipeline.{module}"), encoding="utf-8")
    with pytest.raises(PlanError, match=rf"names unet_pipeline\.{module}\.\w+, .*plan --refresh"):
        unet_pipeline.train(earlier.root)


def test_resume_across_the_refresh_compares_what_is_computed(tmp_path: Path) -> None:
    """Since then configs say where they lie and where their own modules are; a run of before goes on all the same."""
    phantoms.write_pictures(tmp_path / "cells", num_cases=4)
    labels = {"background": 0, "cell": 255}
    options = {"preset": "quick", "folds": 2, "labels": labels, "network": "attention_unet"}
    phantoms.silently(unet_pipeline.plan, tmp_path / "cells", tmp_path / "bundle", **options)
    folder = BundleFolder(tmp_path / "bundle")
    before = resolve_config(folder, {})
    for name in ("config_folders", "bundle_path", "modules", "module_imports"):
        before.pop(name)
    before["imports"].remove("$import traceback")
    assert before["network_def"].pop("_requires_") == "%modules"
    run_dir = folder.runs / "fold_0-001"
    run_dir.mkdir(parents=True)
    write_json(run_dir / "config.json", before | {"bundle_root": "."})
    write_json(run_dir / "run.json", {"state": "interrupted"})
    check_unchanged(folder, run_dir, 0, {})
    write_json(run_dir / "config.json", before | {"learning_rate": 1.0})
    with pytest.raises(TrainingError, match=r"learning_rate was 1\.0"):
        check_unchanged(folder, run_dir, 0, {})


def test_refresh_leaves_a_config_that_was_edited_by_hand(earlier: BundleFolder) -> None:
    path = earlier.config("train")
    path.write_text(path.read_text(encoding="utf-8").replace("{", '{"mine": 1, ', 1), encoding="utf-8")
    with pytest.raises(BundleError, match=r"Edited by hand since generated: configs/train\.json"):
        unet_pipeline.refresh(earlier.root)


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("pipeline.training.memory.keep_freed_pages", "unet_pipeline.device.allocator.keep_freed_pages", True),
        ({"a": ["pipeline.training.losses.A"]}, {"a": ["unet_pipeline.training.losses.A"]}, True),
        ("pipeline.training.losses.A", "unet_pipeline.training.losses.B", False),
        ("monai.losses.A", "torch.losses.A", False),
        ({"a": 1}, {"a": 1, "_requires_": "%modules"}, True),
        ({"a": 1}, {"a": 1, "_requires_": "$torch.manual_seed(0)"}, False),
        (["$import os"], ["$import os", "$import traceback"], True),
        (["$torch.seed()"], ["$torch.manual_seed(0)"], False),
        ([1, 2], [1, 3], False),
    ],
)
def test_is_same_value_where_a_part_lies_is_no_difference(before: object, now: object, same: bool) -> None:
    assert is_same_value(before, now) is same
