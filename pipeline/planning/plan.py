"""The plan: every number of a training and of its bundle, as a frozen record that a person reads and edits.

`configs/plan.yaml` is its file. A field here, the id in the generated configs, and the name in the wiring are one word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import PlanError, suggest
from pipeline.files import write_text

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Plan(BaseModel):
    """Numbers of one plan; `rules.py` says how each is chosen, `plan.yaml` carries the reasons.

    Spatial sequences have one entry per axis (i, j[, k]) after re-orientation to `axcodes`; `strides`,
    `kernel_size` and `filters` have one entry per level of the network, the full resolution first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # data
    dataset_name: str
    dataset_dir: str
    image_suffix: str
    output_suffix: str
    channel_names: tuple[str, ...]
    label_table: dict[str, int]
    ignore_value: Annotated[int, Field(ge=1, le=255)] | None = None
    spatial_dims: Annotated[int, Field(ge=2, le=3)]
    num_folds: Count
    fold: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]
    # grid and intensities
    axcodes: str
    spacing_mm: tuple[Positive, ...]
    clip_intensity: bool
    intensity_lower: float
    intensity_upper: float
    intensity_subtrahend: tuple[float, ...] | None
    intensity_divisor: tuple[Positive, ...] | None
    # network
    filters: tuple[Count, ...]
    kernel_size: tuple[tuple[Count, ...], ...]
    strides: tuple[tuple[Count, ...], ...]
    num_supervised_heads: Count
    supervision_weights: tuple[Positive, ...]
    # patches
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
    scale_range: tuple[float, ...]
    elastic_probability: Share
    elastic_control_points: tuple[Count, ...]
    elastic_range: float
    linear_mode: str
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
    mirror_probability: tuple[Share, Share, Share]
    # inference
    window_size: tuple[Count, ...]
    window_overlap: Annotated[float, Field(ge=0, lt=1)]
    validation_overlap: Annotated[float, Field(ge=0, lt=1)]
    window_batch_size: Count
    # machine
    cache_rate: Share
    num_workers: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _check_lengths(self) -> Plan:
        dims, levels = self.spatial_dims, len(self.filters)
        for name in ("spacing_mm", "patch_size", "window_size", "elastic_control_points", "scale_range"):
            if len(getattr(self, name)) != dims:
                raise ValueError(f"{name} has {len(getattr(self, name))} values {getattr(self, name)}; expected {dims}")
        for name in ("kernel_size", "strides"):
            value = getattr(self, name)
            if len(value) != levels or any(len(level) != dims for level in value):
                raise ValueError(f"{name} is {value}; expected {levels} levels of {dims} values")
        factors = self.total_stride
        for name in ("patch_size", "window_size"):
            if any(size % factor for size, factor in zip(getattr(self, name), factors, strict=True)):
                raise ValueError(f"{name} is {getattr(self, name)}; expected multiples of the total stride {factors}")
        return self

    @model_validator(mode="after")
    def _check_counts(self) -> Plan:
        levels = len(self.filters)
        if len(self.crop_ratios) != len(self.label_table):
            raise ValueError(
                f"crop_ratios has {len(self.crop_ratios)} values; expected {len(self.label_table)}, one per label"
            )
        if not 1 <= self.num_supervised_heads < levels - 1:
            raise ValueError(f"num_supervised_heads is {self.num_supervised_heads}; expected 1 to {levels - 2}")
        if len(self.supervision_weights) != self.num_supervised_heads + 1:
            raise ValueError(
                f"supervision_weights has {len(self.supervision_weights)} values; expected {self.num_supervised_heads + 1}"
            )
        for name in ("intensity_subtrahend", "intensity_divisor"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.channel_names):
                raise ValueError(f"{name} is {value}; expected {len(self.channel_names)} values, one per channel")
        if self.fold >= self.num_folds:
            raise ValueError(f"fold is {self.fold}; expected 0 to {self.num_folds - 1}")
        return self

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Product of the strides per axis: sizes of patches and windows are multiples of it."""
        totals = [1] * self.spatial_dims
        for level in self.strides:
            totals = [total * stride for total, stride in zip(totals, level, strict=True)]
        return tuple(totals)


_HEADER = """\
# The plan of this bundle: every number, each with its reason. Made by `unet-pipeline plan`.
# Edit a value, then run `unet-pipeline plan --refresh BUNDLE` to write the configs again.
"""


def write_plan(path: Path, plan: Plan, reasons: Mapping[str, str]) -> None:
    """Write plan.yaml: one line per field, its reason as a comment above it.

    Raises:
        PlanError: a field has no reason.
    """
    lines = [_HEADER]
    for name, value in plan.model_dump(mode="json").items():
        if name not in reasons:
            raise PlanError(f"The plan's field {name} has no reason; expected one from the planning rules.")
        lines.append("# " + " ".join(reasons[name].split()))  # a line break would end the comment
        lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")  # JSON is YAML, on one line
        lines.append("")
    write_text(path, "\n".join(lines))


def read_plan(path: Path) -> Plan:
    """Read plan.yaml.

    Raises:
        PlanError: the file is missing or no YAML, a field is unknown, missing, or has a value that cannot be.
    """
    shown = f"{path.parent.name}/{path.name}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError(f"{shown} does not exist. Make a bundle with `unet-pipeline plan DATASET BUNDLE`.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"{shown} is not valid YAML: {error}. Correct it.") from error
    if not isinstance(content, dict):
        raise PlanError(f"{shown} has no fields; expected lines such as `num_epochs: 100`.")
    return build_plan_from(content, shown)


def build_plan_from(content: dict[str, Any], shown: str) -> Plan:
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
        if first["type"] == "missing":
            raise PlanError(f"{shown} lacks the field {first['loc'][0]!r}. Add it, or plan again.") from error
        if not first["loc"]:  # a rule across fields carries its own names and values
            raise PlanError(f"{shown}: {first['msg'].removeprefix('Value error, ')}. Correct it.") from error
        name = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"{shown}: {name} is {first['input']!r}; {first['msg'].lower()}. Correct it.") from error
