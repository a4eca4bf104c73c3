"""Building blocks of the U-Net family: units of convolution, normalisation and activation, and the geometry of levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

Layer = Callable[..., nn.Module]
CONVOLUTION: dict[int, Layer] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONVOLUTION: dict[int, Layer] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOLING: dict[int, Layer] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOLING: dict[int, Layer] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORMALISATION: dict[tuple[str, int], Layer] = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


def build_normalisation(kind: str, spatial_dims: int, channels: int) -> nn.Module:
    """A layer with scale and shift per channel.

    Args:
        kind: "batch", "instance" or "none".
        spatial_dims: 2 or 3.
        channels: of its input.
    """
    if kind == "none":
        return nn.Identity()
    return NORMALISATION[kind, spatial_dims](channels, affine=True)


class ConvUnit(nn.Module):
    """Convolution, normalisation, activation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: one entry per axis.
        padded: keep the size ("same"); otherwise each axis loses its kernel's length less one.
        normalisation: see `build_normalisation`.
        stride: one entry per axis; 1 if None.
        slope: of the activation below zero; 0 is a ReLU.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        padded: bool = True,
        normalisation: str = "none",
        stride: Sequence[int] | None = None,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.convolution = CONVOLUTION[spatial_dims](
            in_channels,
            out_channels,
            tuple(kernel_size),
            stride=tuple(stride) if stride is not None else 1,
            padding=tuple(taps // 2 for taps in kernel_size) if padded else 0,
        )
        self.normalisation = build_normalisation(normalisation, spatial_dims, out_channels)
        self.activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.normalisation(self.convolution(x)))


class DoubleConv(nn.Sequential):
    """Two units; the first may have channels of its own.

    Args:
        middle_channels: between the two; `out_channels` if None.

    The others as for `ConvUnit`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        padded: bool = True,
        normalisation: str = "none",
        middle_channels: int | None = None,
    ) -> None:
        middle = middle_channels if middle_channels is not None else out_channels
        super().__init__(
            ConvUnit(spatial_dims, in_channels, middle, kernel_size, padded, normalisation),
            ConvUnit(spatial_dims, middle, out_channels, kernel_size, padded, normalisation),
        )


def build_encoder(
    widths: Sequence[tuple[int, int | None]],
    in_channels: int,
    kernel_size: Sequence[Sequence[int]],
    strides: Sequence[Sequence[int]],
    padded: bool,
    normalisation: str,
    dropout: float | None = None,
) -> list[nn.Module]:
    """Levels of two units, the full resolution first; max-pooling leads to each but the first.

    Args:
        widths: channels behind each level, and between its two units, None for the same.
        in_channels: of the image.
        kernel_size: per level and axis.
        strides: per level and axis.
        padded: see `ConvUnit`.
        normalisation: see `build_normalisation`.
        dropout: share of the values that the two lowest levels drop in training; None for none.
    """
    spatial_dims, before = len(strides[0]), in_channels
    encoder: list[nn.Module] = []
    for level, (width, middle) in enumerate(widths):
        block: list[nn.Module] = [MAX_POOLING[spatial_dims](tuple(strides[level]))] if level else []
        block.append(DoubleConv(spatial_dims, before, width, kernel_size[level], padded, normalisation, middle))
        if dropout is not None and 0 < level >= len(widths) - 2:
            block.append(nn.Dropout(dropout))
        encoder.append(nn.Sequential(*block))
        before = width
    return encoder


class SupervisedUNet(nn.Module):
    """Encoder, decoder with skips, and heads at the levels of the full resolution and below it.

    Args:
        encoder: the full resolution first.
        decoder: of features and skip; the full resolution last.
        filters: channels per level, the full resolution first.
        out_channels: classes.
        strides: per level and axis; the first level's are 1.
        num_heads: levels below the full resolution that have a head.
    """

    def __init__(
        self,
        encoder: Sequence[nn.Module],
        decoder: Sequence[nn.Module],
        filters: Sequence[int],
        out_channels: int,
        strides: Sequence[Sequence[int]],
        num_heads: int,
    ) -> None:
        super().__init__()
        self.factors = total_stride(strides)
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)  # the full resolution last, as the heads
        convolution = CONVOLUTION[len(strides[0])]
        self.heads = nn.ModuleList(convolution(filters[level], out_channels, 1) for level in range(num_heads, -1, -1))
        initialise_he(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes, *spatial), for `x` of shape (batch, channels, *spatial) and any size."""
        return keep_start(self.compute_heads(pad_to_multiple(x, self.factors))[-1], x)

    def compute_heads(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits of every head at its own level, the full resolution last; sizes are multiples of the total stride."""
        features = x
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
        skips.pop()
        decoded: list[torch.Tensor] = []
        for level in self.decoder:
            features = level(features, skips.pop())
            decoded.append(features)
        heads: list[torch.Tensor] = []
        for index, head in enumerate(self.heads):
            heads.append(head(decoded[len(decoded) - len(self.heads) + index]))
        return heads


def initialise_he(network: nn.Module) -> None:
    """Normal weights with variance 2 / fan-in, biases 0 (He 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def crop_to(x: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The centre of `x` with the spatial size of `reference`, which is no larger along any axis."""
    for axis in range(2, x.dim()):
        surplus = x.shape[axis] - reference.shape[axis]
        if surplus > 0:
            x = x.narrow(axis, surplus // 2, reference.shape[axis])
    return x


def pad_to_multiple(x: torch.Tensor, multiples: list[int]) -> torch.Tensor:
    """Repeat the last voxels along each axis until its size is a multiple."""
    padding: list[int] = []
    for axis in range(len(multiples) - 1, -1, -1):
        surplus = x.shape[2 + axis] % multiples[axis]
        padding += [0, multiples[axis] - surplus if surplus > 0 else 0]
    return functional.pad(x, padding, mode="replicate") if sum(padding) > 0 else x


def keep_start(x: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The first voxels of `x` along each axis, as many as `reference` has: undoes `pad_to_multiple`."""
    for axis in range(2, x.dim()):
        x = x.narrow(axis, 0, reference.shape[axis])
    return x


def total_stride(strides: Sequence[Sequence[int]]) -> list[int]:
    """Product of the strides of all levels, per axis."""
    totals = [1] * len(strides[0])
    for level in strides:
        totals = [total * step for total, step in zip(totals, level, strict=True)]
    return totals
