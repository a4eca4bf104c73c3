"""The engine `volumes`: label values without ever holding the probabilities of the whole image, by the numbers of the bundle's config.

It refuses bundles with a step that it does not know (`recipe.py`); the windows, sums and coordinates are the stock way's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from unet_pipeline.boundary import is_out_of_memory
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.device.allocator import release_freed_pages
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import Problem
from unet_pipeline.prediction import streaming
from unet_pipeline.prediction.confidence import ConfidenceSums
from unet_pipeline.prediction.deferred_head import DeferredHead
from unet_pipeline.prediction.device_network import DeviceNetwork
from unet_pipeline.prediction.engine import CPU, Case, CasePrediction
from unet_pipeline.prediction.graph import DEVICE_LOCK
from unet_pipeline.prediction.grids import GridMap, map_grid
from unet_pipeline.prediction.input_check import is_box
from unet_pipeline.prediction.memory import fits_whole
from unet_pipeline.prediction.out_of_memory import release_cached_memory
from unet_pipeline.prediction.outputs import write_volume
from unet_pipeline.prediction.parts import Parts
from unet_pipeline.prediction.recipe import VolumeRecipe
from unet_pipeline.prediction.windows import read_windows

LARGE_BYTES = 1 << 26  # of an image whose preprocessing leaves more than page faults cost


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
        """The image on the network's grid, on the device that blends; see `streaming.preprocess`."""
        with self.parts.stopwatch.measure("preprocess"):
            if self.parts.image_device.type == "cuda":
                try:
                    return self._preprocess_on_device(image)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                release_cached_memory(self.parts.image_device)
            return streaming.preprocess(image, self.parts.preprocessing)

    def _preprocess_on_device(self, image: MedicalImage) -> MetaTensor:
        """In a stream of its own, so that it does not wait for the windows of the image before."""
        side = torch.cuda.Stream(self.parts.image_device)
        with DEVICE_LOCK, torch.cuda.stream(side):
            prepared = streaming.preprocess(image, self.parts.preprocessing, self.parts.image_device)
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
            probabilities = streaming.stream_probabilities(blocks, grid, len(self.parts.label_values))
            classes = streaming.find_largest(torch.from_numpy(probabilities)).numpy()
        elif values.is_cuda and not self.recipe.class_transforms:
            named = streaming.stream_classes_on_device(blocks, grid, self.parts.label_values)
            self._settle_times()
            return named, None
        else:
            classes = streaming.stream_classes(blocks, grid)
        self._settle_times()
        classes = streaming.postprocess(classes, affine, self.recipe.class_transforms)
        return _name_classes(classes, self.parts.label_values), probabilities

    def _iterate(self, values: torch.Tensor, whole: bool, finish: streaming.Finish) -> Iterator[torch.Tensor]:
        return streaming.iterate_probabilities(
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
