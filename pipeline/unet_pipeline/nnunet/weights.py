"""Weights of nnU-Net v2's networks under the names of the same networks here: PlainConvUNet is MONAI's DynUNet, ResidualEncoderUNet ours.

Equal for every input: axes are put in the order of the file; the bias of a convolution in front of an instance normalisation has no effect
and DynUNet lacks it; a decoder kernel that DynUNet has larger is the same kernel with zeros around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar

from unet_pipeline.boundary import describe_failure
from unet_pipeline.errors import TrainingError

# numbers of NumPy in nnU-Net's log of losses; the names are those of NumPy 1 and 2
_SAFE: list[Any] = [
    scalar,
    (scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")),
]


@dataclass(frozen=True)
class NnunetCheckpoint:
    """A checkpoint of nnU-Net.

    Attributes:
        weights: state_dict of its network.
        epoch: epochs that were trained.
        mirrored_axes: of the network, along which a prediction may be mirrored.
        trainer: name of the class that trained it.
    """

    weights: Mapping[str, torch.Tensor]
    epoch: int
    mirrored_axes: tuple[int, ...]
    trainer: str


def read_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read a checkpoint without running code of the file.

    Raises:
        TrainingError: it is damaged, has objects that are no numbers, or is no checkpoint of nnU-Net.
    """
    try:
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return NnunetCheckpoint(
            {name.removeprefix("module."): tensor for name, tensor in content["network_weights"].items()},
            int(content.get("current_epoch", 0)),
            tuple(content.get("inference_allowed_mirroring_axes") or ()),
            str(content.get("trainer_name", "")),
        )
    except Exception as error:  # torch raises many kinds for a damaged file
        cause = describe_failure(error)
        raise TrainingError(
            f"{path.parent.name}/{path.name} cannot be read as a checkpoint of nnU-Net v2, without running code of it: {cause}. Give "
            "checkpoint_final.pth of its results."
        ) from error


def load_nnunet_weights(
    network: torch.nn.Module,
    kind: str,
    weights: Mapping[str, torch.Tensor],
    axes: Sequence[int],
    strides: Sequence[Any],
) -> None:
    """Give a network the weights of nnU-Net's.

    Args:
        network: MONAI's DynUNet or the residual encoder, with the plan's numbers; is changed.
        kind: its name in the plan: dynunet or resenc.
        axes: for each axis of `network` the axis of nnU-Net's.
        strides: of the plan, by level.

    Raises:
        TrainingError: a tensor is missing, is left over, or has another shape.
    """
    own = network.state_dict()
    names = _name_plain(own, len(strides)) if kind == "dynunet" else _name_residual(own, strides)
    mapped = {}
    for name, source in names:
        if source not in weights:
            raise TrainingError(f"The checkpoint has no tensor {source}; expected the network of its plans.json.")
        tensor = weights[source]
        if tensor.dim() > 1:
            tensor = _enlarge(tensor.permute(0, 1, *(2 + axis for axis in axes)), own[name].shape[2:])
        if tensor.shape != own[name].shape:
            raise TrainingError(
                f"Tensor {source} has shape {tuple(tensor.shape)}; expected {tuple(own[name].shape)}, as plans.json and dataset.json say."
            )
        mapped[name] = tensor
    filled = {own[name].data_ptr() for name in mapped}
    if left := [name for name, tensor in own.items() if tensor.data_ptr() not in filled]:
        raise TrainingError(f"Nothing in the checkpoint is {left[0]} of the network; expected all of its tensors.")
    network.load_state_dict(mapped, strict=False)


def _enlarge(kernel: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The kernel in the middle of a larger one of zeros."""
    if any(wanted < size_there for wanted, size_there in zip(size, kernel.shape[2:], strict=True)):
        return kernel  # the shapes are compared next
    larger = kernel.new_zeros(*kernel.shape[:2], *size)
    starts = [(wanted - size_there) // 2 for wanted, size_there in zip(size, kernel.shape[2:], strict=True)]
    middle = tuple(slice(start, start + size_there) for start, size_there in zip(starts, kernel.shape[2:], strict=True))
    larger[(slice(None), slice(None), *middle)] = kernel
    return larger


def _name_plain(own: Mapping[str, torch.Tensor], levels: int) -> Iterator[tuple[str, str]]:
    """Names in DynUNet with those in PlainConvUNet."""
    blocks = ["input_block", *(f"downsamples.{index}" for index in range(levels - 2)), "bottleneck"]
    pairs = [(block, f"encoder.stages.{level}.0") for level, block in enumerate(blocks)]
    pairs += [(f"upsamples.{index}.conv_block", f"decoder.stages.{index}") for index in range(levels - 1)]
    for block, stage in pairs:
        for number in (1, 2):
            yield f"{block}.conv{number}.conv.weight", f"{stage}.convs.{number - 1}.conv.weight"
            for part in ("weight", "bias"):
                yield f"{block}.norm{number}.{part}", f"{stage}.convs.{number - 1}.norm.{part}"
    for index in range(levels - 1):
        for part in ("weight", "bias"):
            if (name := f"upsamples.{index}.transp_conv.conv.{part}") in own:
                yield name, f"decoder.transpconvs.{index}.{part}"
    for level in range(levels - 1):
        head = "output_block" if level == 0 else f"deep_supervision_heads.{level - 1}"
        for part in ("weight", "bias"):
            if (name := f"{head}.conv.conv.{part}") in own:
                yield name, f"decoder.seg_layers.{levels - 2 - level}.{part}"


def _name_residual(own: Mapping[str, torch.Tensor], strides: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Names in the residual encoder with those in ResidualEncoderUNet."""
    levels = len(strides)
    yield from _name_unit("encoder.0.0", "encoder.stem.convs.0")
    for level in range(levels):
        first = 1 if level == 0 else 0  # behind the stem
        index = first
        while f"encoder.{level}.{index}.first.convolution.weight" in own:
            block, theirs = f"encoder.{level}.{index}", f"encoder.stages.{level}.blocks.{index - first}"
            pooled = int(index == first and max(strides[level]) > 1)
            yield from _name_block(own, block, theirs, pooled)
            index += 1
    num_heads = len({name.split(".")[1] for name in own if name.startswith("heads.")})
    for index in range(levels - 1):
        yield from _name_unit(f"decoder.{index}.convolution", f"decoder.stages.{index}.convs.0")
        yield from _name_both(f"decoder.{index}.upsampling", f"decoder.transpconvs.{index}")
    for index in range(num_heads):
        yield from _name_both(f"heads.{index}", f"decoder.seg_layers.{levels - 1 - num_heads + index}")


def _name_block(own: Mapping[str, torch.Tensor], block: str, theirs: str, pooled: int) -> Iterator[tuple[str, str]]:
    """A residual block; `pooled` is 1 where its shortcut begins with a pooling."""
    yield from _name_unit(f"{block}.first", f"{theirs}.conv1")
    yield from _name_both(f"{block}.second.0", f"{theirs}.conv2.conv")
    yield from _name_both(f"{block}.second.1", f"{theirs}.conv2.norm")
    if f"{block}.shortcut.{pooled}.weight" in own:
        yield f"{block}.shortcut.{pooled}.weight", f"{theirs}.skip.{pooled}.conv.weight"
        yield from _name_both(f"{block}.shortcut.{pooled + 1}", f"{theirs}.skip.{pooled}.norm")


def _name_unit(unit: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Convolution and normalisation."""
    yield from _name_both(f"{unit}.convolution", f"{theirs}.conv")
    yield from _name_both(f"{unit}.normalisation", f"{theirs}.norm")


def _name_both(layer: str, theirs: str) -> Iterator[tuple[str, str]]:
    for part in ("weight", "bias"):
        yield f"{layer}.{part}", f"{theirs}.{part}"
