"""How much memory a prediction takes, from sizes alone, and how much there is. docs/design.md says how far the estimate is off."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unet_pipeline.device.memory import find_free_bytes
from unet_pipeline.prediction.grids import CHUNK_VALUES
from unet_pipeline.prediction.windows import Windows

FLOAT = 4  # bytes
PIECE_VALUES = 1 << 24  # of probabilities that are finished at once: 64 MB
_DOUBLE = 8
_SHARE_OF_SUMS = 0.4  # of the free memory


@dataclass(frozen=True)
class CaseSize:
    """Sizes that the memory of a case follows from.

    Attributes:
        num_channels: of the image.
        num_classes: of the network.
        num_blended: channels of the sums over windows: the classes, or the features that they come from.
        native_shape: of the image.
        value_bytes: of a voxel of the image as it is read.
        network_shape: of the image on the network's grid.
        interpolates: whether the probabilities are interpolated on their way back.
        writes_probabilities: whether they are written, and therefore held on the image's grid.
    """

    num_channels: int
    num_classes: int
    num_blended: int
    native_shape: tuple[int, ...]
    value_bytes: int
    network_shape: tuple[int, ...]
    interpolates: bool
    writes_probabilities: bool = False


class _LiveStorages(TorchDispatchMode):
    """Follows the bytes of all tensors that operations make while it is active, and the most there were at once.

    A convolution counts its input and output twice, because the libraries rearrange both for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        extra = 0
        if func.overloadpacket is torch.ops.aten.convolution:
            extra = args[0].untyped_storage().nbytes() + result.untyped_storage().nbytes()
        self.peak = max(self.peak, self.now + extra)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)


def measure_window(network: torch.nn.Module, num_channels: int, size: Sequence[int]) -> int:
    """Bytes that one window takes on its way through a network, in float32, without the network's weights.

    The network runs on tensors without values (PyTorch's device "meta"), which takes neither memory nor arithmetic.

    Args:
        num_channels: of the image.
        size: of a window.
    """
    hollow = copy.deepcopy(network).to("meta")
    with torch.no_grad(), _LiveStorages() as storages:
        hollow(torch.empty((1, num_channels, *size), device="meta"))
    return storages.peak


def estimate_reading(size: CaseSize) -> int:
    """Bytes while a volume is read and brought to the network's grid."""
    native, network = (size.num_channels * prod(shape) for shape in (size.native_shape, size.network_shape))
    part = min(CHUNK_VALUES, network) * _DOUBLE * 3  # interpolated in float64
    turning = native * (size.value_bytes + 2 * FLOAT)
    return max(turning + network * FLOAT + part, native * size.value_bytes + 3 * network * FLOAT)


def estimate_blending(size: CaseSize, windows: Windows, window_bytes: int, batch_size: int) -> int:
    """Bytes of a volume while its windows are computed and blended in rows, the image included; those of `window_bytes` too."""
    depth, rest = windows.size[0], prod(windows.padded_shape[1:])
    padding = size.num_channels * prod(windows.padded_shape) if any(map(any, windows.padding)) else 0
    held = (size.num_channels * prod(size.network_shape) + padding + (size.num_blended + 1) * depth * rest) * FLOAT
    starts = (*windows.starts[0], windows.padded_shape[0])
    steps = [following - start for start, following in pairwise(starts)]
    batch = min(batch_size, prod(map(len, windows.starts[1:])))
    return held + max(batch * window_bytes, _estimate_returning(size, windows, max(steps)))


def _estimate_returning(size: CaseSize, windows: Windows, num_rows: int) -> int:
    """Bytes of the rows that are finished, on their way to classes on the image's grid."""
    plane = size.num_classes * prod(size.network_shape[1:])
    piece = min(max(PIECE_VALUES, plane), min(num_rows, windows.image_shape[0]) * plane)
    # a view of the sums, or made by a late convolution, for which the libraries rearrange them
    logits = 0 if size.num_blended == size.num_classes else 2 * piece
    if not size.interpolates:
        return (2 * piece + logits) * FLOAT
    native = size.num_classes * prod(size.native_shape)
    enlarged = piece * max(1.0, native / (size.num_classes * prod(size.network_shape)))
    part = min(max(CHUNK_VALUES, native // max(size.native_shape)), native)
    return int(FLOAT * (logits + piece + 2 * enlarged + max(enlarged, 3 * part)))


def estimate_whole(size: CaseSize, window_bytes: int, batch_size: int) -> int:
    """Bytes of an image that goes MONAI's own way: all logits, and probabilities on both grids."""
    native, network = prod(size.native_shape), prod(size.network_shape)
    reading = size.num_channels * (native * (size.value_bytes + 3 * FLOAT) + 3 * network * FLOAT)
    blending = (size.num_channels + 2 * size.num_classes + 1) * network * FLOAT + batch_size * window_bytes
    coordinates = len(size.native_shape) * native * _DOUBLE if size.interpolates else 0
    returning = (2 * network + 3 * native) * size.num_classes * FLOAT + coordinates
    return max(reading, blending, returning)


def estimate_held(size: CaseSize) -> int:
    """Bytes of a prepared image in main memory while a GPU has it."""
    return size.num_channels * prod(size.network_shape) * FLOAT


def estimate_writing(size: CaseSize) -> int:
    """Bytes on the image's grid: the label map as classes, as label values and as it is written; probabilities twice."""
    probabilities = 2 * size.num_classes * FLOAT if size.writes_probabilities else 0
    return (3 + probabilities) * prod(size.native_shape)


def fits_whole(windows: Windows, num_blended: int, num_channels: int, device: torch.device) -> bool:
    """Whether a device has room for the sums over the windows of a whole image, and as much again for what is made of them.

    Args:
        windows: of the image.
        num_blended: channels of the sums.
        num_channels: of the image.
        device: that blends.
    """
    needed = (num_blended + num_channels + 1) * prod(windows.padded_shape) * FLOAT
    return needed <= _SHARE_OF_SUMS * find_free_bytes(device)
