"""One pure function per planning rule; each returns its value with the reason that plan.yaml shows.

nnU-Net's rules (Isensee et al. 2021, Nature Methods 18:203-211, supplementary note 2) are the starting point. Where a
rule differs from them, its reason says why. The network's own rules are in `network_rules.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.planning.presets import NNUNET, Choice, Preset

CACHE_GIB = 8.0  # of memory for preprocessed training cases
_ANISOTROPIC_RATIO = 3.0  # nnU-Net's threshold for a coarse axis


def choose_axcodes(spatial_dims: int) -> Choice[str]:
    """Anatomical axes of the common orientation."""
    codes = "RAS"[:spatial_dims]
    return Choice(codes, f"every image is flipped and permuted to {codes} first, so that one orientation is learned")


def choose_spacing(fingerprint: Fingerprint, patch_voxels: int) -> Choice[tuple[float, ...]]:
    """Target spacing: the median; along a coarse axis of an anisotropic dataset its 10th percentile; for pictures, pixels.

    Args:
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


def choose_interpolation() -> Choice[str]:
    """How images are resampled to the target spacing; label maps always by the nearest neighbour."""
    return Choice(
        "bilinear",
        f"linear along every axis ({NNUNET}: cubic); cubic overshoots at edges, and MONAI computes it on one core; label maps take the "
        "nearest voxel, and probabilities go back linearly before the largest one wins",
    )


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
    # 0 is the mean of a missing channel after a z-score only
    if all(is_ct(name) for name in fingerprint.channels) and not fingerprint.missing_channels:
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


def choose_mirroring(fingerprint: Fingerprint) -> Choice[tuple[float, ...]]:
    """Probability of mirroring per axis: of pictures along the axes where it gives a picture like the others."""
    dims = fingerprint.spatial_dims
    if dims == 3:
        return Choice(
            (0.0, 0.0, 0.0),
            "off in 3D: the network sees every image in one orientation; on hippocampus mirroring cost 0.015 Dice in a short training "
            "(docs/experiments.md)",
        )
    matters = fingerprint.mirroring_matters or (False,) * dims
    if not any(matters):
        return Choice((0.5,) * dims, "both axes: mirrored pictures are like the others")
    kept = " and ".join(name for name, fixed in zip(("width", "height"), matters, strict=True) if fixed)
    return Choice(
        tuple(0.0 if fixed else 0.5 for fixed in matters),
        f"not along the {kept}: the pictures lie one way round, and mirrored ones are unlike the others",
    )


def choose_rotation(fingerprint: Fingerprint, spacing_mm: Sequence[float]) -> Choice[tuple[float, ...]]:
    """Largest angle in radians: one in 2D, one about each axis in 3D."""
    if fingerprint.spatial_dims == 2:
        if fingerprint.turning_matters:
            return Choice((0.35,), "20 degrees: the pictures lie one way round, and turned ones are unlike the others")
        return Choice((round(math.pi, 6),), "a picture may lie any way round: turned ones are like the others")
    coarse = [axis for axis in range(3) if spacing_mm[axis] > _ANISOTROPIC_RATIO * min(spacing_mm)]
    return Choice(
        tuple(0.35 if not coarse or axis in coarse else 0.0 for axis in range(3)),
        "20 degrees; about the coarse axis only where there is one, so that slices stay slices",
    )


def choose_crop_ratios(num_labels: int, foreground_share: float) -> Choice[tuple[float, ...]]:
    """Share of training patches that are centred on a voxel of each label."""
    foreground = foreground_share / (num_labels - 1)
    return Choice(
        (round(1 - foreground_share, 6), *([round(foreground, 6)] * (num_labels - 1))),
        f"{foreground_share:.0%} of the patches are centred on foreground, shared evenly by its labels, so that rare "
        f"ones are seen ({NNUNET}: 33 %; the shorter the training, the more); an image without a label takes another of its labels",
    )


def choose_class_weights(fingerprint: Fingerprint) -> Choice[tuple[float, ...]]:
    """Weights that make every label count the same in the cross-entropy, mean over all voxels 1; between 0.1 and 10."""
    counts = [sum(case.num_voxels.get(name, 0) for case in fingerprint.cases) for name in fingerprint.labels]
    shares = [max(1, count) / max(1, sum(counts)) for count in counts]
    weights = tuple(round(min(10.0, max(0.1, 1 / (len(counts) * share))), 6) for share in shares)
    return Choice(
        weights, "balances the labels' frequencies in the dataset (Ronneberger et al. 2015), within 0.1 and 10"
    )


def choose_learning_rate(preset: Preset, normalisation: str) -> Choice[float]:
    """Peak learning rate of AdamW."""
    reason = "AdamW with a cosine decay: at this length it measured far ahead of SGD with Nesterov momentum and polynomial decay"
    if normalisation == "none":
        return Choice(
            round(preset.learning_rate / 10, 8),
            f"{reason}; a tenth, because without normalisation larger steps diverge",
        )
    return Choice(preset.learning_rate, reason)


@dataclass(frozen=True)
class Schedule:
    """Length of a training."""

    num_epochs: int
    iterations_per_epoch: int
    val_interval: int
    warmup_iterations: int


def choose_schedule(preset: Preset, forward_flop: float) -> Choice[Schedule]:
    """Iterations that the preset's compute buys, within its ceiling; a backward pass costs two forward passes."""
    if preset.budget_tflop:
        iterations = max(40, int(preset.budget_tflop * 1e12 / (3 * forward_flop * preset.batch_size)))
        reason = (
            f"preset {preset.name}: {preset.budget_tflop:g} TFLOP / (3 x {forward_flop / 1e9:.{_decimals(forward_flop)}f} GFLOP a patch "
            f"x {preset.batch_size} patches) = {iterations} iterations"
        )
        if iterations > preset.max_iterations:
            iterations = preset.max_iterations
            reason += f"; at most {iterations}, because a step takes its time however small the patch is"
    else:
        iterations = preset.max_iterations
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


def _decimals(flop: float) -> int:
    """Decimals that show a number of GFLOP which may be far below one."""
    return 1 if flop >= 1e8 else 4


def choose_cache_rate(
    fingerprint: Fingerprint, spacing_mm: Sequence[float], budget_gib: float = CACHE_GIB
) -> Choice[float]:
    """Share of the preprocessed training cases that stays in memory (float32 image and 8-bit label)."""
    num_voxels = math.prod(fingerprint.median_shape(tuple(spacing_mm))) * fingerprint.num_cases
    size_gib = num_voxels * (4 * len(fingerprint.channels) + 1) / 2**30
    rate = min(1.0, budget_gib / size_gib)
    return Choice(
        round(rate, 3),
        f"the preprocessed dataset takes about {size_gib:.2g} GiB; {budget_gib:g} GiB may be kept in memory",
    )
