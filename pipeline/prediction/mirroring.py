"""Mirroring at test time: the mean over mirrored copies of a window."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch


class Mirrored(torch.nn.Module):
    """Mean of a network's logits over mirrored copies of its input.

    Args:
        network: equally happy with every mirrored input, as one trained with mirroring is.
        axes: spatial axes to mirror along; there are two copies for one axis, four for two, eight for three.
    """

    def __init__(self, network: torch.nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.flips = tuple(
            [2 + axis for axis in flip]
            for count in range(len(axes) + 1)
            for flip in itertools.combinations(axes, count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes, *spatial), on the grid of `x`."""
        copies = [torch.flip(self.network(torch.flip(x, flip)), flip) for flip in self.flips]
        return torch.stack(copies).mean(dim=0)
