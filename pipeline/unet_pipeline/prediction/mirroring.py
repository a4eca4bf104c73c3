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
        at_once: all copies of a window go through the network in one batch, which fills a GPU and takes as many times the memory.
    """

    def __init__(self, network: torch.nn.Module, axes: Sequence[int], at_once: bool = False) -> None:
        super().__init__()
        self.network = network
        self.at_once = at_once
        self.flips = tuple(
            [2 + axis for axis in flip]
            for count in range(len(axes) + 1)
            for flip in itertools.combinations(axes, count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes, *spatial), on the grid of `x`."""
        if self.at_once:
            logits = self.network(torch.cat([torch.flip(x, flip) for flip in self.flips])).chunk(len(self.flips))
        else:
            logits = tuple(self.network(torch.flip(x, flip)) for flip in self.flips)
        copies = [torch.flip(mirrored, flip) for mirrored, flip in zip(logits, self.flips, strict=True)]
        return torch.stack(copies).mean(dim=0)


class Joined(torch.nn.Module):
    """The members of an ensemble as one network, whose outputs lie one behind the other along the channels.

    Args:
        members: take the same input.
    """

    def __init__(self, members: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.members = torch.nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of all members, shape (batch, members times channels, *spatial)."""
        return torch.cat([member(x) for member in self.members], dim=1)
