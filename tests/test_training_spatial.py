"""What moves voxels: known answers, invariances, and the part of a case that a patch needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.training.spatial import SpatialAugmentation, compute_places, find_box, is_moved

from .augmentation_phantoms import build_full, build_spatial, move_whole


def draw_blob(size: tuple[int, ...], centre: tuple[float, ...], width: float = 3.0) -> torch.Tensor:
    grids = torch.meshgrid(*(torch.arange(voxels, dtype=torch.float32) for voxels in size), indexing="ij")
    distance = sum((grid - middle) ** 2 for grid, middle in zip(grids, centre, strict=True))
    return torch.exp(-distance / (2 * width**2))[None, None]


def centre_of(image: torch.Tensor) -> list[float]:
    weights = image / image.sum()
    grids = torch.meshgrid(*(torch.arange(voxels, dtype=torch.float32) for voxels in image.shape), indexing="ij")
    return [float((grid * weights).sum()) for grid in grids]


@pytest.mark.parametrize("dims", [2, 3])
def test_spatial_with_no_chance_leaves_everything_as_it_is(dims: int) -> None:
    images = torch.rand((2, 1, *(9, 12, 10)[:dims]))
    classes = (images > 0.5).byte()
    moved, targets = move_whole(build_spatial(dims), images, classes)
    assert torch.equal(moved, images)
    assert torch.equal(targets, classes.float())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_spatial_mirroring_is_a_flip_of_that_axis(axis: int) -> None:
    images = torch.rand(2, 1, 8, 11, 6)
    spatial = build_spatial(3, mirror_probability=tuple(float(axis == other) for other in range(3)))
    classes = (images > 0.5).byte()
    moved, targets = move_whole(spatial, images, classes)
    assert torch.equal(moved, images.flip(2 + axis))
    assert torch.equal(targets, classes.flip(2 + axis).float())


def test_spatial_mirroring_of_several_axes_is_exact_and_the_same_for_image_and_target() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 2, 5, 6, 7, generator=generator)
    targets = torch.randint(0, 9, (6, 1, 5, 6, 7), generator=generator).byte()
    spatial = build_spatial(3, mirror_probability=(1.0, 0.0, 1.0))
    moved, followed = move_whole(spatial, images, targets)
    assert torch.equal(moved, images.flip([2, 4]))
    assert torch.equal(followed, targets.flip([2, 4]).float())


@pytest.mark.parametrize("quarter", [1, -1])
def test_spatial_quarter_turn_is_rot90(quarter: int) -> None:
    class QuarterTurn(SpatialAugmentation):
        def draw_matrix(self, generator: np.random.Generator) -> np.ndarray:
            return np.array([[0.0, -quarter], [quarter, 0.0]])

    images = torch.rand(1, 2, 9, 9)
    moved, _ = move_whole(QuarterTurn(**vars(build_spatial(2))), images)
    torch.testing.assert_close(moved, torch.rot90(images, -quarter, (2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_spatial_grid_is_that_of_pytorch_with_its_reflection(dims: int) -> None:
    spatial = build_spatial(dims, affine_probability=1.0, rotation_range_rad=(0.7,) * (1 if dims == 2 else 3))
    spatial = dataclasses.replace(spatial, scale_range=(0.6, 1.3), stretch_range=0.2)
    images = torch.randn(4, 1, *(12, 16, 10)[:dims], generator=torch.Generator().manual_seed(0))
    theta = torch.zeros(4, dims, dims + 1, dtype=torch.float64)
    half = np.asarray(images.shape[2:]) / 2
    for index in range(4):
        matrix = spatial.draw_matrix(np.random.default_rng(index))
        assert matrix is not None
        theta[index, :, :dims] = torch.from_numpy((matrix * half[None] / half[:, None])[::-1, ::-1].copy())
    grid = torch.nn.functional.affine_grid(theta.float(), list(images.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    moved, _ = move_whole(spatial, images)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


def test_spatial_scale_of_two_makes_an_object_twice_as_large_about_the_centre() -> None:
    spatial = build_spatial(2, affine_probability=1.0, scale_range=(2.0, 2.0))
    blob = draw_blob((81, 81), (40.0, 46.0))
    moved, _ = move_whole(spatial, blob)
    assert centre_of(moved[0, 0]) == pytest.approx([40.0, 52.0], abs=0.2)
    assert moved.sum() / blob.sum() == pytest.approx(4, rel=0.05)


def test_spatial_rotation_keeps_lengths_in_mm() -> None:
    """A point 12 voxels of 1 mm off the centre may come to lie 4 voxels of 3 mm off it."""
    spatial = build_spatial(
        2, spacing_mm=(3.0, 1.0), affine_probability=1.0, rotation_range_rad=(math.pi / 2,), scale_range=(1.0, 1.0)
    )
    blob = draw_blob((21, 91), (10.0, 57.0), width=2.0)
    for seed in range(50):
        matrix = spatial.draw_matrix(np.random.default_rng(seed))
        moved = move_whole(
            type("Fixed", (SpatialAugmentation,), {"draw_matrix": lambda self, generator, m=matrix: m})(
                **vars(spatial)
            ),
            blob,
        )[0]
        row, column = centre_of(moved[0, 0])
        assert math.hypot(3 * (row - 10), column - 45) == pytest.approx(12, abs=0.6)


def test_spatial_angle_is_within_the_range_and_uses_it() -> None:
    spatial = build_spatial(2, affine_probability=1.0, rotation_range_rad=(0.5,))
    angles = []
    for seed in range(200):
        matrix = spatial.draw_matrix(np.random.default_rng(seed))
        angles.append(math.atan2(matrix[1, 0], matrix[0, 0]))
    assert -0.5 <= min(angles) < -0.4
    assert 0.4 < max(angles) <= 0.5


def test_spatial_probability_is_that_of_the_samples() -> None:
    spatial = build_spatial(2, affine_probability=0.3, rotation_range_rad=(0.5,))
    drawn = [spatial.draw_matrix(np.random.default_rng(seed)) is not None for seed in range(1000)]
    assert np.mean(drawn) == pytest.approx(0.3, abs=0.04)


def test_spatial_elastic_displacements_have_the_given_deviation() -> None:
    spatial = build_spatial(2, elastic_probability=1.0, elastic_sigma_voxel=10.0)
    fields = np.stack([spatial.draw_displacements(np.random.default_rng(seed)) for seed in range(300)])
    assert fields.shape == (300, 2, 3, 3)
    assert fields.std() == pytest.approx(10, rel=0.05)
    assert abs(fields.mean()) < 0.6


def test_spatial_elastic_constant_displacement_is_a_shift() -> None:
    class Shift(SpatialAugmentation):
        def draw_displacements(self, generator: np.random.Generator) -> np.ndarray:
            return np.stack([np.full((3, 3, 3), amount) for amount in (2.0, 0.0, -1.0)])

    images = torch.rand(1, 1, 12, 10, 14)
    moved, _ = move_whole(Shift(**vars(build_spatial(3))), images)
    torch.testing.assert_close(moved[..., :-2, :, 1:], images[..., 2:, :, :-1], rtol=0, atol=1e-4)


def test_spatial_elastic_stays_near_the_identity() -> None:
    images = draw_blob((64, 64), (30.0, 34.0), width=8.0)
    spatial = build_spatial(2, elastic_probability=1.0, elastic_sigma_voxel=2.0)
    moved, _ = move_whole(spatial, images)
    assert not torch.equal(moved, images)
    assert centre_of(moved[0, 0]) == pytest.approx(centre_of(images[0, 0]), abs=4)


@given(seed=st.integers(0, 2), dims=st.integers(2, 3))
def test_spatial_targets_follow_the_image_and_have_no_new_values(seed: int, dims: int) -> None:
    """The image of a label map moves as the label map does, but for the interpolation at its border."""
    spatial = build_full(dims, (8,) * dims).spatial
    size = (24, 20, 22)[:dims]
    labels = (draw_blob(size, tuple(voxels / 2 for voxels in size), width=5.0) > 0.5).float() * 3
    labels = labels.repeat(seed % 3 + 1, *[1] * (dims + 1))
    moved, targets = move_whole(spatial, labels, labels.byte())
    assert set(targets.unique().tolist()) <= {0.0, 3.0}
    agreeing = ((moved > 1.5) == (targets > 1.5)).float().mean()
    assert agreeing > 0.9


# the part of a case that a patch is made of


def draw_values(seed: int, patch: Sequence[int], shape: Sequence[int]) -> dict[str, torch.Tensor]:
    """A sample with everything, at a random place of a case, the whole case at hand."""
    dims, generator = len(patch), np.random.default_rng(seed)
    values = build_full(dims, patch).spatial.draw(generator)
    size, half = np.asarray(shape), (np.asarray(patch) - 1) / 2
    values["centre"] = half + np.floor(generator.uniform(0, size - np.asarray(patch) + 1))
    values |= {"case_shape": size, "box_shape": size, "lower": np.zeros(dims)}
    return {name: torch.from_numpy(np.asarray(value, dtype=np.float64))[None] for name, value in values.items()}


@given(seed=st.integers(0, 10_000), dims=st.integers(2, 3))
def test_find_box_holds_every_place_of_the_patch(seed: int, dims: int) -> None:
    patch, shape = (8, 10, 6)[:dims], (23, 11, 9)[:dims]
    values = draw_values(seed, patch, shape)
    lower, size = find_box(*(values[name][0].numpy() for name in ("matrix", "field", "centre")), patch, shape)
    places = compute_places(values, patch)[0].flatten(1)
    assert (places.amin(1) >= torch.from_numpy(lower) - 1e-3).all()
    assert (places.amax(1) <= torch.from_numpy(lower + size) - 1 + 1e-3).all()
    assert (lower >= 0).all()
    assert (lower + size <= np.asarray(shape)).all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("patches", [1.5, 3, 30])
def test_find_box_holds_what_is_mirrored_far_beyond_the_border(dims: int, side: int, patches: float) -> None:
    """Displacements of more than a patch lead out of the case; what is mirrored back lies far from the patch."""
    patch, shape = (6, 8, 4)[:dims], (40, 36, 44)[:dims]
    half, size = (np.asarray(patch) - 1) / 2, np.asarray(shape)
    values = {
        "matrix": np.diag([-1.0, *[1.0] * (dims - 1)]),  # a mirrored sample
        "field": side * patches * np.asarray(patch).reshape(dims, *[1] * dims) * np.ones((1, *[3] * dims)),
        "centre": half if side < 0 else size - 1 - half,
        **{"case_shape": size, "box_shape": size, "lower": np.zeros(dims)},
    }
    sample = {name: torch.from_numpy(np.asarray(value, dtype=np.float64))[None] for name, value in values.items()}
    lower, box = find_box(values["matrix"], values["field"], values["centre"], patch, shape)
    whole = compute_places(sample, patch)
    part = {**sample, "lower": torch.from_numpy(lower)[None], "box_shape": torch.from_numpy(box)[None]}
    corner = torch.from_numpy(lower).float().view(1, dims, *[1] * dims)
    torch.testing.assert_close(compute_places(part, patch) + corner, whole, rtol=0, atol=1e-3)
    first_axis = whole[0, 0].flatten()
    reached = patches * patch[0] - half[0] * 2 - 1  # voxels beyond the border, of the one that is furthest inside
    nearest, furthest = reached, min(reached + patch[0] - 1, shape[0] - 1)
    found = (first_axis, shape[0] - 1 - first_axis)[side > 0]  # counted from that border
    assert (float(found.min()), float(found.max())) == pytest.approx((min(nearest, shape[0] - 1), furthest), abs=1e-3)


def test_find_box_of_a_plain_crop_is_the_patch() -> None:
    lower, size = find_box(np.eye(2), np.zeros((2, 3, 3)), np.array([6.5, 8.0]), (4, 5), (20, 30))
    assert lower.tolist() == [5, 6]
    assert size.tolist() == [4, 5]


@given(seed=st.integers(0, 10_000), dims=st.integers(2, 3))
def test_compute_places_from_a_part_are_those_of_the_case_less_its_corner(seed: int, dims: int) -> None:
    patch, shape = (8, 10, 6)[:dims], (23, 15, 12)[:dims]
    values = draw_values(seed, patch, shape)
    whole = compute_places(values, patch)
    lower, size = find_box(*(values[name][0].numpy() for name in ("matrix", "field", "centre")), patch, shape)
    part = {**values, "lower": torch.from_numpy(lower)[None], "box_shape": torch.from_numpy(size)[None]}
    corner = torch.from_numpy(lower).float().view(1, dims, *[1] * dims)
    torch.testing.assert_close(compute_places(part, patch) + corner, whole, rtol=0, atol=1e-4)


def test_compute_places_take_real_image_from_outside_the_patch() -> None:
    """Half as large an object: the patch shows twice the extent, and none of it is mirrored while the case goes on."""
    spatial = build_spatial(2, affine_probability=1.0, scale_range=(0.5, 0.5))
    values = {name: torch.from_numpy(value)[None] for name, value in spatial.draw(np.random.default_rng(0)).items()}
    for name, pair in {"centre": (15.5, 15.5), "case_shape": (32, 32), "box_shape": (32, 32), "lower": (0, 0)}.items():
        values[name] = torch.tensor([pair], dtype=torch.float64)
    places = compute_places(values, (8, 8))[0, 0, :, 0]
    assert places.tolist() == pytest.approx([8.5 + 2 * index for index in range(8)])


def test_is_moved_mirroring_and_cropping_need_no_interpolation() -> None:
    field = torch.zeros(4, 2, 3, 3)
    field[3, 0, 1, 1] = 0.5
    matrix = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -1.0])), torch.eye(2) * 1.1, torch.eye(2)])
    assert is_moved({"matrix": matrix, "field": field}).tolist() == [False, False, True, True]
