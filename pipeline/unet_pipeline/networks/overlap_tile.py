"""Overlap-tile prediction (Ronneberger et al. 2015, figure 2) for a network whose output is smaller than its input."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type


class OverlapTileInferer(Inferer):
    """Predicts an image tile by tile; what a tile needs beyond the image is mirrored at its border.

    Tiles begin at multiples of the network's total stride, so that pooling falls on the same voxels in every tile and the
    result is that of the whole image in one tile.

    Args:
        tile_size: the network's input, per axis.
        margin: voxels that the network's output lacks on each side, per axis.
        factors: total stride of the network, per axis.
        batch_size: tiles at once.

    Raises:
        ValueError: the output of a tile is shorter than the total stride.
    """

    def __init__(
        self, tile_size: Sequence[int], margin: Sequence[int], factors: Sequence[int], batch_size: int = 1
    ) -> None:
        super().__init__()
        self.tile_size, self.margin, self.batch_size = tuple(tile_size), tuple(margin), batch_size
        self.output_size = tuple(tile - 2 * lost for tile, lost in zip(tile_size, margin, strict=True))
        self.steps = tuple(size // factor * factor for size, factor in zip(self.output_size, factors, strict=True))
        if min(self.steps) < 1:
            raise ValueError(f"a tile of {self.tile_size} gives {self.output_size}; expected at least {tuple(factors)}")

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logits on the image's grid.

        Args:
            inputs: shape (batch, channels, *spatial), any size.
            network: its output is `margin` smaller on each side.
            args: go to the network.
            kwargs: likewise.
        """
        shape = inputs.shape[2:]
        counts = [
            1 + max(0, -(-(size - output) // step))
            for size, output, step in zip(shape, self.output_size, self.steps, strict=True)
        ]
        enlarged = torch.as_tensor(inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs)
        for axis, (count, step, tile) in enumerate(zip(counts, self.steps, self.tile_size, strict=True)):
            length = (count - 1) * step + tile
            indices = mirror_indices(shape[axis], self.margin[axis], length).to(enlarged.device)
            enlarged = enlarged.index_select(2 + axis, indices)
        starts = list(
            itertools.product(*(range(0, n * step, step) for n, step in zip(counts, self.steps, strict=True)))
        )
        result: torch.Tensor | None = None
        for first in range(0, len(starts), self.batch_size):
            batch = starts[first : first + self.batch_size]
            tiles = torch.cat([enlarged[_window(start, self.tile_size)] for start in batch])
            outputs = network(tiles, *args, **kwargs).split(inputs.shape[0])
            if result is None:
                result = outputs[0].new_zeros(inputs.shape[0], outputs[0].shape[1], *shape)
            for start, output in zip(batch, outputs, strict=True):
                target = result[_window(start, self.output_size)]
                target.copy_(output[_window((0,) * len(shape), target.shape[2:])])
        return convert_to_dst_type(result, inputs)[0]


def mirror_indices(size: int, before: int, length: int) -> torch.Tensor:
    """Which of `size` voxels stands at each place from `before` voxels in front of the first; mirrored at both ends."""
    period = max(1, 2 * size - 2)
    places = torch.arange(-before, length - before) % period
    return torch.minimum(places, period - places)


def _window(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(at, at + long) for at, long in zip(start, size, strict=True)))
