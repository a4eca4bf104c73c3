"""plan.yaml: written with reasons, read with clear errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from unet_pipeline.errors import PlanError
from unet_pipeline.planning.instance_rules import list_unused
from unet_pipeline.planning.plan import Plan, build_plan_from, read_plan
from unet_pipeline.planning.plan_text import read_reasons, write_plan
from unet_pipeline.planning.planner import PlannedBundle, plan_from_fingerprint

SHOWN = "configs/plan.yaml"


@pytest.fixture
def planned(make_fingerprint: Callable) -> PlannedBundle:
    return plan_from_fingerprint(make_fingerprint(), "../data/phantom")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "configs" / "plan.yaml"


def plan_error(planned: PlannedBundle, **changes: Any) -> str:
    """The message about a plan with these values."""
    with pytest.raises(PlanError) as caught:
        build_plan_from({**planned.plan.model_dump(mode="json"), **changes}, SHOWN)
    message = str(caught.value)
    assert message.startswith(SHOWN)
    return message


# writing and reading


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shapes": [(512, 400)] * 3, "suffix": ".png", "labels": {"background": 0, "cell": 255}},
        {"channels": ("CT",), "spacings_mm": [(0.8, 0.8, 5.0)] * 4, "shapes": [(512, 512, 60)] * 4},
        {"channels": ("T1", "T2"), "labels": {"no": 0, "yes": 1, "Größe: #3 'µ'": 7}},
    ],
)
def test_read_plan_written_one_is_equal(make_fingerprint: Callable, path: Path, options: dict) -> None:
    planned = plan_from_fingerprint(make_fingerprint(**options), "../data")
    write_plan(path, planned.plan, planned.reasons)
    assert read_plan(path) == planned.plan


@pytest.mark.parametrize("value", [1e-05, 2.5e-12, 1e20, 0.1 + 0.2])
def test_read_plan_numbers_in_any_notation_are_equal(planned: PlannedBundle, path: Path, value: float) -> None:
    plan = planned.plan.model_copy(update={"learning_rate": value})
    write_plan(path, plan, planned.reasons)
    assert read_plan(path).learning_rate == value


@pytest.mark.parametrize("name", ["liver: 3", "# liver", "Größe", "yes", "123", "'", '"', "\\", "a\tb", " ", "~"])
def test_read_plan_awkward_dataset_name_is_equal(planned: PlannedBundle, path: Path, name: str) -> None:
    write_plan(path, planned.plan.model_copy(update={"dataset_name": name}), planned.reasons)
    assert read_plan(path).dataset_name == name


def test_read_plan_value_edited_by_hand_is_taken(planned: PlannedBundle, path: Path) -> None:
    write_plan(path, planned.plan, planned.reasons)
    text = path.read_text().replace(f"num_epochs: {planned.plan.num_epochs}", "num_epochs: 7  # shorter")
    path.write_text(text)
    assert read_plan(path) == planned.plan.model_copy(update={"num_epochs": 7})


def test_write_plan_every_field_stands_below_its_reason(planned: PlannedBundle, path: Path) -> None:
    write_plan(path, planned.plan, planned.reasons)
    lines = path.read_text().splitlines()
    for name in Plan.model_fields.keys() - list_unused(planned.plan):
        (number,) = [number for number, line in enumerate(lines) if line.startswith(f"{name}: ")]
        assert lines[number - 1] == f"# {planned.reasons[name]}"


def test_read_reasons_are_those_that_were_written(planned: PlannedBundle, path: Path) -> None:
    write_plan(path, planned.plan, planned.reasons)
    written = {name: reason for name, reason in planned.reasons.items() if name not in list_unused(planned.plan)}
    assert read_reasons(path) == {name: " ".join(reason.split()) for name, reason in written.items()}
    path.write_text(path.read_text().replace("# the folder that was planned\n", ""))
    assert read_reasons(path)["dataset_name"] == ""


def test_write_plan_field_without_reason_is_refused_and_nothing_written(planned: PlannedBundle, path: Path) -> None:
    reasons = {name: reason for name, reason in planned.reasons.items() if name != "seed"}
    with pytest.raises(PlanError, match="seed has no reason"):
        write_plan(path, planned.plan, reasons)
    assert not path.exists()


def test_write_plan_reason_of_several_lines_stays_a_comment(make_fingerprint: Callable, path: Path) -> None:
    """Reasons quote names from the dataset; none of them may become a field."""
    planned = plan_from_fingerprint(make_fingerprint(channels=("MRI\nseed: 9\n",)), "../data")
    write_plan(path, planned.plan, planned.reasons)
    assert read_plan(path) == planned.plan


def test_write_plan_is_yaml_that_other_programs_read(planned: PlannedBundle, path: Path) -> None:
    write_plan(path, planned.plan, planned.reasons)
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == Plan.model_fields.keys() - list_unused(planned.plan)


def test_read_plan_missing_file_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(PlanError, match=r"^configs/plan\.yaml does not exist.*unet-pipeline plan"):
        read_plan(path)


@pytest.mark.parametrize("content", [b"num_epochs: [1, 2", b"\xff\xfe\x00", b"a: b: c"])
def test_read_plan_no_yaml_is_named_without_its_absolute_place(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(
        ("configs/plan.yaml is not valid YAML", "configs/plan.yaml is not text in UTF-16")
    )
    assert str(path.parent) not in str(caught.value)


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "just words", "# comments only\n"])
def test_read_plan_no_fields_are_named(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(PlanError, match="has no fields"):
        read_plan(path)


# fields


@pytest.mark.parametrize(
    ("wrong", "near"), [("num_epoch", "num_epochs"), ("epochs", "num_epochs"), ("patchsize", "patch_size")]
)
def test_build_plan_from_unknown_field_names_the_nearest(planned: PlannedBundle, wrong: str, near: str) -> None:
    message = plan_error(planned, **{wrong: 1})
    assert f"unknown field {wrong!r}" in message
    assert f"did you mean {near!r}" in message


def test_build_plan_from_missing_field_is_named(planned: PlannedBundle) -> None:
    content = planned.plan.model_dump(mode="json")
    del content["patch_size"]
    with pytest.raises(PlanError, match="lacks the field 'patch_size'"):
        build_plan_from(content, SHOWN)


def test_build_plan_from_older_plan_without_evaluation_fields_measures_with_defaults(planned: PlannedBundle) -> None:
    content = planned.plan.model_dump(mode="json")
    for name in ("tolerance_mm", "lesion_labels", "thin_labels", "separated_labels"):
        del content[name]
    plan = build_plan_from({**content, "spacing_mm": [1, 1, 2.5]}, SHOWN)
    assert (plan.lesion_labels, plan.thin_labels, plan.separated_labels) == ((), (), ())
    assert plan.tolerance_of("organ") == 2.5
    assert planned.plan.model_copy(update={"tolerance_mm": {"organ": 4.0}}).tolerance_of("organ") == 4.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tolerance_mm", {"orgam": 1.0}),
        ("lesion_labels", ["orgam"]),
        ("thin_labels", ["orgam"]),
        ("separated_labels", ["orgam"]),
    ],
)
def test_build_plan_from_unknown_measured_label_names_the_nearest(
    planned: PlannedBundle, name: str, value: object
) -> None:
    assert f"{name} has 'orgam'; did you mean 'organ'" in plan_error(planned, **{name: value})


def test_build_plan_from_tolerance_of_zero_is_refused(planned: PlannedBundle) -> None:
    assert "tolerance_mm.organ is 0" in plan_error(planned, tolerance_mm={"organ": 0})


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("num_epochs", 0, "num_epochs is 0"),
        ("num_epochs", "many", "num_epochs is 'many'"),
        ("num_epochs", 2.5, "num_epochs is 2.5"),
        ("learning_rate", -0.1, "learning_rate is -0.1"),
        ("window_overlap", 1.0, "window_overlap is 1.0"),
        ("noise_probability", 1.5, "noise_probability is 1.5"),
        ("spatial_dims", 4, "spatial_dims is 4"),
        ("cache_rate", None, "cache_rate is None"),
    ],
)
def test_build_plan_from_value_that_cannot_be_is_named(
    planned: PlannedBundle, name: str, value: object, shown: str
) -> None:
    assert shown in plan_error(planned, **{name: value})


def test_build_plan_from_wrong_entry_of_a_sequence_is_named_with_its_place(planned: PlannedBundle) -> None:
    assert "patch_size.1 is 0" in plan_error(planned, patch_size=[40, 0, 40])


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"spacing_mm": [0.8, 0.8]}, "spacing_mm has 2 values (0.8, 0.8); expected 3"),
        ({"patch_size": [40, 56]}, "patch_size has 2 values (40, 56); expected 3"),
        ({"window_size": [40, 56, 40, 8]}, "window_size has 4 values (40, 56, 40, 8); expected 3"),
        ({"elastic_control_points": [3]}, "elastic_control_points has 1 values (3,); expected 3"),
        ({"mirror_probability": [0.5]}, "mirror_probability has 1 values (0.5,); expected 3"),
        ({"rotation_range_rad": [0.1, 0.1]}, "rotation_range_rad is (0.1, 0.1); expected 3 value(s)"),
        ({"network_name": "dynunett"}, "network_name is 'dynunett'; did you mean 'dynunet'"),
        ({"padded": False}, "padded is false; dynunet has padded convolutions only"),
        ({"network_name": "resenc", "num_blocks": [1, 2]}, "num_blocks is (1, 2); expected 4 values"),
        ({"regions": {"organ": [1]}}, "regions has 'organ' with the values (1,); expected a name that is no label"),
        ({"regions": {"all": [1, 9]}}, "regions has 'all' with the values (1, 9)"),
        ({"keep_largest_component": ["orgam"]}, "keep_largest_component has 'orgam'; did you mean 'organ'"),
        ({"pruned_to": 2}, "pruned_to is 2; expected null"),
        ({"loss": "dice"}, "loss is 'dice'; did you mean 'dice_ce'"),
        ({"loss": "border_weighted_ce"}, "expected values for class_weights, border_weight, border_sigma_voxel"),
        ({"class_weights": [1.0]}, "class_weights has 1 values"),
        ({"strides": [[1, 1, 1], [2, 2, 2]]}, "strides is ((1, 1, 1), (2, 2, 2)); expected 4 levels of 3 values"),
        ({"kernel_size": [[3, 3]] * 4}, "expected 4 levels of 3 values"),
        ({"patch_size": [40, 57, 40]}, "patch_size is (40, 57, 40); expected multiples of the total stride (8, 8, 8)"),
        ({"window_size": [44, 56, 40]}, "window_size is (44, 56, 40); expected multiples"),
        ({"crop_ratios": [0.5, 0.25, 0.25]}, "crop_ratios has 3 values"),
        ({"supervision_weights": [1.0]}, "supervision_weights has 1 values"),
        ({"num_supervised_heads": 3}, "num_supervised_heads is 3; expected 1 to 2"),
        ({"fold": 5}, "fold is 5; expected 0 to 4"),
    ],
)
def test_build_plan_from_lengths_that_disagree_are_named_with_value(
    planned: PlannedBundle, changes: dict[str, Any], shown: str
) -> None:
    assert shown in plan_error(planned, **changes)


@pytest.mark.parametrize("name", ["intensity_subtrahend", "intensity_divisor"])
def test_build_plan_from_constants_for_another_number_of_channels_are_named(planned: PlannedBundle, name: str) -> None:
    assert name in plan_error(planned, **{name: [1.0, 2.0]})


def test_plan_cannot_be_changed_in_place(planned: PlannedBundle) -> None:
    with pytest.raises(ValidationError):
        planned.plan.num_epochs = 3


def test_total_stride_is_the_product_per_axis(planned: PlannedBundle) -> None:
    assert planned.plan.total_stride == (8, 8, 8)


# regions


def test_scored_labels_are_the_labels_but_the_background(planned: PlannedBundle) -> None:
    assert planned.plan.scored_labels == ("organ",)


def test_scored_labels_of_regions_leave_out_the_values_that_only_they_name(make_fingerprint: Callable) -> None:
    table = {"background": 0, "whole 1": 1, "whole and core 2": 2, "enhancing": 3}
    fingerprint = make_fingerprint(labels=table)
    regions = {"whole": (1, 2, 3), "core": (2, 3)}
    plan = plan_from_fingerprint(fingerprint.model_copy(update={"regions": regions}), "data").plan
    assert plan.scored_labels == ("whole", "core", "enhancing")
