"""The engine `volumes`: label values without ever holding the probabilities of the whole image, by the numbers of the bundle's config.

It refuses bundles with a step that it does not know (`recipe.py`). The result is the stock way's: the same windows, sums and coordinates,
computed for some rows at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from unet_pipeline.boundary import is_out_of_memory
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.device.allocator import release_freed_pages
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.confidence import ConfidenceSums
from unet_pipeline.prediction.deferred_head import DeferredHead
from unet_pipeline.prediction.device_network import DeviceNetwork
from unet_pipeline.prediction.engine import CPU, Case, CasePrediction
from unet_pipeline.prediction.graph import DEVICE_LOCK
from unet_pipeline.prediction.grids import GridMap, interpolate, iterate_resampled, map_grid, resample
from unet_pipeline.prediction.input_check import is_box
from unet_pipeline.prediction.memory import PIECE_VALUES, fits_whole
from unet_pipeline.prediction.out_of_memory import release_cached_memory
from unet_pipeline.prediction.outputs import write_volume
from unet_pipeline.prediction.parts import Parts
from unet_pipeline.prediction.recipe import VolumeRecipe, list_image_transforms
from unet_pipeline.prediction.windows import Network, iterate_blended, iterate_whole, read_windows, weigh_window
from unet_pipeline.types import IMAGE, PRED

Finish = Callable[[torch.Tensor], torch.Tensor]
LARGE_BYTES = 1 << 26  # of an image whose preprocessing leaves more than page faults cost
DEVICE_PIECE_VALUES = 1 << 27  # on a GPU, where each piece costs launches
# NumPy's types that PyTorch has too, as which an image goes to a GPU
_SHARED_TYPES = frozenset({"uint8", "int8", "int16", "int32", "int64", "float32", "float64"})


@dataclass(frozen=True)
class VolumesEngine:
    """For volumes whose axes are orthogonal.

    Attributes:
        parts: of the bundle.
        recipe: how volumes are finished.
        deferred_heads: the networks in two parts where few features make many classes; otherwise none.
        joint: on a GPU all members (without their last convolutions where those are late) as one network, so that a window is cut out
            once; None elsewhere.
    """

    parts: Parts
    recipe: VolumeRecipe
    deferred_heads: tuple[DeferredHead, ...] = ()
    joint: DeviceNetwork | None = None

    @property
    def num_blended(self) -> int:
        """Channels of the sums over windows, of one network: its classes, or the features that they come from."""
        return self.deferred_heads[0].num_features if self.deferred_heads else len(self.parts.label_values)

    def takes(self, grid: ImageGrid) -> bool:
        """See `Engine`."""
        return len(grid.spatial_shape) == 3 and is_box(grid, self.parts.preprocessing)

    def copy_for_thread(self) -> VolumesEngine:
        """See `Engine`."""
        preprocessing, transforms = copy.deepcopy((self.parts.preprocessing, self.recipe.class_transforms))
        parts = replace(self.parts, preprocessing=preprocessing)
        return replace(self, parts=parts, recipe=replace(self.recipe, class_transforms=transforms))

    def prepare(self, case: Case) -> None:
        """See `Engine`."""
        if case.image is not None:
            case.prepared = self.preprocess(case.image)
            case.image = None
            if case.prepared.nbytes >= LARGE_BYTES:
                release_freed_pages()

    def infer(self, case: Case, with_probabilities: bool) -> CasePrediction:
        """See `Engine`."""
        if case.prepared is None:
            raise ValueError("the case is not prepared")
        values, probabilities = self.stream(
            case.prepared, case.affine, case.spatial_shape, with_probabilities, case.confidence
        )
        case.prepared = None
        return CasePrediction(values, probabilities)

    def write(self, case: Case, prediction: CasePrediction, final: Path, staging: Path) -> tuple[Problem, ...]:
        """See `Engine`."""
        write_volume(final, prediction.values, case.files[0])
        return ()

    def preprocess(self, image: MedicalImage) -> MetaTensor:
        """The image on the network's grid, on the device that blends; see the function of that name."""
        with self.parts.stopwatch.measure("preprocess"):
            if self.parts.image_device.type == "cuda":
                try:
                    return self._preprocess_on_device(image)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                release_cached_memory(self.parts.image_device)
            return preprocess(image, self.parts.preprocessing)

    def _preprocess_on_device(self, image: MedicalImage) -> MetaTensor:
        """In a stream of its own, so that it does not wait for the windows of the image before."""
        side = torch.cuda.Stream(self.parts.image_device)
        with DEVICE_LOCK, torch.cuda.stream(side):
            prepared = preprocess(image, self.parts.preprocessing, self.parts.image_device)
            side.synchronize()
        return prepared

    @torch.inference_mode()
    def stream(
        self,
        prepared: MetaTensor,
        affine: np.ndarray,
        shape: tuple[int, ...],
        with_probabilities: bool = False,
        confidence: ConfidenceSums | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Label values of an image on its own grid, uint8, and its probabilities if asked for.

        On a GPU whose memory runs out it is tried again with the sums of some rows, and then with those in main memory.

        Args:
            prepared: from `preprocess`.
            affine: of the image.
            shape: of the image.
            with_probabilities: they take classes times 4 bytes for every voxel.
            confidence: gets the probabilities on the network's grid, if given.
        """
        grid = map_grid(prepared.affine.numpy(), prepared.shape[1:], affine, shape)
        if grid is None:
            raise PredictionError(
                f"The grid of shape {shape} is turned against the network's. Predict with stock MONAI."
            )
        values = prepared.as_tensor()
        with self.parts.stopwatch.measure("postprocess"):
            *attempts, last = self._list_attempts(values)
            for whole, device in attempts:
                try:
                    return self._stream(values.to(device), grid, affine, with_probabilities, whole, confidence)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                release_cached_memory(self.parts.device)
            return self._stream(values.to(last[1]), grid, affine, with_probabilities, last[0], confidence)

    def _list_attempts(self, values: torch.Tensor) -> list[tuple[bool, torch.device]]:
        """Whether the sums of the whole image are held, and where; what takes the most memory first."""
        device = self.parts.image_device
        if not self.list_device_networks():
            return [(False, device)]
        windows = read_windows(self.parts.inferer, values.shape[1:])
        channels = len(self.parts.networks) * self.num_blended
        attempts = [(True, device)] if fits_whole(windows, channels, len(values), device) else []
        attempts.append((False, device))
        return attempts if device == CPU else [*attempts, (False, CPU)]

    def _stream(
        self,
        values: torch.Tensor,
        grid: GridMap,
        affine: np.ndarray,
        with_probabilities: bool,
        whole: bool,
        confidence: ConfidenceSums | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        alone = len(self.parts.networks) == 1 and not with_probabilities and not grid.interpolates
        blocks = self._iterate(values, whole, (lambda logits: logits) if alone else self._finish)
        if confidence is not None:
            confidence.begin(values.shape[1:])  # also behind an attempt for which the memory did not do
            blocks = confidence.watch(blocks, self._finish if alone else (lambda probabilities: probabilities))
        probabilities = None
        if with_probabilities:
            probabilities = stream_probabilities(blocks, grid, len(self.parts.label_values))
            classes = find_largest(torch.from_numpy(probabilities)).numpy()
        elif values.is_cuda and not self.recipe.class_transforms:
            named = stream_classes_on_device(blocks, grid, self.parts.label_values)
            self._settle_times()
            return named, None
        else:
            classes = stream_classes(blocks, grid)
        self._settle_times()
        classes = postprocess(classes, affine, self.recipe.class_transforms)
        return _name_classes(classes, self.parts.label_values), probabilities

    def _iterate(self, values: torch.Tensor, whole: bool, finish: Finish) -> Iterator[torch.Tensor]:
        return iterate_probabilities(
            values,
            self.parts.networks,
            self.parts.inferer,
            self.parts.inferer.sw_batch_size,
            finish,
            self.deferred_heads,
            self.joint,
            whole,
        )

    def list_device_networks(self) -> list[DeviceNetwork]:
        """The networks that are in a form for a GPU, with the joint one."""
        return [*self.parts.list_device_networks(), *([self.joint] if self.joint is not None else [])]

    def _settle_times(self) -> None:
        for network in self.list_device_networks():
            network.settle()

    def _finish(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits * self.recipe.logit_scale if self.recipe.logit_scale != 1 else logits, dim=0)


def _name_classes(classes: np.ndarray, label_values: Sequence[int]) -> np.ndarray:
    """File value of each class; slice by slice, because NumPy makes indices of eight bytes each."""
    table = np.asarray(label_values, dtype=np.uint8)
    values = np.empty_like(classes)
    for number, plane in enumerate(classes):
        values[number] = table[plane]
    return values


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
