"""V_rand and V_info against counts by hand, scikit-image, and what must not change them."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import variation_of_information

from unet_pipeline.evaluation.parts import label_parts
from unet_pipeline.evaluation.separation import score_separation


def draw_cells(num_rows: int = 1, size: int = 4, num_columns: int = 2) -> np.ndarray:
    """Square cells with a border of one voxel between them."""
    mask = np.ones((num_rows * (size + 1) - 1, num_columns * (size + 1) - 1), bool)
    mask[size :: size + 1] = False
    mask[:, size :: size + 1] = False
    return mask


def test_same_parts_are_1() -> None:
    mask = draw_cells(3, 5, 2)
    scores = score_separation(mask, mask)
    assert (scores.v_rand, scores.v_info) == (pytest.approx(1), pytest.approx(1))


def test_two_cells_joined_by_a_gap_of_one_voxel() -> None:
    """Two halves as one: the pairs that belong together are half of all, and nothing is learnt about the halves."""
    reference = draw_cells()
    joined = reference.copy()
    joined[1, 4] = True
    scores = score_separation(reference, joined)
    assert scores.v_rand == pytest.approx(2 * 0.5 / (0.5 + 1))
    assert scores.v_info == pytest.approx(0)


def test_one_cell_split_in_halves_is_as_bad_as_halves_joined() -> None:
    whole, halves = np.ones((4, 9), bool), draw_cells()
    scores = score_separation(whole, halves)
    sizes = np.array([16 + 4, 16])  # the voxels of the border go to one of both, which are as near
    shares = sizes / sizes.sum()
    assert scores.v_rand == pytest.approx(2 * (shares**2).sum() / ((shares**2).sum() + 1))
    assert scores.v_info == pytest.approx(0)


def test_wider_and_shifted_borders_change_nothing() -> None:
    """What the challenge's thinning is for: the place of a border within a few voxels is not judged."""
    reference = draw_cells(1, 9, 2)
    wider = reference.copy()
    wider[:, 7:12] = False
    assert score_separation(reference, wider).v_rand == pytest.approx(1)


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"), [(False, False, math.nan), (True, False, 0.0), (False, True, 0.0)]
)
def test_empty_masks(reference: bool, prediction: bool, expected: float) -> None:
    scores = score_separation(np.full((3, 3), reference), np.full((3, 3), prediction))
    assert (scores.v_rand, scores.v_info) == pytest.approx((expected, expected), nan_ok=True)


def test_one_part_on_both_sides_is_1() -> None:
    scores = score_separation(np.ones((3, 3), bool), np.ones((3, 3), bool))
    assert (scores.v_rand, scores.v_info) == (1, 1)


def test_masks_of_other_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="shape"):
        score_separation(np.ones((3, 3), bool), np.ones((3, 4), bool))


@given(seed=st.integers(0, 2**32 - 1), dims=st.sampled_from([2, 3]))
def test_any_masks_agree_with_pairs_counted_one_by_one_and_with_scikit_image(seed: int, dims: int) -> None:
    generator = np.random.default_rng(seed)
    reference, prediction = (generator.random((5,) * dims if dims == 2 else (3, 3, 3)) < 0.6 for _ in range(2))
    if not reference.any() or not prediction.any():
        return
    scores = score_separation(reference, prediction)
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~prediction, return_distances=False, return_indices=True)
    parts = (
        label_parts(reference, corners=False)[reference],
        label_parts(prediction, corners=False)[tuple(nearest)][reference],
    )
    # with the pairs of a voxel and itself, as the measure is defined
    voxels = list(combinations(range(len(parts[0])), 2))
    together = [[part[i] == part[j] for i, j in voxels] for part in parts]
    both = 2 * sum(a and b for a, b in zip(*together, strict=True)) + len(parts[0])
    first, second = (2 * sum(pairs) + len(parts[0]) for pairs in together)
    assert scores.v_rand == pytest.approx(2 * both / (first + second))
    split, merged = variation_of_information(*parts)  # H(prediction | reference), H(reference | prediction), in bits
    entropies = sum(
        -(shares * np.log2(shares)).sum()
        for part in parts
        if len(shares := np.unique(part, return_counts=True)[1] / len(part))
    )
    if entropies > 0:
        assert scores.v_info == pytest.approx((entropies - split - merged) / entropies, abs=1e-9)
    assert 0 <= scores.v_info <= 1 + 1e-12
