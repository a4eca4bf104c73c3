"""Channels that are dropped: which, how often, and always the same for one sample."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose

from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.channel_dropout import ChannelDropout, find_channels_that_are_there
from unet_pipeline.training.samples import SampleKey, SampleOrder, SeededDataset, collate

from .augmentation_phantoms import build_full, build_intensity, build_spatial, draw_cases, list_indices

NAMES = ("t1", "t2", "flair")


def draw_patterns(
    dropout: ChannelDropout, count: int, is_there: np.ndarray | None = None
) -> Counter[tuple[float, ...]]:
    drawn = (dropout.draw(np.random.default_rng(seed), is_there)["kept_channels"] for seed in range(count))
    return Counter(tuple(kept.tolist()) for kept in drawn)


def test_every_set_that_leaves_a_channel_is_drawn_evenly() -> None:
    patterns = draw_patterns(ChannelDropout(1.0, NAMES, NAMES), 1200)
    assert set(patterns) == {(a, b, c) for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0) if 0 < a + b + c < 3}
    assert all(150 < times < 250 for times in patterns.values())


def test_probability_is_the_share_of_samples_with_fewer_channels() -> None:
    patterns = draw_patterns(ChannelDropout(0.25, NAMES, NAMES), 2000)
    assert patterns[1.0, 1.0, 1.0] == pytest.approx(1500, abs=80)
    assert draw_patterns(ChannelDropout(0.0, NAMES, NAMES), 50) == {(1.0, 1.0, 1.0): 50}


def test_only_named_channels_are_dropped_and_they_may_all_be() -> None:
    assert set(draw_patterns(ChannelDropout(1.0, NAMES, ["t1", "flair"]), 200)) == {
        (0.0, 1.0, 1.0),
        (1.0, 1.0, 0.0),
        (0.0, 1.0, 0.0),
    }


def test_channels_that_the_case_lacks_are_never_kept_and_the_last_one_stays() -> None:
    dropout = ChannelDropout(1.0, NAMES, NAMES)
    assert set(draw_patterns(dropout, 100, np.array([True, False, True]))) == {(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)}
    assert set(draw_patterns(dropout, 20, np.array([False, True, False]))) == {(0.0, 1.0, 0.0)}


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4)])
def test_apply_zeroes_exactly_the_channels_that_are_not_kept(shape: tuple[int, ...]) -> None:
    images = torch.randn(2, 3, *shape)
    kept = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    after = ChannelDropout(1.0, NAMES, NAMES).apply(images, {"kept_channels": kept})
    assert after.dtype == torch.float32
    for sample, row in enumerate(kept.tolist()):
        for channel, is_kept in enumerate(row):
            assert torch.equal(after[sample, channel], images[sample, channel] * is_kept)


def test_channels_of_one_value_are_not_there() -> None:
    image = torch.stack([torch.zeros(4, 4), torch.randn(4, 4), torch.full((4, 4), 0.25)])
    assert find_channels_that_are_there(image).tolist() == [False, True, False]


def build_dropping(probability: float = 0.5) -> PatchAugmentation:
    augmentation = build_full(2, (8, 10), 3)
    augmentation.channel_dropout = ChannelDropout(probability, NAMES, NAMES)
    return augmentation


def build_dataset(augmentation: PatchAugmentation, **settings: Any) -> SeededDataset:
    """Four cases of three channels; the second lacks the last one."""
    data = []
    for index, case in enumerate(draw_cases(4, (20, 24), 3)):
        if index == 1:
            case.image[2] = 0
        data.append({"image": case.image, "label": case.classes, "label_cls_indices": list_indices(case), "case": "x"})
    return SeededDataset(data, Compose([]), augmentation, seed=0, fold=0, **settings)


def make_batches(augmentation: PatchAugmentation, num_workers: int = 0, batch_size: int = 2) -> torch.Tensor:
    loader = DataLoader(
        build_dataset(augmentation),
        batch_size=batch_size,
        sampler=SampleOrder(4, 12, seed=0, fold=0),
        num_workers=num_workers,
        collate_fn=collate,
    )
    return torch.cat([augmentation(batch["table"], batch["sources"])[0] for batch in loader])


def test_samples_are_the_same_for_any_batches_and_workers() -> None:
    first = make_batches(build_dropping())
    assert torch.equal(make_batches(build_dropping(), num_workers=2), first)
    torch.testing.assert_close(make_batches(build_dropping(), batch_size=3), first)
    assert 0 < sum(not image.any() for sample in first for image in sample) < 24


def test_processes_share_the_samples_of_one() -> None:
    dataset = build_dataset(build_dropping())
    whole = {key: dataset[key].row for key in SampleOrder(4, 8, seed=0, fold=0)}
    for rank in range(2):
        other = build_dataset(build_dropping())
        for key in SampleOrder(4, 4, seed=0, fold=0, rank=rank, num_processes=2):
            np.testing.assert_array_equal(other[key].row, whole[key])


def test_missing_channel_stays_at_its_mean_whatever_else_happens() -> None:
    """Noise and brightness everywhere, no channel dropped."""
    augmentation = build_dropping(0.0)
    dataset = build_dataset(augmentation)
    for case_index in range(4):
        sample = dataset[SampleKey(1, 0, case_index)]
        images, _ = augmentation(torch.from_numpy(sample.row[None]), [sample.source])
        assert [bool(image.any()) for image in images[0]] == [True, True, case_index != 1]


def test_other_numbers_are_those_of_a_training_without_dropout() -> None:
    with_dropout, without = build_dropping(), build_full(2, (8, 10), 3)
    rows = [build_dataset(one)[SampleKey(1, 3, 0)].row for one in (with_dropout, without)]
    layouts = [
        one.layout.decode(torch.from_numpy(row[None])) for one, row in zip((with_dropout, without), rows, strict=True)
    ]
    assert set(layouts[0]) - set(layouts[1]) == {"kept_channels"}
    for name, values in layouts[1].items():
        assert torch.equal(values, layouts[0][name])


def test_whole_and_packed_batches_are_the_same() -> None:
    augmentation = PatchAugmentation((8, 10), 3, (0.5, 0.5), build_spatial(), build_intensity())
    augmentation.channel_dropout = ChannelDropout(1.0, NAMES, NAMES)
    dataset = build_dataset(augmentation, device="cpu", device_cache_gib=0.1)
    assert dataset.store is not None
    on_host = build_dataset(augmentation)
    keys = [SampleKey(1, position, position % 4) for position in range(6)]
    packed, hosted = ([one[key] for key in keys] for one in (dataset, on_host))
    table = torch.from_numpy(np.stack([sample.row for sample in packed]))
    images, _ = augmentation.take_packed(table, dataset.store.voxels)
    expected, _ = augmentation(collate(hosted)["table"], [sample.source for sample in hosted])
    torch.testing.assert_close(images, expected)
