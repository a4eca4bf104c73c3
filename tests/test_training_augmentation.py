"""Augmentation of batches: known answers, invariances, and randomness that belongs to the sample."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.augmentation import (
    BatchAugmentation,
    IntensityAugmentation,
    SpatialAugmentation,
    apply_gamma,
    blur,
    reduce_resolution,
)


def build_spatial(dims: int = 2, **changes: Any) -> SpatialAugmentation:
    """Nothing happens, but for `changes`."""
    nothing = SpatialAugmentation(
        spacing_mm=(1.0,) * dims,
        affine_probability=0.0,
        rotation_range_rad=(0.0,) * (1 if dims == 2 else 3),
        scale_range=(1.0, 1.0),
        stretch_range=0.0,
        elastic_probability=0.0,
        elastic_control_points=(3,) * dims,
        elastic_sigma_voxel=0.0,
        mirror_probability=(0.0,) * dims,
    )
    return dataclasses.replace(nothing, **changes)


def build_intensity(**changes: Any) -> IntensityAugmentation:
    nothing = IntensityAugmentation(0.0, 0.1, 0.0, (0.5, 1.0), 0.0, 0.25, 0.0, 0.25, 0.0, (0.5, 1.0), 0.0, (0.7, 1.5))
    return dataclasses.replace(nothing, **changes)


def draw_all(dims: int) -> BatchAugmentation:
    """Everything happens to every sample."""
    spatial = build_spatial(
        dims,
        affine_probability=1.0,
        rotation_range_rad=(0.4,) * (1 if dims == 2 else 3),
        scale_range=(0.8, 1.25),
        stretch_range=0.1,
        elastic_probability=1.0,
        elastic_sigma_voxel=1.5,
        mirror_probability=(0.5,) * dims,
    )
    intensity = IntensityAugmentation(1.0, 0.1, 1.0, (0.5, 1.0), 1.0, 0.25, 1.0, 0.25, 1.0, (0.5, 1.0), 1.0, (0.7, 1.5))
    return BatchAugmentation(spatial, intensity)


def run(spatial: SpatialAugmentation, images: torch.Tensor, targets: torch.Tensor | None = None) -> tuple:
    generators = [np.random.default_rng(index) for index in range(len(images))]
    return spatial.apply(images, targets if targets is not None else images, generators)


def draw_blob(size: tuple[int, ...], centre: tuple[float, ...], width: float = 3.0) -> torch.Tensor:
    grids = torch.meshgrid(*(torch.arange(voxels, dtype=torch.float32) for voxels in size), indexing="ij")
    distance = sum((grid - middle) ** 2 for grid, middle in zip(grids, centre, strict=True))
    return torch.exp(-distance / (2 * width**2))[None, None]


def centre_of(image: torch.Tensor) -> list[float]:
    weights = image / image.sum()
    grids = torch.meshgrid(*(torch.arange(voxels, dtype=torch.float32) for voxels in image.shape), indexing="ij")
    return [float((grid * weights).sum()) for grid in grids]


# what moves voxels


@pytest.mark.parametrize("dims", [2, 3])
def test_spatial_with_no_chance_leaves_everything_as_it_is(dims: int) -> None:
    images = torch.rand((2, 1, *(9, 12, 10)[:dims]))
    moved, targets = run(build_spatial(dims), images)
    assert torch.equal(moved, images)
    assert torch.equal(targets, images)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_spatial_mirroring_is_a_flip_of_that_axis(axis: int) -> None:
    images = torch.rand(2, 1, 8, 11, 6)
    spatial = build_spatial(3, mirror_probability=tuple(float(axis == other) for other in range(3)))
    moved, targets = run(spatial, images)
    torch.testing.assert_close(moved, images.flip(2 + axis), rtol=0, atol=1e-5)
    assert torch.equal(targets, images.flip(2 + axis))


def test_spatial_mirroring_of_several_axes_is_exact_and_the_same_for_image_and_target() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 2, 5, 6, 7, generator=generator)
    targets = torch.randint(0, 9, (6, 1, 5, 6, 7), generator=generator)
    spatial = build_spatial(3, mirror_probability=(1.0, 0.0, 1.0))
    moved, followed = run(spatial, images, targets)
    assert torch.equal(moved, images.flip([2, 4]))
    assert torch.equal(followed, targets.flip([2, 4]))


@pytest.mark.parametrize("quarter", [1, -1])
def test_spatial_quarter_turn_is_rot90(quarter: int) -> None:
    class QuarterTurn(SpatialAugmentation):
        def draw_matrix(self, generator: np.random.Generator) -> np.ndarray:
            return np.array([[0.0, -quarter], [quarter, 0.0]])

    images = torch.rand(1, 2, 9, 9)
    moved, _ = run(QuarterTurn(**vars(build_spatial(2))), images)
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
    moved, _ = run(spatial, images)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


def test_spatial_scale_of_two_makes_an_object_twice_as_large_about_the_centre() -> None:
    spatial = build_spatial(2, affine_probability=1.0, scale_range=(2.0, 2.0))
    blob = draw_blob((81, 81), (40.0, 46.0))
    moved, _ = run(spatial, blob)
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
        moved = run(
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
    moved, _ = run(Shift(**vars(build_spatial(3))), images)
    torch.testing.assert_close(moved[..., :-2, :, 1:], images[..., 2:, :, :-1], rtol=0, atol=1e-4)


def test_spatial_elastic_stays_near_the_identity() -> None:
    images = draw_blob((64, 64), (30.0, 34.0), width=8.0)
    spatial = build_spatial(2, elastic_probability=1.0, elastic_sigma_voxel=2.0)
    moved, _ = run(spatial, images)
    assert not torch.equal(moved, images)
    assert centre_of(moved[0, 0]) == pytest.approx(centre_of(images[0, 0]), abs=4)


@given(seed=st.integers(0, 1000), dims=st.integers(2, 3))
def test_spatial_targets_follow_the_image_and_have_no_new_values(seed: int, dims: int) -> None:
    """The image of a label map moves as the label map does, but for the interpolation at its border."""
    spatial = draw_all(dims).spatial
    size = (24, 20, 22)[:dims]
    labels = (draw_blob(size, tuple(voxels / 2 for voxels in size), width=5.0) > 0.5).float() * 3
    moved, targets = spatial.apply(labels, labels, [np.random.default_rng(seed)])
    assert set(targets.unique().tolist()) <= {0.0, 3.0}
    agreeing = ((moved > 1.5) == (targets > 1.5)).float().mean()
    assert agreeing > 0.9


# intensities


def test_intensity_with_no_chance_leaves_everything_as_it_is() -> None:
    images = torch.rand(2, 3, 8, 8)
    found = build_intensity().apply(images, [np.random.default_rng(0), np.random.default_rng(1)])
    assert torch.equal(found, images)


def test_intensity_noise_has_a_deviation_up_to_the_given_one() -> None:
    images = torch.zeros(200, 1, 20, 20)
    found = build_intensity(noise_probability=1.0).apply(images, [np.random.default_rng(seed) for seed in range(200)])
    deviations = found.flatten(1).std(dim=1)
    assert 0.08 < deviations.max() < 0.12
    assert deviations.mean() == pytest.approx(0.05, abs=0.01)


def test_intensity_contrast_keeps_the_range_of_values() -> None:
    images = torch.rand(20, 1, 16, 16)
    found = build_intensity(contrast_probability=1.0).apply(images, [np.random.default_rng(seed) for seed in range(20)])
    assert not torch.equal(found, images)
    assert (found.amax((1, 2, 3)) <= images.amax((1, 2, 3))).all()
    assert (found.amin((1, 2, 3)) >= images.amin((1, 2, 3))).all()


def test_intensity_channels_change_on_their_own() -> None:
    images = torch.ones(1, 3, 4, 4)
    found = build_intensity(brightness_probability=1.0).apply(images, [np.random.default_rng(0)])
    assert len(found[0, :, 0, 0].unique()) == 3


@pytest.mark.parametrize("power", [0.7, 1.5])
def test_apply_gamma_keeps_mean_deviation_and_order(power: float) -> None:
    plane = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    changed = apply_gamma(plane, power)
    assert changed.mean().item() == pytest.approx(plane.mean().item(), abs=1e-5)
    assert changed.std().item() == pytest.approx(plane.std().item(), rel=1e-4)
    assert torch.equal(changed.flatten().argsort(), plane.flatten().argsort())


def test_apply_gamma_constant_image_stays_finite() -> None:
    assert torch.equal(apply_gamma(torch.full((4, 4), 2.0), 0.7), torch.full((4, 4), 2.0))


def test_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros(21, 21)
    point[10, 10] = 1.0
    found = blur(point, 1.5)
    offsets = torch.arange(-5.0, 6.0)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()
    torch.testing.assert_close(found[5:16, 5:16], line[:, None] * line[None, :], rtol=0, atol=2e-3)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 6), (1, 1)])
def test_blur_constant_image_stays(shape: tuple[int, ...]) -> None:
    torch.testing.assert_close(blur(torch.full(shape, 3.0), 1.0), torch.full(shape, 3.0))


def test_reduce_resolution_of_one_changes_nothing_and_of_a_half_removes_detail() -> None:
    stripes = (torch.arange(16) % 2).float().expand(16, 16)
    torch.testing.assert_close(reduce_resolution(stripes, 1.0), stripes)
    assert reduce_resolution(stripes, 0.5).std() < 0.05


# whose randomness it is


@pytest.mark.parametrize("dims", [2, 3])
def test_batch_augmentation_sample_is_the_same_in_any_batch(dims: int) -> None:
    augmentation = draw_all(dims)
    images, labels = torch.rand((3, 2, *(16,) * dims)), torch.randint(0, 3, (3, 1, *(16,) * dims)).float()
    together = augmentation(images, labels, [5, 6, 7])
    alone = augmentation(images[1:2], labels[1:2], [6])
    torch.testing.assert_close(together[0][1:2], alone[0], rtol=0, atol=1e-5)
    assert torch.equal(together[1][1:2], alone[1])


def test_batch_augmentation_other_seed_gives_another_sample() -> None:
    images = torch.rand(1, 1, 16, 16)
    first, second = (draw_all(2)(images, images, [seed])[0] for seed in (1, 2))
    assert not torch.allclose(first, second)


def test_batch_augmentation_leaves_its_input_alone() -> None:
    images, labels = torch.rand(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    kept = images.clone()
    draw_all(2)(images, labels, [0, 1])
    assert torch.equal(images, kept)
