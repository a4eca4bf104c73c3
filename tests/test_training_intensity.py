"""What changes values: known answers, invariances, and the same where only some channels are touched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional

from unet_pipeline.training.intensity import (
    IntensityAugmentation,
    apply_gamma,
    blur,
    build_kernel,
    draw_noise,
    reduce_resolution,
)

from .augmentation_phantoms import build_full, build_intensity


def draw_values(
    intensity: IntensityAugmentation, seeds: Sequence[int], num_channels: int, patch_size: Sequence[int]
) -> dict[str, torch.Tensor]:
    rows = [intensity.draw(np.random.default_rng(seed), num_channels, patch_size) for seed in seeds]
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def run(intensity: IntensityAugmentation, images: torch.Tensor, everywhere: bool = False) -> torch.Tensor:
    """The batch changed, seeds 0, 1, ...; `images` are left as they are."""
    values = draw_values(intensity, range(len(images)), images.shape[1], images.shape[2:])
    return intensity.apply(images.clone(), values, everywhere)


@pytest.mark.parametrize("everywhere", [False, True])
def test_intensity_with_no_chance_leaves_everything_as_it_is(everywhere: bool) -> None:
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(run(build_intensity(), images, everywhere), images)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_intensity_everywhere_gives_what_the_chosen_channels_alone_give(dims: int, share: float) -> None:
    shape = (9, 12, 10)[:dims]
    intensity = build_full(dims, shape, share=share).intensity
    assert intensity is not None
    images = torch.randn(8, 2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(intensity, images, True), run(intensity, images, False), rtol=1e-5, atol=1e-5)


def test_intensity_channels_without_a_change_keep_every_bit_everywhere() -> None:
    intensity = build_full(2, (8, 8), share=0.3).intensity
    assert intensity is not None
    images = torch.randn(12, 2, 8, 8)
    values = draw_values(intensity, range(12), 2, (8, 8))
    names = ("noise_std", "blurred", "contrasted", "coarsened", "gamma")
    changed = torch.stack([values[name] != 0 for name in names]).any(0) | (values["brightness"] != 1)
    found = run(intensity, images, True)
    assert 0 < changed.sum() < changed.numel()
    assert torch.equal(found[~changed], images[~changed])
    assert ((found[changed] != images[changed]).flatten(1).any(1)).all()


def test_intensity_noise_has_a_deviation_up_to_the_given_one() -> None:
    found = run(build_intensity(noise_probability=1.0), torch.zeros(200, 1, 20, 20))
    deviations = found.flatten(1).std(dim=1)
    assert 0.08 < deviations.max() < 0.12
    assert deviations.mean() == pytest.approx(0.05, abs=0.01)


def test_intensity_contrast_keeps_the_range_of_values() -> None:
    images = torch.rand(20, 1, 16, 16)
    found = run(build_intensity(contrast_probability=1.0), images)
    assert not torch.equal(found, images)
    assert (found.amax((1, 2, 3)) <= images.amax((1, 2, 3))).all()
    assert (found.amin((1, 2, 3)) >= images.amin((1, 2, 3))).all()


def test_intensity_channels_change_on_their_own() -> None:
    found = run(build_intensity(brightness_probability=1.0), torch.ones(1, 3, 4, 4))
    assert len(found[0, :, 0, 0].unique()) == 3


def test_intensity_probabilities_are_those_of_the_channels() -> None:
    intensity = build_intensity(noise_probability=0.1, low_resolution_probability=0.25, gamma_probability=0.3)
    values = draw_values(intensity, range(1000), 2, (8, 8))
    shares = {name: float((values[name] != 0).double().mean()) for name in ("noise_std", "coarsened", "gamma")}
    assert shares == pytest.approx({"noise_std": 0.1, "coarsened": 0.25, "gamma": 0.3}, abs=0.03)
    assert values["sign"][values["gamma"] == 1].mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("power", "sign"), [(0.7, 1), (1.5, 1), (1.5, -1)])
def test_apply_gamma_keeps_mean_deviation_and_order(power: float, sign: float) -> None:
    plane = torch.randn(1, 20, 20, generator=torch.Generator().manual_seed(0))
    changed = apply_gamma(plane, torch.tensor([power]), torch.tensor([sign]))
    assert changed.mean().item() == pytest.approx(plane.mean().item(), abs=1e-5)
    assert changed.std().item() == pytest.approx(plane.std().item(), rel=1e-4)
    assert torch.equal(changed.flatten().argsort(), plane.flatten().argsort())


def test_apply_gamma_constant_image_stays_finite() -> None:
    plane = torch.full((1, 4, 4), 2.0)
    assert torch.equal(apply_gamma(plane, torch.tensor([0.7]), torch.tensor([1.0])), plane)


def test_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros(1, 21, 21)
    point[0, 10, 10] = 1.0
    found = blur(point, torch.from_numpy(build_kernel(1.5, 5))[None])[0]
    offsets = torch.arange(-5.0, 6.0)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()
    torch.testing.assert_close(found[5:16, 5:16], line[:, None] * line[None, :], rtol=0, atol=2e-3)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 6), (1, 1)])
def test_blur_constant_image_stays(shape: tuple[int, ...]) -> None:
    planes = torch.full((1, *shape), 3.0)
    torch.testing.assert_close(blur(planes, torch.from_numpy(build_kernel(1.0, 3))[None]), planes)


def test_blur_planes_have_kernels_of_their_own() -> None:
    planes = torch.randn(2, 9, 9)
    kernels = torch.from_numpy(np.stack([build_kernel(0.5, 3), build_kernel(1.0, 3)]))
    together = blur(planes, kernels)
    for index in range(2):
        assert torch.equal(together[index], blur(planes[index : index + 1], kernels[index : index + 1])[0])


def test_build_kernel_ends_at_three_sigma() -> None:
    kernel = build_kernel(0.5, 3)
    assert kernel[[0, -1]].tolist() == [0, 0]
    assert (kernel[1:-1] > 0).all()
    assert kernel.sum() == pytest.approx(1)


@pytest.mark.parametrize(("shape", "coarse"), [((16, 16), (8, 11)), ((9, 12, 10), (6, 7, 5)), ((7, 5), (1, 1))])
def test_reduce_resolution_is_pytorchs_nearest_and_linear_one_after_the_other(
    shape: tuple[int, ...], coarse: tuple[int, ...]
) -> None:
    planes = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    small = functional.interpolate(planes[None], size=coarse, mode="nearest-exact")
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    expected = functional.interpolate(small, size=shape, mode=mode, align_corners=False)[0]
    found = reduce_resolution(planes, torch.tensor([coarse], dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_reduce_resolution_of_one_changes_nothing_and_of_a_half_removes_detail() -> None:
    stripes = (torch.arange(16) % 2).float().expand(1, 16, 16)
    assert torch.equal(reduce_resolution(stripes, torch.tensor([[16.0, 16.0]])), stripes)
    assert reduce_resolution(stripes, torch.tensor([[8.0, 8.0]])).std() < 0.05


def test_draw_noise_is_normal_and_without_a_pattern() -> None:
    noise = draw_noise(torch.arange(20), 50_000).double()
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.std().item() == pytest.approx(1, abs=0.005)
    shares = [(noise.abs() < bound).double().mean().item() for bound in (0.5, 1, 2, 3)]
    assert shares == pytest.approx([0.3829, 0.6827, 0.9545, 0.9973], abs=0.003)
    for shift in (1, 2, 50, 1000):  # neighbours along an axis and in the next row
        assert (noise[:, shift:] * noise[:, :-shift]).mean().item() == pytest.approx(0, abs=0.005)
    assert torch.corrcoef(noise).triu(1).abs().max() < 0.03


def test_draw_noise_is_a_function_of_seed_and_place() -> None:
    assert torch.equal(draw_noise(torch.tensor([5, 6]), 100)[1, :40], draw_noise(torch.tensor([6]), 40)[0])
    assert draw_noise(torch.tensor([2**32 - 1, 0]), 1000).isfinite().all()
