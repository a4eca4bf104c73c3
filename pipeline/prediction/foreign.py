"""Bundles of others, such as MONAI's model zoo: their inference config as it is, for one image after the other.

What a sample goes through is theirs: preprocessing, network, inferer, postprocessing, and the writer with its resampling to the image's
grid. Ours are the list of images, the names of the files, and that each is whole or absent.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import FolderLayout, MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, LoadImaged, SaveImage, SaveImaged

from pipeline.boundary import describe_failure
from pipeline.bundle_folder import BundleFolder
from pipeline.config_values import quote_paths
from pipeline.errors import BundleError, PredictionError
from pipeline.prediction.inference import build_device
from pipeline.prediction.modality import find_modalities
from pipeline.prediction.weights import require_finite
from pipeline.types import IMAGE, PRED

_LOADER = "CheckpointLoader"
_AFFINE_TOLERANCE_MM = 1e-2
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
        batch = list_data_collate([self.preprocessing({self.image_key: given})])
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.amp and self.device.type == "cuda"):
            batch[PRED] = self.inferer(batch[self.image_key].to(self.device), self.network)
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
        defined = {int(channel): str(label) for channel, label in image.get("channel_def", {}).items()}
        channels = tuple(defined.get(channel, f"channel_{channel}") for channel in range(int(image["num_channels"])))
        named = {int(channel): str(label) for channel, label in output.get("channel_def", {}).items()}
        outputs = tuple(named.get(channel, f"label_{channel}") for channel in range(int(output["num_channels"])))
        modalities = find_modalities([str(image.get("modality") or ""), *channels])
        return ForeignFormat(channels, len(image["spatial_shape"]), outputs, modalities)
    except (KeyError, StopIteration, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"configs/metadata.json of {name} does not say what goes in and out ({error!r}); expected network_data_format with inputs and "
            "outputs, num_channels and spatial_shape. Complete it."
        ) from error


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
    parser.read_config(str(config))
    parser.read_meta(str(folder.metadata))
    parser.update(quote_paths({"bundle_root": folder.root}))
    if device is not None:
        parser["device"] = build_device(device)
    own = [step for step in _OWN_STEPS if (parser.get("evaluator") or {}).get(step) is not None]
    if own:
        raise BundleError(
            f"The evaluator of {folder.name} has its own {own[0]}; expected images, network and postprocessing alone. Run it with "
            f"`python -m monai.bundle run --config_file configs/{config.name}`."
        )
    with _importing_from(folder.root), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights, key, strict = find_weights(parser, folder)
        state = _read_state(
            weights, key, folder
        )  # first: a part that is missing matters less than weights that are no use
        network = _build(parser, folder, "network" if "network" in parser else "network_def")
        _load(network, state, weights, strict, folder)
        found = torch.device(_build(parser, folder, "device") if "device" in parser else "cpu")
        preprocessing = _build(parser, folder, "preprocessing")
        inferer = _build(parser, folder, "inferer")
        postprocessing = _build(parser, folder, "postprocessing")
    transforms = list(Compose([postprocessing]).flatten().transforms)
    savers = [transform for transform in transforms if isinstance(transform, SaveImaged)]
    of_pred = [transform for transform in savers if PRED in transform.keys] or savers[:1]
    saver = of_pred[0].saver if of_pred else SaveImage(separate_folder=False)
    saver.set_options(write_kwargs={"verbose": False})
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
        amp=bool((parser.get("evaluator") or {}).get("amp", False)),
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


def _build(parser: ConfigParser, folder: BundleFolder, name: str) -> Any:
    if name not in parser:
        raise BundleError(
            f"The inference config of {folder.name} has no id {name!r}; expected device, network or network_def, preprocessing, inferer, "
            "postprocessing. It is no bundle that predicts images."
        )
    try:
        return parser.get_parsed_content(name)
    except Exception as error:  # whatever the bundle's own code raises
        cause = describe_failure(error.__cause__ or error, 300)
        packages = ", ".join(folder.read_required_packages()) or "none are named"
        raise BundleError(
            f"{name!r} of the inference config of {folder.name} cannot be built: {cause}. Install the packages that its metadata.json "
            f"names ({packages}), or ask its makers."
        ) from error


def find_weights(parser: ConfigParser, folder: BundleFolder) -> tuple[Path, str, bool]:
    """The file that the config's CheckpointLoader names, the key that it loads, and whether all must fit.

    Without one, models/model.pt.

    Raises:
        BundleError: the file does not exist.
    """
    places: list[tuple[str, Any]] = list(parser.get().items())
    for name, items in parser.get().items():
        places += [(f"{name}#{index}", item) for index, item in enumerate(items)] if isinstance(items, list) else []
    path, key, strict = folder.weights, "model", True
    for name, item in places:
        if isinstance(item, dict) and str(item.get("_target_", "")).rpartition(".")[2] == _LOADER:
            path = Path(str(parser.get_parsed_content(f"{name}#load_path")))
            key, strict = next(iter(item.get("load_dict") or {"model": None})), bool(item.get("strict", True))
            break
    if not path.is_file():
        shown = path.relative_to(folder.root) if path.is_relative_to(folder.root) else path.name
        raise BundleError(
            f"{folder.name} has no weights: {shown} is missing. Get the whole bundle; the zoo keeps large files apart, and "
            "`python -m monai.bundle download` fetches them."
        )
    return path, str(key), strict


def _read_state(path: Path, key: str, folder: BundleFolder) -> Mapping[str, torch.Tensor]:
    """Weights without running code of the file: a state_dict, or a dictionary that has it under a key."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content[key] if isinstance(content.get(key), Mapping) else content
    except Exception as error:  # torch raises many kinds for a damaged file
        cause = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path.name} of {folder.name} cannot be read without running code of it, or is damaged: {cause}. Get the bundle again."
        ) from error
    require_finite(state, f"{path.name} of {folder.name}", "Get the bundle again.")
    return state


def _load(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path, strict: bool, folder: BundleFolder
) -> None:
    try:
        network.load_state_dict(state, strict=strict)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path.name} of {folder.name} does not fit its network: {cause}. Get the bundle again."
        ) from error


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
