"""Augmentations of which nothing or everything happens, and batches of whole cases, for the tests of `unet_pipeline.training`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unet_pipeline.training.augmentation import PatchAugmentation
from unet_pipeline.training.intensity import IntensityAugmentation
from unet_pipeline.training.sampling import PackedVoxels, Source, sample_each
from unet_pipeline.training.sites import SiteAugmentation
from unet_pipeline.training.spatial import SpatialAugmentation


def build_spatial(dims: int = 2, **changes: Any) -> SpatialAugmentation:
    """Nothing happens, but for `changes`."""
    nothing = SpatialAugmentation(
        spacing_mm=(1.0,) * dims,
        affine_probability=0.0,
        rotation_range_rad=(0.0,) * (1 if dims == 2 else 3),
        scale_range=(1.0, 1.0),
        stretch_range=0.0,
        elastic_probability=0.0,
        elastic_control_points=(3,) * dims,
        elastic_sigma_voxel=0.0,
        mirror_probability=(0.0,) * dims,
    )
    return dataclasses.replace(nothing, **changes)


def build_intensity(**changes: Any) -> IntensityAugmentation:
    """Nothing happens, but for `changes`."""
    nothing = IntensityAugmentation(0.0, 0.1, 0.0, (0.5, 1.0), 0.0, 0.25, 0.0, 0.25, 0.0, (0.5, 1.0), 0.0, (0.7, 1.5))
    return dataclasses.replace(nothing, **changes)


def build_full(
    dims: int,
    patch_size: Sequence[int],
    num_channels: int = 1,
    share: float = 1.0,
    sites: SiteAugmentation | None = None,
) -> PatchAugmentation:
    """Everything happens to every sample, or to a share of them; two classes."""
    spatial = build_spatial(
        dims,
        affine_probability=share,
        rotation_range_rad=(0.4,) * (1 if dims == 2 else 3),
        scale_range=(0.8, 1.25),
        stretch_range=0.1,
        elastic_probability=share,
        elastic_sigma_voxel=1.5,
        mirror_probability=(0.5,) * dims,
    )
    intensity = IntensityAugmentation(
        share, 0.1, share, (0.5, 1.0), share, 0.25, share, 0.25, share, (0.5, 1.0), share, (0.7, 1.5)
    )
    return PatchAugmentation(patch_size, num_channels, (0.5, 0.5), spatial, intensity, sites)


def draw_cases(
    count: int, shape: Sequence[int], num_channels: int = 1, weighted: bool = False, seed: int = 0
) -> list[Source]:
    """Cases of noise, each a little larger than the one before, with two classes."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for index in range(count):
        size = [voxels + 2 * index for voxels in shape]
        image = torch.randn(num_channels, *size, generator=generator)
        classes = (image[:1] > 0.5).byte()
        cases.append(Source(image, classes, torch.rand(1, *size, generator=generator) if weighted else None))
    return cases


def list_indices(case: Source) -> list[np.ndarray]:
    """Flat indices of the voxels of each class."""
    return [np.flatnonzero(case.classes.numpy() == value) for value in (0, 1)]


def draw_batch(
    augmentation: PatchAugmentation, cases: Sequence[Source], seeds: Sequence[int]
) -> tuple[torch.Tensor, list[Source]]:
    """Table and sources of one sample per case, as the loader makes them."""
    rows, sources = [], []
    for case, seed in zip(cases, seeds, strict=True):
        values = augmentation.draw(seed, case.image.shape[1:], list_indices(case))
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(values["lower"], values["box_shape"], strict=True))
        rows.append(augmentation.layout.encode(values))
        sources.append(Source(*(None if array is None else array[(slice(None), *box)] for array in case)))  # type: ignore[arg-type]
    return torch.from_numpy(np.stack(rows)), sources


def pack(augmentation: PatchAugmentation, table: torch.Tensor, cases: Sequence[Source]) -> PackedVoxels:
    """All cases in one buffer; the table is set to whole cases that lie there."""
    values, place = augmentation.layout.decode(table), 0
    for index, case in enumerate(cases):
        values["offset"][index] = place
        values["lower"][index] = 0
        values["box_shape"][index] = torch.tensor(case.image.shape[1:], dtype=torch.float64)
        place += case.classes.numel()
    weights = None if cases[0].weights is None else torch.cat([case.weights.flatten() for case in cases])  # type: ignore[union-attr]
    return PackedVoxels(
        torch.cat([case.image.flatten() for case in cases]),
        torch.cat([case.classes.flatten() for case in cases]),
        weights,
    )


def move_whole(
    spatial: SpatialAugmentation, images: torch.Tensor, classes: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of whole images moved, seeds 0, 1, ...: the patch is as large as the case."""
    shape = images.shape[2:]
    rows: list[dict[str, np.ndarray]] = []
    for index in range(len(images)):
        values = spatial.draw(np.random.default_rng(index))
        size = np.asarray(shape)
        values |= {"centre": (size - 1) / 2, "case_shape": size, "box_shape": size, "lower": np.zeros(len(size))}
        rows.append(values)
    table = {name: torch.from_numpy(np.stack([row[name] for row in rows]).astype(np.float64)) for name in rows[0]}
    targets = torch.zeros_like(images[:, :1]).byte() if classes is None else classes
    return sample_each([Source(image, target) for image, target in zip(images, targets, strict=True)], table, shape)
