"""What differs between hospitals: known answers against per-sample references, invariances, and the same for a batch as for one sample."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.interpolate import BSpline

from unet_pipeline.training.sites import (
    STAINS,
    SiteAugmentation,
    apply_bias_field,
    apply_curve,
    build_curve,
    build_sites,
    change_colour,
    change_stain,
    compress,
    mix_channels,
    scale_quantisation,
)

from .augmentation_phantoms import build_full, draw_batch, draw_cases, pack

FULL = SiteAugmentation(1.0, 0.5, 1.0, 0.3, 1.0, 0.7, 1.0, 0.4, 1.0, (20.0, 90.0), 1.0, 0.9)


def draw_values(sites: SiteAugmentation, count: int, num_channels: int, dims: int) -> dict[str, torch.Tensor]:
    rows = [sites.draw(np.random.default_rng(seed), num_channels, dims) for seed in range(count)]
    for row in rows:
        row["zero_level"][:] = -4.0
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def draw_tissue(count: int = 1, size: int = 24) -> torch.Tensor:
    """Light through three stains of random density, shape (count, 3, size, size), 0 to 1."""
    amount = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return torch.exp(-torch.einsum("sc,ns...->nc...", torch.tensor(STAINS, dtype=torch.float32), amount))


def standardise(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z-scores of each channel, and where the value 0 lies in them."""
    deviation, mean = torch.std_mean(images, dim=(2, 3), keepdim=True, correction=0)
    return (images - mean) / deviation, (-mean / deviation)[:, :, 0, 0]


@pytest.mark.parametrize(("dims", "num_channels"), [(2, 1), (2, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_sites_everywhere_gives_what_the_chosen_samples_alone_give(dims: int, num_channels: int, share: float) -> None:
    sites = SiteAugmentation(share, 0.5, share, 0.3, share, 0.7, share, 0.4, share, (20.0, 90.0), share, 0.9)
    images = torch.randn(6, num_channels, *(20, 17, 9)[:dims], generator=torch.Generator().manual_seed(0))
    values = draw_values(sites, 6, num_channels, dims)
    one, other = (sites.apply(images.clone(), values, everywhere) for everywhere in (False, True))
    # a coefficient between two steps of JPEG may be rounded to either
    assert ((one - other).abs() < 1e-4).float().mean() > 0.98
    assert torch.isfinite(other).all()
    assert not torch.equal(one, images)


def test_sites_sample_is_the_same_in_any_batch() -> None:
    images = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    values = draw_values(FULL, 4, 3, 2)
    together = FULL.apply(images.clone(), values)
    for index in range(4):
        own = {name: value[index : index + 1] for name, value in values.items()}
        torch.testing.assert_close(FULL.apply(images[index : index + 1].clone(), own)[0], together[index])


def test_sites_without_a_chance_change_nothing() -> None:
    images = torch.rand(2, 3, 8, 8)
    sites = SiteAugmentation()
    assert torch.equal(sites.apply(images.clone(), draw_values(sites, 2, 3, 2), True), images)


def test_sites_probabilities_are_those_of_the_samples() -> None:
    sites = SiteAugmentation(0.8, 0.5, 0.5, 0.3, 0.2, 0.7, 0.3, 0.4, 0.1, (20.0, 90.0), 0.4, 1.0)
    values = draw_values(sites, 800, 3, 2)
    shares = {
        name: float(values[name].mean()) for name in ("stained", "coloured", "curved", "biased", "compressed", "mixed")
    }
    expected = {"stained": 0.8, "coloured": 0.5, "curved": 0.2, "biased": 0.3, "compressed": 0.1, "mixed": 0.4}
    assert shares == pytest.approx(expected, abs=0.04)


def test_sites_stain_needs_three_channels_and_jpeg_two_dimensions() -> None:
    assert not draw_values(FULL, 5, 2, 2)["stained"].any()
    assert not draw_values(FULL, 5, 3, 3)["compressed"].any()


def test_sites_leave_the_other_numbers_of_a_sample_alone() -> None:
    plain, with_sites = build_full(2, (16, 16)), build_full(2, (16, 16), sites=FULL)
    indices = [np.arange(400), np.arange(400)]
    before, after = plain.draw(5, (20, 20), indices), with_sites.draw(5, (20, 20), indices, [-2.0])
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert after["zero_level"].tolist() == [-2.0]


@pytest.mark.parametrize("dims", [2, 3])
def test_patches_with_sites_out_of_one_buffer_are_those_of_single_cases(dims: int) -> None:
    sites = SiteAugmentation(1.0, 0.5, 1.0, 0.3, 1.0, 0.7, 1.0, 0.4)  # JPEG rounds
    augmentation = build_full(dims, (9, 12, 10)[:dims], 3, sites=sites)
    cases = draw_cases(3, (14, 13, 12)[:dims], 3)
    table, sources = draw_batch(augmentation, cases, range(3))
    single, _ = augmentation(table, sources)
    voxels = pack(augmentation, table, cases)
    packed, _ = augmentation.take_packed(table, voxels)
    torch.testing.assert_close(packed, single, rtol=1e-3, atol=1e-3)


def test_mix_channels_wholly_gives_one_grey_image_with_the_spread_of_each_channel() -> None:
    images = (
        torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2, 0.5])[:, None, None]
    )
    weights = torch.tensor([[0.2, 0.7, 0.1], [1.0, 0.0, 0.0]])
    mixed = mix_channels(images, weights[:, None].expand(2, 3, 3))
    grey, _ = standardise(mixed)
    torch.testing.assert_close(grey[:, :1].expand_as(grey), grey, rtol=0, atol=1e-5)
    torch.testing.assert_close(grey[1, 0], standardise(images)[0][1, 0], rtol=0, atol=1e-5)  # the red channel
    torch.testing.assert_close(mixed.std(dim=(2, 3)), images.std(dim=(2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(mix_channels(images, torch.eye(3).expand(2, 3, 3)), images, rtol=0, atol=1e-5)


def test_mixing_keeps_what_a_plan_without_it_draws_and_leaves_one_channel_alone() -> None:
    without = SiteAugmentation(1.0, 0.5, 1.0, 0.3, 1.0, 0.7, 1.0, 0.4, 1.0, (20.0, 90.0))
    before, after = draw_values(without, 3, 3, 2), draw_values(FULL, 3, 3, 2)
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("mix"))
    torch.testing.assert_close(after["mix_matrix"].sum(dim=2), torch.ones(3, 3, dtype=torch.float64))
    assert not draw_values(FULL, 3, 1, 2)["mixed"].any()


def test_change_stain_by_the_identity_changes_nothing() -> None:
    images, zero = standardise(draw_tissue())
    torch.testing.assert_close(change_stain(images, torch.eye(3)[None], zero), images, rtol=0, atol=2e-5)


def test_change_stain_is_the_z_score_of_tissue_with_other_stains() -> None:
    light = draw_tissue()
    density = -torch.log(light)
    matrix = torch.tensor(STAINS.T @ np.diag([1.3, 0.8, 1.0]) @ np.linalg.inv(STAINS).T, dtype=torch.float32)
    expected, _ = standardise(torch.exp(-torch.einsum("ij,nj...->ni...", matrix, density)))
    images, zero = standardise(light)
    torch.testing.assert_close(change_stain(images, matrix[None], zero), expected, rtol=0, atol=1e-4)


def test_change_stain_does_not_depend_on_the_brightness_of_the_light() -> None:
    matrix = torch.from_numpy(STAINS.T @ np.diag([0.7, 1.4, 1.0]) @ np.linalg.inv(STAINS).T)[None]
    light = draw_tissue()
    one, other = (change_stain(images, matrix, zero) for images, zero in map(standardise, (light, 200 * light)))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_stains_take_haematoxylin_from_blue_nuclei() -> None:
    nucleus = -np.log([0.5, 0.45, 0.75])  # blue, in optical density
    amounts = nucleus @ np.linalg.inv(STAINS)
    assert amounts[0] > 3 * abs(amounts[1])


def test_change_colour_is_gain_and_offset_of_each_channel() -> None:
    images = torch.ones(1, 2, 2, 2)
    changed = change_colour(images, torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, -1.0]]))
    assert changed[0, :, 0, 0].tolist() == [2.5, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_build_curve_rises_from_0_to_1(seed: int) -> None:
    curve = build_curve(np.random.default_rng(seed).random((2, 2)), 1.0)
    assert curve[[0, -1]] == pytest.approx([0, 1])
    assert (np.diff(curve) >= 0).all()


def test_build_curve_of_strength_0_is_the_identity() -> None:
    assert build_curve(np.array([[0.1, 0.9], [0.2, 1.0]]), 0.0) == pytest.approx(np.linspace(0, 1, 17), abs=1e-9)


def test_build_curve_is_a_bezier_curve() -> None:
    control = np.array([[0.2, 0.5], [0.7, 0.9]])
    path = BSpline([0, 0, 0, 0, 1, 1, 1, 1], [[0, 0], *control, [1, 1]], 3)(np.linspace(0, 1, 5000))
    assert build_curve(control, 1.0) == pytest.approx(np.interp(np.linspace(0, 1, 17), *path.T), abs=1e-3)


def test_apply_curve_keeps_order_mean_and_deviation() -> None:
    plane = torch.randn(1, 20, 20, generator=torch.Generator().manual_seed(0))
    changed = apply_curve(plane, torch.from_numpy(build_curve(np.array([[0.1, 0.6], [0.3, 0.9]]), 1.0))[None])
    order = plane.flatten().argsort()
    assert (changed.flatten()[order].diff() >= -1e-6).all()
    assert changed.mean().item() == pytest.approx(plane.mean().item(), abs=1e-5)
    assert changed.std().item() == pytest.approx(plane.std().item(), rel=1e-4)
    assert not torch.allclose(changed, plane, atol=0.05)


def test_apply_curve_constant_image_stays() -> None:
    plane = torch.full((1, 4, 4), 2.0)
    assert torch.equal(apply_curve(plane, torch.linspace(0, 1, 17)[None] ** 2), plane)


@pytest.mark.parametrize("shape", [(12, 40), (8, 12, 10)])
def test_apply_bias_field_multiplies_the_signal(shape: tuple[int, ...]) -> None:
    signal = 3 + torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    signal[:, :, -1] = signal[:, :, 0]
    ramp = torch.linspace(-0.5, 0.5, 4).view(1, 4, *[1] * (len(shape) - 1)).expand(1, *[4] * len(shape))
    changed = apply_bias_field(signal - 5, ramp, torch.tensor([[-5.0]]))[0, 0]
    # the same signal at both ends of the field, whatever the z-score makes of the whole
    assert (changed[-1].std() / changed[0].std()).item() == pytest.approx(np.e, rel=1e-3)
    assert changed.mean().item() == pytest.approx((signal - 5).mean().item(), abs=1e-4)
    assert changed.std().item() == pytest.approx(signal.std().item(), rel=1e-4)


def test_apply_bias_field_flat_field_changes_nothing() -> None:
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(apply_bias_field(images, torch.full((2, 4, 4), 0.3), torch.full((2, 3), -2.0)), images)


@pytest.mark.parametrize(("quality", "factor"), [(25, 2.0), (50, 1.0), (75, 0.5), (100, 0.0)])
def test_scale_quantisation_is_that_of_the_jpeg_library(quality: float, factor: float) -> None:
    assert scale_quantisation(quality) == factor


@pytest.mark.parametrize("quality", [10, 30, 60, 90])
@pytest.mark.parametrize("shape", [(32, 48), (21, 35)])
def test_compress_is_what_pillow_writes(quality: int, shape: tuple[int, int]) -> None:
    places = np.indices(shape).sum(0)
    picture = np.round(127 + 100 * np.sin(places / 4) + np.random.default_rng(0).normal(0, 8, shape))
    picture.flat[:2] = (0, 255)
    picture = picture.clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    expected = np.asarray(Image.open(stream)).astype(float)
    changed = compress(torch.from_numpy(picture).float()[None, None], torch.tensor([scale_quantisation(quality)]))
    whole = tuple(slice(0, size // 8 * 8) for size in shape)  # at a cut block the library pads otherwise
    difference = np.abs(changed[0, 0].numpy() - expected)[whole]
    assert difference.mean() < 1  # its transform is of whole numbers
    assert np.abs(picture - expected)[whole].mean() > 3 * difference.mean()


def test_build_sites_of_no_settings_is_nothing() -> None:
    assert build_sites(None) is None
    assert build_sites({"stain_probability": 0.5, "stain_range": 0.4}) == SiteAugmentation(0.5, 0.4)
