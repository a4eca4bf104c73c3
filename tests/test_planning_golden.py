"""A grid of plans has the numbers that it had when each network was described by hand: patch, parameters, operations, memory, schedule.

A change of the rules writes them again: `python -m tests.test_planning_golden`; the difference is for the review.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.networks.counting import (
    compute_forward_flop,
    compute_receptive_field,
    count_parameters,
    list_convolutions,
)
from unet_pipeline.planning.network_rules import estimate_training_gib
from unet_pipeline.planning.planner import plan_from_fingerprint

from .conftest import build_fingerprint

GOLDEN = Path(__file__).parent / "golden" / "plans.json"
IMAGES: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "cube": ((40, 56, 40), (1, 1, 1)),
    "thorax": ((512, 512, 100), (0.8, 0.8, 2.5)),
    "paper": ((388, 388), (1, 1)),
    "thumbnail": ((32, 32), (1, 1)),
    "tiny": ((5, 6), (1, 1)),
    "slides": ((600, 400), (1, 1)),
    "thick": ((256, 256, 20), (1, 1, 5)),
    "two_slices": ((256, 256, 2), (1, 1, 1)),
    "brain": ((128, 128, 128), (1, 1, 1)),
}
STORED = json.loads(GOLDEN.read_text(encoding="utf-8"))


def plan_numbers(name: str) -> dict[str, Any]:
    """Numbers of the plan that a name such as "paper unet2015 padded quick 2 GiB" asks for."""
    image, network, form, preset, *memory = name.split()
    shape, spacing_mm = IMAGES[image]
    plan = plan_from_fingerprint(
        build_fingerprint(shapes=[shape] * 3, spacings_mm=[spacing_mm] * 3),
        "data",
        preset,
        network=network,
        padded=form == "padded",
        memory_gib=float(memory[0]) if memory else None,
    ).plan
    counted = {
        "num_parameters": count_parameters(plan.shape),
        "forward_flop": compute_forward_flop(plan.shape, plan.patch_size),
        "training_gib": estimate_training_gib(plan.shape, plan.patch_size, plan.batch_size),
        "receptive_field": compute_receptive_field(plan.shape),
        "output_size": list_convolutions(plan.shape, plan.patch_size)[-1].size,
    }
    fields = next(iter(STORED.values())).keys() - counted.keys()
    planned = {key: value for key, value in plan.model_dump(mode="json").items() if key in fields}
    return json.loads(json.dumps(planned | counted))


@pytest.mark.parametrize("name", STORED)
def test_plan_has_the_numbers_of_the_hand_written_descriptions(name: str) -> None:
    assert plan_numbers(name) == STORED[name]


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(plan_numbers(name))}" for name in STORED]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
