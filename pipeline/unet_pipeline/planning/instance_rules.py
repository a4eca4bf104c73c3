"""One pure function per rule about instances; each returns its value with the reason that plan.yaml shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from unet_pipeline.planning.presets import Choice

if TYPE_CHECKING:
    from unet_pipeline.dataset.fingerprint import Fingerprint
    from unet_pipeline.planning.plan import Plan

GAPS, LEVELS = "gaps", "levels"
_BORDER_SHARE, _WIDEST_VOXEL = 0.15, 3  # of the diameter; a heuristic
_SMALLEST_SHARE = 0.5


def choose_targets(fingerprint: Fingerprint, loss: str, padded: bool) -> Choice[str | None]:
    """What the network learns of instances; None where the dataset has no instance maps, or regions, which may overlap."""
    if not fingerprint.instance_sizes or fingerprint.regions:
        return Choice(None, "of datasets with instance maps only")
    if loss != "dice_ce" or not padded:
        return Choice(
            GAPS,
            "objects that touch are parted by a gap of background, as in Ronneberger et al. 2015; levels for a padded network",
        )
    return Choice(
        LEVELS,
        "borders of objects are classes of their own (see instance_depths_voxel), and a watershed from the inner parts gives the instances; "
        "gaps parts objects that touch with background instead (Ronneberger et al. 2015)",
    )


def choose_depths(fingerprint: Fingerprint, spacing_mm: Sequence[float]) -> Choice[tuple[int, ...]]:
    """The greatest depth of each level of an object, in voxels of the network's grid: a single border."""
    dims = len(spacing_mm)
    size = fingerprint.instance_sizes[50] / math.prod(spacing_mm)
    diameter = (size * (4 / math.pi if dims == 2 else 6 / math.pi)) ** (1 / dims)
    width = min(_WIDEST_VOXEL, max(1, round(_BORDER_SHARE * diameter)))
    return Choice(
        (width,),
        f"15 % of the median diameter of an object, {diameter:.3g} voxels, 1 to {_WIDEST_VOXEL}; several rising numbers make classes of the "
        "distance to the border, as the deep watershed transform has them (Bai & Urtasun 2017)",
    )


def choose_smallest(fingerprint: Fingerprint) -> Choice[float]:
    """Size of the smallest instance that a prediction keeps."""
    size = _SMALLEST_SHARE * fingerprint.instance_sizes[1]
    return Choice(
        float(f"{size:.3g}"),
        "smaller instances are left out, in mm^3, or pixels of pictures: half of what one of a hundred objects falls below",
    )


def choose_instances(
    fingerprint: Fingerprint, loss: str, padded: bool, spacing_mm: Sequence[float]
) -> Iterator[tuple[str, dict[str, object]]]:
    """The plan's fields about instances with their reasons.

    Args:
        loss, padded, spacing_mm: fields of the plan that are known.
    """
    targets = choose_targets(fingerprint, loss, padded)
    yield (
        targets.reason,
        {"instance_targets": targets.value, "instance_depths_voxel": (), "instance_seed_threshold": 0.5},
    )
    if targets.value is None:
        yield targets.reason, {"instance_smallest": 0.0}
        return
    depths = choose_depths(fingerprint, spacing_mm)
    yield depths.reason, {"instance_depths_voxel": depths.value if targets.value == LEVELS else ()}
    yield (
        "of the expected depth, which a seed of the watershed exceeds where several lie in one part of the mask",
        {"instance_seed_threshold": 0.5},
    )
    smallest = choose_smallest(fingerprint)
    yield smallest.reason, {"instance_smallest": smallest.value}


def list_unused(plan: Plan) -> set[str]:
    """Fields that a plan.yaml need not have: those about instances, and about borders that part a label, where there are none."""
    unused = (
        set() if plan.instance_targets else {name for name in type(plan).model_fields if name.startswith("instance_")}
    )
    return unused | (set() if plan.border_threshold is not None else {"border_threshold"})


def check_instances(plan: Plan) -> None:
    """Whether what a plan says of instances goes together.

    Raises:
        ValueError: it does not.
    """
    targets, depths = plan.instance_targets, plan.instance_depths_voxel
    if (targets == LEVELS) != bool(depths) or sorted(set(depths)) != list(depths):
        raise ValueError(
            f"instance_depths_voxel is {depths} and instance_targets {targets!r}; expected rising depths with 'levels', none otherwise"
        )
    if depths and (not plan.padded or plan.loss != "dice_ce"):
        raise ValueError(
            f"instance_targets is 'levels', padded {plan.padded} and loss {plan.loss!r}; expected padded true and 'dice_ce', or 'gaps'"
        )
    if targets is not None and (plan.regions or len(plan.label_table) < 2):
        raise ValueError(
            f"instance_targets is {targets!r}; expected a label beside the first, and no regions, which may overlap"
        )


def name_levels(plan: Plan) -> tuple[str, ...]:
    """Of the classes behind the labels: parts of objects near their border, the outermost first."""
    places = "pixels" if plan.spatial_dims == 2 else "voxels"
    return tuple(f"border to {depth} {places}" for depth in plan.instance_depths_voxel)


def mends_label_maps(plan: Plan) -> bool:
    """Whether something behind the network needs scikit-image and SciPy."""
    mended = plan.fill_holes or plan.keep_largest_component or plan.remove_small_objects
    return bool(mended or plan.instance_targets or plan.border_threshold is not None)
