"""Voxels without annotation: left out of the loss and of the validation, where MONAI's parts would count them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class LeaveOutIgnored(torch.nn.Module):
    """A loss over the annotated voxels only.

    Args:
        loss: of logits, shape (batch, classes, *spatial), and classes, shape (batch, 1, *spatial); it must sum over batch and
            space, as MONAI's with `batch=True` do, because the annotated voxels are handed to it as one row.
        ignored_class: the class of voxels without annotation; None when every voxel has one.
    """

    def __init__(self, loss: torch.nn.Module, ignored_class: int | None) -> None:
        super().__init__()
        self.loss = loss
        self.ignored_class = ignored_class

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss; 0 where nothing is annotated."""
        if self.ignored_class is None:
            return self.loss(input, target)
        annotated = target[:, 0] != self.ignored_class
        if not annotated.any():
            return input.sum() * 0
        logits = input.movedim(1, -1)[annotated]  # shape (voxels, classes)
        return self.loss(logits.T[None], target[:, 0][annotated][None, None])


class LeaveOutIgnoredd(MapTransform):
    """Prediction and reference become class 0 where the reference has no annotation.

    Args:
        keys: prediction and reference, classes of one shape.
        reference_key: the reference among them.
        ignored_class: as for the loss; None changes nothing.
    """

    def __init__(self, keys: KeysCollection, reference_key: str, ignored_class: int | None) -> None:
        super().__init__(keys)
        self.reference_key = reference_key
        self.ignored_class = ignored_class

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary with new tensors."""
        changed = dict(data)
        if self.ignored_class is None:
            return changed
        annotated = changed[self.reference_key] != self.ignored_class
        for key in self.key_iterator(changed):
            changed[key] = changed[key] * annotated
        return changed
