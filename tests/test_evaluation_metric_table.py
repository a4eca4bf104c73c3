"""The table of metrics says what the measurement does: above all, what an empty mask gives."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unet_pipeline.evaluation.measurement import Request, measure_instances, measure_masks
from unet_pipeline.evaluation.metric_table import (
    DIAGONAL,
    METRICS,
    MINUS_REFERENCE_SIZE,
    PREDICTION_SIZE,
    REFERENCE_SIZE,
    Metric,
    list_measured,
)

SPACING = (0.5, 2.0, 3.0)
VOXEL_SIZE = 0.003
SHAPE = (6, 7, 8)
EMPTY = np.zeros(SHAPE, bool)
STRUCTURE = EMPTY.copy()
STRUCTURE[1:4, 2:6, 3:5] = True
SIZE = STRUCTURE.sum() * VOXEL_SIZE
IN_WORDS = {
    DIAGONAL: math.hypot(6 * 0.5, 7 * 2.0, 8 * 3.0),
    REFERENCE_SIZE: SIZE,
    MINUS_REFERENCE_SIZE: -SIZE,
    PREDICTION_SIZE: SIZE,
}
SITUATIONS = {
    "both_empty": (EMPTY, EMPTY),
    "missed": (STRUCTURE, EMPTY),
    "false_alarm": (EMPTY, STRUCTURE),
}


def measure(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Every metric; the reference is one instance."""
    request = Request(tolerance=1.0, lesions=True, thin=True)
    return {
        **measure_masks(reference, prediction, SPACING[: reference.ndim], VOXEL_SIZE, request),
        **measure_instances(reference.astype(np.uint16), prediction),
    }


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_metrics_empty_masks_give_what_the_table_says(situation: str, name: str) -> None:
    stated = getattr(METRICS[name], situation)
    expected = IN_WORDS[stated] if isinstance(stated, str) else stated
    assert measure(*SITUATIONS[situation])[name] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_both_empty_is_undefined(name: str) -> None:
    assert math.isnan(measure(EMPTY, EMPTY)[name])


@pytest.mark.parametrize("name", METRICS)
def test_metrics_perfect_prediction_has_the_best_value(name: str) -> None:
    metric = METRICS[name]
    best = metric.most if metric.higher_is_better else 0.0
    assert measure(STRUCTURE, STRUCTURE)[name] == pytest.approx(best)


def judge(metric: Metric, value: float) -> float:
    """How good a value is; more is better."""
    return value if metric.higher_is_better else -abs(value)


masks = arrays.arrays(bool, SHAPE, elements=st.booleans())


@given(masks.filter(np.any), masks.filter(np.any))
def test_metrics_missed_structure_is_never_better_than_any_prediction(reference, prediction) -> None:
    found, missed = measure(reference, prediction), measure(reference, EMPTY)
    for name, metric in METRICS.items():
        if name == "absolute_volume_error" or name == "volume_error":  # too large by more than the whole is worse
            continue
        assert judge(metric, missed[name]) <= judge(metric, found[name]), name


@given(masks, masks)
def test_metrics_any_masks_stay_in_the_range(reference, prediction) -> None:
    for name, value in measure(reference, prediction).items():
        if name in METRICS and not math.isnan(value):
            assert METRICS[name].least <= value <= METRICS[name].most, name


def test_metrics_table_and_measurement_have_the_same_names() -> None:
    counts = {f"num_{what}_{side}" for what in ("lesions", "instances") for side in ("reference", "prediction")}
    assert set(measure(STRUCTURE, STRUCTURE)) == set(METRICS) | counts


def test_metrics_mean_of_a_perfect_and_a_missed_case_shows_the_miss() -> None:
    perfect, missed = measure(STRUCTURE, STRUCTURE), measure(STRUCTURE, EMPTY)
    assert np.nanmean([perfect["dice"], missed["dice"]]) == 0.5
    assert np.nanmean([perfect["hd95"], missed["hd95"]]) == pytest.approx(IN_WORDS[DIAGONAL] / 2)
    for name, metric in METRICS.items():
        assert judge(metric, np.nanmean([perfect[name], missed[name]])) < judge(metric, perfect[name]), name


def test_unit_follows_what_is_measured() -> None:
    units = {name: METRICS[name].unit("pixel", "mm^2") for name in ("dice", "hd95", "volume_error")}
    assert units == {"dice": "", "hd95": "pixel", "volume_error": "mm^2"}
    assert METRICS["relative_volume_error"].unit() == "%"


def test_list_measured_keeps_the_order_of_the_table() -> None:
    assert list_measured(["case", "nsd", "dice", "cldice"]) == ("dice", "nsd", "cldice")


def test_metrics_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        METRICS["dice"] = METRICS["iou"]  # type: ignore[index]


def test_metrics_page_is_what_the_script_makes() -> None:
    docs = Path(__file__).parents[1] / "docs"
    spec = importlib.util.spec_from_file_location("build_metrics", docs / "build_metrics.py")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    text = builder.build_metrics_text()
    assert (docs / "metrics.md").read_text(encoding="utf-8") == text, "run `.venv/bin/python docs/build_metrics.py`"
    assert all(f"| `{name}` |" in text for name in METRICS)
