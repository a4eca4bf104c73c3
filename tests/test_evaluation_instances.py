"""Instance metrics: drawn by hand, and MONAI's and torchmetrics' panoptic quality."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_panoptic_quality
from scipy import ndimage
from torchmetrics.detection import PanopticQuality

from unet_pipeline.dataset.image import read_image
from unet_pipeline.evaluation.instances import IOU_THRESHOLDS, score_instance_maps, score_instances
from unet_pipeline.evaluation.parts import label_parts

REFERENCE = np.zeros((8, 12), np.uint16)
REFERENCE[0:4, 0:4], REFERENCE[0:4, 6:10], REFERENCE[5:8, 0:2] = 300, 7, 9


def test_iou_thresholds_are_those_of_the_data_science_bowl() -> None:
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_score_instances_by_hand() -> None:
    """The first is found whole, the second with 12 of 16 voxels, the third is missed, and there is one false alarm."""
    prediction = np.zeros(REFERENCE.shape, bool)
    prediction[0:4, 0:4] = prediction[0:4, 6:9] = prediction[6, 6] = True
    scores = score_instances(REFERENCE, prediction)
    assert (scores.num_reference, scores.num_prediction) == (3, 3)
    # an IoU of 0.75 is not over 0.75
    assert scores.average_precisions == pytest.approx((2 / 4,) * 5 + (1 / 5,) * 5)
    assert scores.mean_average_precision == pytest.approx(0.35)
    assert scores.panoptic_quality == pytest.approx((1 + 0.75) / 3)


def test_score_instances_cells_grown_together_are_one() -> None:
    prediction = REFERENCE > 0
    prediction[1, 4:6] = True
    scores = score_instances(REFERENCE, prediction)
    assert scores.num_prediction == 2
    assert scores.average_precisions[0] == pytest.approx(1 / 4)


def test_score_instances_cells_that_touch_at_a_corner_are_two() -> None:
    assert score_instances(np.eye(2, dtype=int), np.eye(2, dtype=bool)).num_prediction == 2


def test_score_instances_empty() -> None:
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    nothing = score_instances(empty, empty > 0)
    assert math.isnan(nothing.mean_average_precision)
    assert math.isnan(nothing.panoptic_quality)
    for scores in (score_instances(full, empty > 0), score_instances(empty, full > 0)):
        assert (scores.mean_average_precision, scores.panoptic_quality) == (0, 0)


def draw_cells(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two maps of about 40 cells: the second one's are shifted, some are lost, and some are new; values have gaps."""
    generator = np.random.default_rng(seed)
    maps = np.zeros((2, 96, 120), np.int64)
    for value, (row, column) in enumerate((row, column) for row in range(6, 90, 14) for column in range(6, 112, 16)):
        for one in maps:
            if generator.random() < 0.85:
                top, left = row + generator.integers(-1, 3), column + generator.integers(-1, 3)
                one[top : top + generator.integers(7, 10), left : left + generator.integers(7, 10)] = 2 * value + 2
    return maps[0], maps[1]


def renumber(label_map: np.ndarray) -> torch.Tensor:
    """Values 1, 2, ... as MONAI wants them."""
    return torch.as_tensor(np.unique(label_map, return_inverse=True)[1].reshape(label_map.shape))


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_monai(seed: int) -> None:
    """1e-5 because MONAI adds 1e-6 to a denominator. Its F1 at a threshold gives the average precision: F1 / (2 - F1)."""
    reference, prediction = draw_cells(seed)
    scores = score_instance_maps(reference, prediction)
    pair = (renumber(prediction), renumber(reference))
    assert scores.panoptic_quality == pytest.approx(float(compute_panoptic_quality(*pair, "pq")), rel=1e-5)
    for threshold, precision in zip(IOU_THRESHOLDS, scores.average_precisions, strict=True):
        f1 = float(compute_panoptic_quality(*pair, "rq", match_iou_threshold=threshold))
        assert precision == pytest.approx(f1 / (2 - f1), abs=1e-5)
    assert 0 <= scores.average_precisions[-1] < scores.average_precisions[4] < scores.average_precisions[0] < 1


@pytest.mark.parametrize("seed", range(5))
def test_panoptic_quality_agrees_with_torchmetrics(seed: int) -> None:
    """1e-6: single precision. One class of things; what is outside is stuff, and is left out of the result by its class."""
    reference, prediction = draw_cells(seed)
    theirs = PanopticQuality(things={1}, stuffs={0}, return_per_class=True)
    maps = [
        torch.as_tensor(np.stack([one > 0, one], axis=-1).astype(np.int64))[None] for one in (prediction, reference)
    ]
    value = theirs(*maps).flatten()[0]
    assert score_instance_maps(reference, prediction).panoptic_quality == pytest.approx(float(value), rel=1e-6)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["nuclei_fluorescence", "nuclei_histology"])
def test_score_instances_real_nuclei_agree_with_monai(pipeline_data: Path, name: str) -> None:
    """Nuclei that touch grow together in the mask: even the perfect mask does not tell all apart."""
    for path in sorted((pipeline_data / name / "instances").iterdir())[:8]:
        instances = read_image(path).array[0].astype(np.int64)
        mask = ndimage.binary_dilation(instances > 0)
        scores = score_instances(instances, mask)
        pair = (renumber(label_parts(mask, corners=False)), renumber(instances))
        assert scores.panoptic_quality == pytest.approx(float(compute_panoptic_quality(*pair, "pq")), rel=1e-5)
        assert scores.num_prediction <= scores.num_reference


def test_count_error_is_predicted_less_reference_and_undefined_without_any() -> None:
    three, one = np.array([[1, 0, 2, 0, 3]]), np.array([[4, 0, 0, 0, 0]])
    assert (score_instance_maps(three, one).count_error, score_instance_maps(one, three).count_error) == (-2, 2)
    assert np.isnan(score_instance_maps(0 * one, 0 * one).count_error)
