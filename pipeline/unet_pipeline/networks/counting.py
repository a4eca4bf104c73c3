"""Parameters, operations, sizes and receptive field of a network, counted from its module on PyTorch's meta device: nothing is computed.

A module is run on two small patches. What it does is convolutions, whose sizes are linear in the patch; so any other patch follows from
these two. A module that does anything else that PyTorch's flop counter counts is run on the very patch.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import add, sub
from pydoc import locate
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from unet_pipeline.errors import PlanError, suggest
from unet_pipeline.networks.shape import Shape, Sizes
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.networks.unpadded import compute_input_size

# what leaves a tensor's shape and field as they are
_PLAIN = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LeakyReLU, nn.ReLU, nn.Sigmoid, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True)
class Convolution:
    """One convolution of a network, with the norm that follows it.

    Attributes:
        part: "encoder", "decoder", "nested", "gate" or "head".
        level: of its output, 0 being the full resolution.
        size: voxels of its output per axis.
        stride: per axis; of a transposed convolution the enlargement.
        flop: operations for one patch; a multiplication and an addition count two.
    """

    part: str
    level: int
    in_channels: int
    out_channels: int
    kernel_size: Sizes
    size: Sizes
    stride: Sizes
    transposed: bool
    num_parameters: int
    flop: int


@dataclass(frozen=True)
class _Run:
    """Of one patch: its convolutions in the order of the data, and the voxels per axis that an output voxel can depend on."""

    patch_size: Sizes
    convolutions: tuple[Convolution, ...]
    receptive_field: Sizes
    is_linear: bool


def build_network(shape: Shape, for_training: bool = False) -> nn.Module:
    """The module of a network, with random weights, on the device of the context.

    Raises:
        PlanError: unknown network.
    """
    if shape.network not in NETWORKS:
        raise PlanError(f"Unknown network {shape.network!r}; {suggest(shape.network, NETWORKS)}.")
    row = NETWORKS[shape.network]
    numbers = vars(shape) | {"spatial_dims": shape.spatial_dims, "upsample_kernel_size": shape.strides[1:]}
    numbers |= {"dropout": row.dropout, "pruned_to": None}
    arguments = {
        name: numbers[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for name, value in row.arguments.items()
    }
    if shape.transposed_bias:
        arguments[row.up_convolution_bias] = True
    build: Any = locate(row.target(for_training))
    return build(**arguments)


@lru_cache(maxsize=512)
def count_parameters(shape: Shape) -> int:
    """Trainable parameters of a network."""
    with torch.device("meta"), _Unfilled():
        return sum(weight.numel() for weight in build_network(shape, for_training=True).parameters())


@lru_cache(maxsize=1024)
def list_convolutions(shape: Shape, patch_size: Sizes) -> tuple[Convolution, ...]:
    """All convolutions of a network in the order of the data, the heads last, for one patch.

    Raises:
        PlanError: unknown network.
    """
    first, second = _run_twice(shape)
    steps, rests = zip(*map(divmod, map(sub, patch_size, first.patch_size), shape.total_stride), strict=True)
    if any(rests) or not first.is_linear:
        return _run(shape, patch_size)[0].convolutions
    convolutions = []
    for one, other in zip(first.convolutions, second.convolutions, strict=True):
        grown = map(sub, other.size, one.size)
        size = tuple(a + step * b for a, step, b in zip(one.size, steps, grown, strict=True))
        flop = one.flop * math.prod(size) // math.prod(one.size)
        convolutions.append(dataclasses.replace(one, size=size, flop=flop))
    return tuple(convolutions)


def compute_forward_flop(shape: Shape, patch_size: Sizes) -> int:
    """Operations in one forward pass of one patch as PyTorch counts them: normalisation and activation are left out."""
    return sum(convolution.flop for convolution in list_convolutions(shape, patch_size))


def compute_receptive_field(shape: Shape) -> Sizes:
    """Input voxels per axis that one output voxel can depend on, along the longest way through the lowest level.

    Right to the total stride: pooling, strides and interpolation lean to one side. Norms, which see the whole patch, are left out.
    """
    return _run_twice(shape)[0].receptive_field


@lru_cache(maxsize=512)
def _run_twice(shape: Shape) -> tuple[_Run, ...]:
    """Runs on the least patch and on one that is a total stride larger."""
    least = shape.total_stride if shape.padded else compute_input_size((1,) * shape.spatial_dims, shape)
    return _run(shape, least, tuple(map(add, least, shape.total_stride)))


def _run(shape: Shape, *patch_sizes: Sizes) -> tuple[_Run, ...]:
    recorder, runs = _Recorder(shape), []
    with torch.device("meta"), _Unfilled(), torch.no_grad():
        network = build_network(shape, for_training=True).train()
        for name, module in network.named_modules():
            if isinstance(module, _PLAIN):
                module.forward = lambda x: x  # type: ignore[method-assign]  # a norm refuses one voxel, and all cost time
            if not list(module.children()):
                module.register_forward_pre_hook(partial(recorder.enter, name))
        for patch_size in patch_sizes:
            image = torch.zeros(1, shape.num_channels, *patch_size)
            recorder.start(image)
            with recorder:
                output = network(image)
            field = recorder.fields[id(output if isinstance(output, torch.Tensor) else output[0])][1]
            convolutions = sorted(recorder.convolutions, key=lambda convolution: convolution.part == "head")
            extents = tuple(extent for extent, _ in field)
            runs.append(_Run(tuple(patch_size), tuple(convolutions), extents, recorder.is_linear))
    return tuple(runs)


class _Unfilled(TorchFunctionMode):
    """Leaves weights without values: to draw a normal one on the meta device imports PyTorch's compiler, most of the time of `plan`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is torch.Tensor.normal_ else func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Notes the convolutions of a network while it runs, and for every tensor what one of its voxels can depend on.

    Attributes:
        fields: by a tensor's id: the tensor, so that no other gets its id, and per axis the voxels of the image that one of its voxels
            depends on and the distance of its voxels in voxels of the image.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.path, self.num_parameters = "", 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its compiler to keep it away from here

    def start(self, image: torch.Tensor) -> None:
        """Forget an earlier run; what follows begins with this image."""
        self.is_linear, self.convolutions = True, list[Convolution]()
        self.fields = {id(image): (image, [(1, 1)] * (image.dim() - 2))}

    def enter(self, path: str, module: nn.Module, inputs: object) -> None:
        """Called before a module without children runs; its parameters are its convolution's, or those of the one before it."""
        self.path, count = path, sum(weight.numel() for weight in module.parameters())
        if isinstance(module, _ConvNd):
            self.num_parameters = count
        elif self.convolutions and count:
            latest = self.convolutions[-1]
            self.convolutions[-1] = dataclasses.replace(latest, num_parameters=latest.num_parameters + count)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = _answer(func.overloadpacket, args)
        if output is None:
            output = func(*args, **(kwargs or {}))
        outputs = [one for one in tree_leaves(output) if isinstance(one, torch.Tensor)]
        known = [self.fields[id(one)][1] for one in tree_leaves(args) if id(one) in self.fields]
        packet = func.overloadpacket
        if packet is torch.ops.aten.convolution:
            self._add(args, output)
        elif packet in flop_registry:
            self.is_linear = False
            latest, flop = self.convolutions[-1], flop_registry[packet](*args, **(kwargs or {}), out_val=output)
            self.convolutions[-1] = dataclasses.replace(latest, flop=latest.flop + flop)
        if known:
            field = [
                (max(extents), min(steps))
                for extents, steps in (zip(*axis, strict=True) for axis in zip(*known, strict=True))
            ]
            field = _widen(field, packet.__name__, args, outputs[0])
            self.fields |= {id(one): (one, field) for one in outputs}
        return output

    def _add(self, args: Any, output: torch.Tensor) -> None:
        image, weight, _, stride, _, _, transposed = args[:7]
        channels = image.shape[1], output.shape[1]
        part, level = _find_place(self.path, self.shape)
        flop = flop_registry[torch.ops.aten.convolution](*args, out_val=output)
        size, kernel = tuple(output.shape[2:]), tuple(weight.shape[2:])
        self.convolutions.append(
            Convolution(part, level, *channels, kernel, size, tuple(stride), transposed, self.num_parameters, flop)
        )


def _answer(packet: Any, args: Any) -> torch.Tensor | None:
    """A tensor of the right shape for what networks are made of: PyTorch's own answers on the meta device import its compiler."""
    if packet is torch.ops.aten.cat:
        tensors, axis = args[0], args[1] if len(args) > 1 else 0
        shape = list(tensors[0].shape)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        return torch.empty(shape, device="meta")
    if packet is torch.ops.aten.convolution:
        image, weight, _, strides, paddings, dilations, transposed, more, groups = args
        sizes = []
        for before, taps, stride, padding, dilation, rest in zip(
            image.shape[2:], weight.shape[2:], strides, paddings, dilations, more, strict=True
        ):
            extent = dilation * (taps - 1) + 1 - 2 * padding
            sizes.append((before - 1) * stride + extent + rest if transposed else (before - extent) // stride + 1)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        return torch.empty(len(image), channels, *sizes, device="meta")
    return None


def _widen(field: list[tuple[int, int]], name: str, args: Any, output: torch.Tensor) -> list[tuple[int, int]]:
    """What a voxel depends on after an operation: a convolution or a pooling; an interpolation puts voxels closer to one another."""
    if name == "convolution":
        kernel, stride, dilation, transposed = args[1].shape[2:], args[3], args[5], args[6]
    elif "pool" in name and "adaptive" not in name:
        kernel, transposed = args[1], False
        stride, dilation = (args[2] if len(args) > 2 and args[2] else kernel), (1,) * len(field)
    elif "upsample" in name:
        sizes = zip(field, args[0].shape[2:], output.shape[2:], strict=True)
        return [(extent, max(1, step * before // after)) for (extent, step), before, after in sizes]
    else:
        return field
    wider = []
    for (extent, step), taps, apart, moved in zip(field, kernel, dilation, stride, strict=True):
        if transposed:
            wider.append((extent + (-(-taps // moved) - 1) * step, max(1, step // moved)))
        else:  # a stride beyond the kernel leans to one side
            wider.append((extent + max(apart * (taps - 1), moved - 1) * step, step * moved))
    return wider


def _find_place(path: str, shape: Shape) -> tuple[str, int]:
    """Part and level of a module, by the row's prefixes of names."""
    names, parts = path.split("."), NETWORKS[shape.network].parts
    for length in range(len(names), 0, -1):
        head = names[:length]
        prefix = ".".join("#" if name.isdigit() else name for name in head)
        if prefix in parts:
            number = next((int(name) for name in reversed(head) if name.isdigit()), 0)
            return parts[prefix](number, shape)
    raise PlanError(
        f"The network {shape.network} has a convolution {path}, which is in no part of it; expected one of {', '.join(parts)}. Add its "
        "prefix to the network's row in networks/table.py."
    )
