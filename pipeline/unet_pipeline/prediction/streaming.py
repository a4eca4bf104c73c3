"""Image -> classes on its own grid, without ever holding the probabilities of the whole image.

The result is the stock way's: the same windows, sums and coordinates, computed for some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.prediction.deferred_head import DeferredHead
from unet_pipeline.prediction.grids import GridMap, interpolate, iterate_resampled, map_grid, resample
from unet_pipeline.prediction.recipe import list_image_transforms
from unet_pipeline.prediction.windows import Network, iterate_blended, iterate_whole, read_windows, weigh_window
from unet_pipeline.types import IMAGE, PRED

Finish = Callable[[torch.Tensor], torch.Tensor]
PIECE_VALUES = 1 << 24  # 64 MB at once
DEVICE_PIECE_VALUES = 1 << 27  # on a GPU, where each piece costs launches
# NumPy's types that PyTorch has too, as which an image goes to a GPU
_SHARED_TYPES = frozenset({"uint8", "int8", "int16", "int32", "int64", "float32", "float64"})


def preprocess(image: MedicalImage, preprocessing: Compose, device: torch.device | None = None) -> MetaTensor:
    """What the bundle's preprocessing makes of the image, read already; interpolated in parts.

    Args:
        image: in main memory.
        device: that computes it and keeps it; the CPU, if None.

    Returns:
        Shape (channels, *spatial) on the network's grid, float32, with the affine of the grid.
    """
    orientation, spacing, *intensities = list_image_transforms(preprocessing)[2:]
    if device is None or device.type == "cpu":
        array = torch.from_numpy(np.ascontiguousarray(image.array, dtype=np.float32))
    else:
        array = copy_to_device(image.array, device)
    oriented = orientation({IMAGE: MetaTensor(array, affine=torch.from_numpy(image.affine))})[IMAGE]
    pending = spacing({IMAGE: oriented}, lazy=True)[IMAGE]
    affine, shape = pending.peek_pending_affine(), tuple(map(int, pending.peek_pending_shape()))
    grid = map_grid(oriented.affine.numpy(), oriented.shape[1:], affine.numpy(), shape)
    if grid is None:
        raise ValueError("the spacing turned the grid")  # it only scales the axes
    # a coarser grid may need every second voxel and nothing in between
    same = not grid.interpolates and shape == tuple(oriented.shape[1:])
    values = oriented.as_tensor() if same else resample(oriented.as_tensor(), grid)
    del array, oriented
    return Compose(intensities)({IMAGE: MetaTensor(values, affine=affine)})[IMAGE]


def preprocess_picture(image: MedicalImage, name: Path, preprocessing: Compose) -> dict[str, Any]:
    """The sample that the bundle's preprocessing makes of a picture, read already.

    Args:
        image: shape (channels, width, height).
        name: of the file, after which the label map is named.
        preprocessing: of the bundle, that begins as `plan` writes it.
    """
    array = torch.from_numpy(np.ascontiguousarray(image.array, dtype=np.float32))
    loaded = MetaTensor(array, affine=torch.eye(4, dtype=torch.float64))
    loaded.meta["filename_or_obj"] = str(name)
    return Compose(list_image_transforms(preprocessing)[2:])({IMAGE: loaded})


def copy_to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array as float32 on a device; it travels as it lies in memory, in its own type, and is put in order there.

    Args:
        array: of any order and type of numbers.
        device: such as a GPU.
    """
    if array.dtype.name not in _SHARED_TYPES or not array.dtype.isnative or not array.flags.writeable:
        array = array.astype(np.float32, order="K")
    return torch.from_numpy(array).to(device).to(torch.float32).contiguous()


def iterate_probabilities(
    image: torch.Tensor,
    networks: Sequence[Network],
    inferer: Any,
    batch_size: int,
    finish: Finish,
    deferred_heads: Sequence[DeferredHead] = (),
    joint: Network | None = None,
    whole: bool = False,
) -> Iterator[torch.Tensor]:
    """Rows of the blended result, finished, averaged over the networks, a few at a time; shape (classes, rows, *rest).

    Args:
        image: on the network's grid.
        networks: give logits.
        inferer: the plain sliding window.
        batch_size: windows at once.
        finish: logits of some rows -> what is averaged.
        deferred_heads: the networks in two parts; nothing for networks that are blended as they are.
        joint: what is blended of all networks, one behind the other along the channels; blended each for itself, if None.
        whole: hold the sums of the whole image, so that all batches but the last are full.
    """
    windows = read_windows(inferer, image.shape[1:])
    weights = weigh_window(inferer, windows.size)
    bodies = [joint] if joint is not None else [head.body for head in deferred_heads] or networks
    iterate = iterate_whole if whole else iterate_blended
    streams = [iterate(image, body, windows, weights, batch_size) for body in bodies]
    piece_values = PIECE_VALUES if image.device.type == "cpu" else DEVICE_PIECE_VALUES
    for blocks in zip(*streams, strict=True):
        if not blocks[0].shape[1]:
            continue  # rows of padding
        if joint is not None:
            blocks = blocks[0].chunk(len(networks))
        num_channels = deferred_heads[0].num_classes if deferred_heads else len(blocks[0])
        num_rows = max(1, piece_values // (num_channels * blocks[0][0, 0].numel()))
        for parts in zip(*(block.split(num_rows, dim=1) for block in blocks), strict=True):
            logits = (
                (head(part) for head, part in zip(deferred_heads, parts, strict=True))
                if deferred_heads
                else iter(parts)
            )
            total = finish(next(logits))
            for further in logits:
                total = total + finish(further)
            yield total / len(parts) if len(parts) > 1 else total


def stream_classes(blocks: Iterator[torch.Tensor], grid: GridMap) -> np.ndarray:
    """The largest class of every voxel of the target grid.

    Args:
        blocks: from `iterate_probabilities`; logits serve as well where the grid needs no interpolation.
        grid: the target on the network's grid.

    Returns:
        uint8, of the target's shape.
    """
    if grid.interpolates:
        classes = np.empty([len(axis.lower) for axis in grid.axes], dtype=np.uint8)
        for rows, values in iterate_resampled(blocks, grid):
            classes[rows.numpy()] = find_largest(values).cpu().numpy()
    else:  # the classes are known before they are turned round
        interpolated = torch.cat([find_largest(block).cpu() for block in blocks])
        for dim, axis in enumerate(grid.axes):
            interpolated = interpolate(interpolated, axis, dim)
        classes = interpolated.numpy()
    return classes.transpose(grid.order)


def stream_classes_on_device(blocks: Iterator[torch.Tensor], grid: GridMap, label_values: Sequence[int]) -> np.ndarray:
    """The label value of every voxel of the target grid, found where the blocks are; only these travel to main memory.

    Args:
        blocks: as for `stream_classes`.
        grid: the target on the network's grid.
        label_values: of the classes, 0 to 255.

    Returns:
        uint8, of the target's shape, first axis fastest as NIfTI files have it.
    """
    if grid.interpolates:
        on_device = None
        for rows, values in iterate_resampled(blocks, grid):
            if on_device is None:
                shape = [len(axis.lower) for axis in grid.axes]
                on_device = torch.empty(shape, dtype=torch.uint8, device=values.device)
            on_device.index_copy_(0, rows.to(on_device.device), find_largest(values))
        if on_device is None:
            raise ValueError("the image has no rows")
    else:
        on_device = torch.cat([find_largest(block) for block in blocks])
        for dim, axis in enumerate(grid.axes):
            on_device = interpolate(on_device, axis, dim)
    named = on_device
    if tuple(label_values) != tuple(range(len(label_values))):
        named = torch.zeros_like(on_device)
        for number, value in enumerate(label_values):
            named.masked_fill_(on_device == number, value)
    reversed_axes = tuple(reversed(grid.order))
    return named.permute(reversed_axes).contiguous().cpu().numpy().transpose()


def stream_probabilities(blocks: Iterator[torch.Tensor], grid: GridMap, num_classes: int) -> np.ndarray:
    """Probabilities on the target grid, shape (classes, *spatial), float32: the only way that holds them all."""
    out = np.empty((num_classes, *(len(axis.lower) for axis in grid.axes)), dtype=np.float32)
    for rows, values in iterate_resampled(blocks, grid):
        out[:, rows.numpy()] = values.cpu().numpy()
    return out.transpose(0, *(1 + axis for axis in grid.order))


def find_largest(values: torch.Tensor) -> torch.Tensor:
    """Index of the largest value along the first axis, the first of equal ones; uint8."""
    if values.is_cuda:
        return values.argmax(dim=0).to(torch.uint8)
    best = values[0].clone()
    index = torch.zeros(best.shape, dtype=torch.uint8, device=values.device)
    for number in range(1, len(values)):
        larger = values[number] > best
        index.masked_fill_(larger, number)
        torch.maximum(best, values[number], out=best)
    return index


def postprocess(classes: np.ndarray, affine: np.ndarray, transforms: Sequence[Any]) -> np.ndarray:
    """The bundle's transforms of classes behind the argmax; most bundles have none."""
    if not transforms:
        return classes
    shown = MetaTensor(torch.from_numpy(np.ascontiguousarray(classes[None])).float(), affine=torch.from_numpy(affine))
    return np.asarray(Compose(list(transforms))({PRED: shown})[PRED])[0].astype(np.uint8)
