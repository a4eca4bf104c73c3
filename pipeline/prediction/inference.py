"""Weights + images -> label maps on the images' own grids, one case after the other.

The components come from the bundle's inference.json and nowhere else, so that `python -m monai.bundle run` gives the
same label maps. Added here: checks of the input, mirroring, whole files or none, and one bad image that does not stop the others.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from monai.inferers import Inferer
from monai.transforms import Compose

from pipeline.bundle_folder import BundleFolder
from pipeline.dataset.dataset import PICTURE_SUFFIXES, case_name
from pipeline.dataset.medical_image import MedicalImage
from pipeline.dataset.problems import WARNING, Message, Problem
from pipeline.errors import BundleError, PredictionError
from pipeline.planning.plan import Plan, read_plan
from pipeline.types import IMAGE, PRED


@dataclass(frozen=True)
class Predictor:
    """A bundle's network and transforms, ready for one image after the other."""

    plan: Plan
    preprocessing: Compose
    network: Callable[[torch.Tensor], torch.Tensor]
    inferer: Inferer
    postprocessing: Compose
    device: torch.device

    def write_prediction(self, image: Path) -> str:
        """Predict one image file and let the bundle's SaveImaged write it into the folder it was built for.

        Returns:
            The name of the label map in that folder.
        """
        batch = list_data_collate([self.preprocessing({IMAGE: str(image)})])
        with torch.inference_mode():
            batch[PRED] = self.inferer(batch[IMAGE].to(self.device), self.network)
        for item in decollate_batch(batch):
            self.postprocessing(item)
        return f"{case_name(image)}{self.plan.output_suffix}"


UNSEEN_SPACING = Message(
    "unseen-spacing",
    WARNING,
    "has voxels of {found} mm, and the network was trained at {expected} mm",
    "The label map is made all the same; look at it before you use it.",
)
_FAR_SPACING = 3.0  # times finer or coarser


def check_input(image: MedicalImage, plan: Plan, shown: str) -> tuple[Problem, ...]:
    """Whether the planned network can take an image.

    Returns:
        What the user should know about it, worst first; no errors.

    Raises:
        PredictionError: other number of channels or dimensions, or voxels without a value.
    """
    found = len(image.spatial_shape), image.array.shape[0]
    expected = plan.spatial_dims, len(plan.channel_names)
    if found != expected:
        raise PredictionError(
            f"{shown} has {found[0]} dimensions and {found[1]} channel(s); the bundle expects {expected[0]} and "
            f"{expected[1]} ({', '.join(plan.channel_names)}). Give it images like those it was trained on"
            + ("; the last axis of a 4D file, such as time, counts as channels." if found[1] > 4 else ".")
        )
    if image.array.dtype.kind == "f" and (count := int(np.count_nonzero(~np.isfinite(image.array)))):
        raise PredictionError(f"{shown} has {count} voxels that are NaN or infinite; expected numbers. Replace them.")
    if plan.image_suffix in PICTURE_SUFFIXES:  # counted in pixels
        return image.notes
    ratios = np.sort(image.spacing_mm) / np.sort(plan.spacing_mm)
    if (np.maximum(ratios, 1 / ratios) <= _FAR_SPACING).all():
        return image.notes
    sizes = ["x".join(f"{size:.3g}" for size in spacing) for spacing in (image.spacing_mm, plan.spacing_mm)]
    return (UNSEEN_SPACING.about(shown, found=sizes[0], expected=sizes[1]), *image.notes)


def build_predictor(
    folder: BundleFolder, weights: Path, output_dir: Path, device: str | None = None, mirror: bool = False
) -> Predictor:
    """The predictor of a bundle.

    Args:
        folder: the bundle.
        weights: a state_dict file.
        output_dir: gets the label maps, named like the images.
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.
        mirror: average the logits over all mirrored copies of each window; costs 4 (2D) or 8 (3D) times as much.

    Raises:
        BundleError: the weights do not fit the network.
        PredictionError: the device does not exist.
    """
    folder.make_modules_importable()
    parser = ConfigParser()
    parser.read_config(str(folder.config("inference")))
    parser["bundle_root"] = str(folder.root)
    parser["output_dir"] = str(output_dir)
    if device is not None:
        parser["device"] = build_device(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        components: dict[str, Any] = {
            name: parser.get_parsed_content(name)
            for name in ("device", "network_def", "network", "preprocessing", "inferer", "postprocessing")
        }
    network = components["network"]
    load_weights(network, weights, components["device"])
    network.eval()
    plan = read_plan(folder.plan)
    return Predictor(
        plan=plan,
        preprocessing=components["preprocessing"],
        network=Mirrored(network, plan.spatial_dims) if mirror else network,
        inferer=components["inferer"],
        postprocessing=components["postprocessing"],
        device=components["device"],
    )


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


def load_weights(network: torch.nn.Module, weights: Path, device: torch.device) -> None:
    """Load a state_dict strictly and without running code of the file.

    Raises:
        BundleError: the file is damaged, or its parameters are not the network's.
    """
    shown = f"{weights.parent.name}/{weights.name}"
    try:
        network.load_state_dict(torch.load(weights, map_location=device, weights_only=True), strict=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        cause = " ".join(str(error).split())[:200]
        raise BundleError(f"{shown} does not fit the network of the bundle: {cause}. Train again.") from error


class Mirrored(torch.nn.Module):
    """Mean of a network's logits over all mirrored copies of its input.

    Args:
        network: equally happy with every mirrored input, as one trained with mirroring is.
        spatial_dims: 2 or 3; there are 4 or 8 copies.
    """

    def __init__(self, network: torch.nn.Module, spatial_dims: int) -> None:
        super().__init__()
        self.network = network
        axes = range(2, 2 + spatial_dims)
        self.flips = tuple(
            list(flip) for count in range(spatial_dims + 1) for flip in itertools.combinations(axes, count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes, *spatial), on the grid of `x`."""
        copies = [torch.flip(self.network(torch.flip(x, flip)), flip) for flip in self.flips]
        return torch.stack(copies).mean(dim=0)
