"""The numbers of a dataset that the planning rules read, case by case; nothing in it needs the images again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from unet_pipeline.text_files import read_model

if TYPE_CHECKING:
    from unet_pipeline.types import LabelMap

_MAX_FACTOR = 4
_CARRIED_DICE = 0.98


class IntensityStatistics(BaseModel):
    """Intensities of one channel under the labels other than the first, in the image's own unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class CaseFingerprint(BaseModel):
    """One case: grid, and voxels per label in the order of the label table.

    `spacing_mm` is the grid that the network sees: 1 per axis for pictures, which means pixels. `pixel_spacing_mm` is the
    size of a pixel where the dataset knows it. `coarsest_factor` says for pictures how many times fewer pixels along each axis
    still carry the label map (`compute_coarsest_factor`). `missing_labels` are those that the case is not annotated with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...] | None = None
    coarsest_factor: int = 1
    num_voxels: dict[str, int]
    missing_labels: tuple[str, ...] = ()


class Fingerprint(BaseModel):
    """A dataset in numbers.

    `spacing_mm` of pictures is 1.0 per axis and means pixels. `intensities` has one entry per channel.
    `ignore_value` marks voxels without annotation in the label files. `regions` are names for several values together.
    `mirroring_matters`, for each axis of pictures, and `turning_matters` say whether the pictures lie one way round.
    `modalities` are DICOM's codes of the images, such as "CT"; empty where the files do not say.
    `instance_sizes` are quantiles, 0 to 100 %, of the sizes of all objects of the instance maps, in mm^3, or pixels of pictures; empty
    without instance maps. `missing_channels` are the channels that a case may lack, as the user says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_name: str
    layout: str
    suffix: str
    spatial_dims: int
    channels: tuple[str, ...]
    labels: dict[str, int]
    ignore_value: int | None = None
    regions: dict[str, tuple[int, ...]] = {}
    mirroring_matters: tuple[bool, ...] = ()
    turning_matters: bool = False
    modalities: tuple[str, ...] = ()
    instance_sizes: tuple[float, ...] = ()
    missing_channels: tuple[str, ...] = ()
    intensities: tuple[IntensityStatistics, ...]
    cases: tuple[CaseFingerprint, ...]

    @property
    def num_cases(self) -> int:
        return len(self.cases)

    @property
    def missing_sets(self) -> tuple[tuple[str, ...], ...]:
        """Every set of labels that some cases are not annotated with, in order."""
        return tuple(sorted({case.missing_labels for case in self.cases if case.missing_labels}))

    def median_shape(self, spacing_mm: tuple[float, ...] | None = None) -> tuple[int, ...]:
        """Median number of voxels per axis, on the native grids or as if resampled to `spacing_mm`."""
        shapes = [
            [
                round(size * native / target)
                for size, native, target in zip(case.shape, case.spacing_mm, spacing_mm or case.spacing_mm, strict=True)
            ]
            for case in self.cases
        ]
        return tuple(max(1, round(float(size))) for size in np.median(np.array(shapes), axis=0))

    def num_voxels(self) -> int:
        """Voxels of one channel over all cases."""
        return sum(math.prod(case.shape) for case in self.cases)


def read_fingerprint(path: Path) -> Fingerprint:
    """The fingerprint that `check --out` or `plan` wrote.

    Raises:
        FileContentError: it is damaged.
    """
    return read_model(path, Fingerprint, remedy="Restore it from a copy, or plan again.")


def compute_coarsest_factor(label: LabelMap) -> int:
    """How many times fewer pixels along each axis a picture may have and still carry its label map.

    Args:
        label: shape (i, j).

    Returns:
        The largest factor up to `_MAX_FACTOR` with which every value of the map keeps a Dice of `_CARRIED_DICE` after the
        reduction to every n-th pixel and back; 1 when already the first factor loses more.
    """
    for factor in range(2, _MAX_FACTOR + 1):
        start = factor // 2
        reduced = label[start::factor, start::factor]
        restored = reduced.repeat(factor, axis=0).repeat(factor, axis=1)
        restored = (
            np.pad(restored, [(0, factor)] * 2, mode="edge")[: label.shape[0], : label.shape[1]]
            if reduced.size
            else label
        )
        for value in np.unique(label):
            before, after = label == value, restored == value
            if 2 * np.count_nonzero(before & after) < _CARRIED_DICE * (before.sum() + after.sum()):
                return factor - 1
    return _MAX_FACTOR
