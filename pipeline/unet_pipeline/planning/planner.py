"""Fingerprint -> plan with the reason for every number: calls the rules in their order and names what they give."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unet_pipeline.config_values import quote_name
from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.device.memory import Memory
from unet_pipeline.errors import PlanError, suggest
from unet_pipeline.networks.shape import Shape
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning import (
    border_rules,
    evaluation_rules,
    fine_tuning,
    instance_rules,
    label_codes,
    network_rules,
    rules,
)
from unet_pipeline.planning.augmentation import add_augmentation
from unet_pipeline.planning.draft import Draft
from unet_pipeline.planning.earlier_plans import REGION_LOSS
from unet_pipeline.planning.fine_tuning import Start
from unet_pipeline.planning.plan import Plan, build_plan_from
from unet_pipeline.planning.presets import NNUNET, PRESETS, Choice, Preset

_LEAST_PATCH_VOXELS = 16**3  # no smaller patch, whatever the memory


@dataclass(frozen=True)
class PlannedBundle:
    """A plan and, for each of its fields, the reason."""

    plan: Plan
    reasons: dict[str, str]


def plan_from_fingerprint(
    fingerprint: Fingerprint,
    dataset_dir: str,
    preset: str = "standard",
    num_folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    network: str | None = None,
    padded: bool = False,
    memory_gib: float | str | None = None,
    machine_memory: Memory | None = None,
    start: Start | None = None,
    for_other_sites: bool = False,
) -> PlannedBundle:
    """The plan for a dataset.

    Args:
        fingerprint: from `check`.
        dataset_dir: where the dataset lies, relative to the bundle's root.
        preset: a name in `presets.PRESETS`.
        num_folds: folds of the cross-validation.
        fold: the fold that `train` takes when none is given.
        seed: of the split, the initial weights, the order of the cases and the augmentation.
        network: a name in `networks.table.NETWORKS`; None for dynunet, or for that of `start`.
        padded: a paper's network with padding and instance normalisation instead of as published.
        memory_gib: that the training may take, or "free" for what is free; the preset's if None.
        machine_memory: the machine's memory, which limits the preset's; None for no such limit.
        start: the bundle whose weights the training starts from; its grid, intensities, network and patch are taken.
        for_other_sites: train for images of other hospitals too, see `other_sites`.

    Raises:
        PlanError: unknown preset or network, a network that was not made for the images' dimensions, or a `start` that does not
            fit the dataset.
    """
    if preset not in PRESETS:
        raise PlanError(f"Unknown preset {preset!r}; {suggest(preset, PRESETS)}.")
    draft = Draft(fingerprint.spatial_dims == 2)
    draft.add(
        "how much compute and memory the numbers below may use; changing it here changes none of them", preset=preset
    )
    _add_data(draft, fingerprint, dataset_dir, num_folds, fold, seed)
    earlier_gib = 0.0 if start is None else start.plan.memory_gib
    memory = network_rules.choose_memory(PRESETS[preset], memory_gib, machine_memory, earlier_gib)
    of_device = memory_gib == network_rules.FREE_MEMORY and machine_memory is not None and machine_memory.has_bfloat16
    budget = network_rules.Budget(memory.value, memory.reason, in_bfloat16=of_device)
    if start is None:
        _add_intensities(draft, fingerprint, PRESETS[preset])
        _add_network(draft, fingerprint, PRESETS[preset], network or "dynunet", padded, budget)
    else:
        draft.add(start.reason, **fine_tuning.check_start(start, fingerprint, network, padded))
        _check_memory(draft, fingerprint, PRESETS[preset], budget)
    _add_loss(draft, fingerprint)
    _add_schedule(draft, fingerprint, PRESETS[preset], start)
    _add_inference(draft, fingerprint, PRESETS[preset])
    add_augmentation(draft, fingerprint, PRESETS[preset].augmentation_share, for_other_sites)
    _add_evaluation(draft, fingerprint)
    _add_machine(draft, fingerprint)
    return PlannedBundle(build_plan_from(draft.values, "The plan"), draft.reasons)


def _add_data(draft: Draft, fingerprint: Fingerprint, dataset_dir: str, num_folds: int, fold: int, seed: int) -> None:
    draft.add("the folder that was planned", dataset_name=quote_name(fingerprint.dataset_name))
    draft.add(
        "relative to the bundle's root; `--dataset_dir DIR` at run time for another place",
        dataset_dir=dataset_dir if quote_name(dataset_dir) == dataset_dir else f"./{dataset_dir}",
    )
    draft.add("format of the images", image_suffix=fingerprint.suffix)
    lossless = ".png" if fingerprint.suffix in PICTURE_SUFFIXES else ".nii.gz"
    draft.add("format of the predictions: compressed without loss", output_suffix=lossless)
    draft.add("image channels in their order", channel_names=tuple(map(quote_name, fingerprint.channels)))
    draft.add(
        "channels that an image may lack, as `--missing-channels` says"
        if fingerprint.missing_channels
        else "every image has every channel; `plan --missing-channels any` for images that lack some",
        missing_channels=tuple(map(quote_name, fingerprint.missing_channels)),
    )
    draft.add(
        "name: value in the label files; the position is the network's output channel", label_table=fingerprint.labels
    )
    draft.add(
        "every voxel has a label"
        if fingerprint.ignore_value is None
        else "value in the label files of voxels without annotation: left out of the loss and of every result",
        ignore_value=fingerprint.ignore_value,
    )
    draft.add(
        "names for several values together, as the dataset declares them: the overlap is trained and measured on them",
        regions=fingerprint.regions,
    )
    draft.add(
        "sets of labels that some cases are not annotated with: unknown there, so left out of the loss and of the results of these cases"
        if fingerprint.missing_sets
        else "every case is annotated with every label",
        missing_labels=fingerprint.missing_sets,
    )
    draft.add("axes of the images", spatial_dims=fingerprint.spatial_dims)
    draft.add("folds of the cross-validation; patients stay on one side", num_folds=num_folds)
    draft.add("the fold that `train` takes when none is given", fold=fold)
    draft.add("all randomness derives from (seed, fold, epoch, sample)", seed=seed)


def _add_intensities(draft: Draft, fingerprint: Fingerprint, preset: Preset) -> None:
    axcodes = rules.choose_axcodes(fingerprint.spatial_dims)
    draft.add(axcodes.reason, axcodes=axcodes.value)
    spacing = rules.choose_spacing(fingerprint, preset.patch_voxels[fingerprint.spatial_dims])
    draft.add(spacing.reason, spacing_mm=spacing.value)
    interpolation = rules.choose_interpolation()
    draft.add(interpolation.reason, image_interpolation=interpolation.value)
    normalisation = rules.choose_normalisation(fingerprint)
    draft.add(
        normalisation.reason,
        clip_intensity=normalisation.value.clip,
        intensity_lower=normalisation.value.lower,
        intensity_upper=normalisation.value.upper,
        intensity_subtrahend=normalisation.value.subtrahend,
        intensity_divisor=normalisation.value.divisor,
    )


def _add_network(
    draft: Draft,
    fingerprint: Fingerprint,
    preset: Preset,
    network: str,
    padded: bool,
    budget: network_rules.Budget,
) -> None:
    """Network, and the patch, whose size depends on it; the patch shrinks until a training step fits into the memory."""
    dims = fingerprint.spatial_dims
    choice = network_rules.choose_network(network, padded, dims)
    chosen = choice.value
    draft.add(
        choice.reason,
        network_name=network,
        padded=chosen.padded,
        normalisation=chosen.normalisation,
        dropout=chosen.dropout,
        loss=chosen.loss,
    )
    draft.add("MONAI's choice; true in networks that come from nnU-Net", transposed_bias=False)
    draft.add(f"{budget.reason}; `plan --memory GIB` for another budget", memory_gib=budget.gib)
    max_voxels = preset.patch_voxels[dims]
    while True:
        topology = _fill_network(draft, fingerprint, preset, chosen, max_voxels)
        patch_size = topology.value.patch_size
        needed_gib = budget.estimate_gib(_build_shape(draft, fingerprint), patch_size, preset.batch_size)
        if needed_gib <= budget.gib or math.prod(patch_size) <= _LEAST_PATCH_VOXELS:
            break
        max_voxels = int(0.8 * min(max_voxels, math.prod(patch_size)))
    draft.add(
        f"{topology.reason}; a step takes up to {needed_gib:.2g} GiB of {budget.gib:g}",
        patch_size=patch_size,
    )


def _check_memory(draft: Draft, fingerprint: Fingerprint, preset: Preset, budget: network_rules.Budget) -> None:
    """Whether a step with a patch that is given fits into the memory."""
    patch_size = draft.values["patch_size"]
    needed_gib = budget.estimate_gib(_build_shape(draft, fingerprint), patch_size, preset.batch_size)
    if needed_gib > budget.gib:
        raise PlanError(
            f"A step with the patch {'x'.join(map(str, patch_size))} takes up to {needed_gib:.2g} GiB; {budget.gib:g} GiB were granted "
            f"({budget.reason}). Give more with --memory GIB, or plan without --from."
        )
    draft.add(f"{budget.reason}; a step takes up to {needed_gib:.2g} GiB of it", memory_gib=budget.gib)


def _fill_network(
    draft: Draft,
    fingerprint: Fingerprint,
    preset: Preset,
    chosen: network_rules.NetworkChoice,
    max_voxels: int,
) -> Choice[network_rules.Topology]:
    """Everything of the network that follows from the most voxels of a patch; returns its patch with levels."""
    spacing_mm, network = draft.values["spacing_mm"], chosen.network
    row, median_shape = NETWORKS[network], fingerprint.median_shape(spacing_mm)
    max_levels = len(row.filters) or 6
    if chosen.padded:
        topology = network_rules.choose_topology(median_shape, spacing_mm, max_voxels, max_levels)
    else:
        topology = network_rules.choose_unpadded_topology(median_shape, spacing_mm, max_voxels, max_levels, network)
    levels = len(topology.value.strides)
    filters = network_rules.choose_filters(levels, preset, row)
    draft.add(filters.reason, filters=filters.value)
    draft.add(
        f"an axis is halved while it keeps {2 * network_rules.MIN_BOTTLENECK_VOXELS} voxels; kernels skip coarse axes ({NNUNET})",
        kernel_size=topology.value.kernel_size,
        strides=topology.value.strides,
    )
    num_blocks = network_rules.choose_num_blocks(network, levels, preset)
    draft.add(num_blocks.reason, num_blocks=num_blocks.value)
    supervision = network_rules.choose_supervision(network, levels)
    draft.add(
        supervision.reason,
        num_supervised_heads=len(supervision.value) - 1,
        supervision_weights=supervision.value,
    )
    draft.add(
        "the mean of all heads; a number from 1 predicts with that head alone and leaves out what it does not need"
        if row.heads == "nested"
        else "of networks with nested heads only",
        pruned_to=None,
    )
    return topology


def _add_loss(draft: Draft, fingerprint: Fingerprint) -> None:
    if draft.values["loss"] != "border_weighted_ce" and fingerprint.regions:
        draft.add(REGION_LOSS, loss="region_dice_ce")
    elif draft.values["loss"] == "region_dice_ce":  # of a bundle with regions
        draft.add("the dataset declares no regions", loss="dice_ce")
    weights = rules.choose_class_weights(fingerprint)
    if draft.values["loss"] == "border_weighted_ce":
        draft.add(weights.reason, class_weights=weights.value)
        draft.add("w0 and sigma of Ronneberger et al. 2015", border_weight=10.0, border_sigma_voxel=5.0)
    else:
        draft.add("of the border-weighted loss only", class_weights=None, border_weight=None, border_sigma_voxel=None)
    known = draft.values
    for reason, fields in instance_rules.choose_instances(
        fingerprint, known["loss"], known["padded"], known["spacing_mm"]
    ):
        draft.add(reason, **fields)


def _add_schedule(draft: Draft, fingerprint: Fingerprint, preset: Preset, start: Start | None) -> None:
    num_labels = len(fingerprint.labels)
    draft.add(
        f"small batches make more steps of the same compute; instance normalisation does not need more ({NNUNET}: at least 2)",
        batch_size=preset.batch_size,
    )
    ratios = rules.choose_crop_ratios(num_labels, preset.foreground_share)
    draft.add(ratios.reason, crop_ratios=ratios.value)
    from unet_pipeline.networks.counting import compute_forward_flop  # PyTorch, which reading a plan does without

    forward_flop = compute_forward_flop(_build_shape(draft, fingerprint), draft.values["patch_size"])
    schedule = rules.choose_schedule(preset, forward_flop)
    draft.add(
        schedule.reason,
        num_epochs=schedule.value.num_epochs,
        iterations_per_epoch=schedule.value.iterations_per_epoch,
    )
    draft.add(f"{preset.num_validations} validation(s) in the training", val_interval=schedule.value.val_interval)
    learning_rate = rules.choose_learning_rate(preset, draft.values["normalisation"])
    if start is None:
        draft.add("random weights, from seed and fold", initial_weights_sha256=None)
    else:
        draft.add(
            f"of models/initial.pt, a copy of the weights of bundle {start.bundle}; layers of another shape, as the last one for another "
            "number of labels, start anew",
            initial_weights_sha256=start.sha256,
        )
        learning_rate = fine_tuning.choose_learning_rate(learning_rate)
    draft.add(learning_rate.reason, learning_rate=learning_rate.value, weight_decay=0.01)
    draft.add(
        "linear warm-up over 4 % of the iterations, 10 to 1000", warmup_iterations=schedule.value.warmup_iterations
    )
    draft.add(f"cuts the rare steps that would undo a training ({NNUNET})", gradient_clip_norm=12.0)


def _build_shape(draft: Draft, fingerprint: Fingerprint) -> Shape:
    return Shape(
        draft.values["network_name"],
        len(fingerprint.channels),
        len(fingerprint.labels),
        draft.values["filters"],
        draft.values["kernel_size"],
        draft.values["strides"],
        draft.values["padded"],
        draft.values["normalisation"],
        draft.values["num_supervised_heads"],
        draft.values["num_blocks"] or (),
    )


def _add_inference(draft: Draft, fingerprint: Fingerprint, preset: Preset) -> None:
    patch_size, strides = draft.values["patch_size"], draft.values["strides"]
    if draft.values["padded"]:
        factors = tuple(math.prod(level[axis] for level in strides) for axis in range(len(patch_size)))
        median_shape = fingerprint.median_shape(draft.values["spacing_mm"])
        window = network_rules.choose_window(median_shape, patch_size, factors, preset.window_growth)
        draft.add(window.reason, window_size=window.value)
        draft.add(f"half a window, blended with a Gaussian ({NNUNET})", window_overlap=0.5)
    else:
        draft.add("a tile is a training patch: its output lies in the middle of it", window_size=patch_size)
        draft.add("tiles without padding fit exactly and are not blended", window_overlap=0.0)
    draft.add(
        "less than for a prediction: it only picks the weights, and should not cost the training's time",
        validation_overlap=0.25,
    )
    draft.add("the least memory; `predict` takes more at once where that is faster and fits", window_batch_size=1)
    not_tuned = "not tuned: `unet-pipeline tune BUNDLE` chooses it on out-of-fold predictions"
    draft.add(f"logits are divided by it before the softmax; {not_tuned}", temperature=1.0)
    draft.add(f"labels whose holes are filled; {not_tuned}", fill_holes=())
    draft.add(f"labels of which the largest connected component is kept; {not_tuned}", keep_largest_component=())
    unit = evaluation_rules.name_part_unit(fingerprint.suffix, fingerprint.spatial_dims)
    draft.add(f"smaller objects of a label are removed, in {unit}; {not_tuned}", remove_small_objects=0.0)


def _add_evaluation(draft: Draft, fingerprint: Fingerprint) -> None:
    tolerances = evaluation_rules.choose_tolerances(fingerprint)
    draft.add(tolerances.reason, tolerance_mm=tolerances.value)
    lesions = evaluation_rules.choose_lesion_labels(fingerprint)
    draft.add(lesions.reason, lesion_labels=lesions.value)
    thin = evaluation_rules.choose_thin_labels(fingerprint)
    draft.add(thin.reason, thin_labels=thin.value)
    separated = evaluation_rules.choose_separated_labels(fingerprint)
    draft.add(separated.reason, separated_labels=separated.value)
    threshold = border_rules.choose_border_threshold(
        separated.value, fingerprint.labels, draft.values["instance_targets"]
    )
    draft.add(threshold.reason, border_threshold=threshold.value)
    codes = label_codes.choose_label_codes(fingerprint)
    draft.add(codes.reason, label_codes=codes.value)


def _add_machine(draft: Draft, fingerprint: Fingerprint) -> None:
    cache_rate = rules.choose_cache_rate(fingerprint, draft.values["spacing_mm"])
    draft.add(cache_rate.reason, cache_rate=cache_rate.value)
    draft.add(
        "loading in the main process: on few cores a worker takes more from the network than it gives", num_workers=0
    )
