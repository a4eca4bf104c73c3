"""What a network's probabilities say about its own label map, added up block by block, so that they need not be held.

Every number is a sum over voxels of the grid that the probabilities lie on; one pass over them is enough, and its cost is a small part of
that of the network (docs/explanation/expected_dice.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Finish = Callable[["torch.Tensor"], "torch.Tensor"]
_CERTAIN = 0.999  # probability from which on a voxel adds nothing to entropy: below 0.008 nats
_TINY = 1e-9


@dataclass(frozen=True)
class LabelConfidence:
    """Of one label of one image; all but the first two are NaN where no voxel was predicted as the label.

    Attributes:
        num_voxels: predicted.
        expected_voxels: sum of the label's probability over all voxels.
        soft_dice: Dice of the label map against the probabilities, 0 to 1: what Dice would be on average if they were right and
            voxels independent.
        mean_probability: of the label over its voxels, 0 to 1.
        unsure_surface: sum of one minus the probability over the label's voxels, by the size of a surface: voxels to the power
            (axes - 1) / axes.
    """

    num_voxels: float
    expected_voxels: float
    soft_dice: float
    mean_probability: float
    unsure_surface: float


class ConfidenceSums:
    """Adds up the probabilities of one image.

    Args:
        num_classes: of the network; the first is the background.
        spatial_dims: 2 or 3.
    """

    def __init__(self, num_classes: int, spatial_dims: int) -> None:
        self.num_classes, self.spatial_dims = num_classes, spatial_dims
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self._sums = np.zeros((3, self.num_classes))  # voxels predicted, their probability, probability of all voxels
        self._entropy, self._num_unsure = 0.0, 0

    def watch(self, blocks: Iterable[torch.Tensor], finish: Finish) -> Iterator[torch.Tensor]:
        """The same blocks, each of which is added once `finish` has made probabilities of it."""
        for block in blocks:
            self.add(finish(block))
            yield block

    def add(self, probabilities: torch.Tensor) -> None:
        """Add a block.

        Args:
            probabilities: shape (classes, *any), that add up to 1 over the classes; any device.
        """
        import torch

        flat = probabilities.detach().reshape(self.num_classes, -1)
        largest, classes = flat.max(dim=0)
        counts = torch.bincount(classes, minlength=self.num_classes)
        certain = torch.zeros(self.num_classes, dtype=torch.float64, device=flat.device)
        certain.index_add_(0, classes, largest.double())
        everywhere = flat.sum(dim=1, dtype=torch.float64)
        unsure = flat[:, largest < _CERTAIN].clamp_min(_TINY)
        entropy = -(unsure * unsure.log()).sum(dtype=torch.float64)
        sums = torch.stack([counts.double(), certain, everywhere])
        self._sums += sums.cpu().numpy()
        self._entropy += float(entropy)
        self._num_unsure += unsure.shape[1]

    def describe(self) -> tuple[LabelConfidence, ...]:
        """Of every class, the background first."""
        return tuple(self._describe(*sums) for sums in self._sums.T)

    def _describe(self, predicted: float, certain: float, everywhere: float) -> LabelConfidence:
        if not predicted:
            return LabelConfidence(0.0, float(everywhere), *[float("nan")] * 3)
        surface = predicted ** ((self.spatial_dims - 1) / self.spatial_dims)
        return LabelConfidence(
            num_voxels=float(predicted),
            expected_voxels=float(everywhere),
            soft_dice=float(2 * certain / (everywhere + predicted)),
            mean_probability=float(certain / predicted),
            unsure_surface=float((predicted - certain) / surface),
        )

    @property
    def mean_entropy(self) -> float:
        """Entropy in nats over the voxels of all labels but the background and those that are not sure; 0 for an image without either.

        It is what expected Dice is compared with, as the simplest measure of doubt.
        """
        voxels = self._sums[0, 1:].sum() + self._num_unsure
        return self._entropy / voxels if voxels else 0.0
