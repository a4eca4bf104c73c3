"""Patches out of cases: sample by sample through PyTorch's kernel, or a whole batch at once out of one buffer.

Both give the same to rounding. The first is faster on a CPU, where most samples need little; the second launches the same kernels for any
batch and never asks the device for a number, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from unet_pipeline.training.row_layout import Values
from unet_pipeline.training.spatial import compute_places, has_displacements, is_moved


class Source(NamedTuple):
    """The part of a case that a patch is made of.

    Attributes:
        image: shape (channels, *spatial), float32.
        classes: shape (1, *spatial), uint8.
        weights: of the voxels, shape (1, *spatial), float32; None where all count the same.
    """

    image: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor | None = None


class PackedVoxels(NamedTuple):
    """Cases one behind another; channel by channel, the voxels in the order of a contiguous array.

    Attributes:
        images: shape (channels * voxels,), float32.
        classes: shape (voxels,), uint8.
        weights: shape (voxels,), float32, or None.
    """

    images: torch.Tensor
    classes: torch.Tensor
    weights: torch.Tensor | None = None


def sample_each(
    sources: Sequence[Source], values: Values, patch_size: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of samples, one after another; what is only cut out and mirrored stays exact.

    Args:
        sources: one per sample; `lower` and `box_shape` of `values` say which part of its case it is.
        values: of the samples, as for `compute_places`, on the CPU.
        patch_size: of the patches.

    Returns:
        Images, shape (batch, channels, *patch_size), linear interpolation; targets, shape (batch, 1 or 2, *patch_size), float32:
        classes and weights of the nearest voxel.
    """
    num_targets = 1 if sources[0].weights is None else 2
    images = sources[0].image.new_empty((len(sources), sources[0].image.shape[0], *patch_size))
    targets = images.new_empty((len(sources), num_targets, *patch_size))
    moved = is_moved(values)
    for index in (~moved).nonzero()[:, 0].tolist():
        axes = [1 + axis for axis, factor in enumerate(values["matrix"][index].diagonal().tolist()) if factor < 0]
        for row, source in ((images, sources[index].image), (targets, _stack_targets(sources[index]))):
            row[index] = source.flip(axes) if axes else source
    rows = moved.nonzero()[:, 0]
    if len(rows):
        chosen = {name: value[rows] for name, value in values.items()}
        places = compute_places(chosen, patch_size, has_displacements(chosen["field"]).nonzero()[:, 0])
        for place, index in zip(places, rows.tolist(), strict=True):
            grid = _normalise(place, sources[index].image.shape[1:])
            images[index] = _sample(sources[index].image, grid, "bilinear")
            targets[index] = _sample(_stack_targets(sources[index]), grid, "nearest")
    return images, targets


def sample_packed(
    voxels: PackedVoxels, values: Values, patch_size: Sequence[int], num_channels: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from one buffer, all samples at once; `offset` of `values` says where each one's voxels begin."""
    batch, dims = values["centre"].shape
    places = compute_places(values, patch_size)
    box = values["box_shape"].long()
    strides = torch.ones_like(box)
    for axis in range(dims - 2, -1, -1):
        strides[:, axis] = strides[:, axis + 1] * box[:, axis + 1]
    offset, num_voxels, ones = values["offset"].long(), box.prod(1), [1] * dims
    low = places.floor()
    fraction = places - low
    high = torch.minimum(low + 1, (box - 1).view(batch, dims, *ones))
    steps = strides.view(1, batch, dims, *ones)
    pair = torch.stack([low, high]).long() * steps  # shape (2, batch, dims, *patch)
    share = torch.stack([1 - fraction, fraction])
    corners, shares = _spread(pair[:, :, 0], 0, dims), _spread(share[:, :, 0], 0, dims)
    for axis in range(1, dims):
        corners = corners + _spread(pair[:, :, axis], axis, dims)
        shares = shares * _spread(share[:, :, axis], axis, dims)
    images = places.new_empty((batch, num_channels, *patch_size))
    over = tuple(range(dims))
    for channel in range(num_channels):
        start = (num_channels * offset + channel * num_voxels).view(batch, *ones)
        images[:, channel] = (torch.take(voxels.images, corners + start) * shares).sum(over)
    nearest = (places.round().long() * steps[0]).sum(1) + offset.view(batch, *ones)
    targets = [torch.take(voxels.classes, nearest).float()]
    if voxels.weights is not None:
        targets.append(torch.take(voxels.weights, nearest))
    return images, torch.stack(targets, 1)


def _spread(pair: torch.Tensor, axis: int, dims: int) -> torch.Tensor:
    """(2, batch, *patch) -> 2 along one of `dims` new axes in front, 1 along the others: what a sum over axes broadcasts."""
    return pair.view(*[2 if other == axis else 1 for other in range(dims)], *pair.shape[1:])


def _stack_targets(source: Source) -> torch.Tensor:
    classes = source.classes.float()
    return classes if source.weights is None else torch.cat([classes, source.weights])


def _normalise(places: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Voxels (dims, *patch) in PyTorch's coordinates: -1 to 1, the last axis first, shape (1, *patch, dims)."""
    sizes = torch.tensor(shape, dtype=places.dtype).view(-1, *[1] * len(shape))
    return ((2 * places + 1) / sizes - 1).flip(0).movedim(0, -1)[None]


def _sample(array: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return functional.grid_sample(array[None], grid, mode=mode, padding_mode="border", align_corners=False)[0]
