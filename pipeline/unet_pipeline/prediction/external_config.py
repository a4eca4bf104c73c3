"""The inference config of an external bundle: read, and its parts built one by one, with a sentence about each that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from monai.bundle import ConfigParser

from unet_pipeline.boundary import describe_failure, list_causes
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError, PredictionError
from unet_pipeline.prediction.device_choice import build_device
from unet_pipeline.text_files import read_json_object, read_text


def build_part(parser: ConfigParser, folder: BundleFolder, name: str) -> Any:
    """What an id of the inference config stands for.

    Raises:
        BundleError: there is no such id, or it cannot be built.
    """
    if name not in parser:
        raise BundleError(
            f"The inference config of {folder.name} has no id {name!r}; expected device, network or network_def, preprocessing, inferer, "
            "postprocessing. It is no bundle that predicts images."
        )
    try:
        return parser.get_parsed_content(name)
    except (Exception, SystemExit) as error:  # whatever the bundle's own code raises
        raise BundleError(
            f"{name!r} of the inference config of {folder.name} cannot be built: {_describe_part(error)}. {_choose_remedy(error, folder)}"
        ) from error


def _describe_part(error: BaseException) -> str:
    """Why a part of a config cannot be built; MONAI wraps the cause, but for an id that is missing."""
    told = next((str(cause) for cause in list_causes(error) if "is not defined in the config" in str(cause)), "")
    return (" ".join(told.split()) or describe_failure(error.__cause__ or error, 300)).rstrip(".")


def _choose_remedy(error: BaseException, folder: BundleFolder) -> str:
    if not any(isinstance(cause, ImportError) for cause in list_causes(error)):
        return "Correct the config, or get the bundle again."
    packages = ", ".join(folder.read_required_packages()) or "none are named"
    return f"Install the packages that its metadata.json names ({packages}), or ask its makers."


def require_part(part: Any, kind: Any, name: str, expected: str, folder: BundleFolder) -> Any:
    """A part of the config that is of the kind that it has to be.

    Raises:
        BundleError: it is of another, such as None.
    """
    if isinstance(part, kind):
        return part
    raise BundleError(
        f"{name!r} of the inference config of {folder.name} is {type(part).__name__}; expected {expected}. Correct the config, or get the "
        "bundle again."
    )


def build_part_device(parser: ConfigParser, folder: BundleFolder) -> torch.device:
    """The bundle's own choice; the CPU where it makes none.

    Raises:
        BundleError: it is no device, or none of this machine.
    """
    device = build_part(parser, folder, "device") if "device" in parser else "cpu"
    try:
        return build_device(str(device))
    except PredictionError as error:
        raise BundleError(
            f"'device' of the inference config of {folder.name} is {device!r}, which cannot be used here. Choose another with --device."
        ) from error


def read_external_config(path: Path, folder: BundleFolder) -> dict[str, object]:
    """Contents of an inference config, JSON or YAML, in any encoding that is plain.

    Raises:
        BundleError: it is damaged, or holds no table of ids.
    """
    shown, remedy = f"configs/{path.name} of {folder.name}", "Get the bundle again."
    if path.suffix == ".json":
        return read_json_object(path, (), BundleError, shown, remedy)
    try:
        content = yaml.safe_load(read_text(path, BundleError, shown))
    except (yaml.YAMLError, RecursionError) as error:
        raise BundleError(f"{shown} is not valid YAML: {' '.join(str(error).split())[:200]}. {remedy}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{shown} holds {type(content).__name__}; expected a YAML mapping. {remedy}")
    return content
