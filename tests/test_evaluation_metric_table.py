"""The table of metrics says nothing that contradicts itself."""

from __future__ import annotations

import math

import pytest

from pipeline.evaluation.metric_table import METRICS


@pytest.mark.parametrize("name", METRICS)
def test_metrics_empty_values_lie_in_the_range_or_are_undefined(name: str) -> None:
    metric = METRICS[name]
    assert metric.least < metric.most
    for value in (metric.both_empty, metric.missed, metric.false_alarm):
        assert isinstance(value, str) or math.isnan(value) or metric.least <= value <= metric.most


@pytest.mark.parametrize("name", METRICS)
def test_metrics_missed_structure_gives_a_value(name: str) -> None:
    """Were it undefined, it would leave the average, and finding nothing would be better than finding little."""
    missed = METRICS[name].missed
    assert isinstance(missed, str) or not math.isnan(missed)


def test_unit_follows_what_is_measured() -> None:
    assert METRICS["dice"].unit("mm", "ml") == ""


def test_metrics_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        METRICS["dice"] = METRICS["iou"]  # type: ignore[index]
