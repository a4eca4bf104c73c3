"""Bundles of earlier versions: what their configs name is gone, and `plan --refresh` brings them along."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import unet_pipeline
from unet_pipeline.audit.audit import audit_bundle
from unet_pipeline.bundle.configs import find_differences, find_edited_configs
from unet_pipeline.bundle.earlier import RENAMED_IDS, is_same_value, rename_ids, require_current_config
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import TrainingRecord
from unet_pipeline.errors import BundleError, PlanError, TrainingError
from unet_pipeline.evidence.records.continuation import check_unchanged
from unet_pipeline.evidence.records.record import resolve_config
from unet_pipeline.evidence.report.answers import tell
from unet_pipeline.evidence.report.history import read_history
from unet_pipeline.evidence.reproduce.reproduction_checks import find_changes_of_plan
from unet_pipeline.files import write_json
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import read_plan

from . import phantom_bundles as phantoms

BUNDLES = Path(__file__).parents[1] / "bundles"
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


def write_earlier_names(folder: BundleFolder) -> None:
    """Plan and configs as a version wrote them that called holes, components and small objects otherwise."""
    hashes = {}
    for path in (folder.plan, *(folder.config(name) for name in (*CONFIGS, "inference"))):
        text = path.read_text(encoding="utf-8")
        for earlier, name in RENAMED_IDS.items():
            text = re.sub(rf"\b{name}\b", earlier, text)
        path.write_text(text, encoding="utf-8")
        hashes[path.stem] = hashlib.sha256(text.encode()).hexdigest()
    del hashes["plan"]
    write_json(folder.generated_configs, hashes)


@pytest.fixture
def renamed(tmp_path: Path) -> BundleFolder:
    folder = plan_cells(tmp_path)
    edit_plan(folder.plan, {"fill_holes": (["cell"], "a test"), "remove_small_objects": (9.5, "a test")})
    unet_pipeline.refresh(folder.root)
    write_earlier_names(folder)
    text = folder.config("inference").read_text(encoding="utf-8")
    for part in ('"classes_without_holes": [', '"@classes_of_one_part"', '"smallest_part": 9.5'):
        assert part in text
    assert not any(name in text for name in RENAMED_IDS.values())
    return folder


def test_bundle_with_earlier_names_is_what_its_plan_gives(renamed: BundleFolder) -> None:
    plan = read_plan(renamed.plan)
    assert (plan.fill_holes, plan.keep_largest_component, plan.remove_small_objects) == (("cell",), (), 9.5)
    assert find_differences(renamed, plan) == ()
    assert find_edited_configs(renamed) == ()


@pytest.mark.parametrize("name", sorted(path.name for path in BUNDLES.iterdir() if (path / "configs").is_dir()))
def test_ready_bundle_has_todays_names_for_its_numbers(name: str) -> None:
    folder = BundleFolder(BUNDLES / name)
    differences = find_differences(folder, read_plan(folder.plan))
    assert not [one for one in differences if one.split(": ")[1] in {*RENAMED_IDS, *RENAMED_IDS.values()}]


def test_refresh_writes_todays_names_and_says_so(renamed: BundleFolder, call_main: Callable) -> None:
    status, out, error = call_main("describe", renamed.root)
    assert (status, error) == (0, "")
    assert "note     configs/plan.yaml: without_holes is called fill_holes now; `unet-pipeline plan --refresh" in out
    status, out, error = call_main("plan", "--refresh", renamed.root, "--no-forecast")
    assert (status, error) == (0, "")
    assert "configs/plan.yaml: smallest_part is called remove_small_objects now." in out
    config = json.loads(renamed.config("inference").read_text(encoding="utf-8"))
    assert (config["fill_holes_classes"], config["keep_largest_component_classes"]) == ([1], [])
    assert config["remove_small_objects"] == 9.5
    for path in (renamed.plan, *renamed.configs.glob("*.json")):
        assert not any(earlier in path.read_text(encoding="utf-8") for earlier in RENAMED_IDS), path.name
    for verb in (("describe", renamed.root), ("plan", "--refresh", renamed.root, "--no-forecast")):
        assert "is called" not in call_main(*verb)[1]


def test_record_and_tuning_with_earlier_names_are_read(renamed: BundleFolder) -> None:
    numbers = read_plan(renamed.plan).model_dump(mode="json")
    recorded = {earlier: numbers.pop(name) for earlier, name in RENAMED_IDS.items() if name in numbers}
    assert recorded == {"without_holes": ["cell"], "one_part": [], "smallest_part": 9.5}
    folder = renamed
    config_sha256 = hash_file(folder.config("train"))
    record = TrainingRecord(plan=numbers | recorded, id="1", config_sha256=config_sha256)
    assert list(find_changes_of_plan(folder, record)) == []
    record.plan = {**numbers, **recorded, "smallest_part": 4.0}
    (difference,) = find_changes_of_plan(folder, record)
    assert "remove_small_objects is 9.5, was 4.0 in the training" in difference.cause
    calibration = {"error_before": 0.5, "error_after": 0.5, "temperature": 1.0, "obstacle": "one case is not enough"}
    write_json(folder.tuning, {"num_cases": 1, "calibration": calibration})
    assert "no temperature was taken, because one case is not enough." in (
        tell("calibration", read_history(folder)) or ""
    )


def test_rename_ids_renames_keys_and_references_only() -> None:
    before = {"one_part": ["@one_part", "$f(@classes_of_one_part, @smallest_part#0)", "one_part", "a@one_part"]}
    assert rename_ids(before) == {
        "keep_largest_component": [
            "@keep_largest_component",
            "$f(@keep_largest_component_classes, @remove_small_objects#0)",
            "one_part",
            "a@one_part",
        ]
    }
    assert rename_ids(None) is None


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def earlier(tmp_path: Path) -> BundleFolder:
    """A bundle as `plan` made it before the package was called unet_pipeline."""
    folder = plan_cells(tmp_path)
    write_as_earlier(folder)
    return folder


def plan_cells(tmp_path: Path) -> BundleFolder:
    phantoms.write_pictures(tmp_path / "cells", num_cases=4)
    labels = {"background": 0, "cell": 255}
    phantoms.silently(
        unet_pipeline.plan, tmp_path / "cells", tmp_path / "bundle", preset="quick", folds=2, labels=labels
    )
    return BundleFolder(tmp_path / "bundle")


def test_require_current_config_names_the_part_and_the_remedy(earlier: BundleFolder) -> None:
    with pytest.raises(
        PlanError,
        match=r"configs/train\.json names pipeline\.training\.\w+\.\w+, .*`unet-pipeline plan --refresh .*bundle`",
    ):
        require_current_config(earlier)


def test_train_offers_the_refresh_and_then_trains(earlier: BundleFolder) -> None:
    with pytest.raises(BundleError, match=r"needs trust(?s:.)*plan --refresh"):
        unet_pipeline.train(earlier.root)
    with pytest.raises(PlanError, match="plan --refresh"):
        unet_pipeline.train(earlier.root, trust=True)
    with pytest.raises(PlanError, match="plan --refresh"):
        unet_pipeline.forecast_training(earlier.root)
    unet_pipeline.refresh(earlier.root)
    for name in CONFIGS:
        assert '"pipeline.' not in earlier.config(name).read_text(encoding="utf-8")
    require_current_config(earlier)


def test_audit_names_what_an_earlier_version_wrote_and_offers_the_refresh(earlier: BundleFolder) -> None:
    found = audit_bundle(earlier.root)
    told = [finding for finding in found.dangers if finding.code == "config-differs"]
    assert {finding.file for finding in told} == {f"configs/{name}.json" for name in CONFIGS}
    assert all("plan --refresh" in finding.remedy for finding in told)
    targets = [finding for finding in found.dangers if finding.code == "target-outside"]
    assert all("pipeline.training." in finding.cause for finding in targets)
    assert not [run for run in found.runs if run.severity and "pipeline.training." not in run.text]
    unet_pipeline.refresh(earlier.root)
    assert audit_bundle(earlier.root).passed


@pytest.mark.parametrize("module", ["training.no_such_part", "no_such_folder.part"])
def test_require_current_config_part_that_moved_inside_the_package(earlier: BundleFolder, module: str) -> None:
    unet_pipeline.refresh(earlier.root)
    path = earlier.config("train")
    text = path.read_text(encoding="utf-8")
    assert "unet_pipeline.training.losses.DeepSupervisionLoss" in text
    path.write_text(text.replace("unet_pipeline.training.losses", f"unet_pipeline.{module}"), encoding="utf-8")
    with pytest.raises(PlanError, match=rf"names unet_pipeline\.{module}\.\w+, .*plan --refresh"):
        unet_pipeline.train(earlier.root, trust=True)


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
