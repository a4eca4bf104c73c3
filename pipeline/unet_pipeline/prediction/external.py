"""External bundles, such as those of MONAI's model zoo: their inference config as it is, in the engine `transforms`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.config_values import quote_paths
from unet_pipeline.errors import BundleError
from unet_pipeline.prediction.device_choice import build_device
from unet_pipeline.prediction.external_config import build_part, build_part_device, read_external_config, require_part
from unet_pipeline.prediction.external_weights import find_weights, load_state, read_state
from unet_pipeline.prediction.modality import find_modalities
from unet_pipeline.prediction.parts import Expected, Parts
from unet_pipeline.prediction.transforms import TransformsEngine, find_saver
from unet_pipeline.types import IMAGE, PRED

_MOST_CHANNELS = 1 << 16
# of the evaluator: it then feeds the network in a way of its own, which the case loop does not know
_OWN_STEPS = ("iteration_update", "prepare_batch")


@dataclass(frozen=True)
class ExternalFormat:
    """What metadata.json says of a bundle's images and outputs.

    Attributes:
        images: that it takes.
        output_names: of the output channels, in their order: classes, or structures that may overlap.
    """

    images: Expected
    output_names: tuple[str, ...]


def read_format(metadata: Mapping[str, Any], name: str) -> ExternalFormat:
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
        return ExternalFormat(Expected(channels, len(spatial_shape), modalities), outputs)
    except (KeyError, StopIteration, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"configs/metadata.json of {name} does not say what goes in and out; expected network_data_format with inputs and outputs, "
            "each with num_channels, and spatial_shape as a list of 2 or 3. Complete it."
        ) from error


def _name_channels(part: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """Names of the channels of an input or output; by their number where channel_def does not name them."""
    count, channel_def = int(part["num_channels"]), part.get("channel_def")
    if not 1 <= count <= _MOST_CHANNELS:
        raise ValueError("num_channels")
    listed = (
        dict(enumerate(channel_def))
        if isinstance(channel_def, list)
        else channel_def
        if isinstance(channel_def, dict)
        else {}
    )
    named = {str(channel).strip(): str(label) for channel, label in listed.items()}
    return tuple(named.get(str(channel), f"{kind}_{channel}") for channel in range(count))


def build_external_engine(folder: BundleFolder, device: str | None = None) -> TransformsEngine:
    """The engine of a bundle that this package did not make.

    Args:
        folder: has configs/inference.json or .yaml, and metadata.json.
        device: such as "cpu" or "cuda:1"; the bundle's own choice, if None.

    Raises:
        BundleError: a part is missing or cannot be built, or the weights do not fit.
        PredictionError: the device does not exist.
    """
    config, expected = folder.find_config("inference"), read_format(folder.read_metadata(), folder.name).images
    parser = ConfigParser()
    parser.read_config(read_external_config(config, folder))
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
        torch_device = build_part_device(parser, folder)
        of_network = "network" if "network" in parser else "network_def"
        network = require_part(build_part(parser, folder, of_network), torch.nn.Module, of_network, "a network", folder)
        load_state(network, state, weights, strict, folder)
        preprocessing, inferer, postprocessing = (
            require_part(build_part(parser, folder, name), Callable, name, "something to call", folder)
            for name in ("preprocessing", "inferer", "postprocessing")
        )
    before, saver, pred_key = find_saver(list(Compose([postprocessing]).flatten().transforms))
    loaders = [item for item in Compose([preprocessing]).flatten().transforms if isinstance(item, LoadImaged)]
    return TransformsEngine(
        Parts(expected, preprocessing, (network.to(torch_device).eval(),), inferer, torch_device),
        to_probabilities=Compose([]),
        to_values=Compose(before),
        saver=saver,
        image_key=str(loaders[0].keys[0]) if loaders else IMAGE,
        pred_key=pred_key,
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
