"""Lesions: drawn by hand, and MedPy's count of objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from medpy.metric import binary as medpy

from unet_pipeline.evaluation.lesions import detect_lesions


def draw(*rows: str) -> np.ndarray:
    """A mask from rows of "#" and "."."""
    return np.array([[letter == "#" for letter in row] for row in rows])


REFERENCE = draw(
    "###....##.",
    "###....##.",
    "..........",
    "....#.....",
    ".....#..##",
)
EMPTY = np.zeros_like(REFERENCE)


def test_detect_lesions_corners_connect() -> None:
    found = detect_lesions(REFERENCE, REFERENCE)
    assert (found.num_reference, found.num_prediction, found.num_found) == (4, 4, 4)
    assert (found.sensitivity, found.precision, found.f1) == (1, 1, 1)


def test_detect_lesions_found_missed_and_false_are_counted() -> None:
    """Found: the upper left one, of IoU 2/6. Missed: the others. False: two."""
    prediction = draw(
        "##........",
        "..........",
        "..........",
        "..........",
        "#..#......",
    )
    found = detect_lesions(REFERENCE, prediction)
    assert (found.num_reference, found.num_prediction, found.num_found) == (4, 3, 1)
    assert found.sensitivity == 1 / 4
    assert found.precision == 1 / 3
    assert found.f1 == 2 / 7


def test_detect_lesions_one_finding_over_everything_is_no_detection_of_all() -> None:
    found = detect_lesions(REFERENCE, np.ones_like(REFERENCE))
    assert (found.num_prediction, found.num_found) == (1, 1)  # the largest one, of IoU 6/50


@pytest.mark.parametrize(("voxels", "expected"), [(10, 1), (11, 0)])
def test_detect_lesions_overlap_of_a_tenth_is_enough(voxels: int, expected: int) -> None:
    reference, prediction = np.zeros((2, 20), bool), np.zeros((2, 20), bool)
    reference[0, 5], prediction[0, 5 : 5 + voxels] = True, True
    assert detect_lesions(reference, prediction).num_found == expected


def test_detect_lesions_empty_masks() -> None:
    nothing, missed, alarm = (
        detect_lesions(*pair) for pair in ((EMPTY, EMPTY), (REFERENCE, EMPTY), (EMPTY, REFERENCE))
    )
    assert all(math.isnan(value) for value in (nothing.sensitivity, nothing.precision, nothing.f1))
    assert (missed.sensitivity, missed.precision, missed.f1) == (0, 0, 0)
    assert math.isnan(alarm.sensitivity)
    assert (alarm.precision, alarm.f1) == (0, 0)


def test_detect_lesions_label_map_is_refused() -> None:
    with pytest.raises(ValueError, match="reference has the type uint8"):
        detect_lesions(REFERENCE.astype(np.uint8), EMPTY)


@pytest.mark.parametrize("seed", range(5))
def test_detect_lesions_agrees_with_medpy_where_lesions_lie_apart(seed: int) -> None:
    """MedPy takes any overlap as a hit; here a prediction is its lesion without a slice, or nothing of it, or far from all.
    Its true positive rate is of the first argument's objects, its false positive rate of the second's."""
    generator = np.random.default_rng(seed)
    reference, prediction = np.zeros((2, 60, 30, 12), bool)
    for row in range(0, 60, 6):
        for column in range(0, 30, 6):
            kind = generator.integers(4)
            if kind < 2:
                reference[row : row + 4, column : column + 3, 2:6] = True
            if kind in (1, 2):
                prediction[row : row + 3, column : column + 3, 2:6] = True
    found = detect_lesions(reference, prediction)
    assert 0 < found.num_found < min(found.num_reference, found.num_prediction)
    assert found.sensitivity == pytest.approx(medpy.obj_tpr(reference, prediction, connectivity=3))
    assert 1 - found.precision == pytest.approx(medpy.obj_fpr(reference, prediction, connectivity=3))
