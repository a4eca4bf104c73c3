"""What the network's own encoder makes of an image: mean and spread of each channel at its coarsest level, over the windows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn.modules.conv import _ConvNd

from unet_pipeline.prediction.device_network import DeviceNetwork
from unet_pipeline.prediction.engines import Engines
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.stopwatch import TimedNetwork


def find_bottleneck(network: torch.nn.Module, window: torch.Tensor) -> str | None:
    """Name of the last convolution with the most channels on a network's coarsest grid; None where there is none.

    Behind an instance normalisation the mean and spread of a channel are the same for every image, so it is heard before. Layers with
    fewer channels there are gates, such as those of an attention.

    Args:
        network: in evaluation mode.
        window: that it can take, shape (1, channels, *spatial).
    """
    sizes: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.dim() == window.dim():
                sizes[name] = prod(output.shape[2:]), -output.shape[1]

        return hook

    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, _ConvNd)]
    hooks = [module.register_forward_hook(note(name)) for name, module in layers]
    try:
        with torch.inference_mode():
            network(window)
    finally:
        for hook in hooks:
            hook.remove()
    coarsest = min(sizes.values(), default=None)
    return next((name for name in reversed(sizes) if sizes[name] == coarsest), None)


class EncoderListener:
    """Collects the features of the image that a thread is computing.

    Args:
        layer: name of the layer whose output is pooled.
    """

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self._own = threading.local()

    def attach(self, engines: Engines) -> bool:
        """Listen to the first network in all forms in which it may compute; False where none can be listened to.

        A network that is recorded as a graph computes without Python, and cannot be.
        """
        callables: list[object] = [engines.parts.networks[0]]
        if engines.volumes is not None and engines.volumes.deferred_heads:
            callables.append(engines.volumes.deferred_heads[0].body)
        attached = [self._attach_to(one) for one in callables]  # all of them, not up to the first
        return any(attached)

    def _attach_to(self, computed: object) -> bool:
        if not isinstance(computed, TimedNetwork) or isinstance(computed, DeviceNetwork):
            return False
        network: Any = computed.network
        num_copies = len(network.flips) if isinstance(network, Mirrored) else 1
        member = network.network if isinstance(network, Mirrored) else network
        layers = dict(member.named_modules()) if isinstance(member, torch.nn.Module) else {}
        if self.layer not in layers:
            return False
        layers[self.layer].register_forward_hook(self._make_hook(num_copies))
        return True

    def _make_hook(self, num_copies: int) -> Callable[..., None]:
        """A hook that hears the first of so many mirrored copies of every batch."""

        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            heard = getattr(self._own, "heard", None)
            if heard is None:
                return
            if self._own.num_calls % num_copies == 0:
                values = output.detach().flatten(2).float()
                heard.append(torch.cat([values.mean(dim=2), values.std(dim=2, correction=0)], dim=1).cpu())
            self._own.num_calls += 1

        return hook

    @contextmanager
    def listen(self) -> Iterator[list[np.ndarray]]:
        """Collect within the block, in this thread.

        Yields:
            A list that has the features behind the block, shape (2 x channels,): means, then spreads; empty if nothing was heard.
        """
        self._own.heard, self._own.num_calls = [], 0
        features: list[np.ndarray] = []
        try:
            yield features
            heard: Sequence[torch.Tensor] = self._own.heard
            if heard:
                features.append(torch.cat(list(heard)).mean(dim=0).double().numpy())
        finally:
            self._own.heard = None
