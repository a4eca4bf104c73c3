"""A bundle's components with its weights: what both engines, `volumes` and `transforms`, are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from unet_pipeline.dataset.formats import PICTURE_SUFFIXES
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.device_network import DeviceNetwork
from unet_pipeline.prediction.stopwatch import Stopwatch


@dataclass(frozen=True)
class Expected:
    """The images that a bundle takes.

    Attributes:
        channel_names: in their order.
        spatial_dims: axes.
        modalities: DICOM's codes of the images that were trained on, as far as they are known.
        spacing_mm: that was trained at; None for pictures, which are counted in pixels, and where it is not known.
        suffix: of the copies that MONAI reads.
        is_planned: `plan` made the bundle.
        missing_channels: names of the channels that an image may lack.
    """

    channel_names: tuple[str, ...]
    spatial_dims: int
    modalities: tuple[str, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    suffix: str | None = None
    is_planned: bool = False
    missing_channels: tuple[str, ...] = ()

    @property
    def counts_pixels(self) -> bool:
        """Whether images are pictures to the network, whose pixels have no size."""
        return self.suffix in PICTURE_SUFFIXES


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
class Parts:
    """Components of a bundle.

    Attributes:
        expected: the images that it takes.
        preprocessing: file -> image on the network's grid.
        networks: one, or the members of an ensemble; each gives logits.
        inferer: windows -> image.
        label_values: file value of each class; none of an external bundle.
        precision: float32 or bfloat16.
        stopwatch: counts the seconds of each stage.
        plan: None of an external bundle.
        windowing: how windows are computed; as the inferer says, on `device`, if None.
    """

    expected: Expected
    preprocessing: Any
    networks: tuple[Callable[[torch.Tensor], torch.Tensor], ...]
    inferer: Any
    device: torch.device
    label_values: tuple[int, ...] = ()
    precision: str = "float32"
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    plan: Plan | None = None
    windowing: Windowing | None = None

    @property
    def num_classes(self) -> int:
        """Channels that the network gives: of an instance network more than there are labels."""
        return len(self.label_values) if self.plan is None else self.plan.shape.num_classes

    @property
    def image_device(self) -> torch.device:
        """Where the image and the sums over windows lie."""
        return self.windowing.blended_on if self.windowing is not None else self.device

    def list_device_networks(self) -> list[DeviceNetwork]:
        """The networks that are in a form for a GPU."""
        return [network for network in self.networks if isinstance(network, DeviceNetwork)]

    def settle_times(self) -> None:
        """Count what the GPU has done so far."""
        for network in self.list_device_networks():
            network.settle()
