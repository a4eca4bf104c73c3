"""U-Net++ (Zhou et al. 2018, arXiv:1807.10165): nested, dense skips, deep supervision at full resolution, pruning.

Node (i, j) is at level i, the full resolution being level 0, and j up-samplings after the encoder. It sees every earlier node of its
level and the up-sampled node (i + 1, j - 1). Each node (0, j) with j > 0 has a head.
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
    initialise_he,
    keep_start,
    pad_to_multiple,
    total_stride,
)


class NestedNode(nn.Module):
    """A node behind the encoder: up-sampling of the node below, concatenation, two convolutions."""

    def __init__(self, upsampling: nn.Module, convolutions: nn.Module) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.convolutions = convolutions

    def forward(self, same_level: list[torch.Tensor], below: torch.Tensor) -> torch.Tensor:
        """The node's features; `below` is at the next lower level."""
        joined = list(same_level)
        joined.append(self.upsampling(below))
        return self.convolutions(torch.cat(joined, dim=1))


class UNetPlusPlus(nn.Module):
    """U-Net++ for prediction: the mean of its heads, or one head of the pruned network.

    In the paper's setting (filters 32 to 512, 3x3 convolutions with ReLU and without normalisation, 2x2 up-convolutions, 3
    channels, 1 output) it has 9,042,177 parameters, and 33 more for each further head.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        out_channels: classes.
        filters: channels per level, the full resolution first.
        kernel_size: per level and axis.
        strides: per level and axis; the first level's are 1.
        normalisation: "none" as published, "batch" or "instance".
        supervised: every node (0, j) has a head; otherwise only the last.
        pruned_to: head to predict with, 1 (shallowest) to the last; nodes that it does not need are not computed. None: the
            mean of all heads.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_size: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        normalisation: str = "none",
        supervised: bool = True,
        pruned_to: int | None = None,
    ) -> None:
        super().__init__()
        self.depth = len(filters) - 1
        if pruned_to is not None and not (1 <= pruned_to <= self.depth and (supervised or pruned_to == self.depth)):
            raise ValueError(f"pruned_to is {pruned_to}; expected a head from 1 to {self.depth}")
        self.factors = total_stride(strides)
        self.first_head = 1 if supervised else self.depth
        self.num_columns = pruned_to if pruned_to is not None else self.depth
        self.pruned = pruned_to is not None or not supervised
        widths = [(width, None) for width in filters]
        self.encoder = nn.ModuleList(build_encoder(widths, in_channels, kernel_size, strides, True, normalisation))
        self.places = [
            (level, column) for column in range(1, self.depth + 1) for level in range(self.depth + 1 - column)
        ]
        nodes = []
        for level, column in self.places:
            below, width, stride = filters[level + 1], filters[level], tuple(strides[level + 1])
            up = TRANSPOSED_CONVOLUTION[spatial_dims](below, width, stride, stride)
            joined = (column + 1) * width
            nodes.append(
                NestedNode(up, DoubleConv(spatial_dims, joined, width, kernel_size[level], True, normalisation))
            )
        self.nodes = nn.ModuleList(nodes)  # behind the encoder, column by column
        self.heads = nn.ModuleList(
            CONVOLUTION[spatial_dims](filters[0], out_channels, 1) for _ in range(self.first_head, self.depth + 1)
        )
        initialise_he(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits on the input's grid.

        Args:
            x: shape (batch, channels, *spatial), any size.

        Returns:
            Shape (batch, classes, *spatial). Of all heads: the logarithm of the mean of their probabilities, whose softmax is
            that mean.
        """
        heads = self.compute_heads(pad_to_multiple(x, self.factors))
        if self.pruned:
            return keep_start(heads[-1], x)
        logarithms = torch.log_softmax(torch.stack(heads), dim=2)
        return keep_start(torch.logsumexp(logarithms, dim=0), x)

    def compute_heads(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits of every head up to the last needed one; sizes are multiples of the total stride."""
        nodes: list[list[torch.Tensor]] = []  # by level, then by column
        features = x
        for level, block in enumerate(self.encoder):
            if level <= self.num_columns:
                features = block(features)
                nodes.append([features])
        for index, node in enumerate(self.nodes):
            level, column = self.places[index]
            if level + column <= self.num_columns:
                nodes[level].append(node(nodes[level], nodes[level + 1][column - 1]))
        heads: list[torch.Tensor] = []
        for index, head in enumerate(self.heads):
            if index + self.first_head <= self.num_columns:
                heads.append(head(nodes[0][index + self.first_head]))
        return heads


class SupervisedUNetPlusPlus(UNetPlusPlus):
    """For training: in training mode a list of the heads' logits, the last head first; otherwise as `UNetPlusPlus`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:  # type: ignore[override]
        """Logits; in training mode sizes are multiples of the total stride."""
        return self.compute_heads(x)[::-1] if self.training else super().forward(x)
