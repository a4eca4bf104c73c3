"""What a plan says of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """A network in numbers, under their names in the plan; `kernel_size` and `strides` are per level and axis, the full resolution first.

    Attributes:
        network: a name in `table.NETWORKS`.
    """

    network: str
    num_channels: int
    num_classes: int
    filters: Sizes
    kernel_size: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    padded: bool = True
    normalisation: str = "instance"
    num_supervised_heads: int = 0
    num_blocks: Sizes = ()
    transposed_bias: bool = False

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def total_stride(self) -> Sizes:
        """Product of the strides of all levels, per axis."""
        return tuple(math.prod(level[axis] for level in self.strides) for axis in range(self.spatial_dims))
