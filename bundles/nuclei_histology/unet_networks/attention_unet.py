"""Attention U-Net (Oktay et al. 2018, arXiv:1804.03999): a U-Net whose skips pass an additive grid attention gate.

As in the paper, the gate's signal comes from the coarser level, its coefficients are computed on that coarser grid and
up-sampled linearly, the gated skips are all but the full resolution's, and lower levels are supervised. Different: the lower
levels' heads are compared with the labels at their own resolution instead of being joined to the output, and the
convolutions may have instance normalisation. (MONAI's class gates at the skip's own resolution, after the up-convolution.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from .blocks import (
    CONVOLUTION,
    TRANSPOSED_CONVOLUTION,
    DoubleConv,
    SupervisedUNet,
    build_encoder,
    build_normalisation,
)


class GridAttentionGate(nn.Module):
    """Scales a skip, voxel by voxel, by a coefficient from 0 to 1 that the features of the coarser level decide.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: of the skip; also of the gate's inside.
        signal_channels: of the coarser level.
        stride: between both levels, per axis.
        normalisation: of the gated skip.
    """

    def __init__(
        self, spatial_dims: int, skip_channels: int, signal_channels: int, stride: Sequence[int], normalisation: str
    ) -> None:
        super().__init__()
        convolution, steps = CONVOLUTION[spatial_dims], tuple(stride)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.skip_projection = convolution(skip_channels, skip_channels, steps, steps, bias=False)
        self.signal_projection = convolution(signal_channels, skip_channels, 1)
        self.coefficient = convolution(skip_channels, 1, 1)
        self.output = nn.Sequential(
            convolution(skip_channels, skip_channels, 1),
            build_normalisation(normalisation, spatial_dims, skip_channels),
        )

    def forward(self, skip: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        return self.output(skip * self.compute_coefficients(skip, signal))

    def compute_coefficients(self, skip: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        """Attention, shape (batch, 1, *spatial of the skip), from 0 to 1."""
        joined = functional.relu(self.skip_projection(skip) + self.signal_projection(signal))
        coarse = torch.sigmoid(self.coefficient(joined))
        return functional.interpolate(coarse, size=skip.shape[2:], mode=self.mode, align_corners=False)


class AttentionLevel(nn.Module):
    """Decoder level: the skip passes its gate, if it has one, and is joined to the up-sampled features."""

    def __init__(self, gate: nn.Module | None, upsampling: nn.Module, convolutions: nn.Module) -> None:
        super().__init__()
        self.gate = gate if gate is not None else PlainSkip()
        self.upsampling = upsampling
        self.convolutions = convolutions

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.convolutions(torch.cat([self.gate(skip, below), self.upsampling(below)], dim=1))


class PlainSkip(nn.Module):
    """In the place of a gate: the skip as it is."""

    def forward(self, skip: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        return skip


class AttentionUNet(SupervisedUNet):
    """Attention U-Net for prediction.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        out_channels: classes.
        filters: channels per level, the full resolution first.
        kernel_size: per level and axis.
        strides: per level and axis; the first level's are 1.
        num_supervised_heads: levels below the full resolution that have a head.
        normalisation: "batch" as published, "instance" or "none".
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_size: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        num_supervised_heads: int = 0,
        normalisation: str = "batch",
    ) -> None:
        encoder = build_encoder(
            [(width, None) for width in filters], in_channels, kernel_size, strides, True, normalisation
        )
        decoder = []
        for level in range(len(filters) - 2, -1, -1):
            below, width, stride = filters[level + 1], filters[level], tuple(strides[level + 1])
            gate = GridAttentionGate(spatial_dims, width, below, stride, normalisation) if level else None
            up = TRANSPOSED_CONVOLUTION[spatial_dims](below, width, stride, stride)
            convolutions = DoubleConv(spatial_dims, 2 * width, width, kernel_size[level], True, normalisation)
            decoder.append(AttentionLevel(gate, up, convolutions))
        super().__init__(encoder, decoder, filters, out_channels, strides, num_supervised_heads)


class SupervisedAttentionUNet(AttentionUNet):
    """For training: in training mode a list of the heads' logits, the full resolution first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:  # type: ignore[override]
        """Logits; in training mode sizes are multiples of the total stride."""
        return self.compute_heads(x)[::-1] if self.training else super().forward(x)
