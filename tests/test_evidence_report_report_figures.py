"""The report's charts from numbers with known answers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from unet_pipeline.bundle.records import CalibrationRecord, ConfidenceBin
from unet_pipeline.evidence.report import report_figures as figures


def test_compute_agreement_by_hand() -> None:
    """Differences 1, 2, 3: bias 2, SD 1, limits 2 -+ 1.96."""
    volumes = pd.DataFrame({"label": ["a"] * 3, "reference": [1.0, 5, 9], "prediction": [2.0, 7, 12]})
    (found,) = figures.compute_agreement(volumes)
    assert (found.label, found.n, found.bias) == ("a", 3, 2.0)
    assert (found.low, found.high) == pytest.approx((0.04, 3.96))


def test_compute_agreement_one_case_has_no_limits() -> None:
    (found,) = figures.compute_agreement(pd.DataFrame({"label": ["a"], "reference": [1.0], "prediction": [2.0]}))
    assert found.bias == 1
    assert math.isnan(found.low)


@pytest.mark.parametrize(
    ("unit", "factor", "shown"), [("ml", 0.002, "ml"), ("mm^2", 2.0, "mm²"), ("pixel", 1.0, "pixels")]
)
def test_tabulate_volumes_units(unit: str, factor: float, shown: str) -> None:
    rows = pd.DataFrame(
        {
            "label": ["background", "a"],
            "num_voxels_reference": [9, 10],
            "num_voxels_prediction": [9, 20],
            "voxel_volume": [2.0, 2.0],
            "size_unit": [unit] * 2,
        }
    )
    table, name = figures.tabulate_volumes(rows, ["a"])
    assert name == shown
    assert table[["reference", "prediction"]].to_numpy().tolist() == [
        [pytest.approx(10 * factor), pytest.approx(20 * factor)]
    ]


def test_draw_curves_tag_that_no_run_has_is_none() -> None:
    curves = [figures.Curve("run", "train_loss", (1, 2), (2.0, 1.0))]
    assert figures.draw_curves(curves, "val_mean_dice", "t", "y", "x") is None
    assert figures.draw_curves(curves, "train_loss", "t", "y", "x") is not None


def test_draw_curves_long_one_is_thinned_to_means() -> None:
    curve = figures.Curve("run", "train_loss", tuple(range(1, 4001)), tuple([1.0, 3.0] * 2000))
    figure = figures.draw_curves([curve], "train_loss", "Loss", "loss", "iteration")
    assert figure is not None
    assert "run ends at 2" in figure.svg
    assert "mean over neighbouring steps" in figure.caption


def test_draw_distribution_undefined_labels_are_left_out() -> None:
    groups = {"a": np.array([0.5, np.nan, 0.7]), "b": np.array([np.nan])}
    figure = figures.draw_distribution("dice", groups, {})
    assert figure is not None
    assert "n = 2" in figure.svg
    assert ">b<" not in figure.svg
    assert figures.draw_distribution("dice", {"b": np.array([np.nan])}, {}) is None


def test_draw_calibration_record_without_bins_is_none() -> None:
    record = CalibrationRecord(temperature=1.5, error_before=0.1, error_after=0.05)
    assert figures.draw_calibration(record) is None
    bins = [ConfidenceBin(num_voxels=5, confidence=0.9, right_share=0.8)]
    figure = figures.draw_calibration(record.model_copy(update={"bins_before": bins, "bins_after": bins}))
    assert figure is not None
    assert "0.1000 before, 0.0500 after" in figure.svg
