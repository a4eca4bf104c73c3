"""Connected parts, their overlap and their matching."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unet_pipeline.evaluation.parts import compute_part_ious, label_parts, match_parts


@pytest.mark.parametrize("corners", [True, False])
def test_label_parts_counts_as_itk_does(corners: bool) -> None:
    mask = np.random.default_rng(0).random((12, 14, 9)) < 0.2
    theirs = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), corners)
    assert label_parts(mask, corners).max() == SimpleITK.GetArrayFromImage(theirs).max() > 1


def test_compute_part_ious_by_hand() -> None:
    reference = np.array([[7, 7, 0, 3, 3, 3]])
    prediction = np.array([[1, 1, 1, 1, 5, 5]])
    np.testing.assert_allclose(compute_part_ious(reference, prediction), [[1 / 6, 2 / 3], [2 / 4, 0]])


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 1)])
def test_compute_part_ious_without_parts_has_no_entry(first: int, second: int) -> None:
    ious = compute_part_ious(np.full((2, 3), first), np.full((2, 3), second))
    assert ious.shape == (first, second)
    assert len(match_parts(ious, 0.1)) == 0


def test_compute_part_ious_other_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\), prediction \(3, 2\)"):
        compute_part_ious(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_match_parts_takes_two_pairs_rather_than_one_good_one() -> None:
    np.testing.assert_allclose(match_parts(np.array([[0.9, 0.2], [0.2, 0.0]]), 0.1), [0.2, 0.2])


@given(arrays.arrays(float, (3, 4), elements=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.7, 1.0])))
def test_match_parts_is_the_best_of_all_assignments(ious: np.ndarray) -> None:
    pairs = ([ious[row, column] for row, column in enumerate(chosen)] for chosen in permutations(range(4), 3))
    best = max((sum(iou >= 0.1 for iou in one), sum(iou for iou in one if iou >= 0.1)) for one in pairs)
    found = match_parts(ious, 0.1)
    assert (len(found), found.sum()) == (best[0], pytest.approx(best[1]))
