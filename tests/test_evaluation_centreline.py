"""clDice on lines drawn by hand, and centre lines beside ITK's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unet_pipeline.evaluation.centreline import compute_cldice, find_centre_line


def draw_bar(length: int, start: int = 3) -> np.ndarray:
    """A bar 3 pixels thick in a picture of 11 x 40."""
    mask = np.zeros((11, 40), bool)
    mask[4:7, start : start + length] = True
    return mask


def test_find_centre_line_of_a_bar_runs_along_its_middle() -> None:
    line = find_centre_line(draw_bar(20))
    assert set(np.flatnonzero(line[:, 5:21].any(axis=1))) == {5}  # an end may bend by a pixel
    assert 17 <= line.sum() <= 20


def test_compute_cldice_thickness_does_not_matter() -> None:
    thick, thin = draw_bar(30), np.zeros((11, 40), bool)
    thin[5, 3:33] = True
    assert compute_cldice(thick, thin) > 0.97  # one pixel, where the thick line's end bends
    assert 2 * thin.sum() / (thick.sum() + thin.sum()) == 0.5  # Dice


def test_compute_cldice_half_of_a_line() -> None:
    """All of the prediction's line lies in the reference, half of the reference's in the prediction: 2 x 1 x 0.5 / 1.5."""
    reference, prediction = np.zeros((2, 5, 40), bool)
    reference[2, 5:35] = True
    prediction[2, 5:20] = True
    assert compute_cldice(reference, prediction) == pytest.approx(2 / 3)


def test_compute_cldice_gap_costs_less_dice_than_a_branch_that_is_missed() -> None:
    """What the metric is for: a lost thin branch counts by its length, not by its few voxels."""
    reference = draw_bar(30)
    reference[7:11, 15] = reference[0:4, 25] = True
    prediction = draw_bar(30)
    dice = 2 * (reference & prediction).sum() / (reference.sum() + prediction.sum())
    assert compute_cldice(reference, prediction) < dice


def test_compute_cldice_apart_is_zero() -> None:
    assert compute_cldice(draw_bar(5), draw_bar(5, start=20)) == 0.0


def test_compute_cldice_empty_masks() -> None:
    empty = np.zeros((11, 40), bool)
    assert math.isnan(compute_cldice(empty, empty))
    assert compute_cldice(draw_bar(5), empty) == compute_cldice(empty, draw_bar(5)) == 0.0


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_find_centre_line_of_a_cube_is_not_empty(size: int) -> None:
    """Lee's thinning leaves nothing of cubes of even size."""
    mask = np.zeros((8, 8, 8), bool)
    mask[1 : 1 + size, 1 : 1 + size, 1 : 1 + size] = True
    assert find_centre_line(mask).any()
    assert compute_cldice(mask, mask) == 1.0


@given(arrays.arrays(bool, (5, 6, 4)), arrays.arrays(bool, (5, 6, 4)))
def test_compute_cldice_any_masks_are_symmetric_and_in_range(reference, prediction) -> None:
    value = compute_cldice(reference, prediction)
    np.testing.assert_equal(value, compute_cldice(prediction, reference))
    assert math.isnan(value) or 0 <= value <= 1


@given(arrays.arrays(bool, (7, 7), elements=st.booleans()).filter(np.any))
def test_find_centre_line_lies_in_the_mask_and_in_each_part(mask: np.ndarray) -> None:
    line = find_centre_line(mask)
    assert not (line & ~mask).any()
    assert compute_cldice(mask, mask) == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_compute_cldice_is_near_the_value_with_itk_centre_lines(seed: int) -> None:
    """ITK thins in another order, and lines may run a pixel beside: within 0.05 on curves 3 pixels thick."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((2, 80, 120), bool)
    for mask, shift in zip(masks, (0, 2), strict=True):
        for phase in generator.uniform(0, 6, 2):
            for column in range(5, 115):
                row = round(40 + 25 * math.sin(column / 15 + phase)) + shift
                mask[row - 1 : row + 2, column : column + 2] = True
    lines = [
        SimpleITK.GetArrayFromImage(SimpleITK.BinaryThinning(SimpleITK.GetImageFromArray(mask.astype(np.uint8)))) > 0
        for mask in masks
    ]
    precise, found = masks[0][lines[1]].mean(), masks[1][lines[0]].mean()
    assert compute_cldice(*masks) == pytest.approx(2 * precise * found / (precise + found), abs=0.05)
