"""Rules about thin borders that part a label."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unet_pipeline.bundle.configs import build_configs
from unet_pipeline.bundle.modules import list_modules
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.border_rules import choose_border_threshold
from unet_pipeline.planning.plan import Plan, build_plan_from
from unet_pipeline.planning.planner import plan_from_fingerprint

LABELS = ("membrane", "cell")


@pytest.mark.parametrize(
    ("separated", "instances", "parts"),
    [
        (("cell",), None, True),
        ((), None, False),
        (LABELS, None, False),  # no border is left
        (("tissue",), None, False),  # a region
        (("cell",), "levels", False),
    ],
)
def test_choose_border_threshold_where_borders_part_a_label(
    separated: tuple[str, ...], instances: str | None, parts: bool
) -> None:
    assert (choose_border_threshold(separated, LABELS, instances).value is not None) == parts


def plan_membranes(make_fingerprint: Callable) -> Plan:
    return plan_from_fingerprint(make_fingerprint(labels={"membrane": 0, "cell": 255}), "data", "quick").plan


def test_configs_of_separated_labels_close_borders_in_place_of_the_argmax(make_fingerprint: Callable) -> None:
    planned = plan_membranes(make_fingerprint)
    assert "closed_borders" in list_modules(planned)
    configs = build_configs(planned)
    for name in ("inference", "evaluate"):
        first, second = configs[name]["native_label_transforms"][:2]  # type: ignore[index]
        assert first["_target_"] == "unet_networks.closed_borders.CloseBordersd"
        assert "argmax" not in first
        assert second["_target_"] == "monai.transforms.FillHolesd"
    assert configs["inference"]["separated_classes"] == [1]


def test_configs_of_other_plans_have_no_trace_of_borders(make_fingerprint: Callable) -> None:
    others = plan_from_fingerprint(make_fingerprint(), "data", "quick").plan
    open_borders = build_plan_from({**plan_membranes(make_fingerprint).model_dump(), "border_threshold": None}, "It")
    for planned in (others, open_borders):
        text = str(build_configs(planned))
        assert not [word for word in ("border_threshold", "separated_classes", "closed_borders") if word in text]


@pytest.mark.parametrize(
    "changes",
    [
        {"separated_labels": ()},
        {"separated_labels": LABELS},
        {"separated_labels": ("tissue",), "regions": {"tissue": (0, 255)}},
    ],
)
def test_check_borders_says_what_was_expected(make_fingerprint: Callable, changes: dict[str, object]) -> None:
    values = plan_membranes(make_fingerprint).model_dump() | changes
    with pytest.raises(
        PlanError, match=r"border_threshold is 0\.02 with separated_labels .*; expected some of the labels"
    ):
        build_plan_from(values, "It")
