"""Weights + images -> label maps on the images' own grids, one case after the other.

The components come from the bundle's inference.json and nowhere else, so that `python -m monai.bundle run` gives the
same label maps. Added here: checks of the input, mirroring, whole files or none, and one bad image that does not stop the others.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import Inferer
from monai.transforms import Compose

from pipeline.bundle_folder import BundleFolder
from pipeline.config_values import quote_paths
from pipeline.dataset.dataset import case_name
from pipeline.dataset.medical_image import MedicalImage
from pipeline.errors import PredictionError, suggest
from pipeline.lean_imports import leave_out_readers
from pipeline.planning.plan import Plan, read_plan
from pipeline.prediction import streaming
from pipeline.prediction.grids import map_grid
from pipeline.prediction.input_check import is_box
from pipeline.prediction.late_head import LateHead, build_late_head, take_heads_off
from pipeline.prediction.mirroring import Mirrored
from pipeline.prediction.modality import read_modalities
from pipeline.prediction.runtime import TORCH, build_exported_network, choose_device
from pipeline.prediction.stopwatch import Stopwatch, TimedNetwork
from pipeline.prediction.weights import load_weights
from pipeline.prediction.windows import is_plain
from pipeline.training.instance_norm import speed_up_instance_norm
from pipeline.training.precision import BFLOAT16, FLOAT32, supports_fast_bfloat16
from pipeline.types import IMAGE, PRED

PRECISIONS = (FLOAT32, BFLOAT16, "auto")
_AFTER_THE_NETWORK = ("native_probability_transforms", "native_label_transforms", "output_transforms")


@dataclass(frozen=True)
class Windowing:
    """How the windows of all images of one call are computed.

    Attributes:
        batch_size: windows at once, at most.
        blended_on: device of the image and of the sums over windows.
        num_images: at the same time, each in a thread of its own with its share of PyTorch's threads.
    """

    batch_size: int
    blended_on: torch.device
    num_images: int = 1


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
    modalities: tuple[str, ...] = ()

    def with_windowing(self, windowing: Windowing) -> Predictor:
        """The same predictor with other windows at once, or blended elsewhere; label maps differ by rounding at most."""
        inferer = copy.copy(self.inferer)
        if is_plain(inferer):
            inferer.sw_batch_size = windowing.batch_size
        return replace(self, inferer=inferer, windowing=windowing)

    def copy_for_thread(self) -> Predictor:
        """The same networks with transforms of its own: MONAI's are not made for two threads."""
        preprocessing, class_transforms = copy.deepcopy((self.preprocessing, self.class_transforms))
        return replace(self, preprocessing=preprocessing, class_transforms=class_transforms)

    @property
    def _image_device(self) -> torch.device:
        return self.windowing.blended_on if self.windowing is not None else self.device

    def can_stream(self, image: MedicalImage) -> bool:
        """Whether `stream` takes the image: a volume whose axes are orthogonal, with transforms that are known."""
        return self.obstacle is None and len(image.spatial_shape) == 3 and is_box(image.grid, self.preprocessing)

    def preprocess(self, image: MedicalImage) -> MetaTensor:
        """The image on the network's grid; see `streaming.preprocess`."""
        with self.stopwatch.measure("preprocess"):
            return streaming.preprocess(image, self.preprocessing)

    @torch.inference_mode()
    def stream(
        self, prepared: MetaTensor, affine: np.ndarray, shape: tuple[int, ...], with_probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Label values of an image on its own grid, uint8, and its probabilities if asked for.

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
        alone = len(self.networks) == 1 and not with_probabilities and not grid.interpolates
        values = prepared.as_tensor().to(self._image_device)
        with self.stopwatch.measure("postprocess"):
            blocks = streaming.iterate_probabilities(
                values,
                self.networks,
                self.inferer,
                self.inferer.sw_batch_size,
                (lambda logits: logits) if alone else self._finish,
                self.late_heads,
            )
            probabilities = None
            if with_probabilities:
                probabilities = streaming.stream_probabilities(blocks, grid, len(self.label_values))
                classes = streaming.find_largest(torch.from_numpy(probabilities)).numpy()
            else:
                classes = streaming.stream_classes(blocks, grid)
            classes = streaming.postprocess(classes, affine, self.class_transforms)
            return _name_classes(classes, self.label_values), probabilities

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

    def predict_sample(self, image: Path) -> dict[str, Any]:
        """The sample with probabilities on the image's own grid, averaged over the networks."""
        batch = list_data_collate([self.preprocessing({IMAGE: str(image)})])
        images = batch[IMAGE].to(self._image_device)
        found: dict[str, Any] = {}
        for network in self.networks:
            with torch.inference_mode():
                batch[PRED] = self.inferer(images, network)
            (item,) = decollate_batch(batch)
            item = self.to_probabilities(item)
            found = item if not found else {**found, PRED: found[PRED] + item[PRED]}
        if len(self.networks) > 1:
            found[PRED] = found[PRED] / len(self.networks)
        return found


def _name_classes(classes: np.ndarray, label_values: Sequence[int]) -> np.ndarray:
    """File value of each class; slice by slice, because NumPy makes indices of eight bytes each."""
    table = np.asarray(label_values, dtype=np.uint8)
    values = np.empty_like(classes)
    for number, plane in enumerate(classes):
        values[number] = table[plane]
    return values


def build_predictor(
    folder: BundleFolder,
    weights: Sequence[Path],
    output_dir: Path,
    device: str | None = None,
    mirror: bool = False,
    tuned: bool = True,
    runtime: str = TORCH,
    precision: str = "float32",
) -> Predictor:
    """The predictor of a bundle.

    Args:
        folder: the bundle.
        weights: state_dict files; of several, the probabilities are averaged.
        output_dir: gets the label maps, named like the images.
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.
        mirror: average the logits over the mirrored copies of each window, along the axes that the training mirrored; costs twice as
            much per axis.
        tuned: with the temperature of the plan; False for temperature 1.
        runtime: what runs the network; other than torch, its export takes the place of `weights`.
        precision: see `choose_precision`.

    Raises:
        BundleError: the weights do not fit the network.
        PredictionError: the device does not exist.
    """
    components = _build_components(folder, output_dir, choose_device(runtime, device), tuned)
    members = _build_members(folder, components["network"], weights, components["device"], runtime)
    plan = read_plan(folder.plan)
    to_probabilities, to_classes, to_files = (components[name] for name in _AFTER_THE_NETWORK)
    precision, stopwatch = choose_precision(precision, components["device"], runtime), Stopwatch()
    obstacle = streaming.find_obstacle(
        components["preprocessing"],
        components["inferer"],
        to_probabilities,
        [*to_classes, *to_files],
        plan.output_suffix,
    )
    timed = partial(TimedNetwork, stopwatch=stopwatch, bfloat16=precision == BFLOAT16, device=components["device"])
    prepare = (lambda member: timed(Mirrored(member, plan.mirrored_axes))) if mirror else timed
    late_heads = _build_late_heads(members, plan, components, prepare) if obstacle is None and runtime == TORCH else ()
    return Predictor(
        plan=plan,
        preprocessing=components["preprocessing"],
        networks=tuple(map(prepare, members)),
        inferer=components["inferer"],
        to_probabilities=Compose(to_probabilities),
        to_files=Compose([*to_classes, *to_files]),
        device=components["device"],
        obstacle=obstacle,
        class_transforms=tuple(to_classes[1:]),
        label_values=tuple(components["label_values"]),
        logit_scale=streaming.read_logit_scale(to_probabilities) if obstacle is None else 1.0,
        precision=precision,
        stopwatch=stopwatch,
        late_heads=late_heads,
        modalities=read_modalities(folder, plan.channel_names),
    )


def _build_late_heads(
    members: Sequence[torch.nn.Module],
    plan: Plan,
    components: dict[str, Any],
    prepare: Callable[[torch.nn.Module], TimedNetwork],
) -> tuple[LateHead, ...]:
    shape = (1, len(plan.channel_names), *components["inferer"].roi_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    halves = take_heads_off(members, images.to(components["device"]), len(plan.label_table))
    return tuple(build_late_head(prepare(body), convolution) for body, convolution in halves)


def _build_components(folder: BundleFolder, output_dir: Path, device: str | None, tuned: bool) -> dict[str, Any]:
    """The parts of inference.json that a prediction needs, by their ids."""
    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(str(folder.config("inference")))
    parser.update(quote_paths({"bundle_root": folder.root, "output_dir": output_dir}))
    if device is not None:
        parser["device"] = build_device(device)
    if not tuned:
        parser["uncalibrated"] = True
    with warnings.catch_warnings(), leave_out_readers():
        warnings.simplefilter("ignore")
        return {
            name: parser.get_parsed_content(name)
            for name in ("device", "network", "preprocessing", "inferer", "label_values", *_AFTER_THE_NETWORK)
        }


def _build_members(
    folder: BundleFolder, network: torch.nn.Module, weights: Sequence[Path], device: torch.device, runtime: str
) -> list[torch.nn.Module]:
    """The networks with their weights, in the device's fastest form; an export has them inside."""
    if runtime != TORCH:
        return [build_exported_network(folder.export(runtime), runtime, device)]
    members = [network, *(copy.deepcopy(network) for _ in weights[1:])]
    for member, path in zip(members, weights, strict=True):
        load_weights(member, path, device)
        member.eval()
        if device.type == "cpu":
            speed_up_instance_norm(member)
    return members


def choose_precision(name: str, device: torch.device, runtime: str = TORCH) -> str:
    """float32 or bfloat16 for a choice of the user; `auto` takes bfloat16 where the device is fast with it.

    Raises:
        PredictionError: unknown choice, or bfloat16 for an exported network, which computes in float32.
    """
    if name not in PRECISIONS:
        raise PredictionError(f"Unknown precision {name!r}; {suggest(name, PRECISIONS)}.")
    if runtime != TORCH:
        if name == BFLOAT16:
            raise PredictionError(
                f"Runtime {runtime} computes in float32; bfloat16 was asked for. Take the runtime torch."
            )
        return FLOAT32
    if name == "auto":
        return BFLOAT16 if supports_fast_bfloat16(device) else FLOAT32
    return name


def settle_precision(name: str, device: str | None) -> str:
    """What `choose_precision` takes on a device; a GPU when there is one, if None."""
    return choose_precision(name, build_device(device or ("cuda" if torch.cuda.is_available() else "cpu")))


def build_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        PredictionError: unknown name, or no such device in this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PredictionError(f"Device {name!r} cannot be used here: {str(error).splitlines()[0]}. Try cpu.") from error
    return device
