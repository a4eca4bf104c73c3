"""Cases that are annotated with a part of the labels: where such a case shows nothing, a voxel is background or any label that it lacks.

A voxel of that kind gets a code of its own behind the classes, one for each set of labels that a case may lack. It travels with the label
map through augmentation and batch, so that a step needs nothing else from the host; the loss turns it into what is known of the voxel.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

MISSING_VALUES = "missing_values"  # of a case in the data lists: file values of the labels that it lacks
_IMPOSSIBLE = -1e4  # a logit; finite, so that no gradient is NaN


class HideMissingd(MapTransform):
    """Voxels of labels that a case is not annotated with become background: a few of them tell nothing about the others.

    Args:
        keys: label maps of classes.
        label_values: file value of each class.
    """

    def __init__(self, keys: KeysCollection, label_values: Sequence[int]) -> None:
        super().__init__(keys)
        self.class_of = {value: index for index, value in enumerate(label_values)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary; a case that lacks no label is left as it is."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            for value in changed.get(MISSING_VALUES, ()):
                changed[key] = changed[key] * (changed[key] != self.class_of[int(value)])
        return changed


class MarkUncertaind(MapTransform):
    """The background of a case that lacks labels becomes the code of the set that it lacks.

    Args:
        keys: label maps of classes.
        label_values: file value of each class.
        missing_classes: classes that a case may lack, one set after another.
        first_code: of the first set; the others follow.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_values: Sequence[int],
        missing_classes: Sequence[Sequence[int]],
        first_code: int,
    ) -> None:
        super().__init__(keys)
        self.class_of = {value: index for index, value in enumerate(label_values)}
        self.code_of = {tuple(classes): first_code + number for number, classes in enumerate(missing_classes)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary; a case that lacks no label is left as it is."""
        changed = dict(data)
        if values := changed.get(MISSING_VALUES):
            code = self.code_of[tuple(sorted(self.class_of[int(value)] for value in values))]
            for key in self.key_iterator(changed):
                changed[key] = changed[key] + (changed[key] == 0).to(changed[key].dtype) * code
        return changed


class MarginalLoss(torch.nn.Module):
    """A loss in which a voxel with the code of a set has the probability of the background and of all classes of the set together.

    The logits are joined before the loss: to the cross-entropy the voxel is background with that sum, and to the Dice of a class of the
    set it does not exist. What the network says there about these classes costs nothing and teaches nothing.

    Args:
        loss: of logits, shape (batch, classes, *spatial), and classes, shape (batch, 1 or 2, *spatial).
        missing_classes, first_code: as in `MarkUncertaind`.
    """

    def __init__(self, loss: torch.nn.Module, missing_classes: Sequence[Sequence[int]], first_code: int) -> None:
        super().__init__()
        self.loss = loss
        self.missing_classes = [list(classes) for classes in missing_classes]
        self.first_code = first_code

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of logits and of classes with codes; weights behind them stay as they are."""
        codes = target[:, 0]
        logits = list(input.float().unbind(1))
        for number, classes in enumerate(self.missing_classes):
            is_uncertain = codes == self.first_code + number
            joined = torch.logsumexp(torch.stack([logits[0], *(logits[index] for index in classes)]), dim=0)
            logits[0] = torch.where(is_uncertain, joined, logits[0])
            for index in classes:
                logits[index] = logits[index].masked_fill(is_uncertain, _IMPOSSIBLE)
        classes_only = codes.masked_fill(codes >= self.first_code, 0)
        return self.loss(torch.stack(logits, dim=1), torch.cat([classes_only[:, None], target[:, 1:]], dim=1))
