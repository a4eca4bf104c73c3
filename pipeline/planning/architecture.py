"""The planned networks as lists of their convolutions: what they cost, hold and see, without building them.

One function per network of `pipeline/training/networks/` and for MONAI's DynUNet; the tests compare parameters,
operations and receptive field with the networks themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.errors import PlanError

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """What a plan says of a network.

    Attributes:
        network: a name in `NETWORKS`.
        in_channels: image channels.
        num_classes: output channels.
        filters: channels per level, the full resolution first.
        kernel_size: per level and axis.
        strides: per level and axis; the first level's are 1.
        padded: the convolutions keep the size.
        normalised: each convolution but the heads' is followed by a normalisation with scale and shift.
        num_supervised_heads: heads beside the full resolution's last one.
        num_blocks: residual blocks per level; empty for networks without.
        transposed_bias: the up-convolutions of DynUNet have a bias, as nnU-Net's have and MONAI's by default have not.
    """

    network: str
    in_channels: int
    num_classes: int
    filters: Sizes
    kernel_size: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    padded: bool = True
    normalised: bool = True
    num_supervised_heads: int = 0
    num_blocks: Sizes = ()
    transposed_bias: bool = False

    @property
    def total_stride(self) -> Sizes:
        """Product of the strides of all levels, per axis."""
        return tuple(math.prod(level[axis] for level in self.strides) for axis in range(len(self.strides[0])))


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network.

    Attributes:
        part: "encoder", "decoder", "nested", "gate" or "head".
        level: of its output, 0 being the full resolution.
        in_channels: of its input.
        out_channels: of its output.
        kernel_size: taps per axis.
        size: voxels of its output per axis.
        stride: per axis; of a transposed convolution the enlargement.
        transposed: enlarges.
        bias: has one.
        normalised: is followed by scale and shift per channel.
    """

    part: str
    level: int
    in_channels: int
    out_channels: int
    kernel_size: Sizes
    size: Sizes
    stride: Sizes
    transposed: bool = False
    bias: bool = True
    normalised: bool = False

    @property
    def num_parameters(self) -> int:
        """Weights, biases, scales and shifts."""
        weights = self.in_channels * self.out_channels * math.prod(self.kernel_size)
        return weights + self.out_channels * (int(self.bias) + 2 * int(self.normalised))

    @property
    def flop(self) -> int:
        """Operations for one patch; a multiplication and an addition count two."""
        # kernel and stride of a transposed convolution are equal: each output voxel has one tap
        taps = 1 if self.transposed else math.prod(self.kernel_size)
        return 2 * self.in_channels * self.out_channels * taps * math.prod(self.size)


def list_convolutions(shape: Shape, patch_size: Sequence[int]) -> tuple[Convolution, ...]:
    """All convolutions of a network in the order of the data, for one patch.

    Raises:
        PlanError: unknown network, or a patch that an unpadded network cannot take.
    """
    if shape.network not in NETWORKS:
        raise PlanError(f"Unknown network {shape.network!r}; expected one of {', '.join(NETWORKS)}.")
    return tuple(_Draft(shape, patch_size).draw(NETWORKS[shape.network]))


def count_parameters(shape: Shape) -> int:
    """Trainable parameters of a network."""
    patch = compute_input_size((1,) * len(shape.strides[0]), shape) if not shape.padded else shape.total_stride
    return sum(convolution.num_parameters for convolution in list_convolutions(shape, patch))


def compute_forward_flop(shape: Shape, patch_size: Sequence[int]) -> int:
    """Operations of the convolutions in one forward pass of one patch; normalisation and activation are left out."""
    return sum(convolution.flop for convolution in list_convolutions(shape, patch_size))


def compute_receptive_field(shape: Shape) -> Sizes:
    """Input voxels per axis that one output voxel can depend on, along the longest way through the lowest level.

    Right to the total stride: pooling, strides and gates lean to one side.
    """
    dims = len(shape.strides[0])
    field, spacing = [1] * dims, [1] * dims
    num_convolutions = {"resenc": (0, 1)}.get(shape.network, (2, 2))  # per level, on the way down and up
    for level, stride in enumerate(shape.strides):
        pooled = shape.network not in STRIDED
        down = num_convolutions[0] or 2 * shape.num_blocks[level] + (level == 0)
        for axis in range(dims):
            reach = shape.kernel_size[level][axis] - 1
            if pooled:
                field[axis] += (stride[axis] - 1) * spacing[axis]
                spacing[axis] *= stride[axis]
                field[axis] += down * reach * spacing[axis]
            else:  # the first convolution of the level has the stride
                field[axis] += max(reach, stride[axis] - 1) * spacing[axis]
                spacing[axis] *= stride[axis]
                field[axis] += (down - 1) * reach * spacing[axis]
    for level in range(len(shape.strides) - 2, -1, -1):
        for axis in range(dims):
            spacing[axis] //= shape.strides[level + 1][axis]
            # MONAI's DynUNet takes the kernel of the level below on the way up
            taps = shape.kernel_size[level + 1 if shape.network == "dynunet" else level][axis]
            field[axis] += num_convolutions[1] * (taps - 1) * spacing[axis]
    return tuple(field)


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
                    f"An input of {_show(input_size)} gives {_show(size)} at level {level}, which {stride} does not divide; "
                    f"expected a size such as {_show(compute_input_size((1,) * len(size), shape, input_size))}."
                )
            size[axis] = size[axis] // stride - 2 * (shape.kernel_size[level][axis] - 1)
            if size[axis] < 1:
                raise PlanError(
                    f"An input of {_show(input_size)} is too small for {levels} levels without padding; expected at least "
                    f"{_show(compute_input_size((1,) * len(size), shape))}."
                )
    for level in range(levels - 2, -1, -1):
        size = [
            voxels * shape.strides[level + 1][axis] - 2 * (shape.kernel_size[level][axis] - 1)
            for axis, voxels in enumerate(size)
        ]
    if min(size) < 1:
        raise PlanError(f"An input of {_show(input_size)} leaves no output; enlarge it.")
    return tuple(size)


def compute_input_size(output_size: Sequence[int], shape: Shape, least: Sequence[int] | None = None) -> Sizes:
    """The smallest input of an unpadded network whose output has at least a size, and that is itself at least `least`."""
    found = []
    for axis, wanted in enumerate(output_size):
        for lowest in range(1, 100_000):
            size = lowest
            for level in range(len(shape.strides) - 2, -1, -1):
                size = size * shape.strides[level + 1][axis] - 2 * (shape.kernel_size[level][axis] - 1)
            entry = lowest
            for level in range(len(shape.strides) - 1, -1, -1):
                entry = (entry + 2 * (shape.kernel_size[level][axis] - 1)) * shape.strides[level][axis]
            if size >= wanted and entry >= (least[axis] if least else 1):
                found.append(entry)
                break
    return tuple(found)


def _show(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


class _Draft:
    """Collects convolutions and follows the size of the data; `size` is that of the latest output."""

    def __init__(self, shape: Shape, patch_size: Sequence[int]) -> None:
        self.shape, self.found = shape, list[Convolution]()
        self.size: Sizes = tuple(patch_size)
        self.ones = (1,) * len(self.size)

    def draw(self, network: Callable[[_Draft], None]) -> list[Convolution]:
        network(self)
        return self.found

    def divide(self, level: int) -> None:
        stride = self.shape.strides[level]
        if not self.shape.padded and any(voxels % step for voxels, step in zip(self.size, stride, strict=True)):
            compute_output_size(self.size, self.shape)  # raises with the reason
        self.size = tuple(-(-voxels // step) for voxels, step in zip(self.size, stride, strict=True))

    def convolve(
        self, part: str, level: int, channels: Sizes, kernel_level: int | None = None, **options: bool
    ) -> None:
        """Convolutions in a row, from channel number to channel number."""
        taps = self.shape.kernel_size[level if kernel_level is None else kernel_level]
        for before, after in itertools.pairwise(channels):
            if not self.shape.padded:
                self.size = tuple(voxels - tap + 1 for voxels, tap in zip(self.size, taps, strict=True))
            normalised = options.get("normalised", self.shape.normalised)
            bias = options.get("bias", True)
            self.add(part, level, before, after, taps, bias=bias, normalised=normalised)

    def enlarge(self, level: int, before: int, after: int, bias: bool, part: str = "decoder") -> None:
        """Transposed convolution to a level."""
        stride = self.shape.strides[level + 1]
        self.size = tuple(voxels * step for voxels, step in zip(self.size, stride, strict=True))
        self.add(part, level, before, after, stride, stride, transposed=True, bias=bias)

    def add(
        self, part: str, level: int, before: int, after: int, taps: Sizes, stride: Sizes | None = None, **options: bool
    ) -> None:
        self.found.append(Convolution(part, level, before, after, taps, self.size, stride or self.ones, **options))

    def add_head(self, level: int, channels: int) -> None:
        self.add("head", level, channels, self.shape.num_classes, self.ones)


def _draw_unet2015(draft: _Draft) -> None:
    shape, filters = draft.shape, draft.shape.filters
    for level, width in enumerate(filters):
        draft.divide(level)
        draft.convolve("encoder", level, (filters[level - 1] if level else shape.in_channels, width, width))
    for level in range(len(filters) - 2, -1, -1):
        draft.enlarge(level, filters[level + 1], filters[level], bias=True)
        draft.convolve("decoder", level, (2 * filters[level], filters[level], filters[level]))
    draft.add_head(0, filters[0])


def _draw_unet3d2016(draft: _Draft) -> None:
    shape, filters = draft.shape, draft.shape.filters
    for level, width in enumerate(filters):
        draft.divide(level)
        draft.convolve("encoder", level, (filters[level - 1] if level else shape.in_channels, width // 2, width))
    for level in range(len(filters) - 2, -1, -1):
        draft.enlarge(level, filters[level + 1], filters[level + 1], bias=False)
        draft.convolve("decoder", level, (filters[level + 1] + filters[level], filters[level], filters[level]))
    draft.add_head(0, filters[0])


def _draw_unetplusplus(draft: _Draft) -> None:
    shape, filters = draft.shape, draft.shape.filters
    sizes = []
    for level, width in enumerate(filters):
        draft.divide(level)
        sizes.append(draft.size)
        draft.convolve("encoder", level, (filters[level - 1] if level else shape.in_channels, width, width))
    depth = len(filters) - 1
    for column in range(1, depth + 1):
        for level in range(depth + 1 - column):
            draft.size = sizes[level + 1]
            part = "decoder" if level + column == depth else "nested"
            draft.enlarge(level, filters[level + 1], filters[level], bias=True, part=part)
            draft.convolve(part, level, ((column + 1) * filters[level], filters[level], filters[level]))
    for _ in range(shape.num_supervised_heads + 1):
        draft.add_head(0, filters[0])


def _draw_attention_unet(draft: _Draft) -> None:
    shape, filters = draft.shape, draft.shape.filters
    sizes = []
    for level, width in enumerate(filters):
        draft.divide(level)
        sizes.append(draft.size)
        draft.convolve("encoder", level, (filters[level - 1] if level else shape.in_channels, width, width))
    for level in range(len(filters) - 2, -1, -1):
        width, below, stride = filters[level], filters[level + 1], shape.strides[level + 1]
        if level:
            draft.size = sizes[level + 1]
            draft.add("gate", level, width, width, stride, stride, bias=False)
            draft.add("gate", level, below, width, draft.ones)
            draft.add("gate", level, width, 1, draft.ones)
            draft.size = sizes[level]
            draft.add("gate", level, width, width, draft.ones, normalised=shape.normalised)
        draft.size = sizes[level + 1]
        draft.enlarge(level, below, width, bias=True)
        draft.convolve("decoder", level, (2 * width, width, width))
    _add_level_heads(draft, sizes)


def _draw_dynunet(draft: _Draft) -> None:
    shape, filters = draft.shape, draft.shape.filters
    sizes = []
    for level, width in enumerate(filters):
        draft.divide(level)
        sizes.append(draft.size)
        before = filters[level - 1] if level else shape.in_channels
        draft.convolve("encoder", level, (before, width, width), bias=False)
    for level in range(len(filters) - 2, -1, -1):
        width = filters[level]
        draft.enlarge(level, filters[level + 1], width, bias=shape.transposed_bias)
        draft.convolve("decoder", level, (2 * width, width, width), level + 1, bias=False)
    _add_level_heads(draft, sizes)


def _draw_resenc(draft: _Draft) -> None:
    shape, filters = draft.shape, draft.shape.filters
    draft.convolve("encoder", 0, (shape.in_channels, filters[0]))
    before, sizes = filters[0], []
    for level, width in enumerate(filters):
        draft.divide(level)
        sizes.append(draft.size)
        for _ in range(shape.num_blocks[level]):
            draft.convolve("encoder", level, (before, width, width))
            if before != width:
                draft.add("encoder", level, before, width, draft.ones, bias=False, normalised=shape.normalised)
            before = width
    for level in range(len(filters) - 2, -1, -1):
        draft.enlarge(level, filters[level + 1], filters[level], bias=True)
        draft.convolve("decoder", level, (2 * filters[level], filters[level]))
    _add_level_heads(draft, sizes)


def _add_level_heads(draft: _Draft, sizes: Sequence[Sizes]) -> None:
    """A head at the full resolution and at each supervised level below it."""
    for level in range(draft.shape.num_supervised_heads, -1, -1):
        draft.size = sizes[level]
        draft.add_head(level, draft.shape.filters[level])


NETWORKS: dict[str, Callable[[_Draft], None]] = {
    "dynunet": _draw_dynunet,
    "resenc": _draw_resenc,
    "unet2015": _draw_unet2015,
    "unet3d2016": _draw_unet3d2016,
    "unetplusplus": _draw_unetplusplus,
    "attention_unet": _draw_attention_unet,
}
STRIDED = ("dynunet", "resenc")  # the first convolution of a level has its stride; the others pool
