"""The numbers of a dataset that the planning rules read, case by case; nothing in it needs the images again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.dataset.image import MedicalImage

if TYPE_CHECKING:
    from pipeline.types import LabelMap

_PIECE = 1 << 20  # voxels
_SMALL_PIECE = 1 << 16
_MAX_FACTOR = 4
_CARRIED_DICE = 0.98
_MAX_SAMPLES_PER_CASE = 10_000  # nnU-Net v2's number; more changes the percentiles in the third digit only
_MAX_SAMPLES = 2_000_000  # of all cases, so that memory does not grow with them; from 200 cases on each gives fewer


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
    still carry the label map (`compute_coarsest_factor`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...] | None = None
    coarsest_factor: int = 1
    num_voxels: dict[str, int]


class Fingerprint(BaseModel):
    """A dataset in numbers.

    `spacing_mm` of pictures is 1.0 per axis and means pixels. `intensities` has one entry per channel.
    `ignore_value` marks voxels without annotation in the label files. `regions` are names for several values together.
    `mirroring_matters`, for each axis of pictures, and `turning_matters` say whether the pictures lie one way round.
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
    intensities: tuple[IntensityStatistics, ...]
    cases: tuple[CaseFingerprint, ...]

    @property
    def num_cases(self) -> int:
        return len(self.cases)

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
    """The fingerprint that `check --out` or `plan` wrote."""
    return Fingerprint.model_validate_json(path.read_text(encoding="utf-8"))


def count_samples(num_cases: int) -> int:
    """The most voxels that each case of a data set gives to the intensity statistics; 1 or more."""
    return max(1, min(_MAX_SAMPLES_PER_CASE, _MAX_SAMPLES // max(1, num_cases)))


def sample_foreground(image: MedicalImage, label: LabelMap, max_samples: int = _MAX_SAMPLES_PER_CASE) -> np.ndarray:
    """Intensities under the foreground, at most `max_samples` evenly spread voxels.

    Works through the volume in pieces and in the order of the memory, so that nothing of its size is allocated.

    Returns:
        shape (channels, samples), float32, or the image's own type where that is smaller; the whole image counts when nothing is
        labelled.
    """
    labels = flatten_in_memory_order(label)
    pieces = range(0, labels.size, _PIECE)
    inside = [int(np.count_nonzero(labels[start : start + _PIECE] > 0)) for start in pieces]
    step = max(1, math.ceil((sum(inside) or labels.size) / max_samples))
    if not sum(inside):
        chosen = np.arange(0, labels.size, step)
    else:
        found, passed = [], 0
        for start, count in zip(pieces, inside, strict=True):
            positions = np.flatnonzero(labels[start : start + _PIECE] > 0)
            found.append(start + positions[-passed % step :: step])
            passed += count
        chosen = np.concatenate(found)
    samples = np.stack([flatten_in_memory_order(channel)[chosen] for channel in image.array])
    return samples if samples.dtype.itemsize < np.dtype(np.float32).itemsize else samples.astype(np.float32)


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


def flatten_in_memory_order(array: np.ndarray) -> np.ndarray:
    """One axis instead of several, the first spatial axis fastest: a view of NIfTI arrays, which `ravel()` would copy."""
    return array.reshape(-1, order="F")


def compute_intensity_statistics(samples: Sequence[np.ndarray]) -> tuple[IntensityStatistics, ...]:
    """Statistics per channel over all cases.

    Args:
        samples: one array of shape (channels, samples) per case.
    """
    found = np.result_type(*(of_case.dtype for of_case in samples))
    dtype = found if found.kind in "iu" and found.itemsize < np.dtype(np.float32).itemsize else np.float32
    return tuple(
        _describe_channel(np.concatenate([of_case[index] for of_case in samples], dtype=dtype))
        for index in range(len(samples[0]))
    )


def _describe_channel(values: np.ndarray) -> IntensityStatistics:
    """Statistics of values that may be overwritten."""
    mean = values.mean(dtype=np.float64)
    pieces = (values[start : start + _SMALL_PIECE] for start in range(0, values.size, _SMALL_PIECE))
    squares = [np.square(piece - mean).sum() for piece in pieces]  # in float64, as the mean is
    low, high = np.percentile(values, [0.5, 99.5], overwrite_input=True)
    return IntensityStatistics(
        mean=float(mean),
        std=math.sqrt(math.fsum(squares) / values.size),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
    )
