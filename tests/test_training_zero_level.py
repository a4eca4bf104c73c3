"""Where an intensity of 0 comes to lie for the network."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import NormalizeIntensityd, ScaleIntensityd

from unet_pipeline.training.zero_level import ZERO_LEVEL, ZeroLevelCompose


def run(image: torch.Tensor, **settings: object) -> dict:
    normalize = NormalizeIntensityd(keys="image", channel_wise=True, **settings)
    return ZeroLevelCompose([normalize])({"image": image, "case": "one"})


def test_zero_level_of_a_z_score_is_minus_the_mean_by_the_deviation() -> None:
    image = 50 + 10 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0))
    image[1] += 100
    expected = -image.flatten(1).mean(1) / image.flatten(1).std(1, correction=0)
    found = run(image.clone())[ZERO_LEVEL]
    assert found.shape == (3,)
    assert found == pytest.approx(expected.numpy(), rel=1e-4)


def test_zero_level_of_given_constants() -> None:
    image = torch.rand(1, 4, 4, 4) * 1000
    assert run(image, subtrahend=[40.0], divisor=[20.0])[ZERO_LEVEL] == pytest.approx([-2.0], rel=1e-4)


def test_zero_level_of_a_constant_channel_is_finite() -> None:
    assert abs(run(torch.full((1, 4, 4), 7.0))[ZERO_LEVEL]).max() < 10


def test_zero_level_compose_gives_the_image_of_the_transforms_alone() -> None:
    image = torch.rand(2, 6, 6)
    transforms = [ScaleIntensityd("image", 0, 9), NormalizeIntensityd("image", channel_wise=True)]
    expected = transforms[1](transforms[0]({"image": image.clone()}))["image"]
    assert torch.equal(ZeroLevelCompose(transforms)({"image": image.clone()})["image"], expected)
