"""What a plan takes over from the bundle that its training starts from, and what must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.errors import PlanError
from unet_pipeline.planning.fine_tuning import TAKEN_OVER, Start, check_start, choose_learning_rate
from unet_pipeline.planning.plan import Plan
from unet_pipeline.planning.planner import PlannedBundle, plan_from_fingerprint
from unet_pipeline.planning.presets import Choice

SHA256 = "0123456789abcdef" * 4


@pytest.fixture
def start(make_fingerprint: Callable) -> Start:
    """A bundle of CT with coarse slices: everything that can be taken over differs from the plan of the other phantoms."""
    options = {"channels": ("CT",), "spacings_mm": [(0.8, 0.8, 5.0)] * 4, "shapes": [(256, 256, 40)] * 4}
    plan = plan_from_fingerprint(make_fingerprint(**options), "../ct", network="resenc").plan
    return Start("liver_ct", plan, Path("models/model.pt"), SHA256)


def plan_new(
    make_fingerprint: Callable, start: Start, data: dict[str, Any] | None = None, **options: Any
) -> PlannedBundle:
    """The plan of small cubes of 1 mm with three labels."""
    content = {"channels": ("ct",), "labels": {"background": 0, "spleen": 1, "cyst": 2}, **(data or {})}
    return plan_from_fingerprint(make_fingerprint(**content), "../new", start=start, **options)


def test_plan_from_fingerprint_start_gives_network_grid_and_patch_with_its_reason(
    make_fingerprint: Callable, start: Start
) -> None:
    planned = plan_new(make_fingerprint, start)
    own = plan_from_fingerprint(make_fingerprint(channels=("ct",)), "../new").plan
    for name in TAKEN_OVER:
        assert getattr(planned.plan, name) == getattr(start.plan, name), name
        assert planned.reasons[name] == "of bundle liver_ct, whose weights the training starts from"
    assert (own.spacing_mm, own.patch_size, own.network_name) != (
        planned.plan.spacing_mm,
        planned.plan.patch_size,
        planned.plan.network_name,
    ), "the phantom must differ from the bundle, or nothing is shown"


def test_plan_from_fingerprint_start_leaves_labels_and_schedule_to_the_dataset(
    make_fingerprint: Callable, start: Start
) -> None:
    planned = plan_new(make_fingerprint, start, preset="quick")
    assert planned.plan.label_table == {"background": 0, "spleen": 1, "cyst": 2}
    assert len(planned.plan.crop_ratios) == 3
    assert (planned.plan.dataset_dir, planned.plan.channel_names) == ("../new", ("ct",))
    assert planned.plan.initial_weights_sha256 == SHA256
    assert planned.plan.memory_gib == start.plan.memory_gib > 8, "what the bundle took, not what the preset grants"
    assert "liver_ct" in planned.reasons["initial_weights_sha256"]
    assert set(planned.reasons) == set(Plan.model_fields)


def test_plan_from_fingerprint_without_start_has_random_weights(make_fingerprint: Callable) -> None:
    planned = plan_from_fingerprint(make_fingerprint(), "../new")
    assert planned.plan.initial_weights_sha256 is None
    assert "random" in planned.reasons["initial_weights_sha256"]


def test_plan_from_fingerprint_start_takes_a_tenth_of_the_learning_rate(
    make_fingerprint: Callable, start: Start
) -> None:
    random = plan_from_fingerprint(make_fingerprint(), "../new", preset="quick").plan.learning_rate
    assert plan_new(make_fingerprint, start, preset="quick").plan.learning_rate == pytest.approx(random / 10)


def test_choose_learning_rate_says_from_what_it_is_a_tenth() -> None:
    choice = choose_learning_rate(Choice(3e-3, "any"))
    assert choice.value == pytest.approx(3e-4)
    assert "0.003" in choice.reason


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"channels": ("MRI",)}, r"has the channel\(s\) MRI; expected those of bundle liver_ct: CT"),
        ({"channels": ("CT", "PET")}, r"has the channel\(s\) CT, PET; expected those of bundle liver_ct: CT"),
        ({"shapes": [(64, 64)] * 4}, "has images of 2 dimensions; bundle liver_ct was trained on 3"),
    ],
)
def test_check_start_other_images_are_refused(
    make_fingerprint: Callable, start: Start, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        plan_new(make_fingerprint, start, data)


def test_check_start_pictures_do_not_go_with_slices_in_mm(make_fingerprint: Callable, start: Start) -> None:
    pictures = plan_from_fingerprint(make_fingerprint(shapes=[(64, 64)] * 4, suffix=".png"), "../pictures").plan
    slices = make_fingerprint(shapes=[(64, 64)] * 4, channels=pictures.channel_names)
    with pytest.raises(PlanError, match=r"format \.nii\.gz and bundle liver_ct was trained on \.png"):
        check_start(replace(start, plan=pictures), slices)


@pytest.mark.parametrize("name", ["channel_0", "Ct ", "CT"])
def test_check_start_same_channel_by_another_writing_is_taken(
    make_fingerprint: Callable, start: Start, name: str
) -> None:
    assert set(check_start(start, make_fingerprint(channels=(name,)))) == set(TAKEN_OVER)


@pytest.mark.parametrize(
    ("network", "padded", "message"), [("dynunet", False, "network dynunet was asked for; bundle liver_ct has resenc")]
)
def test_check_start_another_network_is_refused(
    make_fingerprint: Callable, start: Start, network: str, padded: bool, message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        check_start(start, make_fingerprint(channels=("CT",)), network, padded)


def test_check_start_own_network_may_be_named(make_fingerprint: Callable, start: Start) -> None:
    assert check_start(start, make_fingerprint(channels=("CT",)), "resenc", padded=True)


def test_plan_from_fingerprint_start_too_large_for_the_memory_is_refused(
    make_fingerprint: Callable, start: Start
) -> None:
    with pytest.raises(PlanError, match=r"takes up to .* GiB; 1 GiB were granted .*--memory"):
        plan_new(make_fingerprint, start, memory_gib=1.0)
