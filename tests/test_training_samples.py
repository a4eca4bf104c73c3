"""Order and augmentation of the samples: functions of (seed, fold, epoch, sample) and of nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import DataLoader
from monai.transforms import Compose

from unet_pipeline.training.randomness import derive_seed
from unet_pipeline.training.samples import SampleKey, SampleOrder, SeededDataset, collate

from .augmentation_phantoms import build_full, draw_cases, list_indices


def list_epoch(order: SampleOrder, epoch: int) -> list[SampleKey]:
    order.epoch = epoch
    return list(order)


@given(num_cases=st.integers(1, 12), num_samples=st.integers(1, 30), seed=st.integers(0, 1000))
def test_sample_order_any_size_uses_every_case_before_repeating_one(
    num_cases: int, num_samples: int, seed: int
) -> None:
    order = SampleOrder(num_cases, num_samples, seed=seed, fold=0)
    cases = [key.case_index for epoch in (1, 2, 3) for key in list_epoch(order, epoch)]
    for start in range(0, len(cases) - num_cases + 1, num_cases):
        assert Counter(cases[start : start + num_cases]) == Counter(range(num_cases))


def test_sample_order_shuffles_once_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a sample must not grow with the cases."""
    shuffled = []

    def count(*parts: object) -> int:
        shuffled.append(parts)
        return derive_seed(*parts)

    monkeypatch.setattr("unet_pipeline.training.samples.derive_seed", count)
    order = SampleOrder(10, 30, seed=0, fold=0)
    assert [key.case_index for key in list_epoch(order, 1)] != [key.case_index for key in list_epoch(order, 2)]
    assert len(shuffled) == 6


def test_sample_order_same_seed_gives_same_epoch_again() -> None:
    first, second = SampleOrder(9, 20, seed=3, fold=1), SampleOrder(9, 20, seed=3, fold=1)
    list_epoch(first, 1)  # what was asked before does not matter
    assert list_epoch(first, 5) == list_epoch(second, 5)


@pytest.mark.parametrize("other", [{"seed": 4, "fold": 1}, {"seed": 3, "fold": 2}])
def test_sample_order_other_seed_or_fold_gives_another_order(other: dict[str, int]) -> None:
    assert list_epoch(SampleOrder(9, 20, seed=3, fold=1), 1) != list_epoch(SampleOrder(9, 20, **other), 1)


def test_sample_order_several_processes_share_the_samples_of_one() -> None:
    shares = [list_epoch(SampleOrder(5, 6, seed=0, fold=0, rank=rank, num_processes=3), 2) for rank in range(3)]
    whole = list_epoch(SampleOrder(5, 18, seed=0, fold=0), 2)
    assert sorted(key for share in shares for key in share) == sorted(whole)
    assert [len(share) for share in shares] == [6, 6, 6]


@pytest.mark.parametrize("rank", [0, 1])
def test_sample_order_start_in_the_middle_gives_the_rest_of_the_epoch(rank: int) -> None:
    whole = list_epoch(SampleOrder(5, 6, seed=0, fold=0, rank=rank, num_processes=2), 3)
    order = SampleOrder(5, 6, seed=0, fold=0, rank=rank, num_processes=2)
    order.start = 4
    assert list_epoch(order, 3) == whole[4:]


def test_sample_order_no_case_is_refused() -> None:
    with pytest.raises(ValueError, match="num_cases is 0"):
        SampleOrder(0, 4, seed=0, fold=0)


def build_dataset(seed: int = 0, **settings: Any) -> SeededDataset:
    data = [
        {"image": case.image, "label": case.classes, "label_cls_indices": list_indices(case), "case": str(index)}
        for index, case in enumerate(draw_cases(4, (20, 24)))
    ]
    return SeededDataset(data, Compose([]), build_full(2, (8, 10)), seed=seed, fold=0, **settings)


def make_patches(batch: dict[str, Any]) -> torch.Tensor:
    images, targets = build_full(2, (8, 10))(batch["table"], batch["sources"])
    return torch.cat([images, targets], 1)


def make_patch(dataset: SeededDataset, key: SampleKey) -> torch.Tensor:
    return make_patches(collate([dataset[key]]))[0]


def test_seeded_dataset_same_key_gives_same_sample_whatever_came_before() -> None:
    dataset = build_dataset()
    key = SampleKey(epoch=2, position=7, case_index=1)
    first = make_patch(dataset, key)
    _ = [dataset[SampleKey(3, position, 0)] for position in range(5)]
    assert torch.equal(make_patch(dataset, key), first)
    assert torch.equal(make_patch(build_dataset(), key), first)


@pytest.mark.parametrize("other", [SampleKey(3, 7, 1), SampleKey(2, 8, 1)])
def test_seeded_dataset_other_epoch_or_position_gives_another_sample(other: SampleKey) -> None:
    dataset = build_dataset()
    assert not torch.equal(make_patch(dataset, SampleKey(2, 7, 1)), make_patch(dataset, other))


def test_seeded_dataset_samples_leave_the_cache_alone() -> None:
    dataset = build_dataset()
    before = [item["image"].clone() for item in dataset._cache]
    for position in range(20):
        make_patch(dataset, SampleKey(1, position, position % 4))
    assert all(torch.equal(item["image"], image) for item, image in zip(dataset._cache, before, strict=True))


def test_seeded_dataset_any_number_of_workers_gives_the_same_batches() -> None:
    batches = []
    for num_workers in (0, 2):
        order = SampleOrder(4, 8, seed=0, fold=0)
        loader = DataLoader(build_dataset(), batch_size=2, sampler=order, num_workers=num_workers, collate_fn=collate)
        batches.append(torch.stack([make_patches(batch) for batch in loader]))
    assert torch.equal(batches[0], batches[1])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_seeded_dataset_part_of_the_cases_in_memory_gives_the_same_patches(share: float) -> None:
    whole, part = build_dataset(), build_dataset(cache_rate=share)
    for case_index in range(4):
        key = SampleKey(1, case_index, case_index)
        assert torch.equal(make_patch(part, key), make_patch(whole, key))


def test_collate_keeps_names_sources_and_rows_in_order() -> None:
    dataset = build_dataset()
    samples = [dataset[SampleKey(1, position, position)] for position in (2, 0)]
    batch = collate(samples)
    assert batch["case"] == ["2", "0"]
    assert batch["sources"][1] is samples[1].source
    assert np.array_equal(batch["table"][0].numpy(), samples[0].row)
    assert batch["table"].dtype == torch.float64


def test_derive_seed_parts_and_order_matter() -> None:
    seeds = {derive_seed("a", 1, 2), derive_seed("a", 2, 1), derive_seed("b", 1, 2), derive_seed("a", 12)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_derive_seed_many_samples_hardly_collide() -> None:
    seeds = [derive_seed("sample", 0, 0, epoch, position) for epoch in range(50) for position in range(100)]
    assert len(set(seeds)) == 5000
    assert abs(np.mean(seeds) / 2**32 - 0.5) < 0.02
