"""An image in overlapping windows through a network, blended in place, and given out row by row as soon as no window is left for a row.

The windows, their order, weights and sums are those of MONAI's `sliding_window_inference`. That one holds the result of the whole
image: 60 classes on 512 x 512 x 300 voxels are 19 GB. Here only one window's depth of it is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, PytorchPadMode

Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Windows:
    """Where the windows of one image lie.

    Attributes:
        size: of one window.
        starts: of the windows along each axis, on the padded grid, ascending.
        padding: voxels added in front of and behind the image along each axis; only where it is smaller than a window.
        image_shape: without padding.
    """

    size: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    padding: tuple[tuple[int, int], ...]
    image_shape: tuple[int, ...]

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """Of the image with its padding."""
        return tuple(
            size + before + after for size, (before, after) in zip(self.image_shape, self.padding, strict=True)
        )

    @property
    def num_windows(self) -> int:
        return math.prod(map(len, self.starts))


def place_windows(image_shape: Sequence[int], size: Sequence[int], overlap: Sequence[float]) -> Windows:
    """The windows that MONAI's sliding window takes.

    Args:
        image_shape: spatial.
        size: of a window.
        overlap: share of a window that the next one covers again, along each axis.
    """
    padding = [(max(0, one - of_image) // 2, of_image, one) for of_image, one in zip(image_shape, size, strict=True)]
    pads = tuple((before, max(0, one - of_image) - before) for before, of_image, one in padding)
    padded = [of_image + before + after for of_image, (before, after) in zip(image_shape, pads, strict=True)]
    steps = [
        one if one == of_image else max(1, int(one * (1 - share)))
        for of_image, one, share in zip(padded, size, overlap, strict=True)
    ]
    places = dense_patch_slices(padded, tuple(size), steps)
    starts = tuple(tuple(sorted({place[axis].start for place in places})) for axis in range(len(padded)))
    return Windows(tuple(size), starts, pads, tuple(image_shape))


def is_plain(inferer: object) -> bool:
    """Whether an inferer is MONAI's sliding window without any of the options that change what it computes."""
    if not isinstance(inferer, SlidingWindowInferer) or type(inferer) is not SlidingWindowInferer:
        return False
    return (
        inferer.mode in (BlendMode.GAUSSIAN, BlendMode.CONSTANT)
        and inferer.padding_mode == PytorchPadMode.CONSTANT
        and inferer.cval == 0
        and not inferer.with_coord
        and not inferer.buffer_steps
        and all(int(size) > 0 for size in _as_tuple(inferer.roi_size))
    )


def read_windows(inferer: SlidingWindowInferer, image_shape: Sequence[int]) -> Windows:
    """The windows of an inferer, for an image of that shape."""
    dims = len(image_shape)
    size = tuple(int(one) for one in _as_tuple(inferer.roi_size, dims))
    return place_windows(image_shape, size, tuple(float(share) for share in _as_tuple(inferer.overlap, dims)))


def _as_tuple(value: object, count: int = 1) -> tuple:
    return tuple(value) if isinstance(value, Sequence) else (value,) * count


def weigh_window(inferer: SlidingWindowInferer, size: tuple[int, ...]) -> torch.Tensor:
    """Weight of every voxel of a window, on the CPU."""
    weights = compute_importance_map(size, mode=inferer.mode, sigma_scale=inferer.sigma_scale, dtype=torch.float32)
    return torch.as_tensor(weights)


def iterate_blended(
    image: torch.Tensor, network: Network, windows: Windows, weights: torch.Tensor, batch_size: int
) -> Iterator[torch.Tensor]:
    """Logits of the image, some rows of its first spatial axis after the other.

    Args:
        image: shape (channels, *spatial), on the device that computes and blends.
        network: (batch, channels, *window) -> (batch, classes, *window).
        windows: of the image.
        weights: of one window's voxels.
        batch_size: windows at once.

    Yields:
        Shape (classes, rows, *rest), float32; a view that is overwritten once the next one is asked for. All rows of the image in
        their order.
    """
    padded = _pad(image, windows)
    weights = weights.to(image.device)
    depth, rest = windows.size[0], windows.padded_shape[1:]
    last = windows.padded_shape[0]
    sums, counts = torch.empty(0), torch.zeros((depth, *rest), device=image.device)
    starts = windows.starts[0]
    for start, following in zip(starts, (*starts[1:], last), strict=True):
        for logits, place in _run(padded, network, windows, start, batch_size):
            if not sums.numel():
                sums = torch.zeros((logits.shape[0], depth, *rest), device=image.device)
            # like MONAI weighted before it is added, in one order: the sums are the same to the last bit
            sums[(slice(None), slice(None), *place)] += logits.float().mul_(weights)
            counts[(slice(None), *place)] += weights
        finished = following - start
        sums[:, :finished] /= counts[:finished]
        yield _cut(sums[:, :finished], windows, start)
        for buffer, rows in ((sums, 1), (counts, 0)):
            _move_up(buffer, rows, finished)


def _pad(image: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The image as a batch of one, with the windows' padding around it."""
    if not any(map(any, windows.padding)):
        return image[None]
    return torch.nn.functional.pad(image[None], [count for pair in reversed(windows.padding) for count in pair])


def iterate_whole(
    image: torch.Tensor, network: Network, windows: Windows, weights: torch.Tensor, batch_size: int
) -> Iterator[torch.Tensor]:
    """Logits of the image at once, for a device that has room for the sums of all of it: batches go on from row to row.

    Arguments as for `iterate_blended`.

    Yields:
        Shape (classes, *spatial), float32, once.
    """
    (padded,) = _pad(image, windows)
    weights = weights.to(image.device)
    places = [
        tuple(slice(first, first + size) for first, size in zip(firsts, windows.size, strict=True))
        for firsts in product(*windows.starts)
    ]
    sums, counts = torch.empty(0), torch.zeros(windows.padded_shape, device=image.device)
    for first in range(0, len(places), batch_size):
        group = places[first : first + batch_size]
        batch = torch.stack([padded[(slice(None), *place)] for place in group])
        for logits, place in zip(network(batch), group, strict=True):
            if not sums.numel():
                sums = torch.zeros((logits.shape[0], *windows.padded_shape), device=image.device)
            sums[(slice(None), *place)].addcmul_(logits.float(), weights)
            counts[place] += weights
    sums /= counts
    inside = [
        slice(before, before + size) for (before, _), size in zip(windows.padding, windows.image_shape, strict=True)
    ]
    yield sums[(slice(None), *inside)]


def _move_up(buffer: torch.Tensor, axis: int, count: int) -> None:
    """Drop the first rows of a buffer, move the others to their place, and clear what is behind them.

    As many rows at a time as are dropped, which do not overlap their place: a copy of all would nearly double the memory.
    """
    left = buffer.shape[axis] - count
    for first in range(0, left, count):
        num_rows = min(count, left - first)
        buffer.narrow(axis, first, num_rows).copy_(buffer.narrow(axis, first + count, num_rows))
    buffer.narrow(axis, left, count).zero_()


def _run(
    padded: torch.Tensor, network: Network, windows: Windows, start: int, batch_size: int
) -> Iterator[tuple[torch.Tensor, tuple[slice, ...]]]:
    """Logits of each window of one row of windows, and its place in the other axes."""
    places = [
        tuple(slice(first, first + size) for first, size in zip(firsts, windows.size[1:], strict=True))
        for firsts in product(*windows.starts[1:])
    ]
    rows = slice(start, start + windows.size[0])
    for first in range(0, len(places), batch_size):
        group = places[first : first + batch_size]
        parts = [padded[(slice(None), slice(None), rows, *place)] for place in group]
        batch = parts[0] if len(parts) == 1 else torch.cat(parts)
        yield from zip(network(batch), group, strict=True)


def _cut(rows: torch.Tensor, windows: Windows, start: int) -> torch.Tensor:
    """Rows without the padding around the image."""
    before = windows.padding[0][0]
    first, last = max(start, before), min(start + rows.shape[1], before + windows.image_shape[0])
    places = [
        slice(in_front, in_front + size)
        for (in_front, _), size in zip(windows.padding[1:], windows.image_shape[1:], strict=True)
    ]
    return rows[(slice(None), slice(first - start, max(first, last) - start), *places)]
