"""Puts the post-processing and the temperature that were chosen into a bundle's plan and configs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unet_pipeline.bundle.configs import find_edited_configs, write_configs
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.files import compute_sha256, write_json, write_together
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.evaluation_rules import name_part_unit
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.tuning.choose import SampleAll, Tuning, tune_on
from unet_pipeline.tuning.postprocessing import FILL_HOLES, KEEP_LARGEST


def require_generated_configs(folder: BundleFolder) -> None:
    """Whether tuning may write the configs again.

    Raises:
        BundleError: one was edited by hand.
    """
    if edited := find_edited_configs(folder):
        raise BundleError(
            f"Edited by hand since generated: configs/{edited[0]}.json in {folder.name}; tuning would overwrite it. Move the "
            "changes to configs/plan.yaml and run `unet-pipeline plan --refresh BUNDLE --force`."
        )


def tune_bundle(
    folder: BundleFolder,
    groups: Sequence[Group],
    title: str,
    device: str | None = None,
    mirror: bool = False,
    sample_all: SampleAll | None = None,
) -> Tuning:
    """Tune on the validation cases of every trained fold and write plan, configs and evidence/tuning.json.

    Args:
        folder: the bundle; its configs are as `plan` wrote them (`require_generated_configs`).
        groups: cases and the weights that predict them, from `group_by_fold`.
        title: of the groups.
        device, mirror, sample_all: as in `tune_on`.
    """
    plan = read_plan(folder.plan)
    tuning = tune_on(folder, plan, groups, device, mirror, sample_all)
    record = {
        "title": title,
        "mirrored": mirror,
        "weights_sha256": [compute_sha256(path) for group in groups for path in group.weights],
        **asdict(tuning),
    }
    with write_together():
        write_configs(folder, edit_plan(folder.plan, describe_changes(tuning, plan)))
        write_json(folder.tuning, record)
    return tuning


def describe_changes(tuning: Tuning, plan: Plan) -> dict[str, tuple[Any, str]]:
    """Fields of the plan with their values and reasons; the temperature stays as it is where none was found."""
    source = f"chosen on {tuning.num_cases} out-of-fold predictions (evidence/tuning.json)"
    calibration = tuning.calibration
    temperature = (
        round(calibration.temperature, 4),
        f"logits are divided by it: expected calibration error {calibration.error_before:.4f} before, "
        f"{calibration.error_after:.4f} after; {source}",
    )
    return {
        **({} if calibration.reason else {"temperature": temperature}),
        "fill_holes": (
            list(tuning.list_taken(FILL_HOLES)),
            f"labels whose holes are filled: the interval of the gain in Dice is above 0; {source}",
        ),
        "keep_largest_component": (
            list(tuning.list_taken(KEEP_LARGEST)),
            f"labels of which the largest connected component is kept: the interval of the gain in Dice is above 0; {source}",
        ),
        "remove_small_objects": (
            tuning.remove_small_objects,
            f"smaller objects of a label are removed, in {name_part_unit(plan.image_suffix, plan.spatial_dims)}; {source}",
        ),
    }
