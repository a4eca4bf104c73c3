"""Sizes of a network whose convolutions have no padding: which input it can take, and which output that leaves."""

from __future__ import annotations

from collections.abc import Sequence

from unet_pipeline.errors import PlanError
from unet_pipeline.messages import show_shape
from unet_pipeline.networks.shape import Shape, Sizes
from unet_pipeline.networks.table import NETWORKS


def compute_output_size(input_size: Sequence[int], shape: Shape) -> Sizes:
    """Size of an unpadded network's output.

    Raises:
        PlanError: a level cannot be divided by its stride, or nothing is left.
    """
    size, levels = list(input_size), len(shape.strides)
    for level in range(levels):
        for axis in range(len(size)):
            stride = shape.strides[level][axis]
            if size[axis] % stride:
                raise PlanError(
                    f"An input of {show_shape(input_size)} gives {show_shape(size)} at level {level}, which {stride} does not divide; "
                    f"expected a size such as {show_shape(compute_input_size((1,) * len(size), shape, input_size))}."
                )
            size[axis] = size[axis] // stride - _lost(shape, level, axis)
            if size[axis] < 1:
                raise PlanError(
                    f"An input of {show_shape(input_size)} is too small for {levels} levels without padding; expected at least "
                    f"{show_shape(compute_input_size((1,) * len(size), shape))}."
                )
    for level in range(levels - 2, -1, -1):
        size = [voxels * shape.strides[level + 1][axis] - _lost(shape, level, axis) for axis, voxels in enumerate(size)]
    if min(size) < 1:
        raise PlanError(f"An input of {show_shape(input_size)} leaves no output; enlarge it.")
    return tuple(size)


def compute_input_size(output_size: Sequence[int], shape: Shape, least: Sequence[int] | None = None) -> Sizes:
    """The smallest input of an unpadded network whose output has at least a size, and that is itself at least `least`."""
    sizes = []
    for axis, wanted in enumerate(output_size):
        for lowest in range(1, 100_000):
            size = lowest
            for level in range(len(shape.strides) - 2, -1, -1):
                size = size * shape.strides[level + 1][axis] - _lost(shape, level, axis)
            entry = lowest
            for level in range(len(shape.strides) - 1, -1, -1):
                entry = (entry + _lost(shape, level, axis)) * shape.strides[level][axis]
            if size >= wanted and entry >= (least[axis] if least else 1):
                sizes.append(entry)
                break
    return tuple(sizes)


def _lost(shape: Shape, level: int, axis: int) -> int:
    """Voxels that the convolutions of a level take away."""
    return NETWORKS[shape.network].convolutions_per_level * (shape.kernel_size[level][axis] - 1)
