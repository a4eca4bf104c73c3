"""The residual-encoder U-Net of nnU-Net (Isensee et al. 2024, arXiv:2404.09556): a deep residual encoder, a light decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .blocks import (
    AVERAGE_POOLING,
    CONVOLUTION,
    TRANSPOSED_CONVOLUTION,
    ConvUnit,
    SupervisedUNet,
    build_normalisation,
)

SLOPE = 0.01  # of the leaky ReLU, nnU-Net's number


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; a stride is taken by the first convolution and by average pooling in the shortcut."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        normalisation: str,
    ) -> None:
        super().__init__()
        self.first = ConvUnit(
            spatial_dims, in_channels, out_channels, kernel_size, True, normalisation, stride, slope=SLOPE
        )
        padding = tuple(taps // 2 for taps in kernel_size)
        self.second = nn.Sequential(
            CONVOLUTION[spatial_dims](out_channels, out_channels, tuple(kernel_size), padding=padding),
            build_normalisation(normalisation, spatial_dims, out_channels),
        )
        shortcut: list[nn.Module] = []
        if max(stride) > 1:
            shortcut.append(AVERAGE_POOLING[spatial_dims](tuple(stride), tuple(stride)))
        if in_channels != out_channels:
            shortcut.append(CONVOLUTION[spatial_dims](in_channels, out_channels, 1, bias=False))
            shortcut.append(build_normalisation(normalisation, spatial_dims, out_channels))
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.second(self.first(x)) + self.shortcut(x))


class LightDecoderLevel(nn.Module):
    """Up-convolution, concatenation with the skip, one convolution."""

    def __init__(self, upsampling: nn.Module, convolution: nn.Module) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.convolution = convolution

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.convolution(torch.cat([self.upsampling(below), skip], dim=1))


class ResidualEncoderUNet(SupervisedUNet):
    """Residual-encoder U-Net for prediction.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        out_channels: classes.
        filters: channels per level, the full resolution first.
        kernel_size: per level and axis.
        strides: per level and axis; the first level's are 1.
        num_blocks: residual blocks per level; nnU-Net's are 1, 3, 4, 6, 6, 6.
        num_supervised_heads: levels below the full resolution that have a head.
        normalisation: "instance" as published, "batch" or "none".
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_size: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        num_blocks: Sequence[int],
        num_supervised_heads: int = 0,
        normalisation: str = "instance",
    ) -> None:
        stem = ConvUnit(spatial_dims, in_channels, filters[0], kernel_size[0], True, normalisation, slope=SLOPE)
        encoder, before = [], filters[0]
        for level, width in enumerate(filters):
            blocks: list[nn.Module] = [] if level else [stem]
            for number in range(num_blocks[level]):
                stride = strides[level] if number == 0 else [1] * spatial_dims
                blocks.append(ResidualBlock(spatial_dims, before, width, kernel_size[level], stride, normalisation))
                before = width
            encoder.append(nn.Sequential(*blocks))
        decoder = []
        for level in range(len(filters) - 2, -1, -1):
            below, width, stride = filters[level + 1], filters[level], tuple(strides[level + 1])
            up = TRANSPOSED_CONVOLUTION[spatial_dims](below, width, stride, stride)
            unit = ConvUnit(spatial_dims, 2 * width, width, kernel_size[level], True, normalisation, slope=SLOPE)
            decoder.append(LightDecoderLevel(up, unit))
        super().__init__(encoder, decoder, filters, out_channels, strides, num_supervised_heads)


class SupervisedResidualEncoderUNet(ResidualEncoderUNet):
    """For training: in training mode a list of the heads' logits, the full resolution first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:  # type: ignore[override]
        """Logits; in training mode sizes are multiples of the total stride."""
        return self.compute_heads(x)[::-1] if self.training else super().forward(x)
