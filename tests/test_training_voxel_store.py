"""Cases on the device that trains: the same patches as from main memory, whichever part of them fits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, SpatialPad

from unet_pipeline.training.samples import SampleKey, SeededDataset, collate
from unet_pipeline.training.voxel_store import VoxelStore, find_budget_bytes, take_source

from .augmentation_phantoms import build_full, draw_cases, list_indices

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GIB = 2**30


def build_items(num_channels: int = 1, weighted: bool = False) -> list[dict[str, Any]]:
    """Four preprocessed cases, each larger than the one before."""
    items = []
    for index, case in enumerate(draw_cases(4, (20, 24), num_channels, weighted)):
        item = {"image": case.image, "label": case.classes, "label_cls_indices": list_indices(case)}
        items.append(item | {"case": str(index)} | ({"weight": case.weights} if weighted else {}))
    return items


def count_bytes(items: list[dict[str, Any]]) -> int:
    arrays = [item[key] for item in items for key in ("image", "label", "weight") if key in item]
    return sum(array.numel() * array.element_size() for array in arrays)


@pytest.mark.parametrize("num_resident", [0, 1, 2, 4])
@pytest.mark.parametrize(("num_channels", "weighted"), [(1, False), (2, True)])
def test_store_gives_the_patches_of_main_memory_whatever_part_fits(
    num_resident: int, num_channels: int, weighted: bool
) -> None:
    """With the CPU as the device: batches of cases that stay, that travel, and of both, one after another."""
    items = build_items(num_channels, weighted)
    augmentation = build_full(2, (8, 10), num_channels)
    budget_gib = (count_bytes(items[:num_resident]) + 1) / GIB
    plain = SeededDataset(items, Compose([]), augmentation, 0, 0)
    stored = SeededDataset(items, Compose([]), augmentation, 0, 0, device_cache_gib=budget_gib)
    assert stored.store is not None
    assert len(stored.store.offsets) == num_resident
    for epoch in range(1, 5):
        keys = [SampleKey(epoch, position, (position + epoch) % 4) for position in range(3)]
        images, targets = augmentation(*(collate([plain[key] for key in keys])[name] for name in ("table", "sources")))
        batch = collate([stored[key] for key in keys])
        values = augmentation.layout.decode(batch["table"])
        for index, offset in enumerate(stored.store.bring(batch["sources"])):
            if offset is not None:
                values["offset"][index] = offset
        found, followed = augmentation.take_packed(batch["table"], stored.store.voxels)
        torch.testing.assert_close(found, images, rtol=1e-4, atol=1e-4)
        assert ((followed - targets).abs() > 1e-6).double().mean() < 1e-3


def test_take_source_of_what_monai_padded_is_plain_tensors() -> None:
    """A MetaTensor would make views of every layer's output in the step."""
    items = build_items(weighted=True)
    padded = SpatialPad((32, 32))
    items = [item | {key: padded(item[key]) for key in ("image", "label", "weight")} for item in items]
    assert type(items[0]["image"]) is MetaTensor
    source = take_source(items[0], (slice(2, 30), slice(0, 32)))
    assert [type(array) for array in source] == [torch.Tensor] * 3
    assert torch.equal(source.image, torch.Tensor(items[0]["image"])[:, 2:30])
    augmentation = build_full(2, (8, 10))
    batch = collate([SeededDataset(items, Compose([]), augmentation, 0, 0)[SampleKey(1, 0, 0)]])
    assert [type(array) for array in augmentation(batch["table"], batch["sources"])] == [torch.Tensor] * 2


def test_store_grows_once_for_larger_parts_and_keeps_what_stays() -> None:
    items = build_items()
    store = VoxelStore(items, CPU, count_bytes(items[:1]))
    kept = store.voxels.classes.clone()
    small, large = (take_source(items[index]) for index in (1, 3))
    assert store.bring([None, small]) == [None, len(kept)]
    assert store.version == 1
    assert store.bring([large, large]) == [len(kept), len(kept) + large.classes.numel()]
    assert store.version == 2
    assert store.bring([large, small])[1] == len(kept) + large.classes.numel()
    assert store.version == 2  # there is room now
    assert torch.equal(store.voxels.classes[: len(kept)], kept)


def test_dataset_on_a_cpu_has_no_store() -> None:
    assert SeededDataset(build_items(), Compose([]), build_full(2, (8, 10)), 0, 0).store is None


def test_store_takes_as_many_cases_as_fit() -> None:
    items = build_items()
    for num_cases in range(5):
        budget = count_bytes(items[:num_cases])
        for budget_bytes, expected in ((budget, num_cases), (budget - 1, max(0, num_cases - 1))):
            store = VoxelStore(items, CPU, budget_bytes)
            assert len(store.offsets) == expected
            assert store.num_bytes == count_bytes(items[:expected])
            assert (store.describe(4) == "") == (expected == 0)


def test_describe_says_how_many_where_and_how_much() -> None:
    store = VoxelStore(build_items(), CPU, GIB)
    store.num_bytes = GIB // 2
    assert store.describe(12) == "4 of 12 cases in the memory of cpu, 0.50 GiB"


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
