"""The table of metrics says what the measurement does: above all, what an empty mask gives."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unet_pipeline.evaluation import metric_table
from unet_pipeline.evaluation.mask_pair import MaskPair, Request
from unet_pipeline.evaluation.metric_table import (
    DIAGONAL,
    METRICS,
    MINUS_REFERENCE_COUNT,
    MINUS_REFERENCE_SIZE,
    PREDICTION_COUNT,
    PREDICTION_SIZE,
    REFERENCE_SIZE,
    Metric,
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
    MINUS_REFERENCE_COUNT: -1,
    PREDICTION_COUNT: 1,
}
SITUATIONS = {
    "both_empty": (EMPTY, EMPTY),
    "missed": (STRUCTURE, EMPTY),
    "false_alarm": (EMPTY, STRUCTURE),
}


def measure(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Every metric; the reference is one instance."""
    request = Request(tolerance=1.0, lesions=True, thin=True, separated=True)
    instances = reference.astype(np.uint16)
    return metric_table.measure(MaskPair(reference, prediction, SPACING, VOXEL_SIZE, request, instances))


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


def may_be_worse_than_missed(metric: Metric) -> bool:
    """Of errors in size: what is too large by more than the whole is further off than nothing at all."""
    if isinstance(metric.missed, str):
        return metric.missed != DIAGONAL
    return judge(metric, metric.most) < judge(metric, metric.missed)


def test_only_errors_in_size_may_be_worse_than_a_miss() -> None:
    worse = {name for name, metric in METRICS.items() if may_be_worse_than_missed(metric)}
    assert worse >= {"volume_error", "absolute_volume_error"}
    assert not worse & {"dice", "hd95", "nsd", "relative_volume_error", "lesion_f1", "cldice", "mean_ap"}


masks = arrays.arrays(bool, SHAPE, elements=st.booleans())


@given(masks.filter(np.any), masks.filter(np.any))
def test_metrics_missed_structure_is_never_better_than_any_prediction(reference, prediction) -> None:
    found, missed = measure(reference, prediction), measure(reference, EMPTY)
    for name, metric in METRICS.items():
        if not may_be_worse_than_missed(metric):
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


def test_a_row_is_all_that_a_further_metric_needs(tmp_path: Path, write_nifti) -> None:
    """In a process of its own, because the columns are made of the table when they are imported."""
    for side, stop in (("reference", 5), ("prediction", 6)):
        array = np.zeros((8, 6, 5), np.uint8)
        array[1:stop, 1:4, 1:4] = 1
        write_nifti(tmp_path / side / "a.nii.gz", array)
    code = f"""
from pathlib import Path
from unet_pipeline.evaluation import metric_table
row = metric_table.Metric(
    title="New one", definition="their sizes", compute=lambda pair: pair.prediction.sum() / pair.reference.sum(),
    kind="percent", most=9.0, decimals=3, shown=True,
)
metric_table.METRICS = {{**metric_table.METRICS, "new": row}}
from unet_pipeline.commands.tables import show_value, title_column
from unet_pipeline.evaluation.cases import evaluate_pairs
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.evaluation.summary import summarize
folder = Path({str(tmp_path)!r})
rows = evaluate_pairs([Pair("a", folder / "reference/a.nii.gz", folder / "prediction/a.nii.gz")], {{"no": 0, "yes": 1}})
line = next(line for line in summarize(rows, ["yes"]) if line.metric == "new" and line.label == "yes")
print(list(rows["new"])[1], line.mean, title_column("new", line.unit), show_value(line.mean, "new"))
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "docs")!r})
import build_metrics
print("| `new` | New one: their sizes | % | 0 to 9 | higher | yes |" in build_metrics.build_metrics_text())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["1.25 1.25 New one, % 1.250", "True"]
