"""Rules about instances: what is learned, how wide a border is, and what goes together."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from unet_pipeline.bundle.configs import build_configs
from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.instance_rules import name_levels
from unet_pipeline.planning.plan import Plan, build_plan_from
from unet_pipeline.planning.planner import plan_from_fingerprint


def with_cells(fingerprint: Fingerprint, diameter: float) -> Fingerprint:
    """The same with objects of one size."""
    area = math.pi / 4 * diameter**2
    return fingerprint.model_copy(update={"instance_sizes": (area,) * 101})


def plan(make_fingerprint: Callable, diameter: float = 13.4, **options: object) -> Plan:
    pictures = make_fingerprint(shapes=((256, 256),) * 4, suffix=".png")
    return plan_from_fingerprint(with_cells(pictures, diameter), "data", "quick", **options).plan


@pytest.mark.parametrize(("diameter", "width"), [(5, 1), (13.4, 2), (20, 3), (200, 3)])
def test_choose_depths_is_a_share_of_the_diameter(make_fingerprint: Callable, diameter: float, width: int) -> None:
    planned = plan(make_fingerprint, diameter)
    assert (planned.instance_targets, planned.instance_depths_voxel) == ("levels", (width,))
    assert planned.instance_smallest == pytest.approx(math.pi / 8 * diameter**2, rel=0.01)
    assert planned.shape.num_classes == len(planned.label_table) + 1


def test_levels_of_pictures_are_named_in_pixels_and_of_volumes_in_voxels(make_fingerprint: Callable) -> None:
    pictures = plan(make_fingerprint)
    volumes = plan_from_fingerprint(with_cells(make_fingerprint(), 13.4), "data", "quick").plan
    assert name_levels(pictures) == ("border to 2 pixels",)
    assert name_levels(volumes) == tuple(f"border to {depth} voxels" for depth in volumes.instance_depths_voxel) != ()


def test_choose_targets_networks_of_the_papers_learn_gaps(make_fingerprint: Callable) -> None:
    planned = plan(make_fingerprint, network="unet2015")
    assert (planned.instance_targets, planned.instance_depths_voxel, planned.loss) == ("gaps", (), "border_weighted_ce")
    assert "SeparateTouchingd" in str(build_configs(planned)["train"]["label_transforms"])


def test_plans_without_instance_maps_have_no_trace_of_them(make_fingerprint: Callable) -> None:
    planned = plan_from_fingerprint(make_fingerprint(), "data", "quick").plan
    assert planned.instance_targets is None
    text = str(build_configs(planned))
    assert not [word for word in ("instances", "instance_maps", "instance_targets", "level_transforms") if word in text]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance_depths_voxel": (3, 1)}, "expected rising depths"),
        ({"instance_depths_voxel": ()}, "expected rising depths"),
        ({"instance_targets": None}, "expected rising depths"),
        ({"loss": "region_dice_ce"}, "expected"),
    ],
)
def test_check_instances_says_what_does_not_go_together(
    make_fingerprint: Callable, changes: dict, message: str
) -> None:
    values = plan(make_fingerprint).model_dump() | changes
    with pytest.raises(PlanError, match=message):
        build_plan_from(values, "plan.yaml")


def test_several_depths_are_classes_of_the_distance(make_fingerprint: Callable) -> None:
    values = plan(make_fingerprint).model_dump() | {"instance_depths_voxel": (1, 3, 6)}
    planned = build_plan_from(values, "plan.yaml")
    assert build_configs(planned)["train"]["num_classes"] == len(planned.label_table) + 3
