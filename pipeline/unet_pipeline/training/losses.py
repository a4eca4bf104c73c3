"""Losses that MONAI lacks: with a weight per voxel, of a smaller output than its target, and without a number from the host."""

from __future__ import annotations

from collections.abc import Sequence

import monai.losses
import torch

_SMOOTHING = 1e-5  # an absent region that is not found costs nothing


class DeepSupervisionLoss(monai.losses.DeepSupervisionLoss):
    """MONAI's, to the bit, without the 0 that it sends to the device for every step: a CUDA graph cannot hold that copy."""

    def forward(
        self, input: torch.Tensor | list[torch.Tensor] | tuple[torch.Tensor, ...], target: torch.Tensor
    ) -> torch.Tensor:
        """The weighted sum of the heads' losses; of a single output its loss.

        Args:
            input: logits, shape (batch, classes, *spatial), or one such array per head, the full resolution first.
            target: shape (batch, any, *spatial).
        """
        if isinstance(input, torch.Tensor):
            return self.loss(input.float(), target)
        weights = self.get_weights(levels=len(input))
        losses = [weight * self.get_loss(head.float(), target) for weight, head in zip(weights, input, strict=False)]
        return sum(losses[1:], losses[0])


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


class RegionDiceCELoss(torch.nn.Module):
    """Soft Dice loss over regions plus cross-entropy over classes.

    A region's probability is the sum of its classes' probabilities, so that regions may overlap and the network's output is still one
    class per voxel. The Dice is taken over the whole batch, as MONAI's with `batch=True`.

    Args:
        region_classes: classes of each region.
    """

    def __init__(self, region_classes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.region_classes = [list(classes) for classes in region_classes]

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of logits, shape (batch, classes, *spatial), and classes, shape (batch, 1, *spatial)."""
        classes = target[:, 0].long()
        cross_entropy = torch.nn.functional.cross_entropy(input, classes)
        probabilities = torch.softmax(input, dim=1)
        losses = []
        for region in self.region_classes:
            predicted = probabilities[:, region].sum(dim=1)
            wanted = torch.stack([classes == value for value in region]).any(0).to(predicted.dtype)
            shared, total = (predicted * wanted).sum(), predicted.sum() + wanted.sum()
            losses.append(1 - (2 * shared + _SMOOTHING) / (total + _SMOOTHING))
        return torch.stack(losses).mean() + cross_entropy


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
