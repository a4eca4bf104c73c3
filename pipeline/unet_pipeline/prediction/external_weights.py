"""The weights of an external bundle: which file, read without running code of it, and whether they are the network's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from unet_pipeline.boundary import describe_failure
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.prediction.external_config import build_part
from unet_pipeline.prediction.weights import require_finite

_LOADER = "CheckpointLoader"


def find_weights(parser: ConfigParser, folder: BundleFolder) -> tuple[Path, str, bool]:
    """The file that the config's CheckpointLoader names, the key that it loads, and whether all must fit.

    Without one, models/model.pt.

    Raises:
        BundleError: the file does not exist, or its path cannot be found out.
    """
    places: list[tuple[str, Any]] = list(parser.get().items())
    for name, items in parser.get().items():
        places += [(f"{name}#{index}", item) for index, item in enumerate(items)] if isinstance(items, list) else []
    path, key, strict = folder.weights, "model", True
    for name, item in places:
        if isinstance(item, dict) and str(item.get("_target_", "")).rpartition(".")[2] == _LOADER:
            path = Path(str(build_part(parser, folder, f"{name}#load_path")))
            named = item.get("load_dict")
            key = next(iter(named), "model") if isinstance(named, dict) else "model"
            strict = item.get("strict", True) is not False
            break
    if not path.is_file():
        shown = path.relative_to(folder.root) if path.is_relative_to(folder.root) else path.name
        raise BundleError(
            f"{folder.name} has no weights: {shown} is missing. Get the whole bundle; the zoo keeps large files apart, and "
            "`python -m monai.bundle download` fetches them."
        )
    return path, str(key), strict


def read_state(path: Path, key: str, folder: BundleFolder) -> Mapping[str, torch.Tensor]:
    """Weights without running code of the file: a state_dict, or a dictionary that has it under a key.

    Raises:
        BundleError: the file is damaged, holds something else, or weights that are no numbers.
    """
    shown = f"{path.name} of {folder.name}"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BundleError(
            f"{shown} cannot be read without running code of it, or is damaged: {_describe_fault(error)}. Get the bundle again."
        ) from error
    state = content.get(key, content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not any(map(torch.is_tensor, state.values())):
        raise BundleError(
            f"{shown} holds no weights; expected a state_dict, or one under {key!r}. Get the bundle again."
        )
    require_finite(state, shown, "Get the bundle again.")
    return state


def _describe_fault(error: Exception) -> str:
    """Why torch.load refuses a file, without its advice to run the file's code."""
    text = describe_failure(error)
    if "TorchScript" in text:
        return "it is TorchScript, which is a program; expected weights alone"
    if "Weights only load failed" in text:
        return "it holds more than numbers"
    return text.rstrip(".")


def load_state(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path, strict: bool, folder: BundleFolder
) -> None:
    """Load weights into a bundle's network.

    Raises:
        BundleError: they do not fit; or, where the config asks for less (strict: false), they leave parameters as they were drawn.
    """
    shown = f"{path.name} of {folder.name}"
    own = network.state_dict()
    for name, value in state.items():
        if name in own and own[name].is_floating_point() and torch.is_tensor(value) and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise BundleError(
                f"{shown} does not fit its network: {name} holds {kind}; expected real numbers. Get the bundle again."
            )
    try:
        missing = set(network.load_state_dict(state, strict=strict).missing_keys)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        cause = " ".join(str(error).split())[:200].rstrip(".")
        raise BundleError(f"{shown} does not fit its network: {cause}. Get the bundle again.") from error
    if drawn := [name for name, _ in network.named_parameters() if name in missing]:
        raise BundleError(
            f"{shown} does not fit its network: it has no weights for {len(drawn)} of its parameters, the first is {drawn[0]}, and "
            "strict is false in the config. Get the bundle again."
        )
