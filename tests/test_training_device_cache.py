"""Cached cases on the device that trains: the same patches as from main memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import ClassesToIndicesd, Compose, EnsureTyped, RandCropByLabelClassesd, SelectItemsd

from pipeline.training.device_cache import DeviceCache, find_budget_bytes, place
from pipeline.training.samples import SampleKey, SeededDataset
from pipeline.types import IMAGE, LABEL, SEED

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GIB = 2**30
BYTES_OF_A_CASE = 20 * 24 * (4 + 1)


def build_cases(count: int = 4) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 20, 24, generator=generator) for _ in range(count)]
    return [{IMAGE: image, LABEL: (image > 0.8).byte(), "case": str(index)} for index, image in enumerate(images)]


def build_transform() -> Compose:
    """The end of train.json's preprocessing."""
    return Compose(
        [
            EnsureTyped([IMAGE, LABEL], track_meta=False),
            ClassesToIndicesd(LABEL, num_classes=2, max_samples_per_class=100),
            RandCropByLabelClassesd(
                [IMAGE, LABEL],
                LABEL,
                [8, 8],
                ratios=[0.5, 0.5],
                num_classes=2,
                indices_key="label_cls_indices",
                warn=False,
            ),
            SelectItemsd([IMAGE, LABEL, "case"]),
            EnsureTyped([IMAGE, LABEL], dtype=torch.float32, track_meta=False),
        ]
    )


def read_batches(**settings: Any) -> list[dict[str, Any]]:
    dataset = SeededDataset(build_cases(), build_transform(), seed=0, fold=0, **settings)
    keys = [SampleKey(epoch, position, position) for epoch in (1, 2) for position in range(4)]
    return list(DataLoader(dataset, batch_size=2, sampler=keys))  # type: ignore[arg-type]


@pytest.mark.parametrize("num_cases", [1, 2, 4])
def test_seeded_dataset_cases_on_the_device_give_the_same_patches(num_cases: int) -> None:
    """With the CPU as the device, whatever part of the cases fits into the budget."""
    plain = read_batches()
    placed = read_batches(device="cpu", device_cache_gib=(num_cases + 0.5) * BYTES_OF_A_CASE / GIB)
    assert len(placed) == len(plain)
    for one, other in zip(placed, plain, strict=True):
        for key in (IMAGE, LABEL, SEED):
            assert torch.equal(one[key], other[key])


def test_seeded_dataset_voxels_of_every_sample_are_on_the_device() -> None:
    """The device "meta" holds no values, but says where a tensor is; crop places have to stay on the CPU."""
    dataset = SeededDataset(
        build_cases(), build_transform(), 0, 0, device="meta", device_cache_gib=1.5 * BYTES_OF_A_CASE / GIB
    )
    assert dataset.device_cache == DeviceCache(torch.device("meta"), 1, BYTES_OF_A_CASE)
    assert [item[IMAGE].device.type for item in dataset._cache] == ["meta", "cpu", "cpu", "cpu"]
    assert all(indices.device == CPU for indices in dataset._cache[0]["label_cls_indices"])
    for case in range(4):  # cut out there, or copied there
        (sample,) = dataset[SampleKey(1, case, case)]
        assert {sample[key].device.type for key in (IMAGE, LABEL)} == {"meta"}
        assert sample[IMAGE].shape == (1, 8, 8)


def test_seeded_dataset_by_default_leaves_cases_where_they_are() -> None:
    dataset = SeededDataset(build_cases(), build_transform(), 0, 0)
    assert dataset.device_cache == DeviceCache()
    assert dataset.device_cache.describe(4) == ""


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(0, 0), (BYTES_OF_A_CASE - 1, 0), (BYTES_OF_A_CASE, 1), (3 * BYTES_OF_A_CASE, 3), (99 * BYTES_OF_A_CASE, 4)],
)
def test_place_takes_as_many_cases_as_fit(budget: int, expected: int) -> None:
    cases = build_cases()
    placed, cache = place(cases, torch.device("meta"), budget)
    assert (cache.num_placed, cache.num_bytes) == (expected, expected * BYTES_OF_A_CASE)
    assert [item[IMAGE].is_meta for item in placed] == [index < expected for index in range(4)]
    assert not any(case[IMAGE].is_meta for case in cases)
    assert (cache.describe(4) == "") == (expected == 0)


def test_describe_says_how_many_where_and_how_much() -> None:
    assert DeviceCache(GPU, 3, GIB // 2).describe(12) == "3 of 12 cases in the memory of cuda:0, 0.50 GiB"


@pytest.mark.parametrize(
    ("device", "wanted_gib", "num_workers", "expected_gib"),
    [
        (CPU, None, 0, 0),
        (CPU, 2.0, 0, 2),
        (GPU, None, 0, 32),  # half of 80 less 16
        (GPU, None, 2, 0),  # workers cannot use it
        (GPU, 0.0, 0, 0),
        (GPU, 5.0, 0, 5),
    ],
)
def test_find_budget_bytes_follows_device_wish_and_workers(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, wanted_gib: float | None, num_workers: int, expected_gib: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (80 * GIB, 80 * GIB))
    assert find_budget_bytes(device, wanted_gib, 16.0, num_workers) == expected_gib * GIB


def test_find_budget_bytes_full_device_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (8 * GIB, 80 * GIB))
    assert find_budget_bytes(GPU, None, 16.0, 0) == 0
