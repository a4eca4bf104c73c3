"""The planning rules of the network: which one, how deep and wide, on patches of what size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unet_pipeline.device.memory import GPU, Memory
from unet_pipeline.errors import PlanError, suggest
from unet_pipeline.messages import show_shape
from unet_pipeline.networks.shape import Shape
from unet_pipeline.networks.table import NETWORKS, Network
from unet_pipeline.networks.unpadded import compute_input_size, compute_output_size
from unet_pipeline.planning.presets import NNUNET, Choice, Preset

MIN_BOTTLENECK_VOXELS = 4  # voxels along an axis at the lowest level, nnU-Net's number


_UNPADDED_GROWTH = 2.25  # the patch of an unpadded network has so many times the voxels: its output is smaller
FREE_MEMORY = "free"  # instead of a number of GiB
_USABLE_SHARE = 0.75  # of a machine's memory; the rest is for data and the system
_ARRAYS_PER_OUTPUT = 3
_KEPT_PER_OUTPUT, _GRADIENTS_AT_ONCE, _ARRAYS_OF_LOSS = 2, 3, 6  # of a step in bfloat16
_PROGRAM_GIB = 1.0
_LEAST_OUTPUT = 0.45  # of the input per axis; with less, most of the compute goes into what is thrown away


@dataclass(frozen=True)
class NetworkChoice:
    """A network and in which form."""

    network: str
    padded: bool
    normalisation: str
    dropout: float
    loss: str


def choose_network(network: str, padded: bool, spatial_dims: int) -> Choice[NetworkChoice]:
    """The network of that name as published, or with padding and instance normalisation.

    Raises:
        PlanError: unknown name, or a network that was not made for these dimensions.
    """
    if network not in NETWORKS:
        raise PlanError(f"Unknown network {network!r}; {suggest(network, NETWORKS)}.")
    row = NETWORKS[network]
    if spatial_dims not in row.spatial_dims:
        others = [name for name, other in NETWORKS.items() if spatial_dims in other.spatial_dims]
        raise PlanError(
            f"{network} was made for {row.spatial_dims[0]}D images; these have {spatial_dims} dimensions. Choose one of "
            f"{', '.join(others)}."
        )
    if not padded or row.is_modern:
        reason = (
            row.reference
            if row.is_modern
            else f"{row.reference}, as published; --padded for the variant that trains better"
        )
        return Choice(NetworkChoice(network, row.padded, row.normalisation, row.dropout, row.loss), reason)
    return Choice(
        NetworkChoice(network, True, "instance", 0.0, "dice_ce"),
        f"{row.reference}, with padding, instance normalisation, and Dice with cross-entropy: trains better",
    )


def choose_filters(num_levels: int, preset: Preset, published: Network) -> Choice[tuple[int, ...]]:
    """Channels per level: the paper's, or doubled from level to level up to a limit."""
    if published.filters and preset.published_width:
        return Choice(published.filters[:num_levels], f"as published ({published.reference})")
    filters = tuple(min(preset.base_filters * 2**level, preset.max_filters) for level in range(num_levels))
    reason = f"doubled per level from {preset.base_filters} to at most {preset.max_filters} (preset {preset.name})"
    if published.filters:
        reason += f"; published with {published.filters[0]} to {published.filters[-1]}"
    return Choice(filters, reason)


def choose_num_blocks(network: str, num_levels: int, preset: Preset) -> Choice[tuple[int, ...] | None]:
    """Residual blocks per level."""
    row = NETWORKS[network]
    if not row.num_blocks:
        return Choice(None, f"{network} has no residual blocks")
    if preset.published_width:
        return Choice(row.num_blocks[:num_levels], f"as published ({row.reference})")
    return Choice(row.fewer_blocks[:num_levels], "fewer than published, so that the budget buys enough steps")


def choose_memory(
    preset: Preset, given_gib: float | str | None, of_machine: Memory | None, earlier_gib: float = 0.0
) -> Choice[float]:
    """Memory for a training in GiB: as given, or the preset's, or less where the machine has less; with `FREE_MEMORY` what is free now.

    The preset's own number comes first, so that the same data give the same plan on every machine that has enough. A training that
    starts from another one may take as much as that one, `earlier_gib`. Of a GPU only what is free counts, since others' memory there
    is not handed over; of the main memory all, since the system makes room.

    Raises:
        PlanError: too little is free, or nobody looked.
    """
    if isinstance(given_gib, str):
        return _take_free_memory(given_gib, of_machine)
    if given_gib is not None:
        return Choice(given_gib, f"{given_gib:g} GiB as given")
    wanted_gib = max(preset.memory_gib, earlier_gib)
    if of_machine is not None:
        of_gpu = of_machine.place == GPU
        there_gib = of_machine.left_gib if of_gpu else of_machine.gib
        if _USABLE_SHARE * there_gib < wanted_gib:
            usable, state = round(_USABLE_SHARE * there_gib, 2), "is free" if of_gpu else "was found"
            return Choice(
                usable,
                f"{usable:g} GiB, {_USABLE_SHARE:.0%} of the {there_gib:.3g} GiB of {of_machine.place} that {state}",
            )
    whose = f"preset {preset.name}" if wanted_gib == preset.memory_gib else "of the bundle that it starts from"
    return Choice(wanted_gib, f"{wanted_gib:g} GiB ({whose})")


def _take_free_memory(memory: str, of_machine: Memory | None) -> Choice[float]:
    """Most of what is free now."""
    if memory != FREE_MEMORY or of_machine is None:
        raise PlanError(
            f"The memory is {memory!r}; expected a number of GiB, or {FREE_MEMORY!r} on a machine that was looked at."
        )
    usable = round(_USABLE_SHARE * of_machine.left_gib, 2)
    if usable < _PROGRAM_GIB:
        raise PlanError(
            f"{of_machine.left_gib:.2g} GiB of {of_machine.place} are free, and {_USABLE_SHARE:.0%} of it is less than the "
            f"{_PROGRAM_GIB:g} GiB of the program alone. End what uses it, or give a number with --memory GIB."
        )
    return Choice(
        usable,
        f"{usable:g} GiB, {_USABLE_SHARE:.0%} of the {of_machine.left_gib:.3g} GiB of {of_machine.place} free when it was planned",
    )


def estimate_training_gib(
    shape: Shape, patch_size: tuple[int, ...], batch_size: int, in_bfloat16: bool = False
) -> float:
    """Memory of a training step in GiB: in float32 an upper estimate, in bfloat16 on a GPU what PyTorch takes there.

    In float32 each convolution keeps three arrays of its output's size for the backward pass (its own output, the normalised one, and a
    gradient); each parameter has a gradient and two moments; the program itself takes one GiB.

    In bfloat16 each convolution keeps its own output and the normalised one, an up-convolution its output joined to the skip; at the
    peak three gradients of the largest output are there, and six arrays of the logits in float32 for the loss; a parameter has a copy
    in bfloat16 too. It is 1.11 and 1.03 times what two plans took on an H100, 0.84 and 4.70 GiB (`benchmarks/results/`).
    """
    from unet_pipeline.networks.counting import list_convolutions  # PyTorch, which reading a plan does without

    convolutions = list_convolutions(shape, patch_size)
    outputs = [convolution.out_channels * math.prod(convolution.size) for convolution in convolutions]
    parameters = sum(convolution.num_parameters for convolution in convolutions)
    if not in_bfloat16:
        return _PROGRAM_GIB + 4 * (_ARRAYS_PER_OUTPUT * batch_size * sum(outputs) + 4 * parameters) / 2**30
    logits = shape.num_classes * math.prod(patch_size)
    arrays = 2 * (_KEPT_PER_OUTPUT * sum(outputs) + _GRADIENTS_AT_ONCE * max(outputs)) + 4 * _ARRAYS_OF_LOSS * logits
    return (batch_size * arrays + (4 * 4 + 2) * parameters) / 2**30


@dataclass(frozen=True)
class Budget:
    """Memory that a training may have; `in_bfloat16` where it is that of a GPU which computes in it, and not the same for every machine."""

    gib: float
    reason: str
    in_bfloat16: bool

    def estimate_gib(self, shape: Shape, patch_size: tuple[int, ...], batch_size: int) -> float:
        """What a step takes of it."""
        return estimate_training_gib(shape, patch_size, batch_size, self.in_bfloat16)


@dataclass(frozen=True)
class Topology:
    """Patch and network shape, which depend on each other through the strides."""

    patch_size: tuple[int, ...]
    kernel_size: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]


def choose_topology(
    median_shape: Sequence[int], spacing_mm: Sequence[float], max_voxels: int, max_levels: int = 6
) -> Choice[Topology]:
    """Patch near the median image, its longest axes shortened to the budget; axes are halved while they can be.

    An axis is halved at a level when it still has twice `MIN_BOTTLENECK_VOXELS` voxels there and its spacing is within a
    factor of two of the finest; a kernel has length 1 along an axis that is still over twice as coarse, or has one or two
    voxels. So the network looks at thick slices one by one at first (2D) and joins them where voxels have become cubes (3D).
    """
    size = [float(voxels) for voxels in median_shape]
    while math.prod(size) > max_voxels:  # the longest axis in mm gives way first, so that the patch tends to a cube
        extents_mm = [voxels * spacing for voxels, spacing in zip(size, spacing_mm, strict=True)]
        longest_mm = 0.999 * max(extents_mm)  # equal axes shrink together
        size = [
            voxels * 0.95 if extent >= longest_mm else voxels for voxels, extent in zip(size, extents_mm, strict=True)
        ]
    kernels, strides = _choose_levels([max(1, round(voxels)) for voxels in size], spacing_mm, 3, max_levels)
    factors = [math.prod(level[axis] for level in strides) for axis in range(len(size))]
    patch = tuple(max(factor, round(voxels / factor) * factor) for voxels, factor in zip(size, factors, strict=True))
    return Choice(
        Topology(patch, kernels, strides),
        f"median image {show_shape(median_shape)} within {max_voxels} voxels, "
        f"to the nearest multiple of the total stride {tuple(factors)}: {show_shape(patch)}; nearest instead of above "
        f"({NNUNET} rounds up), because padding costs compute and teaches nothing",
    )


def _choose_levels(
    patch: Sequence[int], spacing_mm: Sequence[float], least: int, most: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Kernels and strides per level, full resolution first."""
    size, spacing = [float(voxels) for voxels in patch], list(spacing_mm)
    flat = [voxels < 3 for voxels in patch]
    kernels, strides = [_kernel(spacing, (1,) * len(size), flat)], [(1,) * len(size)]
    while len(strides) < most:
        long_enough = [round(voxels) >= 2 * MIN_BOTTLENECK_VOXELS for voxels in size]
        finest = min((step for step, enough in zip(spacing, long_enough, strict=True) if enough), default=0.0)
        halves = [enough and step <= 2 * finest for enough, step in zip(long_enough, spacing, strict=True)]
        if not any(halves):
            break
        stride = tuple(2 if half else 1 for half in halves)
        size = [voxels / step for voxels, step in zip(size, stride, strict=True)]  # the patch is rounded afterwards
        spacing = [width * step for width, step in zip(spacing, stride, strict=True)]
        strides.append(stride)
        kernels.append(_kernel(spacing, kernels[-1], flat))
    while len(strides) < least:  # 3 is DynUNet's least depth
        strides.append((1,) * len(size))
        kernels.append(_kernel(spacing, kernels[-1], flat))
    return tuple(kernels), tuple(strides)


def _kernel(spacing: Sequence[float], above: Sequence[int], flat: Sequence[bool]) -> tuple[int, ...]:
    """Kernel of a level; `above` is the one of the level above, which is never shortened; `flat` axes have one or two voxels."""
    finest = min([step for step, thin in zip(spacing, flat, strict=True) if not thin], default=min(spacing))
    return tuple(
        3 if not thin and (taps == 3 or step <= 2 * finest) else 1
        for step, taps, thin in zip(spacing, above, flat, strict=True)
    )


def choose_window(
    median_shape: Sequence[int], patch: Sequence[int], factors: Sequence[int], growth: float
) -> Choice[tuple[int, ...]]:
    """Inference window: the training patch, grown by the preset's factor at most and towards the median image only.

    A larger window costs less and sees more, but instance normalisation has learnt the statistics of the patch.
    """
    window = tuple(
        max(size, min(math.ceil(voxels / factor) * factor, int(size * growth / factor) * factor))
        for voxels, size, factor in zip(median_shape, patch, factors, strict=True)
    )
    if growth > 1:
        return Choice(window, f"the training patch, grown by at most {growth:.3g} to make the demo's prediction faster")
    return Choice(
        window,
        f"the training patch ({NNUNET}): instance normalisation has learnt its statistics, and on hippocampus a larger "
        "window lost 0.008 Dice (docs/experiments.md)",
    )


def choose_supervision(network: str, num_levels: int) -> Choice[tuple[float, ...]]:
    """Weights of the losses of all heads, the last head first, sum 1."""
    row = NETWORKS[network]
    if row.heads == "one":
        return Choice((1.0,), f"{network} has one head")
    if row.heads == "nested":
        heads = num_levels - 1
        return Choice(
            (round(1 / heads, 6),) * heads, f"every nested node at full resolution, equally ({row.reference})"
        )
    heads = 1 + max(1, min(2, num_levels - 2))
    weights = [0.5**level for level in range(heads)]
    return Choice(
        tuple(round(weight / sum(weights), 6) for weight in weights), f"halved per level, sum 1 ({NNUNET}, note 4)"
    )


def choose_unpadded_topology(
    median_shape: Sequence[int], spacing_mm: Sequence[float], max_voxels: int, max_levels: int, network: str
) -> Choice[Topology]:
    """Patch and levels of a network without padding: as many levels as leave enough of the patch for the output."""
    budget = int(max_voxels * _UNPADDED_GROWTH)
    for levels in range(max_levels, 2, -1):
        kernels, strides = _choose_levels([2 ** (levels + 2)] * len(median_shape), spacing_mm, levels, levels)
        shape = Shape(network, 1, 2, (1,) * levels, kernels, strides, padded=False)  # sizes do not depend on channels
        size = compute_input_size(median_shape, shape)
        while math.prod(size) > budget:
            longest = max(range(len(size)), key=lambda axis: size[axis] * spacing_mm[axis])
            smaller = [voxels - shape.total_stride[axis] * (axis == longest) for axis, voxels in enumerate(size)]
            if smaller[longest] < compute_input_size((1,) * len(size), shape)[longest]:
                break
            size = tuple(smaller)
        output = compute_output_size(size, shape)
        enough = all(
            left >= max(factor, _LEAST_OUTPUT * voxels)
            for left, factor, voxels in zip(output, shape.total_stride, size, strict=True)
        )
        if (enough and math.prod(size) <= budget) or levels == 3:
            break
    return Choice(
        Topology(size, kernels, strides),
        f"median image {show_shape(median_shape)} within {budget} voxels: {show_shape(size)}, of which the convolutions without padding "
        f"leave {show_shape(output)}; {levels} levels, the most that leave {_LEAST_OUTPUT:.0%} per axis",
    )
