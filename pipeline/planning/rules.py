"""One pure function per planning rule; each returns its value with the reason that plan.yaml shows.

nnU-Net's rules (Isensee et al. 2021, Nature Methods 18:203-211, supplementary note 2) are the starting point. Where a
rule differs from them, its reason says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pipeline.dataset.dataset import PICTURE_SUFFIXES
from pipeline.dataset.fingerprint import Fingerprint
from pipeline.planning.network_cost import compute_forward_flop

Value = TypeVar("Value")

NNUNET = "Isensee 2021"
_ANISOTROPIC_RATIO = 3.0  # nnU-Net's threshold for a coarse axis
MIN_BOTTLENECK_VOXELS = 4  # voxels along an axis at the lowest level, nnU-Net's number


@dataclass(frozen=True)
class Choice(Generic[Value]):
    """A value and why it is this one."""

    value: Value
    reason: str


@dataclass(frozen=True)
class Preset:
    """How much compute and memory a plan may use.

    Attributes:
        budget_tflop: operations of all forward and backward passes together, in 10^12.
        patch_voxels: the most voxels of a training patch, for 2D and for 3D.
        window_growth: the inference window's size by the patch's, per axis, at most.
        foreground_share: of the training patches that are centred on a label other than the first.
        augmentation_share: of the full probabilities of augmentation.
    """

    name: str
    budget_tflop: float
    base_filters: int
    max_filters: int
    batch_size: int
    patch_voxels: dict[int, int]
    window_growth: float
    num_validations: int
    learning_rate: float
    foreground_share: float
    augmentation_share: float


PRESETS = {
    preset.name: preset
    for preset in (
        # about 7 minutes on 2 CPU cores with bf16 instructions (docs/experiments.md)
        Preset("quick", 75, 16, 256, 2, {2: 256**2, 3: 64**3}, 1.0, 4, 3e-3, 0.5, 1.0),
        # minutes of a data-centre GPU, or an evening of a workstation's
        Preset("standard", 6_000, 32, 320, 2, {2: 512**2, 3: 128**3}, 1.0, 25, 2e-3, 0.5, 1.0),
        # nnU-Net's 250,000 iterations
        Preset("full", 0, 32, 320, 2, {2: 512**2, 3: 128**3}, 1.0, 50, 1e-3, 0.33, 1.0),
        # the embedded demo: a minute of training on 2 CPU cores with bf16 instructions
        Preset("demo", 15, 16, 128, 2, {2: 128**2, 3: 48**3}, 4 / 3, 1, 8e-3, 0.95, 0.2),
    )
}
_FULL_ITERATIONS = 250_000


def choose_axcodes(spatial_dims: int) -> Choice[str]:
    """Anatomical axes of the common orientation."""
    codes = "RAS"[:spatial_dims]
    return Choice(codes, f"every image is flipped and permuted to {codes} first, so that one orientation is learned")


def choose_spacing(fingerprint: Fingerprint, patch_voxels: int) -> Choice[tuple[float, ...]]:
    """Target spacing: the median; along a coarse axis of an anisotropic dataset its 10th percentile; for pictures, pixels.

    Args:
        fingerprint: of the dataset.
        patch_voxels: the most voxels of a training patch.
    """
    if fingerprint.suffix in PICTURE_SUFFIXES:
        return _choose_pixel_factor(fingerprint, patch_voxels)
    spacings = np.array([case.spacing_mm for case in fingerprint.cases])
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    others = np.delete(target, coarse)
    reason = f"median of {fingerprint.num_cases} cases ({NNUNET})"
    if len(others) and target[coarse] > _ANISOTROPIC_RATIO * others.max():
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), others.max())
        reason += f"; axis {coarse} is over {_ANISOTROPIC_RATIO:g} times coarser, so its 10th percentile"
    return Choice(tuple(float(round(size, 6)) for size in target), reason)


def _choose_pixel_factor(fingerprint: Fingerprint, patch_voxels: int) -> Choice[tuple[float, ...]]:
    """Pixels, or every n-th one where a patch would see too little of the picture and the labels do not need them all."""
    num_pixels = math.prod(fingerprint.median_shape())
    wanted = max(1, round(math.sqrt(num_pixels / patch_voxels)))
    allowed = int(np.percentile([case.coarsest_factor for case in fingerprint.cases], 10))
    factor = max(1, min(wanted, allowed))
    reason = "in pixels: picture files carry no spacing"
    if factor > 1:
        reason += (
            f"; every {factor} pixels are one, so that a patch sees {min(1.0, patch_voxels * factor**2 / num_pixels):.0%} of a picture "
            f"(the label maps keep a Dice of 0.98 with {allowed})"
        )
    elif wanted > 1:
        reason += "; all of them, because the label maps have structures that fewer would lose"
    if known := [size for case in fingerprint.cases for size in case.pixel_spacing_mm or ()]:
        reason += f"; they are {min(known):.4g} to {max(known):.4g} mm wide, which counts when results are measured"
    return Choice((float(factor),) * fingerprint.spatial_dims, reason)


@dataclass(frozen=True)
class Normalisation:
    """Clipping window, and constants of the z-score (None: computed from each image)."""

    clip: bool
    lower: float
    upper: float
    subtrahend: tuple[float, ...] | None
    divisor: tuple[float, ...] | None


def choose_normalisation(fingerprint: Fingerprint) -> Choice[Normalisation]:
    """CT has an absolute unit and is scaled by the dataset's statistics; every other modality by its own image's."""
    if all(is_ct(name) for name in fingerprint.channels):
        channels = fingerprint.intensities
        return Choice(
            Normalisation(
                clip=True,
                lower=min(channel.percentile_00_5 for channel in channels),
                upper=max(channel.percentile_99_5 for channel in channels),
                subtrahend=tuple(channel.mean for channel in channels),
                divisor=tuple(max(channel.std, 1e-6) for channel in channels),
            ),
            f"CT is in HU: clipped to the foreground's 0.5 and 99.5 percentile, z-score of the dataset ({NNUNET})",
        )
    return Choice(
        Normalisation(clip=False, lower=0.0, upper=1.0, subtrahend=None, divisor=None),
        f"{', '.join(fingerprint.channels)} has no absolute unit: z-score of each image and channel ({NNUNET})",
    )


def is_ct(channel: str) -> bool:
    """Whether a channel name means computed tomography."""
    return channel.strip().lower() in ("ct", "computed tomography", "hu")


@dataclass(frozen=True)
class Topology:
    """Patch and network shape, which depend on each other through the strides."""

    patch_size: tuple[int, ...]
    kernel_size: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]


def choose_topology(median_shape: Sequence[int], spacing_mm: Sequence[float], max_voxels: int) -> Choice[Topology]:
    """Patch near the median image, its longest axes shortened to the budget; axes are halved while they can be.

    An axis is halved at a level when it still has twice `MIN_BOTTLENECK_VOXELS` voxels there and its spacing is within a
    factor of two of the finest; a kernel has length 1 along an axis that is still over twice as coarse.
    """
    size = [float(voxels) for voxels in median_shape]
    while math.prod(size) > max_voxels:  # the longest axis in mm gives way first, so that the patch tends to a cube
        extents_mm = [voxels * spacing for voxels, spacing in zip(size, spacing_mm, strict=True)]
        longest_mm = 0.999 * max(extents_mm)  # equal axes shrink together
        size = [
            voxels * 0.95 if extent >= longest_mm else voxels for voxels, extent in zip(size, extents_mm, strict=True)
        ]
    kernels, strides = _choose_levels([max(4, round(voxels)) for voxels in size], spacing_mm)
    factors = [math.prod(level[axis] for level in strides) for axis in range(len(size))]
    patch = tuple(max(factor, round(voxels / factor) * factor) for voxels, factor in zip(size, factors, strict=True))
    shown = "x".join(map(str, patch))
    return Choice(
        Topology(patch, kernels, strides),
        f"median image {'x'.join(map(str, median_shape))} within {max_voxels} voxels, "
        f"to the nearest multiple of the total stride {tuple(factors)}: {shown}; nearest instead of above "
        f"({NNUNET} rounds up), because padding costs compute and teaches nothing",
    )


def _choose_levels(
    patch: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Kernels and strides per level, full resolution first."""
    size, spacing = [float(voxels) for voxels in patch], list(spacing_mm)
    kernels, strides = [_kernel(spacing, (1,) * len(size))], [(1,) * len(size)]
    while len(strides) < 6:
        long_enough = [round(voxels) >= 2 * MIN_BOTTLENECK_VOXELS for voxels in size]
        finest = min((step for step, enough in zip(spacing, long_enough, strict=True) if enough), default=0.0)
        halves = [enough and step <= 2 * finest for enough, step in zip(long_enough, spacing, strict=True)]
        if not any(halves):
            break
        stride = tuple(2 if half else 1 for half in halves)
        size = [voxels / step for voxels, step in zip(size, stride, strict=True)]  # the patch is rounded afterwards
        spacing = [width * step for width, step in zip(spacing, stride, strict=True)]
        strides.append(stride)
        kernels.append(_kernel(spacing, kernels[-1]))
    while len(strides) < 3:  # DynUNet's least depth
        strides.append((1,) * len(size))
        kernels.append(_kernel(spacing, kernels[-1]))
    return tuple(kernels), tuple(strides)


def _kernel(spacing: Sequence[float], above: Sequence[int]) -> tuple[int, ...]:
    """Kernel of a level; `above` is the one of the level above, which is never shortened."""
    finest = min(spacing)
    return tuple(3 if taps == 3 or step <= 2 * finest else 1 for step, taps in zip(spacing, above, strict=True))


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


def choose_filters(num_levels: int, preset: Preset) -> Choice[tuple[int, ...]]:
    """Channels per level: doubled from level to level up to a limit."""
    filters = tuple(min(preset.base_filters * 2**level, preset.max_filters) for level in range(num_levels))
    return Choice(
        filters, f"doubled per level from {preset.base_filters} to at most {preset.max_filters} (preset {preset.name})"
    )


def choose_supervision(num_levels: int) -> Choice[tuple[float, ...]]:
    """Weights of the deep-supervision losses, the full resolution first, sum 1; two lower levels at most."""
    heads = 1 + max(1, min(2, num_levels - 2))
    weights = [0.5**level for level in range(heads)]
    return Choice(
        tuple(round(weight / sum(weights), 6) for weight in weights), f"halved per level, sum 1 ({NNUNET}, note 4)"
    )


def choose_crop_ratios(num_labels: int, foreground_share: float) -> Choice[tuple[float, ...]]:
    """Share of training patches that are centred on a voxel of each label."""
    foreground = foreground_share / (num_labels - 1)
    return Choice(
        (round(1 - foreground_share, 6), *([round(foreground, 6)] * (num_labels - 1))),
        f"{foreground_share:.0%} of the patches are centred on foreground, shared evenly by its labels, so that rare "
        f"ones are seen ({NNUNET}: 33 %; the shorter the training, the more)",
    )


@dataclass(frozen=True)
class Schedule:
    """Length of a training."""

    num_epochs: int
    iterations_per_epoch: int
    val_interval: int
    warmup_iterations: int


def choose_schedule(preset: Preset, forward_flop: float) -> Choice[Schedule]:
    """Iterations that the preset's compute buys; a backward pass costs two forward passes."""
    if preset.budget_tflop:
        iterations = max(40, int(preset.budget_tflop * 1e12 / (3 * forward_flop * preset.batch_size)))
        reason = (
            f"preset {preset.name}: {preset.budget_tflop:g} TFLOP / (3 x {forward_flop / 1e9:.1f} GFLOP a patch "
            f"x {preset.batch_size} patches) = {iterations} iterations"
        )
    else:
        iterations = _FULL_ITERATIONS
        reason = f"preset {preset.name}: {iterations} iterations ({NNUNET})"
    iterations_per_epoch = min(250, max(10, iterations // 20))
    # whole intervals, so that the last epoch is validated
    val_interval = max(1, round(iterations / iterations_per_epoch / preset.num_validations))
    return Choice(
        Schedule(
            num_epochs=val_interval * max(1, round(iterations / iterations_per_epoch / val_interval)),
            iterations_per_epoch=iterations_per_epoch,
            val_interval=val_interval,
            warmup_iterations=min(1000, max(10, iterations // 25)),
        ),
        reason,
    )


def choose_cache_rate(fingerprint: Fingerprint, spacing_mm: Sequence[float], budget_gib: float = 8.0) -> Choice[float]:
    """Share of the preprocessed training cases that stays in memory (float32 image and 8-bit label)."""
    num_voxels = math.prod(fingerprint.median_shape(tuple(spacing_mm))) * fingerprint.num_cases
    size_gib = num_voxels * (4 * len(fingerprint.channels) + 1) / 2**30
    rate = min(1.0, budget_gib / size_gib)
    return Choice(
        round(rate, 3),
        f"the preprocessed dataset takes about {size_gib:.2g} GiB; {budget_gib:g} GiB may be kept in memory",
    )


def estimate_forward_flop(topology: Topology, filters: Sequence[int], in_channels: int, num_classes: int) -> float:
    """Operations of one forward pass of one training patch."""
    return compute_forward_flop(
        topology.patch_size, filters, topology.kernel_size, topology.strides, in_channels, num_classes
    )
