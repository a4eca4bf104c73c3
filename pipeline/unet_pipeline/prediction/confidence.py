"""What a network's probabilities say about its own label map, added up block by block, so that they need not be held.

Every number is a sum over voxels of the grid that the probabilities lie on; one pass over them is enough, and its cost is a small part of
that of the network (docs/explanation/expected_dice.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Finish = Callable[["torch.Tensor"], "torch.Tensor"]
_MOST_VALUES = 1 << 24  # probabilities of an image that are looked at: a third of a second on a core
_CERTAIN = 0.999  # probability from which on a voxel adds nothing to entropy: below 0.008 nats


@dataclass(frozen=True)
class LabelConfidence:
    """Of one label of one image; all but the first two are NaN where no voxel was predicted as the label.

    Attributes:
        predicted_voxels: of the label, on the network's grid.
        expected_voxels: sum of the label's probability over all voxels.
        soft_dice: Dice of the label map against the probabilities, 0 to 1: what Dice would be on average if they were right and
            voxels independent.
        mean_probability: of the label over its voxels, 0 to 1.
        unsure_surface: sum of one minus the probability over the label's voxels, by the size of a surface: voxels to the power
            (axes - 1) / axes.
    """

    predicted_voxels: float
    expected_voxels: float
    soft_dice: float
    mean_probability: float
    unsure_surface: float


class ConfidenceSums:
    """Adds up the probabilities of one image.

    Args:
        num_classes: labels, the first is the background. Of a network for instances of one label, whose further classes are levels
            between an object's border and its inner part, two: all levels belong to the label.
        spatial_dims: 2 or 3.
    """

    def __init__(self, num_classes: int, spatial_dims: int) -> None:
        self.num_classes, self.spatial_dims = num_classes, spatial_dims
        self._sums: torch.Tensor | None = None
        self._step = 1

    def begin(self, spatial_shape: Sequence[int]) -> None:
        """Begin again, with an image of that shape; of a large one every so many voxels of the last two axes count for all of them."""
        self._sums = None
        self._step = math.ceil(max(1.0, self.num_classes * math.prod(spatial_shape) / _MOST_VALUES) ** 0.5)

    def watch(self, blocks: Iterable[torch.Tensor], finish: Finish) -> Iterator[torch.Tensor]:
        """The same blocks, each of which is added once `finish` has made probabilities of it."""
        for block in blocks:
            rows, columns = (slice(min(self._step // 2, size - 1), None, self._step) for size in block.shape[-2:])
            self.add(finish(block[..., rows, columns]))
            yield block

    def add(self, probabilities: torch.Tensor) -> None:
        """Add a block.

        Args:
            probabilities: shape (classes, *any), that add up to 1 over the classes; any device; of a large image those that count.
        """
        import torch

        flat = probabilities.detach().flatten(1)
        if len(flat) > self.num_classes:
            flat = torch.stack([flat[0], flat[1:].sum(dim=0)])
        largest, classes = flat.max(dim=0)
        counts, certain, unsure = (
            torch.zeros(self.num_classes, dtype=torch.float64, device=flat.device) for _ in range(3)
        )
        certain.index_add_(0, classes, largest.double())
        counts.index_add_(0, classes, torch.ones_like(largest, dtype=torch.float64))
        everywhere = flat.sum(dim=1, dtype=torch.float64)
        in_doubt = largest < _CERTAIN
        # on a GPU a selection would wait for the device
        doubtful = flat if flat.is_cuda else flat[:, in_doubt]
        entropy = -torch.xlogy(doubtful, doubtful) if not flat.is_cuda else -torch.xlogy(flat, flat) * in_doubt
        unsure[0], unsure[1] = entropy.sum(dtype=torch.float64), in_doubt.sum()
        sums = torch.stack([counts, certain, everywhere, unsure])
        self._sums = sums if self._sums is None else self._sums + sums

    def describe(self) -> tuple[LabelConfidence, ...]:
        """Of every class, the background first."""
        return tuple(self._describe(*sums) for sums in self._as_array()[:3].T)

    def _as_array(self) -> np.ndarray:
        """Rows: voxels predicted, their probability, probability of all voxels, and entropy and number of voxels in doubt."""
        sums = np.zeros((4, self.num_classes)) if self._sums is None else self._sums.cpu().numpy()
        return sums * self._step**2

    def _describe(self, predicted: float, certain: float, everywhere: float) -> LabelConfidence:
        if not predicted:
            return LabelConfidence(0.0, float(everywhere), *[float("nan")] * 3)
        surface = predicted ** ((self.spatial_dims - 1) / self.spatial_dims)
        return LabelConfidence(
            predicted_voxels=float(predicted),
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
        sums = self._as_array()
        voxels = sums[0, 1:].sum() + sums[3, 1]
        return float(sums[3, 0] / voxels) if voxels else 0.0
