"""Patches of a batch: the same sample by sample and out of one buffer, the same as MONAI's crop, and randomness that is the sample's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandCropByLabelClasses

from unet_pipeline.training.augmentation import PatchAugmentation

from .augmentation_phantoms import (
    build_full,
    build_spatial,
    draw_batch,
    draw_cases,
    list_indices,
    pack,
)

SHAPES = {2: (24, 20), 3: (14, 20, 16)}
PATCHES = {2: (12, 16), 3: (8, 12, 10)}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("num_channels", "weighted"), [(1, False), (3, True)])
def test_patches_out_of_one_buffer_are_those_of_single_cases(dims: int, num_channels: int, weighted: bool) -> None:
    augmentation = build_full(dims, PATCHES[dims], num_channels, share=0.6)
    cases = draw_cases(6, SHAPES[dims], num_channels, weighted)
    table, sources = draw_batch(augmentation, cases, range(6))
    images, targets = augmentation(table, sources)
    voxels = pack(augmentation, table, cases)
    for everywhere in (False, True):
        packed_images, packed_targets = augmentation.take_packed(table, voxels, everywhere)
        torch.testing.assert_close(packed_images, images, rtol=1e-4, atol=1e-4)
        assert packed_targets.shape == targets.shape == (6, 1 + weighted, *PATCHES[dims])
        # a place half-way between two voxels may be rounded either way
        assert ((packed_targets - targets).abs() > 1e-6).double().mean() < 1e-3


@pytest.mark.parametrize("dims", [2, 3])
def test_patch_without_changes_is_monais_crop_for_the_same_random_numbers(dims: int) -> None:
    augmentation = PatchAugmentation(PATCHES[dims], 1, (0.3, 0.7), build_spatial(dims))
    cases = draw_cases(5, SHAPES[dims])
    images, targets = augmentation(*draw_batch(augmentation, cases, range(5)))
    for index, case in enumerate(cases):
        crop = RandCropByLabelClasses(
            PATCHES[dims], ratios=[0.3, 0.7], num_classes=2, indices=list_indices(case), warn=False
        )
        for found, array in ((images, case.image), (targets, case.classes)):
            crop.set_random_state(seed=index)
            (expected,) = crop(array, label=case.classes)
            assert torch.equal(found[index], expected.as_tensor().float())


@pytest.mark.parametrize("dims", [2, 3])
def test_patch_mirrored_is_the_flipped_crop(dims: int) -> None:
    cases = draw_cases(3, SHAPES[dims])
    plain = PatchAugmentation(PATCHES[dims], 1, (0.5, 0.5), build_spatial(dims))
    mirrored = PatchAugmentation(PATCHES[dims], 1, (0.5, 0.5), build_spatial(dims, mirror_probability=(1.0,) * dims))
    expected = plain(*draw_batch(plain, cases, range(3)))
    table, sources = draw_batch(mirrored, cases, range(3))
    axes = list(range(2, 2 + dims))
    for found, crop in zip(mirrored(table, sources), expected, strict=True):
        assert torch.equal(found, crop.flip(axes))
    voxels = pack(mirrored, table, cases)
    for found, crop in zip(mirrored.take_packed(table, voxels), expected, strict=True):
        assert torch.equal(found, crop.flip(axes))


def test_patches_are_centred_on_classes_as_often_as_asked() -> None:
    augmentation = PatchAugmentation((3, 3), 1, (0.2, 0.8), build_spatial(2))
    (case,) = draw_cases(1, (40, 40))
    _, targets = augmentation(*draw_batch(augmentation, [case] * 800, range(800)))
    assert targets[:, 0, 1, 1].mean().item() == pytest.approx(0.8, abs=0.06)  # less at the border


def test_class_that_a_case_lacks_is_never_a_centre() -> None:
    augmentation = PatchAugmentation((3, 3), 1, (0.5, 0.5), build_spatial(2))
    indices = [np.arange(100), np.arange(0)]
    drawn = [augmentation.draw(seed, (10, 10), indices)["centre"] for seed in range(20)]
    assert len({tuple(centre) for centre in drawn}) > 10


@pytest.mark.parametrize("dims", [2, 3])
def test_sample_is_the_same_in_any_batch(dims: int) -> None:
    augmentation = build_full(dims, PATCHES[dims])
    cases = draw_cases(3, SHAPES[dims])
    together = augmentation(*draw_batch(augmentation, cases, [5, 6, 7]))
    alone = augmentation(*draw_batch(augmentation, cases[1:2], [6]))
    torch.testing.assert_close(together[0][1:2], alone[0], rtol=0, atol=1e-5)
    assert torch.equal(together[1][1:2], alone[1])


def test_other_seed_gives_another_sample() -> None:
    augmentation, cases = build_full(2, PATCHES[2]), draw_cases(1, SHAPES[2])
    first, second = (augmentation(*draw_batch(augmentation, cases, [seed]))[0] for seed in (1, 2))
    assert not torch.allclose(first, second)


def test_cases_are_left_alone() -> None:
    augmentation, cases = build_full(2, PATCHES[2]), draw_cases(2, SHAPES[2])
    kept = [case.image.clone() for case in cases]
    table, sources = draw_batch(augmentation, cases, [0, 1])
    augmentation(table, sources)
    augmentation.take_packed(table, pack(augmentation, table, cases))
    assert all(torch.equal(case.image, before) for case, before in zip(cases, kept, strict=True))
