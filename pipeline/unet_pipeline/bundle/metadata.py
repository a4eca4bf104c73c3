"""configs/metadata.json, generated from the plan and, once there are any, from the results of the evaluation.

`Metadata` holds what MONAI's schema of 2024-07-25 asks for, so that a bundle is verified without a network.
"""

from __future__ import annotations

from importlib import metadata as distributions

from pydantic import BaseModel, ConfigDict, Field

from unet_pipeline import __version__
from unet_pipeline.config_values import quote_name
from unet_pipeline.networks.unpadded import compute_input_size
from unet_pipeline.planning.instance_rules import mends_label_maps, name_levels
from unet_pipeline.planning.plan import Plan
from unet_pipeline.types import BACKGROUND

SCHEMA_URL = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
INTENDED_USE = "Research only. Not a medical device; not for diagnosis or treatment."
REQUIRED_FOR_INFERENCE = ("nibabel", "pytorch-ignite", "pillow")
REQUIRED_FOR_CONNECTED_PARTS = ("scikit-image", "scipy")  # when the plan post-processes
_OWN_NAME = "unet-pipeline"
REQUIRED_FOR_TRAINING = ("tensorboard", _OWN_NAME)


class Tensor(BaseModel):
    """A tensor that goes into or comes out of the network."""

    model_config = ConfigDict(extra="forbid")

    type: str
    format: str
    modality: str | None = None
    num_channels: int = Field(ge=1)
    spatial_shape: list[str | int]
    dtype: str
    value_range: list[float]
    is_patch_data: bool
    channel_def: dict[str, str]


class DataFormat(BaseModel):
    """Tensors by name; MONAI's tools look for `image` and `pred`."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Metadata(BaseModel):
    """Contents of metadata.json."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_url: str = Field(alias="schema")
    version: str
    changelog: dict[str, str]
    monai_version: str
    pytorch_version: str
    numpy_version: str
    required_packages_version: dict[str, str]
    name: str
    task: str
    description: str
    authors: str
    copyright: str
    data_source: str
    data_type: str
    image_classes: str
    label_classes: str
    pred_classes: str
    eval_metrics: dict[str, float]
    intended_use: str
    references: list[str]
    network_data_format: DataFormat


def build_metadata(
    plan: Plan, name: str, version: str, changelog: dict[str, str], eval_metrics: dict[str, float], stored: str = ""
) -> dict[str, object]:
    """Contents of metadata.json as plain values.

    Args:
        changelog: what each version changed.
        eval_metrics: results of the evaluation by metric and label; empty before there are any.
        stored: type of the weights in models/model.pt; empty before there are any.
    """
    description = f"Segmentation network trained on {plan.dataset_name}. {', '.join(REQUIRED_FOR_TRAINING)} are needed for training only."
    if stored:
        description += f" The weights are stored in {stored}; the network computes in float32."
    shown = ", ".join(f"{label}={value}" for label, value in plan.label_table.items())
    content = Metadata(
        schema=SCHEMA_URL,
        version=version,
        changelog=changelog,
        monai_version=_version_of("monai"),
        pytorch_version=_version_of("torch").partition("+")[0],
        numpy_version=_version_of("numpy"),
        required_packages_version={package: _version_of(package) for package in list_required_packages(plan)},
        name=quote_name(name),
        task=f"{plan.spatial_dims}D segmentation of {', '.join(label for label in list(plan.label_table)[1:])}",
        description=description,
        authors="see docs/README.md",
        copyright="see LICENSE for the configs and docs/data_license.txt for the data",
        data_source=quote_name(plan.dataset_name),
        data_type=plan.image_suffix.lstrip("."),
        image_classes=f"{quote_name(', '.join(plan.channel_names))}; resampled to {list(plan.spacing_mm)}, normalised by the preprocessing",
        label_classes=quote_name(shown),
        pred_classes=quote_name(shown),
        eval_metrics=eval_metrics,
        intended_use=INTENDED_USE,
        references=[
            "Isensee et al. 2021, nnU-Net, Nature Methods 18:203-211",
            "Ronneberger et al. 2015, U-Net, MICCAI, arXiv:1505.04597",
        ],
        network_data_format=_build_data_format(plan),
    )
    return content.model_dump(mode="json", by_alias=True, exclude_none=True)


def list_required_packages(plan: Plan) -> tuple[str, ...]:
    """Distributions that the bundle needs beside MONAI, PyTorch and NumPy."""
    connected = mends_label_maps(plan)
    return (
        *REQUIRED_FOR_INFERENCE,
        *(REQUIRED_FOR_CONNECTED_PARTS if connected else ()),
        *REQUIRED_FOR_TRAINING,
    )


def _build_data_format(plan: Plan) -> DataFormat:
    """What goes into and comes out of the network, for one patch."""
    classes = {str(index): quote_name(label) for index, label in enumerate((*plan.label_table, *name_levels(plan)))}
    format_name = "magnitude" if plan.spatial_dims == 3 else "image"
    spatial_shape = _describe_sizes(plan)
    image = Tensor(
        type="image",
        format=format_name,
        modality=quote_name(", ".join(plan.channel_names)),
        num_channels=len(plan.channel_names),
        spatial_shape=spatial_shape,
        dtype="float32",
        value_range=[],
        is_patch_data=True,
        channel_def={str(index): quote_name(channel) for index, channel in enumerate(plan.channel_names)},
    )
    # MONAI's tools look for the name "background" in the first class, whatever the label table calls it
    classes_for_monai = {**classes, "0": BACKGROUND} if BACKGROUND not in plan.label_table else classes
    pred = Tensor(
        type="image",
        format="segmentation",
        num_channels=len(classes),
        spatial_shape=spatial_shape,
        dtype="float32",
        value_range=[],
        is_patch_data=True,
        channel_def=classes_for_monai,
    )
    return DataFormat(inputs={"image": image}, outputs={"pred": pred})


def _describe_sizes(plan: Plan) -> list[str | int]:
    """Sizes that the network accepts, as expressions of any n from 1 on."""
    least = compute_least_size(plan)
    if plan.padded:
        return [f"{size}*n" for size in least]
    return [f"{factor}*n+{size - factor}" for factor, size in zip(plan.total_stride, least, strict=True)]


def compute_least_size(plan: Plan) -> tuple[int, ...]:
    """The smallest input that the metadata promises, per axis."""
    if plan.padded:  # instance normalisation needs more than one voxel at the lowest level
        return tuple(2 * factor for factor in plan.total_stride)
    return tuple(compute_input_size(plan.total_stride, plan.shape))


def _version_of(distribution: str) -> str:
    return __version__ if distribution == _OWN_NAME else distributions.version(distribution)
