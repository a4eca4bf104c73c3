"""A plan.yaml of an earlier version is read as it was meant, and `plan --refresh` writes it as it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unet_pipeline.bundle.configs import build_configs, write_configs
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.earlier_plans import RENAMED_FIELDS
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import read_changes, read_notes, read_plan
from unet_pipeline.planning.plan_text import read_reasons, write_plan
from unet_pipeline.planning.planner import PlannedBundle, plan_from_fingerprint

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
    for path in (folder.config("train"), folder.metadata):
        path.write_text("{}", encoding="utf-8")
    write_configs(folder, planned.plan)
    before = folder.config("train").read_bytes()
    status, out, error = call_main("plan", "--refresh", folder.root, "--no-forecast")
    assert (status, error) == (0, "")
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


def write_renamed(path: Path, planned: PlannedBundle, quote: str = "") -> None:
    """plan.yaml as it was written when the fields of the post-processing had their earlier names."""
    chosen = {"fill_holes": ("oedema",), "keep_largest_component": ("tumour",), "remove_small_objects": 12.5}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_plan(path, planned.plan.model_copy(update=chosen), planned.reasons)
    text = path.read_text(encoding="utf-8")
    for earlier, name in RENAMED_FIELDS.items():
        assert text.count(f"\n{name}:") == 1
        text = text.replace(f"\n{name}:", f"\n{quote}{earlier}{quote}:")
    path.write_text(text, encoding="utf-8")


def test_renamed_fields_are_those_of_the_post_processing() -> None:
    assert RENAMED_FIELDS == {
        "without_holes": "fill_holes",
        "one_part": "keep_largest_component",
        "smallest_part": "remove_small_objects",
    }


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_read_plan_earlier_names_are_todays_fields(planned: PlannedBundle, tmp_path: Path, quote: str) -> None:
    path = tmp_path / "configs" / "plan.yaml"
    write_renamed(path, planned, quote)
    plan = read_plan(path)
    assert (plan.fill_holes, plan.keep_largest_component, plan.remove_small_objects) == (("oedema",), ("tumour",), 12.5)
    assert read_notes(path) == tuple(f"{earlier} is called {name} now" for earlier, name in RENAMED_FIELDS.items())
    assert read_reasons(path)["fill_holes"] == planned.reasons["fill_holes"]


@pytest.mark.parametrize("quote", ["", '"'])
def test_edit_plan_renames_and_keeps_values_and_reasons(planned: PlannedBundle, tmp_path: Path, quote: str) -> None:
    path = tmp_path / "configs" / "plan.yaml"
    write_renamed(path, planned, quote)
    before = read_plan(path)
    assert edit_plan(path, {"fill_holes": (["tumour"], "tuned")}) == before.model_copy(
        update={"fill_holes": ("tumour",)}
    )
    assert read_plan(path).keep_largest_component == ("tumour",)
    assert read_notes(path) == ()
    assert not any(earlier in path.read_text(encoding="utf-8") for earlier in RENAMED_FIELDS)
    assert read_reasons(path)["keep_largest_component"] == planned.reasons["keep_largest_component"]


def test_read_plan_field_under_both_names_is_refused(planned: PlannedBundle, tmp_path: Path) -> None:
    path = tmp_path / "configs" / "plan.yaml"
    write_renamed(path, planned)
    path.write_text(path.read_text(encoding="utf-8") + "fill_holes: []\n", encoding="utf-8")
    with pytest.raises(
        PlanError, match=r"configs/plan\.yaml has without_holes and fill_holes, .*\. Remove without_holes\."
    ):
        read_plan(path)


def test_read_plan_value_under_an_earlier_name_is_checked_as_today(planned: PlannedBundle, tmp_path: Path) -> None:
    path = tmp_path / "configs" / "plan.yaml"
    write_renamed(path, planned)
    text = path.read_text(encoding="utf-8").replace('one_part: ["tumour"]', 'one_part: ["tumor"]')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match="keep_largest_component has 'tumor'; did you mean 'tumour'"):
        read_plan(path)
