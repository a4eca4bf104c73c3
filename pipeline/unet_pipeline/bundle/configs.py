"""Plan + wiring -> the JSON configs of a bundle, each complete alone.

JSON, because `monai.bundle.load`, MONAI Label and MONAI Deploy read it and PyYAML is no dependency of MONAI.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from unet_pipeline.bundle.earlier import rename_ids
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.modules import list_modules
from unet_pipeline.config_values import quote_value
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.errors import BundleError, PlanError, suggest
from unet_pipeline.files import format_json, write_json, write_text, write_together
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.plan import Plan
from unet_pipeline.text_files import parse_yaml, read_json_object
from unet_pipeline.types import BACKGROUND

CONFIGS = ("train", "inference", "evaluate", "multi_gpu_train")
OVERLAYS = ("evaluate", "multi_gpu_train")  # on train
_WIRING = resources.files("unet_pipeline.wiring")
_REFERENCE = re.compile(r"@(\w+)")


def compute_numbers(plan: Plan) -> dict[str, object]:
    """The plan's fields, and what follows from them, under the names that the wiring uses."""
    numbers = plan.model_dump(mode="json")
    labels = list(plan.label_table.items())
    numbers["dataset_location"] = quote_value(numbers.pop("dataset_dir"))
    numbers["num_channels"] = len(plan.channel_names)
    numbers["num_classes"] = num_classes = plan.shape.num_classes
    numbers["num_label_classes"], numbers["num_object_labels"] = len(labels), len(labels) - 1
    numbers["instance_gaps"] = plan.instance_targets == "gaps"
    numbers["label_values"] = [value for _, value in labels]
    numbers["class_indices"] = list(range(len(labels)))
    # voxels without annotation become a class behind the last one, which no network gives
    ignored = [] if plan.ignore_value is None else [(plan.ignore_value, num_classes)]
    numbers["annotated_values"] = [*numbers["label_values"], *(value for value, _ in ignored)]
    numbers["annotated_classes"] = [*numbers["class_indices"], *(index for _, index in ignored)]
    numbers["ignored_class"] = num_classes if ignored else None
    classes = {name: index for index, (name, _) in enumerate(labels)}
    numbers["missing_classes"] = [sorted(classes[name] for name in names) for names in plan.missing_labels]
    numbers["first_uncertain_code"] = num_classes + 1  # behind that of voxels without annotation
    numbers["separated_classes"] = [classes[name] for name in plan.separated_labels if name in classes]
    numbers["fill_holes_classes"] = [classes[name] for name in plan.fill_holes]
    numbers["keep_largest_component_classes"] = [classes[name] for name in plan.keep_largest_component]
    numbers["uncalibrated"], numbers["logit_factor"] = plan.temperature == 1, 1 / plan.temperature - 1
    # every region, and every class alone that no region is equal to
    joined = [[index for index, (_, value) in enumerate(labels) if value in region] for region in plan.regions.values()]
    alone = [classes[name] for name in plan.scored_labels if name in classes]
    numbers["region_classes"] = [*joined, *([index] for index in alone)]
    numbers["score_first_label"] = labels[0][0] != BACKGROUND
    numbers["upsample_kernel_size"] = numbers["strides"][1:]
    numbers["total_stride"], numbers["margin"] = list(plan.total_stride), list(plan.margin)
    numbers["image_pattern"] = f"*{plan.image_suffix}"
    return numbers


def build_configs(plan: Plan) -> dict[str, dict[str, object]]:
    """Contents of train.json, inference.json, evaluate.json and multi_gpu_train.json.

    The numbers that a config refers to come first, under their names in the plan.

    Raises:
        PlanError: the wiring refers to a name that neither it nor the plan has.
    """
    numbers = compute_numbers(plan)
    configs: dict[str, dict[str, object]] = {}
    for name in CONFIGS:
        below = configs["train"] if name in OVERLAYS else None
        wiring = _join(list_sources(name, plan), {} if name in OVERLAYS else _define_network(name, plan))
        configs[name] = _complete(name, wiring, numbers, below)
    return configs


def list_sources(config: str, plan: Plan) -> tuple[str, ...]:
    """Files of the wiring that one config is made of, in their order."""
    network = (
        "shared",
        *(("as_stored",) if plan.axcodes is None else ()),
        *(("channels_last",) if _has_channels_last(plan) else ()),
        *(() if plan.padded else ("overlap_tile",)),
        *(("own_modules",) if list_modules(plan) else ()),
    )
    native = (
        "native",
        *(("instances",) if plan.instance_targets else ()),
        *(() if plan.border_threshold is None else ("closed_borders",)),
    )
    if config == "inference":
        output = (
            *(("flat_nifti",) if _is_flat_nifti(plan) else ()),
            *(("instance_output",) if plan.instance_targets else ()),
        )
        return (*network, *native, "inference", *output)
    if config == "evaluate":
        return (*native, "evaluate", *(("evaluate_partial_labels",) if plan.missing_labels else ()))
    if config == "multi_gpu_train":
        return ("multi_gpu_train",)
    instances = () if plan.instance_targets is None else ("train_instances",)
    instances = (*instances, *(("train_instance_levels",) if plan.instance_depths_voxel else ()))
    start = () if plan.initial_weights_sha256 is None else ("train_initial_weights",)
    start = (*start, *(("train_as_stored",) if plan.axcodes is None else ()))
    start = (*start, *(("train_other_sites",) if plan.other_sites is not None else ()))
    start = (*start, *(("train_missing_channels",) if plan.missing_channels else ()))
    return (
        *network,
        "train",
        *instances,
        *start,
        f"loss_{plan.loss}",
        *(() if plan.padded else ("train_overlap_tile",)),
        *(("train_partial_labels",) if plan.missing_labels else ()),
    )


def _define_network(config: str, plan: Plan) -> dict[str, object]:
    row = NETWORKS[plan.network_name]
    definition = {"_target_": row.bundle_target(config == "train"), **row.arguments}
    return {"network_def": definition | ({row.up_convolution_bias: True} if plan.transposed_bias else {})}


def _has_channels_last(plan: Plan) -> bool:
    """Whether the images are 2D with several channels in NIfTI files, whose third axis MONAI would take for slices."""
    return _is_flat_nifti(plan) and len(plan.channel_names) > 1


def _is_flat_nifti(plan: Plan) -> bool:
    return plan.spatial_dims == 2 and plan.image_suffix not in PICTURE_SUFFIXES


def _complete(
    name: str, wiring: dict[str, object], numbers: dict[str, object], below: dict[str, object] | None = None
) -> dict[str, object]:
    """The wiring with the numbers that it refers to and that the config below it does not have yet."""
    known = {**(below or {}), **wiring}
    referred = find_references(wiring) - known.keys()
    if missing := sorted(referred - numbers.keys()):
        raise PlanError(
            f"The wiring of {name} refers to the unknown id @{missing[0]}; {suggest(missing[0], [*known, *numbers])}."
        )
    return {**{number: value for number, value in numbers.items() if number in referred}, **wiring}


def _join(sources: tuple[str, ...], network: dict[str, object]) -> dict[str, object]:
    """Files of the wiring in one, the network behind the first.

    An id such as `network_def#_target_` or `image_transforms#2` sets one entry inside another id. In an overlay it stays as it is,
    for MONAI to do that.
    """
    wiring: dict[str, object] = {}
    for source in sources:
        for key, value in parse_yaml((_WIRING / f"{source}.yaml").read_text(encoding="utf-8")).items():
            *parents, last = key.split("#")
            if parents and parents[0] not in wiring:
                parents, last = [], key
            place: Any = wiring
            for parent in parents:
                place = place[int(parent) if isinstance(place, list) else parent]
            place[int(last) if isinstance(place, list) else last] = value
        wiring |= network if source == sources[0] else {}
    return wiring


def find_references(content: Any) -> set[str]:
    """Top-level ids that a config refers to with "@"."""
    if isinstance(content, dict):
        return set().union(*(find_references(value) for value in content.values()), set())
    if isinstance(content, list):
        return set().union(*(find_references(value) for value in content), set())
    if isinstance(content, str) and content.startswith(("@", "$")):
        return set(_REFERENCE.findall(content))
    return set()


def write_configs(folder: BundleFolder, plan: Plan, force: bool = False) -> tuple[Path, ...]:
    """Write the generated configs and logging.conf.

    Args:
        plan: as read from its plan.yaml.
        force: overwrite configs that were edited by hand.

    Raises:
        BundleError: a config was edited by hand since it was generated, and `force` is not set.
    """
    configs = build_configs(plan)
    if not force and (edited := find_edited_configs(folder)):
        names = ", ".join(f"configs/{name}.json" for name in edited)
        raise BundleError(
            f"Edited by hand since generated: {names} in {folder.name}. Move the changes to configs/plan.yaml, "
            "or give --force to overwrite them."
        )
    texts = {name: format_json(content) + "\n" for name, content in configs.items()}
    with write_together():  # configs without their hashes would count as edited by hand
        for name, text in texts.items():
            write_text(folder.config(name), text)
        write_text(folder.logging, read_logging())
        hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        write_json(folder.generated_configs, hashes)
    return tuple(folder.config(name) for name in configs)


def read_logging() -> str:
    """Contents of a bundle's logging.conf."""
    return (_WIRING / "logging.conf").read_text(encoding="utf-8")


def find_edited_configs(folder: BundleFolder) -> tuple[str, ...]:
    """Names of generated configs whose file is another one now."""
    if not folder.generated_configs.is_file():
        return ()
    hashes = read_json_object(folder.generated_configs)
    return tuple(
        name for name, value in hashes.items() if folder.config(name).is_file() and _hash_config(folder, name) != value
    )


def find_differences(folder: BundleFolder, plan: Plan) -> tuple[str, ...]:
    """Ids, as `train: num_epochs`, in which the bundle's configs differ from what the plan gives."""
    differences = []
    for name, expected in build_configs(plan).items():
        in_bundle = rename_ids(read_json_object(folder.config(name)))
        # through JSON, so that tuples and lists compare equal
        expected = json.loads(json.dumps(expected))
        differences += [
            f"{name}: {key}"
            for key in sorted(in_bundle.keys() | expected.keys())
            if in_bundle.get(key) != expected.get(key)
        ]
    return tuple(differences)


def _hash_config(folder: BundleFolder, name: str) -> str:
    return hashlib.sha256(folder.config(name).read_bytes()).hexdigest()


def copy_license(folder: BundleFolder) -> None:
    """Put the licence of the configs into the bundle."""
    with resources.as_file(resources.files("unet_pipeline.bundle") / "LICENSE.txt") as source:
        shutil.copyfile(source, folder.root / "LICENSE")
