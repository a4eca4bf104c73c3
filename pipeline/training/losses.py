"""Losses that MONAI lacks: with a weight per voxel, and of a network whose output is smaller than its target."""

from __future__ import annotations

import torch


class BorderWeightedCrossEntropy(torch.nn.Module):
    """Mean over the voxels of weight x cross-entropy; a weight of 0 leaves a voxel out."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss.

        Args:
            input: logits, shape (batch, classes, *spatial).
            target: shape (batch, 2, *spatial): classes and weights.
        """
        classes, weights = target[:, 0].long(), target[:, 1]
        known = classes.clamp(max=input.shape[1] - 1)  # a class behind the last one has weight 0
        losses = torch.nn.functional.cross_entropy(input, known, reduction="none")
        return (weights * losses).sum() / (weights > 0).sum().clamp(min=1)


class CentreOfTarget(torch.nn.Module):
    """A loss of a network without padding: the target is cut to the output's centre first.

    Args:
        loss: of output and target of one spatial size.
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of `input`, shape (batch, classes, *spatial), and the centre of `target`, which is no smaller."""
        for axis in range(2, input.dim()):
            surplus = target.shape[axis] - input.shape[axis]
            target = target.narrow(axis, surplus // 2, input.shape[axis])
        return self.loss(input, target)
