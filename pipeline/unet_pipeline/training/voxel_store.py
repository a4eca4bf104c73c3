"""Preprocessed cases in the memory of the GPU that trains, so that patches are cut out there and no voxel travels.

As many cases as fit into the budget stay there; of the others, the parts that a batch is made of are copied behind them for its step. On a
CPU there is no store: patches are cut out of the cases as they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from unet_pipeline.training.sampling import PackedVoxels, Source
from unet_pipeline.types import IMAGE, LABEL, WEIGHT

# of what a training step leaves free; the rest is for validation, which holds the classes of a whole image
_SHARE_OF_FREE = 0.5
_GROWTH = 1.25  # of the room for travelling parts, so that it seldom grows again


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


def take_source(item: Mapping[str, torch.Tensor], box: tuple[slice, ...] = ()) -> Source:
    """The voxels of a preprocessed case, or a part of them, as plain tensors.

    MONAI's padding makes them MetaTensors again. Those would go through the whole step as views, whose activations in place cost copies of
    every layer's output (docs/experiments.md).
    """
    part = (slice(None), *box)
    image, classes, weights = (
        item[key].as_subclass(torch.Tensor)[part] if key in item else None for key in (IMAGE, LABEL, WEIGHT)
    )
    return Source(image, classes, weights)  # type: ignore[arg-type]


class VoxelStore:
    """One buffer for cases that stay, and behind them room for parts that come for one step.

    Args:
        items: preprocessed cases, channel first; the first ones stay as long as they fit.
        device: where the buffer lies.
        budget_bytes: that the cases which stay may take.

    Attributes:
        offsets: for each case that stays, its first voxel.
        num_bytes: that they take.
        version: raised when the buffer was replaced by a larger one.
    """

    def __init__(self, items: Sequence[Mapping[str, torch.Tensor]], device: torch.device, budget_bytes: int) -> None:
        self.device, self.version = device, 0
        self.offsets: list[int] = []
        sources = []
        left, place = budget_bytes, 0
        for item in items:
            if not isinstance(item, Mapping):  # not cached
                break
            source = take_source(item)
            size = _count_bytes(source)
            if size > left:
                break
            sources.append(source)
            self.offsets.append(place)
            left, place = left - size, place + source.classes.numel()
        self.num_bytes = budget_bytes - left
        self._num_resident = self._capacity = place
        self._pinned: list[PackedVoxels] = []
        self._turn = 0
        self.voxels = _pack(sources, device)

    def describe(self, num_cases: int) -> str:
        """In words; empty where nothing stays."""
        if not self.offsets:
            return ""
        return (
            f"{len(self.offsets)} of {num_cases} cases in the memory of {self.device}, {self.num_bytes / 2**30:.2f} GiB"
        )

    def bring(self, sources: Sequence[Source | None]) -> list[int | None]:
        """Copy parts behind the cases that stay, for one step; the copies of the step before are overwritten.

        Returns:
            The first voxel of each; None for those that stay.
        """
        travelling = [source for source in sources if source is not None]
        if not travelling:
            return [None] * len(sources)
        needed = sum(source.classes.numel() for source in travelling)
        num_channels = travelling[0].image.shape[0]
        if self._num_resident + needed > self._capacity:
            self._grow(int(_GROWTH * needed), travelling[0])
        if len(self._pinned) < 2 or self._pinned[self._turn % 2].classes.numel() < needed:
            self._pinned = [_allocate(self._room, travelling[0], torch.device("cpu"), True) for _ in range(2)]
        host = self._pinned[self._turn % 2]  # the step before may still be read from the other
        self._turn += 1
        _fill(host, travelling)
        first = self._num_resident
        self.voxels.images[num_channels * first :][: num_channels * needed].copy_(
            host.images[: num_channels * needed], non_blocking=True
        )
        self.voxels.classes[first:][:needed].copy_(host.classes[:needed], non_blocking=True)
        if self.voxels.weights is not None and host.weights is not None:
            self.voxels.weights[first:][:needed].copy_(host.weights[:needed], non_blocking=True)
        places: list[int | None] = []
        for source in sources:
            places.append(None if source is None else first)
            first += 0 if source is None else source.classes.numel()
        return places

    @property
    def _room(self) -> int:
        return self._capacity - self._num_resident

    def _grow(self, room: int, example: Source) -> None:
        """A larger buffer with the cases that stay in front."""
        self._capacity, self.version = self._num_resident + room, self.version + 1
        larger = _allocate(self._capacity, example, self.device)
        num_channels = example.image.shape[0]
        larger.images[: num_channels * self._num_resident] = self.voxels.images[: num_channels * self._num_resident]
        larger.classes[: self._num_resident] = self.voxels.classes[: self._num_resident]
        if larger.weights is not None and self.voxels.weights is not None:
            larger.weights[: self._num_resident] = self.voxels.weights[: self._num_resident]
        self.voxels = larger


def _count_bytes(source: Source) -> int:
    return sum(array.numel() * array.element_size() for array in source if array is not None)


def _allocate(num_voxels: int, example: Source, device: torch.device, pinned: bool = False) -> PackedVoxels:
    def make(count: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(count, dtype=dtype, device=device, pin_memory=pinned and torch.cuda.is_available())

    return PackedVoxels(
        make(num_voxels * example.image.shape[0], torch.float32),
        make(num_voxels, torch.uint8),
        None if example.weights is None else make(num_voxels, torch.float32),
    )


def _pack(sources: Sequence[Source], device: torch.device) -> PackedVoxels:
    if not sources:
        return PackedVoxels(torch.empty(0), torch.empty(0, dtype=torch.uint8))
    host = _allocate(sum(source.classes.numel() for source in sources), sources[0], torch.device("cpu"))
    _fill(host, sources)
    return PackedVoxels(*(None if array is None else array.to(device) for array in host))  # type: ignore[arg-type]


def _fill(target: PackedVoxels, sources: Sequence[Source]) -> None:
    """Write the sources one behind another from the beginning."""
    voxel = 0
    for source in sources:
        num_voxels, num_channels = source.classes.numel(), source.image.shape[0]
        part = slice(voxel, voxel + num_voxels)
        target.images[num_channels * voxel : num_channels * (voxel + num_voxels)] = source.image.reshape(-1)
        target.classes[part] = source.classes.reshape(-1)
        if target.weights is not None and source.weights is not None:
            target.weights[part] = source.weights.reshape(-1)
        voxel += num_voxels
