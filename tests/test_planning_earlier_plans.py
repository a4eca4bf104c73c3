"""A plan.yaml of an earlier version is read as it was meant, and `plan --refresh` writes it as it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.bundle.configs import build_configs, write_configs
from pipeline.bundle_folder import BundleFolder
from pipeline.errors import PlanError
from pipeline.planning.edit import edit_plan
from pipeline.planning.plan import read_changes, read_plan, write_plan
from pipeline.planning.planner import PlannedBundle, plan_from_fingerprint

REGIONS = {"whole": (1, 2), "core": (2,)}


@pytest.fixture
def planned(make_fingerprint: Callable) -> PlannedBundle:
    fingerprint = make_fingerprint(labels={"background": 0, "oedema": 1, "tumour": 2})
    return plan_from_fingerprint(fingerprint.model_copy(update={"regions": REGIONS}), "data")


@pytest.fixture
def earlier(planned: PlannedBundle, tmp_path: Path) -> Path:
    """plan.yaml as it was written when the loss of regions was not in the plan."""
    path = tmp_path / "bundle" / "configs" / "plan.yaml"
    write_plan(path, planned.plan, planned.reasons)
    text = path.read_text(encoding="utf-8")
    assert 'loss: "region_dice_ce"' in text
    path.write_text(text.replace('loss: "region_dice_ce"', 'loss: "dice_ce"'), encoding="utf-8")
    return path


def test_plan_loss_of_regions_is_in_the_plan_with_its_reason(planned: PlannedBundle) -> None:
    assert planned.plan.loss == "region_dice_ce"
    assert "regions" in planned.reasons["loss"]
    loss = build_configs(planned.plan)["train"]["patch_loss"]["loss"]
    assert loss["_target_"].endswith("RegionDiceCELoss")


def test_plan_without_regions_has_monais_loss(make_fingerprint: Callable) -> None:
    plan = plan_from_fingerprint(make_fingerprint(), "data").plan
    assert plan.loss == "dice_ce"
    assert build_configs(plan)["train"]["patch_loss"]["loss"]["_target_"] == "monai.losses.DiceCELoss"


def test_read_plan_earlier_loss_with_regions_is_what_it_meant(earlier: Path, planned: PlannedBundle) -> None:
    assert read_plan(earlier) == planned.plan
    ((name, (value, reason)),) = read_changes(earlier).items()
    assert (name, value) == ("loss", "region_dice_ce")
    assert "dice_ce before" in reason


def test_edit_plan_any_edit_brings_an_earlier_plan_along(earlier: Path) -> None:
    plan = edit_plan(earlier, {"temperature": (1.5, "tuned")})
    assert (plan.loss, plan.temperature) == ("region_dice_ce", 1.5)
    assert read_plan(earlier) == plan
    assert read_changes(earlier) == {}


def test_refresh_writes_an_earlier_plan_as_it_is_read_and_says_so(
    earlier: Path, planned: PlannedBundle, call_main: Callable
) -> None:
    folder = BundleFolder(earlier.parents[1])
    folder.metadata.write_text("{}", encoding="utf-8")
    write_configs(folder, planned.plan)
    before = folder.config("train").read_bytes()
    status, out, err = call_main("plan", "--refresh", folder.root, "--no-forecast")
    assert status == 0, err
    assert "configs/plan.yaml: loss is region_dice_ce now" in out
    assert folder.config("train").read_bytes() == before
    assert 'loss: "region_dice_ce"' in earlier.read_text(encoding="utf-8")
    _, again, _ = call_main("plan", "--refresh", folder.root, "--no-forecast")
    assert "now" not in again


def test_plan_region_loss_without_regions_is_refused(earlier: Path) -> None:
    text = earlier.read_text(encoding="utf-8")
    lines = ["regions: {}" if line.startswith("regions:") else line for line in text.splitlines()]
    earlier.write_text("\n".join(lines).replace('loss: "dice_ce"', 'loss: "region_dice_ce"'), encoding="utf-8")
    with pytest.raises(
        PlanError, match="loss is 'region_dice_ce' and regions is empty; expected regions, or the loss 'dice_ce'"
    ):
        read_plan(earlier)
