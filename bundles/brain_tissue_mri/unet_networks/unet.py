"""The U-Net of Ronneberger et al. 2015 (arXiv:1505.04597) and the 3D U-Net of Çiçek et al. 2016 (arXiv:1606.06650).

Both have convolutions without padding as published: the output is smaller than the input, and an image is predicted tile by
tile with its border mirrored (`overlap_tile.py`). With `padded=True` they keep the size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .blocks import (
    CONVOLUTION,
    TRANSPOSED_CONVOLUTION,
    DoubleConv,
    build_encoder,
    crop_to,
    initialise_he,
    keep_start,
    pad_to_multiple,
    total_stride,
)


class DecoderLevel(nn.Module):
    """Up-convolution, concatenation with the skip cropped to it, convolutions."""

    def __init__(self, upsampling: nn.Module, convolutions: nn.Module) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.convolutions = convolutions

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        upsampled = self.upsampling(below)
        return self.convolutions(torch.cat([crop_to(skip, upsampled), upsampled], dim=1))


class _UNet(nn.Module):
    """Encoder and decoder with concatenated skips; the subclasses say how wide each part is."""

    def __init__(
        self,
        encoder: Sequence[nn.Module],
        decoder: Sequence[DecoderLevel],
        head: nn.Module,
        strides: Sequence[Sequence[int]],
        padded: bool,
    ) -> None:
        super().__init__()
        self.padded = padded
        self.factors = total_stride(strides)
        self.encoder = nn.ModuleList(encoder)  # the full resolution first
        self.decoder = nn.ModuleList(decoder)  # the full resolution last
        self.head = head
        initialise_he(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits.

        Args:
            x: shape (batch, channels, *spatial). Padded: any size. Otherwise a size that every level can divide by its
                stride (`overlap_tile.compute_output_size`).

        Returns:
            Shape (batch, classes, *spatial); without padding the centre of the input's grid.
        """
        features = pad_to_multiple(x, self.factors) if self.padded else x
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
        skips.pop()
        for level in self.decoder:
            features = level(features, skips.pop())
        logits = self.head(features)
        return keep_start(logits, x) if self.padded else logits


class UNet2015(_UNet):
    """Ronneberger 2015: 3x3 convolutions and ReLU, max-pooling, 2x2 up-convolutions that halve the channels.

    Dropout of one half follows the two lowest levels of the contracting path, as in the authors' published model; the
    up-convolutions are followed by a ReLU, as there. With 1 channel, 2 classes and the paper's filters 64 to 1024 it has
    31,030,658 parameters.

    Args:
        spatial_dims: 2, or 3 for the same in 3D.
        in_channels: image channels.
        out_channels: classes.
        filters: channels per level, the full resolution first.
        kernel_size: per level and axis.
        strides: per level and axis; the first level's are 1.
        padded: keep the size.
        normalisation: "none" as published, "batch" or "instance".
        dropout: share of the values that the two lowest levels drop in training.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_size: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        padded: bool = False,
        normalisation: str = "none",
        dropout: float = 0.5,
    ) -> None:
        widths = [(width, None) for width in filters]
        encoder = build_encoder(widths, in_channels, kernel_size, strides, padded, normalisation, dropout)
        decoder = []
        for level in range(len(filters) - 2, -1, -1):
            below, width, stride = filters[level + 1], filters[level], tuple(strides[level + 1])
            up = nn.Sequential(
                TRANSPOSED_CONVOLUTION[spatial_dims](below, width, stride, stride), nn.ReLU(inplace=True)
            )
            convolutions = DoubleConv(spatial_dims, 2 * width, width, kernel_size[level], padded, normalisation)
            decoder.append(DecoderLevel(up, convolutions))
        super().__init__(encoder, decoder, CONVOLUTION[spatial_dims](filters[0], out_channels, 1), strides, padded)


class UNet3D2016(_UNet):
    """Çiçek 2016: channels double before each pooling, batch normalisation before each ReLU, up-convolutions keep channels.

    With 3 channels, 3 classes and the paper's filters 64 to 512 it has 19,069,955 parameters, those of the batch
    normalisation not counted; the up-convolutions have no bias.

    Args:
        filters: channels per level after its second convolution; the first has half of them in the encoder.
        normalisation: "batch" as published, "instance" or "none".

    The others as for `UNet2015`, without dropout.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_size: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        padded: bool = False,
        normalisation: str = "batch",
    ) -> None:
        widths = [(width, width // 2) for width in filters]
        encoder = build_encoder(widths, in_channels, kernel_size, strides, padded, normalisation)
        decoder = []
        for level in range(len(filters) - 2, -1, -1):
            below, width, stride = filters[level + 1], filters[level], tuple(strides[level + 1])
            up = TRANSPOSED_CONVOLUTION[spatial_dims](below, below, stride, stride, bias=False)
            convolutions = DoubleConv(spatial_dims, below + width, width, kernel_size[level], padded, normalisation)
            decoder.append(DecoderLevel(up, convolutions))
        super().__init__(encoder, decoder, CONVOLUTION[spatial_dims](filters[0], out_channels, 1), strides, padded)
