"""Instance normalisation through kernels of PyTorch that take a fraction of its own one's time on a CPU, for both orders in memory.

Contiguous arrays go through the kernel for group normalisation: one channel per group is instance normalisation. PyTorch computes it as
batch normalisation of a reshaped array, which takes four times as long in float32 (docs/experiments.md). Results agree to rounding.

Arrays whose channels lie side by side cannot go there: that kernel adds their voxels up one by one in float32, which is wrong by 0.001 for
128^3 of them. Nor should they stay with PyTorch's way, which copies them, gives back contiguous ones, and for a batch of one returns a wrong
gradient where it is handed one in channels last (torch 2.13). They go through the kernel for batch normalisation, sample by sample, with
means and variances that are taken of short pieces and put together in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
# voxels that are added up in float32 before float64 takes over: 8192 of 16 channels also fit into a core's second cache
_PIECE_VOXELS = 8192


class _ThroughGroups(torch.nn.modules.instancenorm._InstanceNorm):
    """What both classes share; everything but the kernel is PyTorch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The array, normalised over the voxels of each sample and channel, shape (batch, channels, *spatial), in the order it has.

        Raises:
            ValueError: other number of dimensions, or one voxel, as PyTorch's.
        """
        is_batch = x.dim() == self._get_no_batch_dim() + 1
        if self.track_running_stats or not is_batch or x.shape[1] != self.num_features or prod(x.shape[2:]) < 2:
            return super().forward(x)
        if x.is_contiguous():
            return torch.nn.functional.group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        if (
            x.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and x.is_contiguous(memory_format=FORMATS[x.dim()])
        ):
            return normalise_channels_last(x, self.weight, self.bias, self.eps)
        return super().forward(x)


class InstanceNorm2d(_ThroughGroups, torch.nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d`, faster on a CPU."""


class InstanceNorm3d(_ThroughGroups, torch.nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d`, faster on a CPU."""


_FASTER: dict[type[torch.nn.Module], type[_ThroughGroups]] = {
    torch.nn.InstanceNorm2d: InstanceNorm2d,
    torch.nn.InstanceNorm3d: InstanceNorm3d,
}


def speed_up_instance_norm(network: torch.nn.Module) -> int:
    """Let the instance normalisations of a network compute through the faster kernels, in place; names and parameters stay.

    Returns:
        How many there are. Classes derived from PyTorch's are left alone.
    """
    return change_classes(network, _FASTER)


def change_classes(
    network: torch.nn.Module, replacements: Mapping[type[torch.nn.Module], type[torch.nn.Module]]
) -> int:
    """Give modules of exactly these classes another class, in place, and count them."""
    modules = [module for module in network.modules() if type(module) in replacements]
    for module in modules:
        module.__class__ = replacements[type(module)]
    return len(modules)


def normalise_channels_last(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """Instance normalisation on a CPU of an array whose channels lie side by side, as the result's do.

    Args:
        x: shape (batch, channels, *spatial), two or three spatial axes; half precision is computed in float32.
        weight, bias: shape (channels,), or None for 1 and 0.
        eps: added to the variance, which is that of all voxels (no Bessel correction).
    """
    if x.dtype in (torch.float32, torch.float64):
        return _ChannelsLast.apply(x, weight, bias, eps)
    return _ChannelsLast.apply(x.float(), weight, bias, eps).to(x.dtype)


class _ChannelsLast(torch.autograd.Function):
    """Both directions through PyTorch's kernels for batch normalisation of one sample."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> torch.Tensor:
        out = torch.empty_like(x)
        means, variances = x.new_empty(x.shape[:2]), x.new_empty(x.shape[:2])
        unused = x.new_empty(0)
        for index in range(len(x)):
            means[index], variances[index] = _measure(x[index])
            torch.ops.aten.native_batch_norm.out(
                *(x[index : index + 1], weight, bias, means[index], variances[index], False, 0.0, eps),
                out=out[index : index + 1],
                save_mean=unused,
                save_invstd=unused,
            )
        ctx.save_for_backward(x, weight, means, torch.rsqrt(variances + eps))
        ctx.has_bias, ctx.eps = bias is not None, eps
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, means, inverse_stds = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=FORMATS[x.dim()])
        of_x, of_weight, of_bias = torch.empty_like(x), [], []
        for index in range(len(x)):
            of_piece = torch.ops.aten.native_batch_norm_backward(
                *(gradient[index : index + 1], x[index : index + 1], weight, None, None),
                *(means[index], inverse_stds[index], True, ctx.eps, [True, weight is not None, ctx.has_bias]),
            )
            of_x[index] = of_piece[0][0]
            of_weight.append(of_piece[1])
            of_bias.append(of_piece[2])
        return (
            of_x,
            torch.stack(of_weight).sum(0) if weight is not None else None,
            torch.stack(of_bias).sum(0) if ctx.has_bias else None,
            None,
        )


def _measure(sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each channel in float64, from pieces (Chan, Golub and LeVeque 1979).

    Args:
        sample: shape (channels, *spatial), channels side by side in memory.
    """
    rows = sample.movedim(0, -1).reshape(-1, len(sample))  # a view
    pieces = rows.split(_PIECE_VOXELS)
    statistics = [torch.ops.aten.batch_norm_update_stats(piece, None, None, 0.0) for piece in pieces]
    means = torch.stack([mean for mean, _ in statistics]).double()
    variances = torch.stack([variance for _, variance in statistics]).double()
    shares = torch.tensor([len(piece) / len(rows) for piece in pieces], dtype=torch.float64)[:, None]
    mean = (means * shares).sum(0)
    return mean, ((variances + (means - mean) ** 2) * shares).sum(0)
