"""A bundle's networks and transforms, ready for one image after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import Inferer
from monai.transforms import Compose

from pipeline.dataset.dataset import PICTURE_SUFFIXES, case_name
from pipeline.dataset.medical_image import MedicalImage
from pipeline.dataset.writing import fits_png
from pipeline.errors import PredictionError
from pipeline.planning.plan import Plan
from pipeline.prediction import streaming
from pipeline.prediction.device_network import BATCHES_THAT_PAY_TRIALS, DeviceNetwork
from pipeline.prediction.graph import DEVICE_LOCK
from pipeline.prediction.grids import GridMap, map_grid
from pipeline.prediction.input_check import is_box
from pipeline.prediction.late_head import LateHead
from pipeline.prediction.memory import fits_whole
from pipeline.prediction.out_of_memory import is_out_of_memory, release_cached_memory
from pipeline.prediction.stopwatch import Stopwatch
from pipeline.prediction.windows import is_plain, read_windows
from pipeline.types import IMAGE, PRED

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Windowing:
    """How the windows of all images of one call are computed.

    Attributes:
        batch_size: windows at once, at most.
        blended_on: device of the image and of the sums over windows.
        num_images: at the same time, each in a thread of its own with its share of PyTorch's threads.
        num_windows: of all images; 0 where that is not known.
    """

    batch_size: int
    blended_on: torch.device
    num_images: int = 1
    num_windows: int = 0


@dataclass(frozen=True)
class Predictor:
    """A bundle's networks, one or the members of an ensemble, and transforms, ready for one image after the other.

    Attributes:
        obstacle: why images go MONAI's own way; None where they are streamed.
        class_transforms: of the bundle, behind the argmax.
        label_values: file value of each class.
        logit_scale: of the bundle's inference config; 1 over the temperature.
        precision: "float32" or "bfloat16".
        stopwatch: counts the seconds of what it does.
        late_heads: the networks in two parts where images are streamed and few features make many classes; otherwise none.
        windowing: how windows are computed; as the bundle's inferer says, on `device`, if None.
        joint: on a GPU all members (without their last convolutions where those are late) as one network, so that a window is cut out
            once; None elsewhere.
        modalities: DICOM's codes of the images that were trained on, as far as they are known.
    """

    plan: Plan
    preprocessing: Compose
    networks: tuple[Callable[[torch.Tensor], torch.Tensor], ...]
    inferer: Inferer
    to_probabilities: Compose
    to_files: Compose
    device: torch.device
    obstacle: str | None = "not asked for"
    class_transforms: tuple[Any, ...] = ()
    label_values: tuple[int, ...] = ()
    logit_scale: float = 1.0
    precision: str = "float32"
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    late_heads: tuple[LateHead, ...] = ()
    windowing: Windowing | None = None
    joint: DeviceNetwork | None = None
    modalities: tuple[str, ...] = ()

    def with_windowing(self, windowing: Windowing) -> Predictor:
        """The same predictor with other windows at once, or blended elsewhere; label maps differ by rounding at most."""
        inferer = copy.copy(self.inferer)
        if is_plain(inferer):
            inferer.sw_batch_size = windowing.batch_size
        pays = windowing.num_windows >= windowing.batch_size * BATCHES_THAT_PAY_TRIALS
        for network in self._list_device_networks():
            network.resize(windowing.batch_size, tries_kernels=pays)
        return replace(self, inferer=inferer, windowing=windowing)

    def copy_for_thread(self) -> Predictor:
        """The same networks with transforms of its own: MONAI's are not made for two threads."""
        preprocessing, class_transforms = copy.deepcopy((self.preprocessing, self.class_transforms))
        return replace(self, preprocessing=preprocessing, class_transforms=class_transforms)

    def list_notes(self) -> list[str]:
        """What was left out on the GPU, and why; each once."""
        return list(dict.fromkeys(note for network in self._list_device_networks() for note in network.notes))

    def _list_device_networks(self) -> list[DeviceNetwork]:
        return [one for one in (*self.networks, self.joint) if isinstance(one, DeviceNetwork)]

    @property
    def _image_device(self) -> torch.device:
        return self.windowing.blended_on if self.windowing is not None else self.device

    def can_stream(self, image: MedicalImage) -> bool:
        """Whether `stream` takes the image: a volume whose axes are orthogonal, with transforms that are known."""
        return self.obstacle is None and len(image.spatial_shape) == 3 and is_box(image.grid, self.preprocessing)

    def preprocess(self, image: MedicalImage) -> MetaTensor:
        """The image on the network's grid, on the device that blends; see `streaming.preprocess`."""
        with self.stopwatch.measure("preprocess"):
            if self._image_device.type == "cuda":
                try:
                    return self._preprocess_on_device(image)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                release_cached_memory(self._image_device)
            return streaming.preprocess(image, self.preprocessing)

    def _preprocess_on_device(self, image: MedicalImage) -> MetaTensor:
        """In a stream of its own, so that it does not wait for the windows of the image before."""
        side = torch.cuda.Stream(self._image_device)
        with DEVICE_LOCK, torch.cuda.stream(side):
            prepared = streaming.preprocess(image, self.preprocessing, self._image_device)
            side.synchronize()
        return prepared

    @torch.inference_mode()
    def stream(
        self, prepared: MetaTensor, affine: np.ndarray, shape: tuple[int, ...], with_probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Label values of an image on its own grid, uint8, and its probabilities if asked for.

        On a GPU whose memory runs out it is tried again with the sums of some rows, and then with those in main memory.

        Args:
            prepared: from `preprocess`.
            affine: of the image.
            shape: of the image.
            with_probabilities: they take classes times 4 bytes for every voxel.
        """
        grid = map_grid(prepared.affine.numpy(), prepared.shape[1:], affine, shape)
        if grid is None:
            raise PredictionError(
                f"The grid of shape {shape} is turned against the network's. Predict with stock MONAI."
            )
        values = prepared.as_tensor()
        with self.stopwatch.measure("postprocess"):
            *attempts, last = self._list_attempts(values)
            for whole, device in attempts:
                try:
                    return self._stream(values.to(device), grid, affine, with_probabilities, whole)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                release_cached_memory(self.device)
            return self._stream(values.to(last[1]), grid, affine, with_probabilities, last[0])

    def _list_attempts(self, values: torch.Tensor) -> list[tuple[bool, torch.device]]:
        """Whether the sums of the whole image are held, and where; what takes the most memory first."""
        device = self._image_device
        if not self._list_device_networks():
            return [(False, device)]
        windows = read_windows(self.inferer, values.shape[1:])
        channels = len(self.networks) * (self.late_heads[0].num_features if self.late_heads else len(self.label_values))
        attempts = [(True, device)] if fits_whole(windows, channels, len(values), device) else []
        attempts.append((False, device))
        return attempts if device == _CPU else [*attempts, (False, _CPU)]

    def _stream(
        self, values: torch.Tensor, grid: GridMap, affine: np.ndarray, with_probabilities: bool, whole: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        alone = len(self.networks) == 1 and not with_probabilities and not grid.interpolates
        blocks = self._iterate(values, whole, (lambda logits: logits) if alone else self._finish)
        probabilities = None
        if with_probabilities:
            probabilities = streaming.stream_probabilities(blocks, grid, len(self.label_values))
            classes = streaming.find_largest(torch.from_numpy(probabilities)).numpy()
        elif values.is_cuda and not self.class_transforms:
            named = streaming.stream_classes_on_device(blocks, grid, self.label_values)
            self._settle_times()
            return named, None
        else:
            classes = streaming.stream_classes(blocks, grid)
        self._settle_times()
        classes = streaming.postprocess(classes, affine, self.class_transforms)
        return _name_classes(classes, self.label_values), probabilities

    def _iterate(self, values: torch.Tensor, whole: bool, finish: streaming.Finish) -> Iterator[torch.Tensor]:
        return streaming.iterate_probabilities(
            values,
            self.networks,
            self.inferer,
            self.inferer.sw_batch_size,
            finish,
            self.late_heads,
            self.joint,
            whole,
        )

    def _settle_times(self) -> None:
        for network in self._list_device_networks():
            network.settle()

    def _finish(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits * self.logit_scale if self.logit_scale != 1 else logits, dim=0)

    def predict_probabilities(self, image: Path) -> np.ndarray:
        """Probabilities of an image file on its own grid, shape (classes, *spatial), float32."""
        return np.asarray(self.predict_sample(image)[PRED], dtype=np.float32)

    def write_sample(self, sample: dict[str, Any], image: Path) -> tuple[str, np.ndarray]:
        """Let the bundle's SaveImaged write what `predict_sample` gave for an image file into the folder it was built for.

        Returns:
            The name of the label map in that folder, and the probabilities as from `predict_probabilities`.
        """
        probabilities = np.asarray(sample[PRED], dtype=np.float32)
        self.to_files(sample)
        return f"{case_name(image)}{self.plan.output_suffix}", probabilities

    def takes_picture(self, image: MedicalImage) -> bool:
        """Whether an image has to be given to `predict_sample` as it was read, because no PNG file can hold its values."""
        is_picture = self.plan.image_suffix in PICTURE_SUFFIXES
        held = is_picture and not fits_png(image.array.dtype, image.array.shape[0])
        return held and streaming.begins_as_planned(self.preprocessing)

    def predict_sample(self, image: Path, picture: MedicalImage | None = None) -> dict[str, Any]:
        """The sample with probabilities on the image's own grid, averaged over the networks.

        Args:
            image: the file; only its name counts where there is a `picture`.
            picture: the image as it was read.
        """
        if picture is None:
            sample = self.preprocessing({IMAGE: str(image)})
        else:
            sample = streaming.preprocess_picture(picture, image, self.preprocessing)
        batch = list_data_collate([sample])
        if self._image_device != _CPU:
            try:
                return self._predict_batch(dict(batch), self._image_device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            release_cached_memory(self.device)
        return self._predict_batch(batch, _CPU)

    def _predict_batch(self, batch: dict[str, Any], blended_on: torch.device) -> dict[str, Any]:
        images = batch[IMAGE].to(blended_on)
        found: dict[str, Any] = {}
        for network in self.networks:
            with torch.inference_mode():
                batch[PRED] = self.inferer(images, network)
            (item,) = decollate_batch(batch)
            item = self.to_probabilities(item)
            found = item if not found else {**found, PRED: found[PRED] + item[PRED]}
        if len(self.networks) > 1:
            found[PRED] = found[PRED] / len(self.networks)
        self._settle_times()
        return found


def _name_classes(classes: np.ndarray, label_values: Sequence[int]) -> np.ndarray:
    """File value of each class; slice by slice, because NumPy makes indices of eight bytes each."""
    table = np.asarray(label_values, dtype=np.uint8)
    values = np.empty_like(classes)
    for number, plane in enumerate(classes):
        values[number] = table[plane]
    return values
