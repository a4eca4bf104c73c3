"""Surface distances: drawn by hand, invariances, and four other implementations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK
import surface_distance
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from medpy.metric import binary as medpy
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

from unet_pipeline.evaluation.surface import (
    compute_assd,
    compute_hd95,
    compute_nsd,
    compute_surface_distances,
    find_border,
    find_box,
    list_places,
)


def draw(*rows: str) -> np.ndarray:
    """A mask from rows of "#" and "."."""
    return np.array([[letter == "#" for letter in row] for row in rows])


# by hand

REFERENCE = draw(
    "........",
    ".####...",
    ".####...",
    ".####...",
    "........",
)
SHIFTED = np.roll(REFERENCE, 1, axis=1)


def test_find_border_keeps_what_touches_the_outside() -> None:
    expected = draw(
        "........",
        ".####...",
        ".#..#...",
        ".####...",
        "........",
    )
    np.testing.assert_array_equal(find_border(REFERENCE), expected)


def test_find_border_edge_of_the_image_is_outside() -> None:
    np.testing.assert_array_equal(find_border(np.ones((3, 4), bool)), draw("####", "#..#", "####"))


def test_find_box_holds_the_mask() -> None:
    assert find_box(REFERENCE) == (slice(1, 4), slice(1, 5))
    assert find_box(np.zeros((3, 4), bool)) == (slice(0, 0), slice(0, 0))


def test_compute_surface_distances_shifted_square_by_hand() -> None:
    """Ten border voxels each. Those of the upper and lower side lie on the other border but for the last one; of the left and right
    side, the middle one is a whole voxel away."""
    distances = compute_surface_distances(REFERENCE, SHIFTED, (2.0, 3.0))
    assert sorted(distances.reference_to_prediction) == [0] * 6 + [2.0] + [3.0] * 3
    assert (distances.num_reference, distances.num_prediction) == (10, 10)
    assert compute_assd(distances) == pytest.approx(1.1)
    assert compute_hd95(distances) == pytest.approx(3.0)
    assert compute_nsd(distances, 2.0) == pytest.approx(0.7)
    assert compute_nsd(distances, 3.0) == 1.0


def test_compute_hd95_takes_the_worse_direction() -> None:
    """A second part far away is seen in one direction only."""
    prediction = np.zeros((40, 5), bool)
    prediction[2:5, 1:4] = prediction[30:33, 1:4] = True
    reference = prediction.copy()
    reference[20:] = False
    distances = compute_surface_distances(reference, prediction, (1, 1))
    assert max(distances.reference_to_prediction) == 0
    assert compute_hd95(distances) == pytest.approx(28, abs=0.5)


def test_compute_nsd_tolerance_of_whole_voxels_is_not_lost_to_rounding() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0, 4] = True
    distances = compute_surface_distances(mask, np.roll(mask, 3, axis=0), (0.1, 0.1))
    assert max(distances.reference_to_prediction) > 0.3  # 3 * 0.1 in floating point
    assert compute_nsd(distances, 0.3) == 1.0


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, 1.0, 1.0)])
def test_compute_surface_distances_wrong_spacing_is_refused(spacing: tuple) -> None:
    with pytest.raises(ValueError, match=r"spacing is \(1\.0,.*expected 2 positive numbers"):
        compute_surface_distances(REFERENCE, SHIFTED, spacing)


def test_compute_nsd_tolerance_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance is 0; expected a positive number"):
        compute_nsd(compute_surface_distances(REFERENCE, SHIFTED, (1, 1)), 0.0)


def test_compute_hd95_missed_structure_is_farther_than_any_found_one() -> None:
    corner, other, empty = (np.zeros((4, 6), bool) for _ in range(3))
    corner[0, 0] = other[-1, -1] = True
    worst = compute_hd95(compute_surface_distances(corner, other, (1, 2)))
    assert worst == pytest.approx(math.hypot(3, 10))
    assert compute_hd95(compute_surface_distances(corner, empty, (1, 2))) == pytest.approx(math.hypot(4, 12))
    assert worst < math.hypot(4, 12)


# invariances

filled = arrays.arrays(bool, (5, 6, 4)).filter(np.any)


@given(filled, filled, st.permutations(range(3)), st.floats(0.1, 10))
def test_distances_turned_padded_and_scaled(reference, prediction, axes, factor) -> None:
    spacing = np.array([1.0, 2.0, 0.7])
    before = compute_surface_distances(reference, prediction, spacing)
    turned = compute_surface_distances(prediction.transpose(axes), reference.transpose(axes), factor * spacing[axes])
    padded = compute_surface_distances(np.pad(reference, 3), np.pad(prediction, 3), spacing)
    for compute in (compute_hd95, compute_assd):
        assert compute(turned) == pytest.approx(factor * compute(before))
        assert compute(padded) == pytest.approx(compute(before))
    assert compute_assd(before) <= max(before.reference_to_prediction.max(), before.prediction_to_reference.max())


@given(filled, filled)
def test_compute_nsd_grows_with_the_tolerance(reference, prediction) -> None:
    distances = compute_surface_distances(reference, prediction, (1, 1, 1))
    values = [compute_nsd(distances, tolerance) for tolerance in (0.5, 1, 2, 20)]
    assert values == sorted(values)
    assert values[-1] == 1.0


# other implementations

SPACINGS = {2: (0.7, 1.3), 3: (0.8, 1.0, 2.5)}


def draw_pair(dims: int, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Two ellipsoids with bumps, which reach the edge of the image for some seeds, and one hole."""
    generator = np.random.default_rng(seed)
    shape = (30, 36, 20)[:dims]
    grid = np.indices(shape)
    masks = []
    for _ in range(2):
        centre = np.array(shape) / 2 + generator.uniform(-4, 4, dims)
        radii = np.array(shape) * generator.uniform(0.25, 0.5, dims)
        distance = sum(
            ((axis - middle) / radius) ** 2 for axis, middle, radius in zip(grid, centre, radii, strict=True)
        )
        masks.append((distance + generator.normal(0, 0.1, shape) < 1) & (distance > 0.05))
    return masks[0], masks[1], SPACINGS[dims]


def measure_with_itk(reference: np.ndarray, prediction: np.ndarray, spacing: tuple) -> tuple[np.ndarray, np.ndarray]:
    """ITK's contour and its distance map; padded, because ITK's contour does not see the edge of the image."""

    def contour(mask: np.ndarray) -> SimpleITK.Image:
        image = SimpleITK.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        return SimpleITK.LabelContour(image, fullyConnected=False)

    def measure(start: SimpleITK.Image, target: SimpleITK.Image) -> np.ndarray:
        distances = SimpleITK.SignedMaurerDistanceMap(target, squaredDistance=False, useImageSpacing=True)
        return np.abs(SimpleITK.GetArrayFromImage(distances))[SimpleITK.GetArrayFromImage(start) > 0]

    first, second = contour(reference), contour(prediction)
    return measure(first, second), measure(second, first)


each_pair = pytest.mark.parametrize(("dims", "seed"), [(dims, seed) for dims in (2, 3) for seed in range(6)])


def with_monai(compute: Callable, reference: np.ndarray, prediction: np.ndarray, *arguments, **options) -> float:
    """MONAI takes prediction first, batch and channel first."""
    pair = [torch.as_tensor(mask)[None, None] for mask in (prediction, reference)]
    return float(compute(*pair, *arguments, include_background=True, **options))


@each_pair
def test_distances_agree_with_monai(dims: int, seed: int) -> None:
    """The same definitions; 1e-5 because MONAI computes in single precision."""
    reference, prediction, spacing = draw_pair(dims, seed)
    distances = compute_surface_distances(reference, prediction, spacing)
    pair = (reference, prediction)
    hd95 = with_monai(compute_hausdorff_distance, *pair, percentile=95, spacing=spacing)
    assd = with_monai(compute_average_surface_distance, *pair, symmetric=True, spacing=spacing)
    assert compute_hd95(distances) == pytest.approx(hd95, rel=1e-5)
    assert compute_assd(distances) == pytest.approx(assd, rel=1e-5)
    for tolerance in (0.75, 1.05, 2.0):
        nsd = with_monai(compute_surface_dice, *pair, [tolerance], spacing=spacing)
        assert compute_nsd(distances, tolerance) == pytest.approx(nsd, rel=1e-5)


@each_pair
def test_distances_agree_with_medpy(dims: int, seed: int) -> None:
    """Its asd is one direction's mean, its hd95 one percentile of both directions together: the same numbers are taken from our lists."""
    reference, prediction, spacing = draw_pair(dims, seed)
    found = compute_surface_distances(reference, prediction, spacing)
    forth, back = found.reference_to_prediction, found.prediction_to_reference
    assert forth.mean() == pytest.approx(medpy.asd(reference, prediction, spacing), rel=1e-9)
    assert back.mean() == pytest.approx(medpy.asd(prediction, reference, spacing), rel=1e-9)
    pooled = np.percentile(np.concatenate([forth, back]), 95)
    assert pooled == pytest.approx(medpy.hd95(reference, prediction, spacing), rel=1e-9)
    assert max(forth.max(), back.max()) == pytest.approx(medpy.hd(reference, prediction, spacing), rel=1e-9)


@each_pair
def test_distances_agree_with_itk(dims: int, seed: int) -> None:
    """Every single distance; 1e-5 because ITK's map is in single precision."""
    reference, prediction, spacing = draw_pair(dims, seed)
    found = compute_surface_distances(reference, prediction, spacing)
    forth, back = measure_with_itk(reference, prediction, spacing)
    np.testing.assert_allclose(found.reference_to_prediction, forth, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.prediction_to_reference, back, rtol=1e-5, atol=1e-5)


@each_pair
def test_distances_are_near_those_of_surface_distance(dims: int, seed: int) -> None:
    """Its surface lies between the voxels, half a voxel farther out, and is weighted by area: near, not equal."""
    reference, prediction, spacing = draw_pair(dims, seed)
    ours = compute_surface_distances(reference, prediction, spacing)
    theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
    voxel = max(spacing)
    assert compute_hd95(ours) == pytest.approx(surface_distance.compute_robust_hausdorff(theirs, 95), abs=voxel)
    assert compute_nsd(ours, voxel) == pytest.approx(
        surface_distance.compute_surface_dice_at_tolerance(theirs, voxel), abs=0.1
    )
    for distances, average in zip(
        (ours.reference_to_prediction, ours.prediction_to_reference),
        surface_distance.compute_average_surface_distance(theirs),
        strict=True,
    ):
        assert distances.mean() == pytest.approx(average, abs=0.3 * voxel)


@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7), (1, 6, 1)])
def test_surface_distances_do_not_depend_on_the_order_in_memory(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    reference, prediction = (generator.random(shape) < 0.5 for _ in range(2))
    spacing = (0.7, 1.1, 2.3)[: len(shape)]
    expected = compute_surface_distances(reference, prediction, spacing)
    turned = [np.asfortranarray(mask) for mask in (reference, prediction)]
    for first, second in (turned, (reference, turned[1]), (turned[0], prediction)):
        found = compute_surface_distances(first, second, spacing)
        np.testing.assert_array_equal(found.reference_to_prediction, expected.reference_to_prediction)
        np.testing.assert_array_equal(found.prediction_to_reference, expected.prediction_to_reference)
        np.testing.assert_array_equal(list_places(first), np.argwhere(reference))
