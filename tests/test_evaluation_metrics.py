"""Overlap and volume on masks drawn by hand, and beside ITK and MedPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from medpy.metric import binary as medpy

from unet_pipeline.evaluation.metrics import (
    compute_dice,
    compute_iou,
    compute_precision,
    compute_relative_volume_error,
    compute_sensitivity,
    compute_volume_error,
)

REFERENCE = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
PREDICTION = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
EMPTY = np.zeros_like(REFERENCE)


def test_compute_dice_drawn_masks_give_the_known_value() -> None:
    assert compute_dice(REFERENCE, PREDICTION) == pytest.approx(2 * 2 / (4 + 3))


def test_compute_iou_drawn_masks_give_the_known_value() -> None:
    assert compute_iou(REFERENCE, PREDICTION) == pytest.approx(2 / 5)


@pytest.mark.parametrize("metric", [compute_dice, compute_iou])
def test_metric_identical_masks_give_one(metric) -> None:
    assert metric(REFERENCE, REFERENCE) == 1.0


@pytest.mark.parametrize("metric", [compute_dice, compute_iou])
def test_metric_both_empty_is_nan(metric) -> None:
    assert math.isnan(metric(EMPTY, EMPTY))


@pytest.mark.parametrize("metric", [compute_dice, compute_iou])
def test_metric_empty_prediction_is_zero(metric) -> None:
    assert metric(REFERENCE, EMPTY) == 0.0


@pytest.mark.parametrize("metric", [compute_dice, compute_iou])
def test_metric_empty_reference_is_zero(metric) -> None:
    assert metric(EMPTY, PREDICTION) == 0.0


@pytest.mark.parametrize("metric", [compute_dice, compute_iou])
def test_metric_other_shape_is_refused(metric) -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\), prediction \(2, 4\)"):
        metric(REFERENCE, PREDICTION[:2])


@pytest.mark.parametrize("metric", [compute_dice, compute_iou])
def test_metric_label_map_instead_of_mask_is_refused(metric) -> None:
    with pytest.raises(ValueError, match="prediction has the type uint8"):
        metric(REFERENCE, PREDICTION.astype(np.uint8))


masks = arrays.arrays(bool, (3, 4, 2))


@given(masks, masks)
def test_metrics_any_masks_are_symmetric_and_tied(reference: np.ndarray, prediction: np.ndarray) -> None:
    dice, iou = compute_dice(reference, prediction), compute_iou(reference, prediction)
    np.testing.assert_equal(dice, compute_dice(prediction, reference))
    if not math.isnan(dice):
        assert 0 <= iou <= dice <= 1
        assert dice == pytest.approx(2 * iou / (1 + iou))


@given(masks, masks, st.permutations(range(3)))
def test_metrics_axes_permuted_stay_the_same(reference: np.ndarray, prediction: np.ndarray, axes: list[int]) -> None:
    turned = compute_dice(reference.transpose(axes), prediction.transpose(axes))
    np.testing.assert_equal(turned, compute_dice(reference, prediction))


def test_compute_sensitivity_and_precision_drawn_masks_give_the_known_values() -> None:
    assert compute_sensitivity(REFERENCE, PREDICTION) == pytest.approx(2 / 4)
    assert compute_precision(REFERENCE, PREDICTION) == pytest.approx(2 / 3)


def test_compute_volume_error_is_negative_for_too_small_a_prediction() -> None:
    assert compute_volume_error(REFERENCE, PREDICTION, voxel_size=0.5) == pytest.approx(-0.5)
    assert compute_volume_error(PREDICTION, REFERENCE, voxel_size=0.5) == pytest.approx(0.5)
    assert compute_relative_volume_error(REFERENCE, PREDICTION) == pytest.approx(-100 / 3.5)


def test_compute_precision_missed_structure_is_zero_and_sensitivity_of_a_false_alarm_undefined() -> None:
    assert compute_precision(REFERENCE, EMPTY) == 0.0
    assert math.isnan(compute_sensitivity(EMPTY, PREDICTION))


@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_itk_and_medpy(seed: int) -> None:
    """Counts of voxels and one division on all sides, so 1e-12."""
    reference, prediction = np.random.default_rng(seed).random((2, 9, 8, 7)) < 0.3
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    # ITK's source is the prediction here: its volume similarity is (source - target) by their mean
    overlap.Execute(*(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference)))
    pair = (prediction, reference)
    for ours, itk, by_medpy in (
        (compute_dice, overlap.GetDiceCoefficient(), medpy.dc(*pair)),
        (compute_iou, overlap.GetJaccardCoefficient(), medpy.jc(*pair)),
        (compute_sensitivity, 1 - overlap.GetFalseNegativeError(1), medpy.recall(*pair)),
        (compute_precision, None, medpy.precision(*pair)),
        (compute_relative_volume_error, 100 * overlap.GetVolumeSimilarity(), None),
    ):
        for theirs in (itk, by_medpy):
            if theirs is not None:
                assert ours(reference, prediction) == pytest.approx(theirs, rel=1e-12)
