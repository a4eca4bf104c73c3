"""A network's last convolution behind the blending of its windows, where it gives more channels than it takes.

A convolution of one voxel and a weighted mean over windows are linear both, so one may come before the other: with 60 classes from
16 channels a quarter of the numbers is blended, and a voxel's classes are computed once instead of once in each window. Logits differ
from those of the other order by rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unet_pipeline.prediction.device_network import DeviceNetwork
from unet_pipeline.prediction.stopwatch import TimedNetwork
from unet_pipeline.prediction.windows import Network

Convolution = torch.nn.Conv2d | torch.nn.Conv3d


@dataclass(frozen=True)
class DeferredHead:
    """A network in two parts.

    Attributes:
        body: (batch, channels, *window) -> (batch, features, *window).
        convolution: (batch, features, *spatial) -> (batch, classes, *spatial), of any spatial size.
        num_features: fewer than there are classes.
        num_classes: of the network.
    """

    body: Network
    convolution: Network
    num_features: int
    num_classes: int

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of rows of features, shape (classes, rows, *rest) for (features, rows, *rest)."""
        return self.convolution(features[None])[0]


def find_head(network: torch.nn.Module, images: torch.Tensor, num_classes: int) -> str | None:
    """Name of the convolution of one voxel whose output is the network's, if it gives more channels than it takes; None without one.

    Args:
        network: in evaluation mode.
        images: that it can take, shape (batch, channels, *spatial), not constant; it runs only where there is such a convolution.
        num_classes: of the network.
    """
    candidates = {
        name: module for name, module in network.named_modules() if _is_pointwise(module, images.dim() - 2, num_classes)
    }
    if not candidates:
        return None
    outputs_of: dict[str, list[_Output]] = {name: [] for name in candidates}
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs_of[name].append(_Output(output))
        )
        for name, module in candidates.items()
    ]
    try:
        with torch.inference_mode():
            logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    # one that is called twice, or whose output goes on to another layer, is not the last
    return next((name for name, calls in outputs_of.items() if len(calls) == 1 and calls[0].is_last(logits)), None)


class _Output:
    """What a layer gave: the array, and its values at that time."""

    def __init__(self, array: torch.Tensor) -> None:
        self.array, self.values = array, array.clone()

    def is_last(self, logits: object) -> bool:
        """Whether the network's output is this array, or a view of all of it, and nothing has changed it in place."""
        if not isinstance(logits, torch.Tensor):
            return False
        return self.array.data_ptr() == logits.data_ptr() and torch.equal(self.values, logits)


def _is_pointwise(module: torch.nn.Module, dims: int, num_classes: int) -> bool:
    return (
        isinstance(module, Convolution)
        and module.in_channels < module.out_channels == num_classes
        and module.groups == 1
        and module.kernel_size == module.stride == (1,) * dims
        and module.padding in ((0,) * dims, "valid", "same")
    )


def take_head_off(network: torch.nn.Module, name: str) -> tuple[torch.nn.Module, Convolution]:
    """The network without a layer, and the layer; both share their parameters with the network, which stays as it is.

    Args:
        network: it is not changed.
        name: of the layer in it, from `find_head`.

    Raises:
        TypeError: the layer is no convolution.
    """
    convolution = network.get_submodule(name)
    if not isinstance(convolution, Convolution):
        raise TypeError(f"{name} is {type(convolution).__name__}; expected a convolution")
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    body = copy.deepcopy(network, shared)
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, torch.nn.Identity())
    return body, convolution


def take_heads_off(
    networks: Sequence[torch.nn.Module], images: torch.Tensor, num_classes: int
) -> list[tuple[torch.nn.Module, Convolution]]:
    """Body and last convolution of each member of an ensemble; nothing where `find_head` finds none."""
    name = find_head(networks[0], images, num_classes)
    return [] if name is None else [take_head_off(network, name) for network in networks]


class Product(torch.nn.Module):
    """A convolution of one voxel as a product of matrices, which a GPU computes as fast as it reads.

    Args:
        convolution: it stays as it is.
    """

    def __init__(self, convolution: Convolution) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (1, classes, *spatial) for (1, features, *spatial)."""
        weight, bias = self.convolution.weight.flatten(1), self.convolution.bias
        features = x[0].flatten(1)
        logits = weight @ features if bias is None else torch.addmm(bias[:, None], weight, features)
        return logits.view(1, -1, *x.shape[2:])


def build_deferred_head(body: TimedNetwork, convolution: Convolution) -> DeferredHead:
    """Both parts with the same stopwatch and device; the convolution computes in float32, because it runs once."""
    last = Product(convolution) if isinstance(body, DeviceNetwork) else convolution
    timed = TimedNetwork(last, body.stopwatch, device=body.device)
    return DeferredHead(body, timed, convolution.in_channels, convolution.out_channels)
