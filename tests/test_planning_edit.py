"""Single fields of a plan.yaml change, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unet_pipeline.errors import PlanError
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.planning.plan_text import write_plan
from unet_pipeline.planning.planner import plan_from_fingerprint


@pytest.fixture
def path(make_fingerprint: Callable, tmp_path: Path) -> Path:
    planned = plan_from_fingerprint(make_fingerprint(), "data")
    write_plan(tmp_path / "configs" / "plan.yaml", planned.plan, planned.reasons)
    return tmp_path / "configs" / "plan.yaml"


def test_edit_plan_changes_value_and_reason_of_the_field_only(path: Path) -> None:
    before = path.read_text().splitlines()
    plan = edit_plan(path, {"temperature": (1.25, "measured\non 40 cases")})
    assert plan.temperature == 1.25
    assert read_plan(path) == plan
    after = path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new for _, new in changed] == ["# measured on 40 cases", "temperature: 1.25"]


def test_edit_plan_users_other_lines_stay(path: Path) -> None:
    text = path.read_text().replace("num_epochs:", "# my own remark\nnum_epochs:")
    path.write_text(text)
    edit_plan(path, {"keep_largest_component": (["organ"], "helps")})
    assert "# my own remark\nnum_epochs:" in path.read_text()


@pytest.mark.parametrize("value", ["\n  - organ\n  - organ", "\n- organ\n- organ"])
def test_edit_plan_value_over_several_lines_is_replaced_whole(path: Path, value: str) -> None:
    text = path.read_text().replace("keep_largest_component: []", f"keep_largest_component:{value}")
    path.write_text(text)
    edit_plan(path, {"keep_largest_component": ([], "no")})
    assert read_plan(path).keep_largest_component == ()


def test_edit_plan_value_that_cannot_be_writes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(PlanError, match="temperature is -1"):
        edit_plan(path, {"temperature": (-1, "wrong")})
    with pytest.raises(PlanError, match="lacks the field 'heat'"):
        edit_plan(path, {"heat": (1, "unknown")})
    assert path.read_bytes() == before
