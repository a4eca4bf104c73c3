"""Floating-point operations of the planned U-Net, counted from its shape without building it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def compute_forward_flop(
    patch_size: Sequence[int],
    filters: Sequence[int],
    kernel_size: Sequence[Sequence[int]],
    strides: Sequence[Sequence[int]],
    in_channels: int,
    num_classes: int,
) -> float:
    """Operations of the convolutions in one forward pass of one patch (a multiplication and an addition count two).

    Two convolutions per level on the way down and on the way up, a transposed convolution in between, and the
    1x1 output; normalisation and activation are left out (below 2 % here).
    """
    sizes = [list(patch_size)]
    for stride in strides[1:]:
        sizes.append([size // step for size, step in zip(sizes[-1], stride, strict=True)])
    voxels = [math.prod(size) for size in sizes]
    multiplications = 0.0
    channels = in_channels
    for level, width in enumerate(filters):
        taps = math.prod(kernel_size[level])
        multiplications += voxels[level] * taps * (channels * width + width * width)
        channels = width
    for level in range(len(filters) - 2, -1, -1):
        wide, narrow = filters[level + 1], filters[level]
        taps = math.prod(kernel_size[level + 1])
        multiplications += voxels[level] * wide * narrow  # transposed convolution, one tap per output voxel
        multiplications += voxels[level] * taps * (2 * narrow * narrow + narrow * narrow)
    multiplications += voxels[0] * filters[0] * num_classes
    return 2 * multiplications
