"""Instance normalisation on a GPU for arrays whose channels lie side by side, as its matrix units read them.

PyTorch's own brings every array to the other order and the next convolution brings it back, in each layer. Here each sample goes through
the two kernels of synchronised batch normalisation, which read this order and add up in float32 whatever the array's type.
"""

from __future__ import annotations

from math import prod

import torch

from unet_pipeline.device.instance_norm import change_classes

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class _SideBySide(torch.nn.modules.instancenorm._InstanceNorm):
    """What both classes share; everything but the kernels is PyTorch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The array, normalised over the voxels of each sample and channel; shape (batch, channels, *spatial), its order in memory kept.

        Raises:
            ValueError: other number of dimensions, as PyTorch's.
        """
        if self.track_running_stats or not _is_side_by_side(x, self.num_features):
            return super().forward(x)
        return normalise_samples(x, self.weight, self.bias, self.eps)


class SideBySideNorm2d(_SideBySide, torch.nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` for channels side by side on a GPU."""


class SideBySideNorm3d(_SideBySide, torch.nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` for channels side by side on a GPU."""


_FASTER: dict[type[torch.nn.Module], type[_SideBySide]] = {
    torch.nn.InstanceNorm2d: SideBySideNorm2d,
    torch.nn.InstanceNorm3d: SideBySideNorm3d,
}


def _is_side_by_side(x: torch.Tensor, num_channels: int) -> bool:
    return (
        x.is_cuda
        and x.dim() in _FORMATS
        and x.shape[1] == num_channels
        and prod(x.shape[2:]) > 1
        and x.is_contiguous(memory_format=_FORMATS[x.dim()])
    )


def normalise_samples(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """Each sample of a batch as a table of voxels and channels, normalised over its voxels.

    Args:
        x: shape (batch, channels, *spatial), channels side by side, on a GPU.
        weight: of the channels, or None; so is `bias`.
        eps: added to the variance.
    """
    out = torch.empty_like(x)
    for sample, target in zip(as_tables(x), as_tables(out), strict=True):
        mean, inverse_deviation = torch.batch_norm_stats(sample, eps)
        torch.batch_norm_elemt(sample, weight, bias, mean, inverse_deviation, eps, out=target)
    return out


def as_tables(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A view of each sample of shape (voxels, channels), contiguous where the channels of `x` lie side by side."""
    channels_behind = x.permute(0, *range(2, x.dim()), 1)
    return channels_behind.view(x.shape[0], -1, x.shape[1]).unbind(0)


def replace_norms(network: torch.nn.Module) -> int:
    """Let the instance normalisations of a network take these kernels, in place; names and parameters stay.

    Returns:
        How many there are. Classes derived from PyTorch's are left alone.
    """
    return change_classes(network, _FASTER)
