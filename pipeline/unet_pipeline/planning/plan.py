"""The plan: every number of a training and of its bundle, as a frozen record that a person reads and edits.

`configs/plan.yaml` is its file. A field here, the id in the generated configs, and the name in the wiring are one word.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unet_pipeline.dataset.names import name_region_value
from unet_pipeline.errors import PlanError, suggest
from unet_pipeline.networks.shape import Shape
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.networks.unpadded import compute_output_size
from unet_pipeline.planning.border_rules import check_borders
from unet_pipeline.planning.earlier_plans import find_changes, list_notes, rename_fields
from unet_pipeline.planning.instance_rules import check_instances
from unet_pipeline.planning.label_codes import LabelCode, propose_code
from unet_pipeline.planning.losses import LOSSES
from unet_pipeline.planning.other_sites import OtherSites
from unet_pipeline.results import Result
from unet_pipeline.text_files import parse_yaml, read_text
from unet_pipeline.types import BACKGROUND

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
_CODES = 254  # of voxels in 8 bits, beside the one without annotation
Positive = Annotated[float, Field(gt=0)]


class Plan(Result, BaseModel):
    """Numbers of one plan; `rules.py` says how each is chosen, `plan.yaml` carries the reasons.

    Spatial sequences have one entry per axis (i, j[, k]) after re-orientation to `axcodes`; `strides`,
    `kernel_size` and `filters` have one entry per level of the network, the full resolution first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    # data
    dataset_name: str
    dataset_dir: str
    image_suffix: str
    output_suffix: str
    channel_names: tuple[str, ...]
    label_table: dict[str, int]
    ignore_value: Annotated[int, Field(ge=1, le=255)] | None = None
    regions: dict[str, tuple[int, ...]]
    missing_labels: tuple[tuple[str, ...], ...] = ()
    missing_channels: tuple[str, ...] = ()
    spatial_dims: Annotated[int, Field(ge=2, le=3)]
    num_folds: Count
    fold: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]
    # grid and intensities
    axcodes: str | None  # None: as stored in the file
    spacing_mm: tuple[Positive, ...]
    image_interpolation: Literal["bilinear", "nearest"]
    clip_intensity: bool
    intensity_lower: float
    intensity_upper: float
    intensity_subtrahend: tuple[float, ...] | None
    intensity_divisor: tuple[Positive, ...] | None
    # network
    network_name: str
    padded: bool
    normalisation: Literal["instance", "batch", "none"]
    filters: tuple[Count, ...]
    kernel_size: tuple[tuple[Count, ...], ...]
    strides: tuple[tuple[Count, ...], ...]
    num_blocks: tuple[Count, ...] | None
    dropout: Annotated[float, Field(ge=0, lt=1)]
    num_supervised_heads: Annotated[int, Field(ge=0)]
    supervision_weights: tuple[Positive, ...]
    pruned_to: Count | None
    # loss
    loss: str
    class_weights: tuple[Positive, ...] | None
    border_weight: Annotated[float, Field(ge=0)] | None
    border_sigma_voxel: Positive | None
    # patches
    memory_gib: Positive
    patch_size: tuple[Count, ...]
    batch_size: Count
    crop_ratios: tuple[Share, ...]
    # schedule
    num_epochs: Count
    iterations_per_epoch: Count
    val_interval: Count
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_iterations: Annotated[int, Field(ge=0)]
    gradient_clip_norm: Positive
    # augmentation
    affine_probability: Share
    rotation_range_rad: tuple[float, ...]
    scale_range: tuple[Positive, Positive]
    stretch_range: Annotated[float, Field(ge=0)]
    elastic_probability: Share
    elastic_control_points: tuple[Count, ...]
    elastic_sigma_voxel: Annotated[float, Field(ge=0)]
    noise_probability: Share
    noise_std: float
    blur_probability: Share
    blur_sigma_voxel: tuple[float, float]
    brightness_probability: Share
    brightness_range: float
    contrast_probability: Share
    contrast_range: float
    low_resolution_probability: Share
    low_resolution_zoom: tuple[float, float]
    gamma_probability: Share
    gamma_range: tuple[float, float]
    mirror_probability: tuple[Share, ...]
    channel_dropout: Share = 0.0
    other_sites: OtherSites | None = None
    # inference
    window_size: tuple[Count, ...]
    window_overlap: Annotated[float, Field(ge=0, lt=1)]
    validation_overlap: Annotated[float, Field(ge=0, lt=1)]
    window_batch_size: Count
    # output
    temperature: Positive
    fill_holes: tuple[str, ...]
    keep_largest_component: tuple[str, ...]
    remove_small_objects: Annotated[float, Field(ge=0)]
    # evaluation; a plan.yaml may lack these, as those of the first bundles do
    tolerance_mm: dict[str, Positive] = {}
    lesion_labels: tuple[str, ...] = ()
    thin_labels: tuple[str, ...] = ()
    separated_labels: tuple[str, ...] = ()
    border_threshold: Share | None = None
    label_codes: dict[str, LabelCode | None] = {}
    # of instances, imported networks and fine-tuning; a plan.yaml may lack them
    instance_targets: Literal["levels", "gaps"] | None = None
    instance_depths_voxel: tuple[Count, ...] = ()
    instance_seed_threshold: Share = 0.5
    instance_smallest: Annotated[float, Field(ge=0)] = 0.0
    transposed_bias: bool = False
    initial_weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    # machine
    cache_rate: Share
    num_workers: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _check_lengths(self) -> Plan:
        dims, levels = self.spatial_dims, len(self.filters)
        for name in ("spacing_mm", "patch_size", "window_size", "elastic_control_points", "mirror_probability"):
            if len(getattr(self, name)) != dims:
                raise ValueError(f"{name} has {len(getattr(self, name))} values {getattr(self, name)}; expected {dims}")
        rotations = 1 if dims == 2 else 3
        if len(self.rotation_range_rad) != rotations:
            raise ValueError(f"rotation_range_rad is {self.rotation_range_rad}; expected {rotations} value(s)")
        for name in ("kernel_size", "strides"):
            value = getattr(self, name)
            if len(value) != levels or any(len(level) != dims for level in value):
                raise ValueError(f"{name} is {value}; expected {levels} levels of {dims} values")
        return self

    @model_validator(mode="after")
    def _check_network(self) -> Plan:
        if self.network_name not in NETWORKS:
            raise ValueError(f"network_name is {self.network_name!r}; {suggest(self.network_name, NETWORKS)}")
        row = NETWORKS[self.network_name]
        if not self.padded and not row.convolutions_per_level:
            raise ValueError(f"padded is false; {self.network_name} has padded convolutions only")
        if self.transposed_bias and not row.up_convolution_bias:
            raise ValueError(f"transposed_bias is true; {self.network_name} has no such choice")
        if row.num_blocks and len(self.num_blocks or ()) != len(self.filters):
            raise ValueError(f"num_blocks is {self.num_blocks}; expected {len(self.filters)} values, one per level")
        for name in ("patch_size", "window_size"):
            self._check_size(name, getattr(self, name))
        return self

    def _check_size(self, name: str, size: tuple[int, ...]) -> None:
        factors = self.total_stride
        if self.padded:
            if any(voxels % factor for voxels, factor in zip(size, factors, strict=True)):
                raise ValueError(f"{name} is {size}; expected multiples of the total stride {factors}")
            return
        try:
            output = compute_output_size(size, self.shape)
        except PlanError as error:
            raise ValueError(f"{name} is {size}: {str(error).rstrip('.')}") from error
        if any(voxels < factor for voxels, factor in zip(output, factors, strict=True)):
            raise ValueError(f"{name} is {size}, which gives an output of {output}; expected at least {factors}")

    @model_validator(mode="after")
    def _check_counts(self) -> Plan:
        levels = len(self.filters)
        for name in ("crop_ratios", "class_weights"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.label_table):
                raise ValueError(f"{name} has {len(value)} values; expected {len(self.label_table)}, one per label")
        row = NETWORKS[self.network_name]
        least, most = row.bound_heads(levels)
        if not least <= self.num_supervised_heads <= most:
            raise ValueError(f"num_supervised_heads is {self.num_supervised_heads}; expected {least} to {most}")
        if len(self.supervision_weights) != self.num_supervised_heads + 1:
            raise ValueError(
                f"supervision_weights has {len(self.supervision_weights)} values; expected {self.num_supervised_heads + 1}"
            )
        if self.pruned_to is not None and (row.heads != "nested" or self.pruned_to > levels - 1):
            raise ValueError(f"pruned_to is {self.pruned_to}; expected null, or a head of a network with nested heads")
        return self

    @model_validator(mode="after")
    def _check_loss(self) -> Plan:
        if self.loss not in LOSSES:
            raise ValueError(f"loss is {self.loss!r}; {suggest(self.loss, LOSSES)}")
        if [name for name in LOSSES[self.loss] if getattr(self, name, 0) is None]:
            numbers = ", ".join(name for name in LOSSES[self.loss] if name in type(self).model_fields)
            raise ValueError(f"loss is {self.loss!r}; expected values for {numbers}")
        if self.loss == "region_dice_ce" and not self.regions:
            raise ValueError("loss is 'region_dice_ce' and regions is empty; expected regions, or the loss 'dice_ce'")
        check_instances(self)
        return self

    @model_validator(mode="after")
    def _check_data(self) -> Plan:
        for name in ("intensity_subtrahend", "intensity_divisor"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.channel_names):
                raise ValueError(f"{name} is {value}; expected {len(self.channel_names)} values, one per channel")
        for name, values in self.regions.items():
            if name in self.label_table or not values or set(values) - set(self.label_table.values()):
                raise ValueError(
                    f"regions has {name!r} with the values {values}; expected a name that is no label, with values of label_table"
                )
        self._check_missing_labels()
        for name in ("fill_holes", "keep_largest_component"):
            if unknown := sorted(set(getattr(self, name)) - set(list(self.label_table)[1:])):
                raise ValueError(f"{name} has {unknown[0]!r}; {suggest(unknown[0], self.label_table)}")
        if unknown := sorted(set(self.label_codes) - set(self.label_table)):
            raise ValueError(f"label_codes has {unknown[0]!r}; {suggest(unknown[0], self.label_table)}")
        measured = (*self.label_table, *self.regions)
        for name in ("tolerance_mm", "lesion_labels", "thin_labels", "separated_labels"):
            if unknown := sorted(set(getattr(self, name)) - set(measured)):
                raise ValueError(f"{name} has {unknown[0]!r}; {suggest(unknown[0], measured)}")
        check_borders(self)
        if self.other_sites is not None:
            self.other_sites.check(len(self.channel_names), self.spatial_dims)
        if self.fold >= self.num_folds:
            raise ValueError(f"fold is {self.fold}; expected 0 to {self.num_folds - 1}")
        return self

    @model_validator(mode="after")
    def _check_missing_channels(self) -> Plan:
        if unknown := sorted(set(self.missing_channels) - set(self.channel_names)):
            raise ValueError(f"missing_channels has {unknown[0]!r}; {suggest(unknown[0], self.channel_names)}")
        if self.missing_channels and len(self.channel_names) < 2:
            raise ValueError("missing_channels has a name, and there is one channel; expected several channels")
        return self

    def _check_missing_labels(self) -> None:
        if not self.missing_labels:
            return
        first, *others = self.label_table
        if any(not names or set(names) - set(others) for names in self.missing_labels) or first != BACKGROUND:
            raise ValueError(
                f"missing_labels is {self.missing_labels}; expected sets of names of label_table, whose first is {BACKGROUND}"
            )
        if self.instance_targets is not None:
            raise ValueError("missing_labels has sets and instance_targets is not null; expected one of both only")
        if len(self.label_table) + len(self.missing_labels) >= _CODES:
            raise ValueError(
                f"missing_labels has {len(self.missing_labels)} sets; labels and sets have {_CODES} codes together"
            )

    @property
    def scored_labels(self) -> tuple[str, ...]:
        """Labels and regions that a mean is taken over: the regions, and the labels that the dataset names beside them."""
        labels = [name for name in self.label_table if name != BACKGROUND]
        if not self.regions:
            return tuple(labels)
        return (
            *self.regions,
            *(name for name in labels if name != name_region_value(self.label_table[name], self.regions)),
        )

    def tolerance_of(self, name: str) -> float:
        """Tolerance of the normalised surface dice for a label or region; one voxel of the plan's grid where the plan has none."""
        return self.tolerance_mm.get(name, max(self.spacing_mm))

    def code_of(self, label: str) -> LabelCode | None:
        """What a label is, in codes; by its name where the plan is of an earlier version, None where nobody said."""
        return self.label_codes[label] if label in self.label_codes else propose_code(label, self.dataset_name)

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """Axes along which the training mirrors, and a prediction may."""
        return tuple(axis for axis, probability in enumerate(self.mirror_probability) if probability > 0)

    @property
    def shape(self) -> Shape:
        """What the plan says of the network."""
        return Shape(
            network=self.network_name,
            num_channels=len(self.channel_names),
            num_classes=len(self.label_table) + len(self.instance_depths_voxel),
            filters=self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            padded=self.padded,
            normalisation=self.normalisation,
            num_supervised_heads=self.num_supervised_heads,
            num_blocks=self.num_blocks or (),
            transposed_bias=self.transposed_bias,
        )

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels per axis that the network's output lacks on each side; 0 with padding."""
        if self.padded:
            return (0,) * self.spatial_dims
        output = compute_output_size(self.patch_size, self.shape)
        return tuple((voxels - left) // 2 for voxels, left in zip(self.patch_size, output, strict=True))

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Product of the strides per axis; with padding, sizes of patches and windows are multiples of it."""
        return tuple(math.prod(level[axis] for level in self.strides) for axis in range(self.spatial_dims))


def read_plan(path: Path) -> Plan:
    """Read plan.yaml.

    Raises:
        PlanError: the file is missing or no YAML, a field is unknown, missing, or has a value that cannot be.
    """
    return parse_plan(_read_content(path), f"{path.parent.name}/{path.name}")


def parse_plan(content: dict[str, object], shown: str) -> Plan:
    """A plan from the contents of a plan.yaml, also of an earlier version.

    Raises:
        PlanError: a field is unknown, missing, or has a value that cannot be.
    """
    content = rename_fields(content, shown)
    changes = {name: value for name, (value, _) in find_changes(content).items()}
    return build_plan_from(content | changes, shown)


def read_changes(path: Path) -> dict[str, tuple[Any, str]]:
    """Fields of a plan.yaml of an earlier version that `read_plan` reads with another value, with the reason."""
    return find_changes(_read_content(path))


def read_notes(path: Path) -> tuple[str, ...]:
    """What `read_plan` reads otherwise than it stands in a plan.yaml of an earlier version, as clauses; `plan --refresh` writes it."""
    return list_notes(_read_content(path))


def _read_content(path: Path) -> dict[str, object]:
    shown = f"{path.parent.name}/{path.name}"
    try:
        content = parse_yaml(read_text(path, PlanError))
    except FileNotFoundError as error:
        raise PlanError(f"{shown} does not exist. Make a bundle with `unet-pipeline plan DATASET BUNDLE`.") from error
    except yaml.YAMLError as error:
        raise PlanError(f"{shown} is not valid YAML: {' '.join(str(error).split())}. Correct it.") from error
    except RecursionError as error:
        raise PlanError(
            f"{shown} is nested too deeply; expected lines such as `num_epochs: 100`. Correct it."
        ) from error
    if not isinstance(content, dict):
        raise PlanError(f"{shown} has no fields; expected lines such as `num_epochs: 100`.")
    return content


def build_plan_from(content: dict[str, object], shown: str) -> Plan:
    """A plan from plain values.

    Raises:
        PlanError: names the first field that is wrong, with its value.
    """
    for name in content:
        if name not in Plan.model_fields:
            raise PlanError(f"{shown} has the unknown field {name!r}; {suggest(str(name), Plan.model_fields)}.")
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name, rule = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            raise PlanError(f"{shown} lacks the field {name!r}. Add it, or plan again.") from error
        if not name:  # a rule across fields carries its own names and values
            raise PlanError(f"{shown}: {rule}. Correct it.") from error
        rule = rule if first["type"] == "value_error" else rule.lower()
        raise PlanError(f"{shown}: {name} is {first['input']!r}; {rule}. Correct it.") from error
