"""Intensities under the labels of a dataset: sampled evenly in each case, pooled over the cases without keeping them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.fingerprint import IntensityStatistics
from unet_pipeline.dataset.medical_image import MedicalImage

if TYPE_CHECKING:
    from unet_pipeline.types import LabelMap

_PIECE = 1 << 20  # voxels
_MAX_SAMPLES_PER_CASE = 10_000  # nnU-Net v2's number; more changes the percentiles in the third digit only
_MAX_SAMPLES = 2_000_000  # of all cases, so that time does not grow with them; from 200 cases on each gives fewer
_TAIL = 0.005


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
        sampled, passed = [], 0
        for start, count in zip(pieces, inside, strict=True):
            positions = np.flatnonzero(labels[start : start + _PIECE] > 0)
            sampled.append(start + positions[-passed % step :: step])
            passed += count
        chosen = np.concatenate(sampled)
    samples = np.stack([flatten_in_memory_order(channel)[chosen] for channel in image.array])
    return samples if samples.dtype.itemsize < np.dtype(np.float32).itemsize else samples.astype(np.float32)


def flatten_in_memory_order(array: np.ndarray) -> np.ndarray:
    """One axis instead of several, the first spatial axis fastest: a view of NIfTI arrays, which `ravel()` would copy."""
    return array.reshape(-1, order="F")


class PooledIntensities:
    """Statistics of the samples of many cases, of which only the tails are kept, because they hold the percentiles.

    Memory does not grow with the cases. All numbers are in float64.

    Args:
        max_samples: of all cases together that will be added, per channel.
    """

    def __init__(self, max_samples: int) -> None:
        self._num_kept = _count_tail(max_samples)
        self._channels: list[_Pool] = []

    def add(self, samples: np.ndarray, missing: Collection[int] = ()) -> None:
        """Pool one more case; one with another number of channels than the first is left out.

        Args:
            samples: shape (channels, samples).
            missing: places of channels that the case lacks, which are left out.
        """
        self._channels = self._channels or [_Pool() for _ in samples]
        if len(samples) == len(self._channels):
            for place, (pool, values) in enumerate(zip(self._channels, samples, strict=True)):
                if place not in missing:
                    pool.add(values.astype(np.float64), self._num_kept)

    def describe(self) -> tuple[IntensityStatistics, ...]:
        """Statistics per channel; none where no case was added."""
        return tuple(pool.describe() for pool in self._channels)


class _Pool:
    """One channel."""

    def __init__(self) -> None:
        self.num_values, self.mean, self.squares = 0, 0.0, 0.0
        self.lowest = self.negated_highest = np.empty(0)

    def add(self, values: np.ndarray, num_kept: int) -> None:
        if not values.size:
            return
        mean, before = float(values.mean()), self.num_values
        self.num_values += values.size
        # Chan, Golub and LeVeque: Algorithms for computing the sample variance, 1983.
        self.squares += float(np.square(values - mean).sum())
        self.squares += (mean - self.mean) ** 2 * before * values.size / self.num_values
        self.mean += (mean - self.mean) * values.size / self.num_values
        self.lowest = _keep_lowest(self.lowest, values, num_kept)
        self.negated_highest = _keep_lowest(self.negated_highest, -values, num_kept)

    def describe(self) -> IntensityStatistics:
        if not self.num_values:  # every case lacks the channel
            return IntensityStatistics(mean=0.0, std=0.0, percentile_00_5=0.0, percentile_99_5=0.0)
        return IntensityStatistics(
            mean=self.mean,
            std=math.sqrt(self.squares / self.num_values),
            percentile_00_5=_find_percentile(self.lowest, self.num_values),
            percentile_99_5=-_find_percentile(self.negated_highest, self.num_values),
        )


def _count_tail(num_values: int) -> int:
    """How many of the lowest values the percentile 0.5 is found from."""
    return math.ceil(_TAIL * (num_values - 1)) + 1


def _keep_lowest(kept: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """The lowest `number` of both, the highest of them last."""
    if kept.size == number:
        values = values[values < kept[-1]]
    both = np.concatenate([kept, values])
    return np.partition(both, number - 1)[:number] if both.size >= number else both


def _find_percentile(lowest: np.ndarray, num_values: int) -> float:
    """The percentile 0.5, linear between two values as `numpy.percentile`'s."""
    rank, ordered = _TAIL * (num_values - 1), np.sort(lowest)
    below, above = ordered[int(rank)], ordered[_count_tail(num_values) - 1]
    return float(below + (above - below) * (rank - int(rank)))
