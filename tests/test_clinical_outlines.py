"""Outlines of masks: filled by pixel centres they are the mask again, whatever holes it has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from unet_pipeline.clinical.outlines import trace_outlines


def fill(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is inside; matplotlib goes by the winding number, so a hole must be joined to be one."""
    return Polygon(outline).contains_points(np.argwhere(np.ones(shape))).reshape(shape)


def measure_area(outline: np.ndarray) -> float:
    i, j = outline.T
    return abs(float(i @ np.roll(j, -1) - j @ np.roll(i, -1))) / 2


@given(seed=st.integers(0, 1 << 30), share=st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95]))
@settings(max_examples=150, deadline=None)
def test_outlines_of_any_mask_filled_are_the_mask(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    mask = random.random(random.integers(1, 25, 2)) < share
    filled = [fill(outline, mask.shape) for outline in trace_outlines(mask)]
    counts = np.sum(filled, axis=0) if filled else np.zeros(mask.shape)
    np.testing.assert_array_equal(counts, mask)  # and none covers what another one does


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["#"], [[(0, 0.5), (0.5, 0), (0, -0.5), (-0.5, 0)]]),
        (["##"], [[(-0.5, 0), (-0.5, 1), (0, 1.5), (0.5, 1), (0.5, 0), (0, -0.5)]]),
        (["."], []),
    ],
)
def test_corners_lie_halfway_to_the_next_centre(rows: list[str], expected: list[list[tuple[float, float]]]) -> None:
    outlines = trace_outlines(np.array([[letter == "#" for letter in row] for row in rows]))
    assert [{tuple(corner) for corner in outline.tolist()} for outline in outlines] == [set(ring) for ring in expected]


def test_ring_with_an_island_is_two_outlines_with_half_a_pixel_less_each() -> None:
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    ring, island = sorted(trace_outlines(mask), key=measure_area, reverse=True)
    assert measure_area(ring) == 81 - 0.5 - (25 - 0.5)
    assert measure_area(island) == 0.5
    assert len(ring) == 8 + 8 + 4  # corners cut twice each, and the channel's ends there and back


def test_two_holes_in_a_row_are_joined_one_to_the_next() -> None:
    mask = np.ones((11, 5), bool)
    mask[2:4, 2] = mask[6:8, 2] = False
    (outline,) = trace_outlines(mask)
    np.testing.assert_array_equal(fill(outline, mask.shape), mask)
    assert measure_area(outline) == 55 - 0.5 - 2 * (2 - 0.5)
