"""Contours -> masks: the even-odd rule at the centres of pixels, and centres that lie on a contour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from unet_pipeline.dataset.contours import fill_contours


def _box(first: float, last: float) -> np.ndarray:
    return np.array([[first, first], [first, last], [last, last], [last, first]])


def _drawn(*lines: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in line] for line in lines])


def test_fill_contours_voxel_belongs_if_its_centre_is_inside() -> None:
    assert np.array_equal(fill_contours([_box(0.6, 2.4)], (5, 4)), _drawn("....", ".##.", ".##.", "....", "...."))


def test_fill_contours_inner_contour_is_a_hole_and_one_in_it_is_an_island() -> None:
    contours = [_box(-0.5, 6.5), _box(0.5, 5.5), _box(2.5, 3.5)]
    expected = np.ones((7, 7), bool)
    expected[1:6, 1:6] = False
    expected[3, 3] = True
    assert np.array_equal(fill_contours(contours, (7, 7)), expected)
    assert np.array_equal(fill_contours(contours[::-1], (7, 7)), expected)
    assert np.array_equal(fill_contours([contour[::-1] for contour in contours], (7, 7)), expected)


def test_fill_contours_hole_joined_by_a_cut_of_no_width() -> None:
    outer, inner = _box(-0.5, 6.5), _box(1.5, 4.5)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1], outer[:1]])
    assert np.array_equal(fill_contours([keyhole], (7, 7)), fill_contours([outer, inner], (7, 7)))


@pytest.mark.parametrize("shift", [0.0, 0.004, -0.004])
def test_fill_contours_through_centres_keep_the_outermost_pixels(shift: float) -> None:
    diamond = np.array([[3.0, 1.0], [5.0, 3.0], [3.0, 5.0], [1.0, 3.0]]) + shift
    rows, columns = np.mgrid[:7, :7]
    assert np.array_equal(fill_contours([diamond], (7, 7)), np.abs(rows - 3) + np.abs(columns - 3) <= 2)
    assert fill_contours([_box(1 + shift, 4 + shift)], (7, 7)).sum() == 16


def test_fill_contours_beyond_the_mask_and_without_any() -> None:
    assert fill_contours([_box(-9, 99)], (3, 4)).all()
    assert not fill_contours([_box(-9, -3), _box(7, 9)], (3, 4)).any()
    assert not fill_contours([], (3, 4)).any()
    assert not fill_contours([np.zeros((0, 2))], (3, 4)).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(3, 9))
def test_fill_contours_agrees_with_scikit_image(seed: int, num_contours: int, num_points: int) -> None:
    random, shape = np.random.default_rng(seed), (11, 14)
    contours = [random.uniform(-4, 16, (num_points, 2)) for _ in range(num_contours)]
    centres = np.argwhere(np.ones(shape, bool))
    expected = np.zeros(len(centres), bool)
    near = np.zeros(len(centres), bool)
    for contour in contours:
        expected ^= points_in_poly(centres, contour)
        for start, end in zip(contour, np.roll(contour, -1, axis=0), strict=True):
            share = np.clip((centres - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
            near |= np.linalg.norm(centres - start - share[:, None] * (end - start), axis=1) < 0.02
    mask = fill_contours(contours, shape).ravel()
    assert np.array_equal(mask[~near], expected[~near])
