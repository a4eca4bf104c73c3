"""Which label maps expected Dice is said of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from unet_pipeline.bundle.run_record import LabelMapEntry
from unet_pipeline.quality.doubt_tables import OF_SINGLE_NETWORKS, OTHER_RUNTIME, OTHER_WEIGHTS, find_mismatch
from unet_pipeline.quality.expected_dice import ExpectedDiceRecord


@pytest.mark.parametrize(
    ("runtime", "weights", "reason"),
    [
        ("torch", ["a"], ""),
        ("torch", ["a", "b"], OF_SINGLE_NETWORKS),
        ("onnx", ["a"], OTHER_RUNTIME),
        ("torch", ["c"], OTHER_WEIGHTS),
    ],
)
def test_expected_dice_is_said_of_the_networks_it_was_fitted_on(runtime: str, weights: list[str], reason: str) -> None:
    expected = ExpectedDiceRecord(features=[], source="", weights_sha256=["a", "b"], labels=[], notes=[])
    entry = LabelMapEntry.model_construct(options={"runtime": runtime}, weights_sha256=weights)
    plan: Any = SimpleNamespace(mirrored_axes=())
    assert find_mismatch(expected, entry, plan) == reason
