"""Training samples: which case at which place of which epoch, and its augmentation, as a function of the seed.

`SampleOrder` yields keys (epoch, position, case); `SeededDataset` draws the numbers of a sample from the key. The key
travels to the workers, so 0 or 8 of them give the same samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Sampler, get_worker_info

from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.channel_dropout import find_channels_that_are_there
from unet_pipeline.training.processes import find_share, num_local_processes, num_processes, rank
from unet_pipeline.training.randomness import derive_seed
from unet_pipeline.training.sampling import Source
from unet_pipeline.training.shared_cases import map_cases
from unet_pipeline.training.voxel_store import VoxelStore, find_budget_bytes, take_source
from unet_pipeline.training.zero_level import ZERO_LEVEL
from unet_pipeline.types import CASE, IMAGE, LABEL

CLASS_INDICES = "label_cls_indices"  # MONAI's name


class SampleKey(NamedTuple):
    """Place of one sample in a training."""

    epoch: int
    position: int
    case_index: int


class Sample(NamedTuple):
    """What a step needs for one sample.

    Attributes:
        case: its name.
        row: its numbers, as `PatchAugmentation.layout` has them.
        source: the part of the case that it is made of; None where the store has it.
    """

    case: str
    row: np.ndarray
    source: Source | None


class Batch(TypedDict, total=False):
    """Names, sources and the table of numbers, shape (batch, width), float64; in other batches MONAI's keys."""

    case: list[str]
    sources: list[Source | None]
    table: torch.Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """The samples of a step in one batch."""
    return {
        "case": [sample.case for sample in samples],
        "sources": [sample.source for sample in samples],
        "table": torch.from_numpy(np.stack([sample.row for sample in samples])),
    }


class SampleOrder(Sampler[SampleKey]):
    """Order of the samples of one epoch: every case once before any case again.

    `epoch`, from 1, and `start`, samples of this process that are done already, are set from outside;
    `SampleOrderHandler` takes them from a trainer.

    Args:
        num_cases: cases of the dataset.
        num_samples: samples of one epoch in each process; may be more or fewer than the cases.
        seed: of the training.
        fold: of the training.
        rank: this process; it gets every `num_processes`-th sample from `rank` on.
        num_processes: processes that share an epoch.
    """

    def __init__(
        self, num_cases: int, num_samples: int, seed: int, fold: int, rank: int = 0, num_processes: int = 1
    ) -> None:
        if num_cases < 1:
            raise ValueError(f"num_cases is {num_cases}; expected 1 or more")
        self.num_cases, self.num_samples = num_cases, num_samples
        self.seed, self.fold = seed, fold
        self.rank, self.num_processes = rank, num_processes
        self.epoch, self.start = 1, 0
        self._round_number, self._round = -1, np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        epoch = self.epoch
        num_of_all = self.num_samples * self.num_processes
        first = (epoch - 1) * num_of_all
        for position in range(self.rank + self.start * self.num_processes, num_of_all, self.num_processes):
            yield SampleKey(epoch, position, self._case_at(first + position))

    def _case_at(self, count: int) -> int:
        """Case at the given place of the endless sequence of shuffled rounds over all cases."""
        round_number, place = divmod(count, self.num_cases)
        if (
            round_number != self._round_number
        ):  # shuffled once: for every sample anew, many cases would cost each of them more
            generator = np.random.default_rng(derive_seed("order", self.seed, self.fold, round_number))
            self._round_number, self._round = round_number, generator.permutation(self.num_cases)
        return int(self._round[place])


class SharedBatches(Sampler[list[SampleKey]]):
    """Batches of which each of several processes gets its share, in a row; together they are those of one process.

    A process without a share gets the first sample, to keep in step; what it computes is left out (`joint_step.join_batch`).

    Args:
        order: of all samples.
        batch_size: of all processes together.
    """

    def __init__(self, order: SampleOrder, batch_size: int) -> None:
        self.order, self.batch_size = order, batch_size

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys = iter(self.order)
        while batch := list(itertools.islice(keys, self.batch_size)):
            share = find_share(len(batch), rank(), num_processes())
            yield [batch[place] for place in share or (0,)]

    def count_samples(self, number: int) -> list[int]:
        """Samples of each process in a batch of an epoch, counted from 0."""
        total = min(self.batch_size, len(self.order) - number * self.batch_size)
        return [len(find_share(total, process, num_processes())) for process in range(num_processes())]


class SampleOrderHandler:
    """Lets a `SampleOrder` follow the epoch of the trainer; a checkpoint may place it in the middle of one."""

    def __init__(self, order: SampleOrder) -> None:
        self.order = order

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._follow)

    def _follow(self, engine: Engine) -> None:
        # the loader asks for its first sample after this event
        self.order.epoch = engine.state.epoch
        loader = engine.state.dataloader
        batch_size = loader.batch_size or loader.batch_sampler.batch_size
        self.order.start = engine.state.iteration % engine.state.epoch_length * batch_size


class SeededDataset(CacheDataset):
    """MONAI's cached dataset; a sample is the part of a case that its patch is made of, and the numbers that make it.

    Args:
        data: cases as dictionaries.
        transform: deterministic; gives image, label, case and the indices of each class, and weights if there are any.
        augmentation: draws the numbers of a sample.
        seed: of the training.
        fold: of the training.
        cache_rate: share of the cases that is kept in memory.
        device: that trains; cached cases may lie in its memory.
        device_cache_gib, step_gib, num_workers: how much of it; see `find_budget_bytes`.

    Attributes:
        store: of the cases on the device; None where patches are made on the CPU.
    """

    _cache: list[Any]  # MONAI's

    def __init__(
        self,
        data: Sequence[Mapping[str, object]],
        transform: Compose,
        augmentation: PatchAugmentation,
        seed: int,
        fold: int,
        cache_rate: float = 1.0,
        device: torch.device | str = "cpu",
        device_cache_gib: float | None = None,
        step_gib: float = 0.0,
        num_workers: int = 0,
    ) -> None:
        # no copy of the cached item: it is only read
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=1, progress=False, copy_cache=False)
        self.augmentation = augmentation
        self.seed, self.fold = seed, fold
        place_at = torch.device(device)
        budget_bytes = find_budget_bytes(place_at, device_cache_gib, step_gib, num_workers)
        self._channels_of: dict[int, np.ndarray] = {}  # looked for once
        self.store: VoxelStore | None = None
        if place_at.type == "cuda" or budget_bytes:
            self.store = VoxelStore(self._cache, place_at, budget_bytes)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        if num_local_processes() == 1:
            return super()._fill_cache(indices)
        return map_cases(self.cache_num, self._load_cache_item)

    def _find_channels(self, case_index: int, image: torch.Tensor) -> np.ndarray | None:
        """Which channels a case has, where channels may be missing."""
        if self.augmentation.channel_dropout is None:
            return None
        if case_index not in self._channels_of:
            self._channels_of[case_index] = find_channels_that_are_there(image)
        return self._channels_of[case_index]

    def __getitem__(self, key: SampleKey) -> Sample:
        seed = derive_seed("sample", self.seed, self.fold, key.epoch, key.position)
        item = super().__getitem__(key.case_index)
        case_shape = item[LABEL].shape[1:]
        is_there = self._find_channels(key.case_index, item[IMAGE])
        values = self.augmentation.draw(seed, case_shape, item[CLASS_INDICES], item.get(ZERO_LEVEL), is_there)
        if self.store is not None and key.case_index < len(self.store.offsets):
            values["offset"] = np.asarray(self.store.offsets[key.case_index])
            values["lower"], values["box_shape"] = np.zeros(len(case_shape)), np.asarray(case_shape)
            return Sample(item[CASE], self.augmentation.layout.encode(values), None)
        box = tuple(
            slice(first, first + size)
            for first, size in zip(values["lower"].tolist(), values["box_shape"].tolist(), strict=True)
        )
        source = take_source(item, box)
        if get_worker_info() is not None:  # a view would take the whole case along
            source = Source(*(None if array is None else array.contiguous() for array in source))  # type: ignore[arg-type]
        return Sample(item[CASE], self.augmentation.layout.encode(values), source)
