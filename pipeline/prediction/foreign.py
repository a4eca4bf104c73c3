"""Bundles of others, such as MONAI's model zoo: their inference config as it is, for one image after the other.

What a sample goes through is theirs: preprocessing, network, inferer, postprocessing, and the writer with its resampling to the image's
grid. Ours are the list of images, the names of the files, and that each is whole or absent.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import FolderLayout, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, LoadImaged, SaveImage, SaveImaged, Spacingd

from pipeline.bundle_folder import BundleFolder
from pipeline.config_values import quote_paths
from pipeline.dataset.medical_image import ImageGrid
from pipeline.errors import BundleError, PredictionError
from pipeline.prediction.foreign_config import build_part, build_part_device, read_foreign_config, require_part
from pipeline.prediction.foreign_weights import find_weights, load_state, read_state
from pipeline.prediction.inference import build_device
from pipeline.prediction.modality import find_modalities
from pipeline.types import IMAGE, PRED

_AFFINE_TOLERANCE_MM = 1e-2
_MOST_CHANNELS = 1 << 16
# of the evaluator: it then feeds the network in a way of its own, which the case loop does not know
_OWN_STEPS = ("iteration_update", "prepare_batch")


@dataclass(frozen=True)
class ForeignFormat:
    """What metadata.json says of a bundle's images and outputs.

    Attributes:
        channel_names: of the image, in their order.
        spatial_dims: axes of the image.
        output_names: of the output channels, in their order: classes, or structures that may overlap.
        modalities: DICOM's codes of the images that it was trained on, as far as they are known.
    """

    channel_names: tuple[str, ...]
    spatial_dims: int
    output_names: tuple[str, ...]
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForeignPredictor:
    """A bundle's parts, with its weights.

    Attributes:
        image_key: of the sample that the image's file stands under.
        pred_key: of the sample that is written.
        postprocessing: without what writes files.
        saver: the bundle's own writer.
        amp: half precision on a GPU, as the bundle's evaluator asks.
    """

    image_key: str
    pred_key: str
    preprocessing: Any
    network: torch.nn.Module
    inferer: Any
    postprocessing: Compose
    saver: SaveImage
    device: torch.device
    amp: bool

    def predict(self, files: tuple[Path, ...], folder: Path) -> tuple[Path, bool]:
        """Predict one image and let the bundle write the result into an empty folder.

        A result on another grid than the image's, as a bundle without Invertd leaves it, is resampled by the bundle's writer.

        Args:
            files: the image, or one file per channel.
            folder: gets the file.

        Returns:
            The file, and whether it was resampled here.
        """
        given = str(files[0]) if len(files) == 1 else [str(file) for file in files]
        sample = self.preprocessing({self.image_key: given})
        if not isinstance(sample, Mapping) or not torch.is_tensor(sample.get(self.image_key)):
            raise ValueError(f"its preprocessing gives no tensor under {self.image_key!r}")
        batch = list_data_collate([sample])
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.amp and self.device.type == "cuda"):
            batch[PRED] = self.inferer(batch[self.image_key].to(self.device), self.network)
        _require_numbers(batch[PRED])
        (item,) = decollate_batch(batch)
        result = self.postprocessing(item)[self.pred_key]
        self.saver.folder_layout = FolderLayout(str(folder), extension=self.saver.output_ext, makedirs=True)
        moved = _lies_elsewhere(result)
        own = dict(self.saver.meta_kwargs)
        self.saver.set_options(meta_kwargs={"resample": True} if moved else {})
        self.saver(result)
        self.saver.set_options(meta_kwargs=own)
        (written,) = folder.iterdir()
        return written, moved and not own["resample"]

    def measure_resampled(self, grid: ImageGrid) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
        """Shape and voxel size in mm of a volume behind the bundle's Spacingd; None without one, and where it says no size."""
        transforms = Compose([self.preprocessing]).flatten().transforms
        found = next((transform for transform in transforms if isinstance(transform, Spacingd)), None)
        pixdim = () if found is None else tuple(float(size) for size in np.ravel(found.spacing_transform.pixdim))
        if len(grid.spatial_shape) != 3 or len(pixdim) < 3 or not all(size > 0 for size in pixdim[:3]):
            return None
        # in the order of the world's axes, which an Orientationd puts them in first
        worlds = np.abs(grid.affine[:3, :3]).argmax(axis=0)
        spacing_mm = tuple(pixdim[world] for world in worlds)
        sizes = zip(grid.spatial_shape, grid.spacing_mm, spacing_mm, strict=True)
        return tuple(max(1, round((size - 1) * own / new) + 1) for size, own, new in sizes), spacing_mm


def _require_numbers(output: Any) -> None:
    """Whether a network gave numbers; of NaN every later step makes a class.

    Raises:
        ValueError: some are none.
    """
    if torch.is_tensor(output) and not bool(torch.isfinite(output).all()):
        raise ValueError(
            "its network gives values that are NaN or infinite; its weights or the image's values are out of range"
        )


def _lies_elsewhere(result: torch.Tensor) -> bool:
    """Whether a result is on another grid than the image that it came from."""
    if not isinstance(result, MetaTensor) or "original_affine" not in result.meta:
        return False
    shape = tuple(int(size) for size in result.meta.get("spatial_shape", result.shape[1:]))
    affine = torch.as_tensor(result.meta["original_affine"])
    dims = len(result.shape) - 1
    same = torch.allclose(result.affine[:dims].double(), affine[:dims].double(), rtol=0, atol=_AFFINE_TOLERANCE_MM)
    return tuple(result.shape[1:]) != shape[:dims] or not same


def read_format(metadata: Mapping[str, Any], name: str) -> ForeignFormat:
    """Format of a bundle's images and outputs.

    Args:
        metadata: contents of metadata.json.
        name: of the bundle, for the message.

    Raises:
        BundleError: it does not say.
    """
    try:
        form = metadata["network_data_format"]
        image = form["inputs"].get(IMAGE) or next(iter(form["inputs"].values()))
        output = form["outputs"].get(PRED) or next(iter(form["outputs"].values()))
        channels = _name_channels(image, "channel")
        outputs = _name_channels(output, "label")
        modalities = find_modalities([str(image.get("modality") or ""), *channels])
        spatial_shape = image["spatial_shape"]
        if not isinstance(spatial_shape, list) or len(spatial_shape) not in (2, 3):
            raise ValueError("spatial_shape")
        return ForeignFormat(channels, len(spatial_shape), outputs, modalities)
    except (KeyError, StopIteration, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"configs/metadata.json of {name} does not say what goes in and out; expected network_data_format with inputs and outputs, "
            "each with num_channels, and spatial_shape as a list of 2 or 3. Complete it."
        ) from error


def _name_channels(part: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """Names of the channels of an input or output; by their number where channel_def does not name them."""
    count, given = int(part["num_channels"]), part.get("channel_def")
    if not 1 <= count <= _MOST_CHANNELS:
        raise ValueError("num_channels")
    listed = dict(enumerate(given)) if isinstance(given, list) else given if isinstance(given, dict) else {}
    named = {str(channel).strip(): str(label) for channel, label in listed.items()}
    return tuple(named.get(str(channel), f"{kind}_{channel}") for channel in range(count))


def build_foreign_predictor(folder: BundleFolder, device: str | None = None) -> ForeignPredictor:
    """The predictor of a bundle that this package did not make.

    Args:
        folder: has configs/inference.json or .yaml, and metadata.json.
        device: such as "cpu" or "cuda:1"; the bundle's own choice, if None.

    Raises:
        BundleError: a part is missing or cannot be built, or the weights do not fit.
        PredictionError: the device does not exist.
    """
    config = folder.find_config("inference")
    parser = ConfigParser()
    parser.read_config(read_foreign_config(config, folder))
    parser.read_meta(folder.read_metadata())
    parser.update(quote_paths({"bundle_root": folder.root}))
    if device is not None:
        parser["device"] = build_device(device)
    evaluator = parser.get("evaluator")
    evaluator = evaluator if isinstance(evaluator, dict) else {}
    own = [step for step in _OWN_STEPS if evaluator.get(step) is not None]
    if own:
        raise BundleError(
            f"The evaluator of {folder.name} has its own {own[0]}; expected images, network and postprocessing alone. Run it with "
            f"`python -m monai.bundle run --config_file configs/{config.name}`."
        )
    with _importing_from(folder.root), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights, key, strict = find_weights(parser, folder)
        # first: a part that is missing matters less than weights that are no use
        state = read_state(weights, key, folder)
        found = build_part_device(parser, folder)
        of_network = "network" if "network" in parser else "network_def"
        network = require_part(build_part(parser, folder, of_network), torch.nn.Module, of_network, "a network", folder)
        load_state(network, state, weights, strict, folder)
        preprocessing, inferer, postprocessing = (
            require_part(build_part(parser, folder, name), Callable, name, "something to call", folder)
            for name in ("preprocessing", "inferer", "postprocessing")
        )
    transforms = list(Compose([postprocessing]).flatten().transforms)
    savers = [transform for transform in transforms if isinstance(transform, SaveImaged)]
    of_pred = [transform for transform in savers if PRED in transform.keys] or savers[:1]
    saver = of_pred[0].saver if of_pred else SaveImage(separate_folder=False)
    saver.set_options(write_kwargs={"verbose": False})
    if (saver.output_ext or ".nii.gz").startswith(".nii"):  # an axis of one voxel is one of the image's
        saver.set_options(data_kwargs={"squeeze_end_dims": False})
    loaders = [item for item in Compose([preprocessing]).flatten().transforms if isinstance(item, LoadImaged)]
    return ForeignPredictor(
        image_key=str(loaders[0].keys[0]) if loaders else IMAGE,
        pred_key=PRED if not of_pred or PRED in of_pred[0].keys else str(of_pred[0].keys[0]),
        preprocessing=preprocessing,
        network=network.to(found).eval(),
        inferer=inferer,
        postprocessing=Compose([transform for transform in transforms if transform not in savers]),
        saver=saver,
        device=found,
        amp=bool(evaluator.get("amp", False)),
    )


@contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    """The bundle's own modules, such as scripts/, can be imported."""
    place = str(root.resolve())
    sys.path.insert(1, place)
    try:
        yield
    finally:
        sys.path.remove(place)


def check_image(spatial_dims: int, num_channels: int, expected: ForeignFormat, shown: str) -> None:
    """Whether a bundle can take an image.

    Raises:
        PredictionError: other dimensions or number of channels.
    """
    if (spatial_dims, num_channels) != (expected.spatial_dims, len(expected.channel_names)):
        raise PredictionError(
            f"{shown} has {spatial_dims} dimensions and {num_channels} channel(s); the bundle expects {expected.spatial_dims} and "
            f"{len(expected.channel_names)} ({', '.join(expected.channel_names)}). Give it images like those it was trained on."
        )
