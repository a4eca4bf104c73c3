"""Which order in memory a CPU computes a network's convolutions faster in, forward and backward.

It depends on the processor and not on the network alone: with AVX2 alone 3D convolutions of few channels are up to twice as fast with
their channels side by side and 2D ones are not; with AVX512 or AMX neither gains (docs/experiments.md). So the planned layers are
tried out, in small, once in a process, which takes less than a second. The norms belong to it: `instance_norm.speed_up_instance_norm` has a
kernel for either order.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil, prod
from typing import Any

import torch

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
FORMATS: Mapping[int, torch.memory_format] = {4: torch.channels_last, 5: torch.channels_last_3d}
_CLEARLY_FASTER = 0.9
_TURNS = 2
# of a layer's forward pass for an image: less is other kernels' work, more takes longer and says the same
_PROBE_FLOP = 60e6
# fewer values than this, in one image and one thread, go through a kernel that no layer of a real size takes
_LEAST_VALUES = 24_000
# layers that take less of the operations than this, by the one that takes most, decide nothing
_LEAST_SHARE = 0.45
# voxels along an axis
_CORNERS = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Layer:
    """A convolution as it is planned.

    Attributes:
        in_channels, out_channels, kernel_size, stride: of the convolution.
        out_size: voxels of its output along each axis.
        needs_input_gradient: false for the network's first.
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    out_size: tuple[int, ...]
    needs_input_gradient: bool = True

    @property
    def flop(self) -> float:
        """Operations of the forward pass for one image."""
        return 2.0 * self.in_channels * self.out_channels * prod(self.kernel_size) * prod(self.out_size)

    def shrink(self) -> Layer:
        """The same layer with a smaller output, as far as it is too large for a probe."""
        in_voxels = prod(self.out_size) * prod(self.stride)
        wanted = max(_PROBE_FLOP / self.flop, _LEAST_VALUES / (self.in_channels * in_voxels))
        factor = min(1.0, wanted) ** (1 / len(self.out_size))
        size = tuple(ceil(factor * along) for along in self.out_size)
        return Layer(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, size, self.needs_input_gradient
        )


@dataclass(frozen=True)
class OrderChoice:
    """An order in memory, and why it is taken, in words; empty where there was nothing to choose."""

    memory_format: torch.memory_format = torch.contiguous_format
    reason: str = ""

    @property
    def name(self) -> str:
        """For records: `CONTIGUOUS` or `CHANNELS_LAST`."""
        return CONTIGUOUS if self.memory_format == torch.contiguous_format else CHANNELS_LAST


def choose_memory_format(network: torch.nn.Module, images: torch.Tensor, autocast: bool = False) -> OrderChoice:
    """The order in memory that the network's convolutions are clearly faster in on a CPU; contiguous where neither is.

    The answer depends on times that were measured: keep it with the checkpoint, and do not ask where a training must give the same bits
    every time.

    Args:
        network: its convolutions are looked up; neither its weights nor its state are touched.
        images: a batch of training, shape (batch, channels, *spatial), on the CPU.
        autocast: whether the steps compute in bfloat16.

    Returns:
        With `torch.contiguous_format`, or the one of `FORMATS` for the images' dimensions. Contiguous too for a network without
        convolutions, and for one whose layers cannot be listed.
    """
    if images.device.type != "cpu" or images.dim() not in FORMATS:
        return OrderChoice()
    layers = list_layers(network, images)
    if not layers:
        return OrderChoice()
    dtype = torch.bfloat16 if autocast else torch.float32
    seconds = _measure(tuple(sorted(layers.items(), key=str)), min(2, len(images)), dtype, torch.get_num_threads())
    last = FORMATS[images.dim()]
    share = seconds[last] / seconds[torch.contiguous_format]
    chosen = last if share < _CLEARLY_FASTER else torch.contiguous_format
    return OrderChoice(
        chosen, f"channels last took {share:.2f} of the time of contiguous when its convolutions were tried out"
    )


def list_layers(network: torch.nn.Module, images: torch.Tensor) -> dict[Layer, int]:
    """The convolutions that a forward pass computes, and how often each; transposed ones and those of groups are left out.

    A copy runs on the smallest corner of one image that it takes, which is a small part of a step; sizes are then those of the whole image.
    Empty where no corner is taken.
    """
    shadow = copy.deepcopy(network).eval()
    layers: Counter[Layer] = Counter()

    def note(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if module.groups == 1:
            size = tuple(
                max(1, round(part * whole / corner))
                for part, whole, corner in zip(output.shape[2:], images.shape[2:], sizes, strict=True)
            )
            channels = (module.in_channels, module.out_channels)
            layers[Layer(*channels, module.kernel_size, module.stride, size, needs_input_gradient=bool(layers))] += 1

    for module in shadow.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.register_forward_hook(note)
    for longest in _CORNERS:
        layers.clear()
        sizes = [min(longest, size) for size in images.shape[2:]]
        corner = images[(slice(1), slice(None), *map(slice, sizes))]
        try:
            with torch.no_grad():
                shadow(corner)
        except (RuntimeError, ValueError):  # too small for its strides or its norms
            continue
        return dict(layers)
    return {}


@cache
def _measure(
    layers: tuple[tuple[Layer, int], ...], batch_size: int, dtype: torch.dtype, num_threads: int
) -> dict[torch.memory_format, float]:
    """Seconds of the layers in either order, as many times as they are computed and at their own size.

    The fastest of some turns counts, so that other processes do not decide; both orders take turns. `num_threads` is only for the cache.
    """
    largest = max(count * layer.flop for layer, count in layers)
    seconds = {torch.contiguous_format: 0.0, FORMATS[len(layers[0][0].out_size) + 2]: 0.0}
    for layer, count in layers:
        if count * layer.flop < _LEAST_SHARE * largest:
            continue
        small = layer.shrink()
        for memory_format, fastest in _time_layer(small, batch_size, dtype, tuple(seconds)).items():
            seconds[memory_format] += count * fastest * layer.flop / small.flop
    return seconds


def _time_layer(
    layer: Layer, batch_size: int, dtype: torch.dtype, memory_formats: tuple[torch.memory_format, ...]
) -> dict[torch.memory_format, float]:
    """Seconds of forward and backward, the fastest of some turns; the first turn sets the kernels up."""
    dims = len(layer.out_size)
    convolve = torch.nn.functional.conv3d if dims == 3 else torch.nn.functional.conv2d
    padding = tuple(size // 2 for size in layer.kernel_size)
    in_size = tuple(size * stride for size, stride in zip(layer.out_size, layer.stride, strict=True))
    images = torch.ones(batch_size, layer.in_channels, *in_size, dtype=dtype)
    kernels = torch.ones(layer.out_channels, layer.in_channels, *layer.kernel_size, dtype=dtype)
    times_s: dict[torch.memory_format, list[float]] = {memory_format: [] for memory_format in memory_formats}
    with torch.enable_grad():
        for _ in range(1 + _TURNS):
            for memory_format, seconds in times_s.items():
                x = images.to(memory_format=memory_format).requires_grad_(layer.needs_input_gradient)
                weight = kernels.to(memory_format=memory_format).requires_grad_(True)
                started_s = time.perf_counter()
                output = convolve(x, weight, stride=layer.stride, padding=padding)
                torch.autograd.backward(output, torch.ones_like(output))
                seconds.append(time.perf_counter() - started_s)
    return {memory_format: min(seconds[1:]) for memory_format, seconds in times_s.items()}
