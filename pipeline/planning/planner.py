"""Fingerprint -> plan with the reason for every number: calls the rules in their order and names what they give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pipeline.dataset.dataset import PICTURE_SUFFIXES
from pipeline.dataset.fingerprint import Fingerprint
from pipeline.errors import PlanError, suggest
from pipeline.planning import rules
from pipeline.planning.plan import Plan, build_plan_from

NNUNET_DA = "nnU-Net's data augmentation (Isensee 2021, note 4)"


@dataclass(frozen=True)
class PlannedBundle:
    """A plan and, for each of its fields, the reason."""

    plan: Plan
    reasons: dict[str, str]


class _Draft:
    """Fields and reasons while they are collected."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def add(self, reason: str, **fields: Any) -> None:
        for name, value in fields.items():
            self.values[name] = value
            self.reasons[name] = reason


def plan_from_fingerprint(
    fingerprint: Fingerprint,
    dataset_dir: str,
    preset: str = "standard",
    num_folds: int = 5,
    fold: int = 0,
    seed: int = 0,
) -> PlannedBundle:
    """The plan for a dataset.

    Args:
        fingerprint: from `check`.
        dataset_dir: where the dataset lies, relative to the bundle's root.
        preset: a name in `rules.PRESETS`.
        num_folds: folds of the cross-validation.
        fold: the fold that `train` takes when none is given.
        seed: of the split, the initial weights, the order of the cases and the augmentation.

    Raises:
        PlanError: unknown preset.
    """
    if preset not in rules.PRESETS:
        raise PlanError(f"Unknown preset {preset!r}; {suggest(preset, rules.PRESETS)}.")
    draft = _Draft()
    _add_data(draft, fingerprint, dataset_dir, num_folds, fold, seed)
    _add_intensities(draft, fingerprint, rules.PRESETS[preset])
    _add_network(draft, fingerprint, rules.PRESETS[preset])
    _add_augmentation(draft, fingerprint.spatial_dims, rules.PRESETS[preset].augmentation_share)
    _add_machine(draft, fingerprint)
    return PlannedBundle(build_plan_from(draft.values, "The plan"), draft.reasons)


def _add_data(draft: _Draft, fingerprint: Fingerprint, dataset_dir: str, num_folds: int, fold: int, seed: int) -> None:
    draft.add("the folder that was planned", dataset_name=fingerprint.dataset_name)
    draft.add(
        "relative to the bundle's root; `--dataset_dir DIR` at run time for another place", dataset_dir=dataset_dir
    )
    draft.add("format of the images", image_suffix=fingerprint.suffix)
    lossless = ".png" if fingerprint.suffix in PICTURE_SUFFIXES else ".nii.gz"
    draft.add("format of the predictions: compressed without loss", output_suffix=lossless)
    draft.add("image channels in their order", channel_names=fingerprint.channels)
    draft.add(
        "name: value in the label files; the position is the network's output channel", label_table=fingerprint.labels
    )
    draft.add(
        "every voxel has a label"
        if fingerprint.ignore_value is None
        else "value in the label files of voxels without annotation: left out of the loss and of every result",
        ignore_value=fingerprint.ignore_value,
    )
    draft.add("axes of the images", spatial_dims=fingerprint.spatial_dims)
    draft.add("folds of the cross-validation; patients stay on one side", num_folds=num_folds)
    draft.add("the fold that `train` takes when none is given", fold=fold)
    draft.add("all randomness derives from (seed, fold, epoch, sample)", seed=seed)


def _add_intensities(draft: _Draft, fingerprint: Fingerprint, preset: rules.Preset) -> None:
    axcodes = rules.choose_axcodes(fingerprint.spatial_dims)
    draft.add(axcodes.reason, axcodes=axcodes.value)
    spacing = rules.choose_spacing(fingerprint, preset.patch_voxels[fingerprint.spatial_dims])
    draft.add(spacing.reason, spacing_mm=spacing.value)
    normalisation = rules.choose_normalisation(fingerprint)
    draft.add(
        normalisation.reason,
        clip_intensity=normalisation.value.clip,
        intensity_lower=normalisation.value.lower,
        intensity_upper=normalisation.value.upper,
        intensity_subtrahend=normalisation.value.subtrahend,
        intensity_divisor=normalisation.value.divisor,
    )


def _add_network(draft: _Draft, fingerprint: Fingerprint, preset: rules.Preset) -> None:
    dims, num_labels = fingerprint.spatial_dims, len(fingerprint.labels)
    spacing_mm = draft.values["spacing_mm"]
    median_shape = fingerprint.median_shape(spacing_mm)
    topology = rules.choose_topology(median_shape, spacing_mm, preset.patch_voxels[dims])
    levels = len(topology.value.strides)
    factors = tuple(math.prod(level[axis] for level in topology.value.strides) for axis in range(dims))
    filters = rules.choose_filters(levels, preset)
    draft.add(filters.reason, filters=filters.value)
    draft.add(
        f"an axis is halved while it keeps {2 * rules.MIN_BOTTLENECK_VOXELS} voxels; kernels skip coarse axes ({rules.NNUNET})",
        kernel_size=topology.value.kernel_size,
        strides=topology.value.strides,
    )
    supervision = rules.choose_supervision(levels)
    draft.add(
        supervision.reason,
        num_supervised_heads=len(supervision.value) - 1,
        supervision_weights=supervision.value,
    )
    draft.add(topology.reason, patch_size=topology.value.patch_size)
    draft.add(
        f"small batches make more steps of the same compute; instance normalisation does not need more ({rules.NNUNET}: at least 2)",
        batch_size=preset.batch_size,
    )
    ratios = rules.choose_crop_ratios(num_labels, preset.foreground_share)
    draft.add(ratios.reason, crop_ratios=ratios.value)
    forward_flop = rules.estimate_forward_flop(topology.value, filters.value, len(fingerprint.channels), num_labels)
    schedule = rules.choose_schedule(preset, forward_flop)
    draft.add(
        schedule.reason,
        num_epochs=schedule.value.num_epochs,
        iterations_per_epoch=schedule.value.iterations_per_epoch,
    )
    draft.add(f"{preset.num_validations} validation(s) in the training", val_interval=schedule.value.val_interval)
    draft.add(
        "AdamW with a cosine decay: at this length it measured far ahead of SGD with Nesterov momentum and polynomial decay",
        learning_rate=preset.learning_rate,
        weight_decay=0.01,
    )
    draft.add(
        "linear warm-up over 4 % of the iterations, 10 to 1000", warmup_iterations=schedule.value.warmup_iterations
    )
    draft.add(f"cuts the rare steps that would undo a training ({rules.NNUNET})", gradient_clip_norm=12.0)
    window = rules.choose_window(median_shape, topology.value.patch_size, factors, preset.window_growth)
    draft.add(window.reason, window_size=window.value)
    draft.add(f"half a window, blended with a Gaussian ({rules.NNUNET})", window_overlap=0.5)
    draft.add(
        "less than for a prediction: it only picks the weights, and should not cost the training's time",
        validation_overlap=0.25,
    )
    draft.add("more windows at once gain nothing on a CPU and cost memory", window_batch_size=1)


def _add_augmentation(draft: _Draft, dims: int, share: float) -> None:
    """Numbers of the random transforms; `share` of their full probabilities."""
    spacing_mm, patch_size = draft.values["spacing_mm"], draft.values["patch_size"]
    draft.add(f"{NNUNET_DA}: rotation and scaling, here as one transform", affine_probability=round(0.3 * share, 6))
    if dims == 2:
        draft.add("a picture may lie any way round", rotation_range_rad=(round(math.pi, 6),))
    else:
        coarse = [axis for axis in range(3) if spacing_mm[axis] > 3 * min(spacing_mm)]
        ranges = tuple(0.523599 if not coarse or axis in coarse else 0.0 for axis in range(3))
        draft.add(
            "30 degrees; about the coarse axis only where there is one, so that slices stay slices",
            rotation_range_rad=ranges,
        )
    draft.add("factors 0.75 to 1.25", scale_range=(0.25,) * dims)
    draft.add(
        "elastic deformation as in Ronneberger 2015, on a coarse grid of random displacements",
        elastic_probability=round(0.1 * share, 6),
    )
    points = tuple(max(3, min(6, round(size / 16))) for size in patch_size)
    draft.add("control points about 16 voxels apart, 3 to 6 per axis", elastic_control_points=points)
    draft.add("displacement up to 3 % of the patch", elastic_range=0.06)
    draft.add(
        "PyTorch's name of linear interpolation in these dimensions",
        linear_mode="bilinear" if dims == 2 else "trilinear",
    )
    draft.add(
        NNUNET_DA,
        noise_probability=round(0.1 * share, 6),
        noise_std=0.1,
        blur_probability=round(0.1 * share, 6),
        blur_sigma_voxel=(0.5, 1.0),
    )
    draft.add(
        NNUNET_DA,
        brightness_probability=round(0.15 * share, 6),
        brightness_range=0.25,
        contrast_probability=round(0.15 * share, 6),
        contrast_range=0.25,
    )
    draft.add(NNUNET_DA, low_resolution_probability=round(0.12 * share, 6), low_resolution_zoom=(0.5, 1.0))
    draft.add(NNUNET_DA, gamma_probability=round(0.3 * share, 6), gamma_range=(0.7, 1.5))
    if dims == 2:
        draft.add("both axes: a picture may lie any way round", mirror_probability=(0.5, 0.5, 0.0))
    else:
        draft.add(
            "off in 3D: orientation carries information that a short training needs, and the network sees every image in one orientation",
            mirror_probability=(0.0, 0.0, 0.0),
        )


def _add_machine(draft: _Draft, fingerprint: Fingerprint) -> None:
    cache_rate = rules.choose_cache_rate(fingerprint, draft.values["spacing_mm"])
    draft.add(cache_rate.reason, cache_rate=cache_rate.value)
    draft.add(
        "loading in the main process: on few cores a worker takes more from the network than it gives", num_workers=0
    )
