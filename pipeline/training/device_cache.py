"""Preprocessed cases in the memory of the device that trains, so that patches are cut out there and never travel.

On a CPU nothing changes. As many cases as fit into the budget lie on the device; the patches of the others are copied to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.types import IMAGE, LABEL, WEIGHT

_VOXEL_KEYS = (IMAGE, LABEL, WEIGHT)
# of what a training step leaves free; the rest is for validation, which holds the classes of a whole image
_SHARE_OF_FREE = 0.5


@dataclass(frozen=True)
class DeviceCache:
    """Where the cached cases of a data set lie.

    Attributes:
        device: that the patches are wanted on; None leaves them where they are cut out.
        num_placed: cases whose voxels lie there.
        num_bytes: that they take.
    """

    device: torch.device | None = None
    num_placed: int = 0
    num_bytes: int = 0

    def describe(self, num_cases: int) -> str:
        """In words; empty where nothing is placed."""
        if not self.num_placed:
            return ""
        return (
            f"{self.num_placed} of {num_cases} cases in the memory of {self.device}, {self.num_bytes / 2**30:.2f} GiB"
        )

    def bring(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The sample with its voxels on the device; of one cut out there, nothing is copied."""
        if self.device is None:
            return dict(sample)
        return {
            key: value.to(self.device, non_blocking=True) if key in _VOXEL_KEYS else value
            for key, value in sample.items()
        }


def find_budget_bytes(device: torch.device, wanted_gib: float | None, step_gib: float, num_workers: int) -> int:
    """Memory of a device that cases may take.

    Args:
        device: that trains.
        wanted_gib: as asked for; None takes a share of what is free on a GPU, and nothing on a CPU.
        step_gib: that a training step takes.
        num_workers: processes that load; they cannot use the memory of this process's GPU.
    """
    if num_workers:
        return 0
    if wanted_gib is not None:
        return int(wanted_gib * 2**30)
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return max(0, int(_SHARE_OF_FREE * (free - step_gib * 2**30)))


def place(items: Sequence[Mapping[str, Any]], device: torch.device, budget_bytes: int) -> tuple[list[Any], DeviceCache]:
    """Move the voxels of cached cases to a device, the first ones first, as long as they fit.

    Args:
        items: one dictionary per case; what is not voxels stays on the CPU, such as the places to crop at.
        device: to move to.
        budget_bytes: that they may take together.

    Returns:
        New dictionaries in the same order, and what was done.
    """
    placed, left, count = list(items), budget_bytes, 0
    for index, item in enumerate(items):
        voxels = {key: item[key] for key in _VOXEL_KEYS if isinstance(item.get(key), torch.Tensor)}
        size = sum(tensor.numel() * tensor.element_size() for tensor in voxels.values())
        if not size or size > left:
            break
        placed[index] = {**item, **{key: tensor.to(device) for key, tensor in voxels.items()}}
        left, count = left - size, count + 1
    return placed, DeviceCache(device if count else None, count, budget_bytes - left)
