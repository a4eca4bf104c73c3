"""Training samples: which case at which place of which epoch, and its augmentation, as a function of the seed.

`SampleOrder` yields keys (epoch, position, case); `SeededDataset` seeds the random transforms from the key. The key
travels to the workers, so 0 or 8 of them give the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Sampler

from pipeline.training.device_cache import find_budget_bytes, place
from pipeline.training.randomness import derive_seed
from pipeline.types import SEED


class SampleKey(NamedTuple):
    """Place of one sample in a training."""

    epoch: int
    position: int
    case_index: int


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


class SampleOrderHandler:
    """Lets a `SampleOrder` follow the epoch of the trainer; a checkpoint may place it in the middle of one."""

    def __init__(self, order: SampleOrder) -> None:
        self.order = order

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._follow)

    def _follow(self, engine: Engine) -> None:
        # the loader asks for its first sample after this event
        self.order.epoch = engine.state.epoch
        self.order.start = engine.state.iteration % engine.state.epoch_length * engine.state.dataloader.batch_size


class SeededDataset(CacheDataset):
    """MONAI's cached dataset whose random transforms are seeded for each sample.

    Args:
        data: cases as dictionaries.
        transform: deterministic transforms first; they are cached.
        seed: of the training.
        fold: of the training.
        cache_rate: share of the cases that is kept in memory.
        device: that trains; cached cases may lie in its memory.
        device_cache_gib, step_gib, num_workers: how much of it; see `find_budget_bytes`.
    """

    _cache: list[Any]  # MONAI's

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Compose,
        seed: int,
        fold: int,
        cache_rate: float = 1.0,
        device: torch.device | str = "cpu",
        device_cache_gib: float | None = None,
        step_gib: float = 0.0,
        num_workers: int = 0,
    ) -> None:
        # no copy of the cached item: the first random transform is a crop, and none writes into its input
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=1, progress=False, copy_cache=False)
        self.seed, self.fold = seed, fold
        place_at = torch.device(device)
        budget_bytes = find_budget_bytes(place_at, device_cache_gib, step_gib, num_workers)
        self._cache, self.device_cache = place(self._cache, place_at, budget_bytes)

    def __getitem__(self, key: SampleKey) -> Any:
        """The sample, or the list of samples of one crop each, with the seed of its augmentation under `SEED`."""
        seed = derive_seed("sample", self.seed, self.fold, key.epoch, key.position)
        self.transform.set_random_state(seed=seed)
        found = super().__getitem__(key.case_index)
        if isinstance(found, list):
            return [{**self.device_cache.bring(sample), SEED: seed} for sample in found]
        return {**self.device_cache.bring(found), SEED: seed}
