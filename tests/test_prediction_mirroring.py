"""Mirroring at prediction: along the axes that are given, and no others."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.prediction.mirroring import Mirrored


class Leaning(torch.nn.Module):
    """Adds to each voxel the one before it along both axes: no mirrored input gives the mirrored output."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 2 * torch.roll(x, 1, dims=2) + 3 * torch.roll(x, 1, dims=3)


def test_mirrored_along_no_axis_is_the_network() -> None:
    image = torch.rand(1, 1, 5, 6)
    assert torch.equal(Mirrored(Leaning(), ())(image), Leaning()(image))


@pytest.mark.parametrize(("axes", "copies"), [((0,), 2), ((1,), 2), ((0, 1), 4)])
def test_mirrored_result_does_not_change_with_a_mirrored_input(axes: tuple[int, ...], copies: int) -> None:
    image = torch.rand(1, 1, 5, 6)
    network = Mirrored(Leaning(), axes)
    assert len(network.flips) == copies
    for axis in axes:
        flipped = network(image.flip(2 + axis)).flip(2 + axis)
        torch.testing.assert_close(flipped, network(image))


def test_mirrored_is_the_mean_of_the_copies() -> None:
    image = torch.rand(1, 1, 5, 6)
    expected = (Leaning()(image) + Leaning()(image.flip(3)).flip(3)) / 2
    torch.testing.assert_close(Mirrored(Leaning(), (1,))(image), expected)
