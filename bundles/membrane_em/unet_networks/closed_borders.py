"""Gaps in thin borders are closed behind the network: what they nearly part, as membranes do with cells, is parted. 2D and 3D.

A gap of a few voxels joins two parts and costs hardly any Dice, so no loss over voxels teaches the network to close it. Its probabilities
show where the border goes on: they rise there too, only not to the most probable class.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from scipy import ndimage
from scipy.special import expit, logit
from skimage.segmentation import watershed

_STEPS = 1000  # of the doubt: the last digits, which windows and devices change, decide nothing
_LEAST_WIDTH_VOXEL = 5


def close_borders(
    probabilities: np.ndarray, separated_classes: Sequence[int], threshold: float, logit_factor: float = 0.0
) -> np.ndarray:
    """The most probable class of each voxel, with lines one voxel wide where the borders have gaps.

    The seeds of a connected part (faces) of a separated class are its connected voxels in which all other classes together have at most
    the threshold. A part with several seeds is parted by a watershed over the probability of the other classes, and the line between two
    seeds gets the most probable class that is not separated. Seeds of fewer voxels than a square or cube of 5 part nothing.

    Args:
        probabilities: shape (classes, *spatial).
        separated_classes: places of the classes whose parts the others separate; not all classes.
        threshold: of the probability of the other classes, which a border exceeds all along between two parts, 0 to 1; at temperature 1.
        logit_factor: the logits were multiplied by 1 + this, as MONAI's ScaleIntensity has it; the threshold follows them.

    Returns:
        uint8, shape (*spatial).
    """
    classes = probabilities.argmax(axis=0).astype(np.uint8)
    borders = np.array([index for index in range(len(probabilities)) if index not in separated_classes], np.uint8)
    between = borders[probabilities[borders].argmax(axis=0)]
    most_doubt = _STEPS * expit((1 + logit_factor) * logit(threshold))
    for index in separated_classes:
        doubt = np.rint(_STEPS * (1 - probabilities[index])).astype(np.int32)
        line = _find_lines(classes == index, doubt, most_doubt)
        classes[line] = between[line]
    return classes


def _find_lines(mask: np.ndarray, doubt: np.ndarray, most_doubt: float) -> np.ndarray:
    """Voxels of a mask that part the seeds which lie in one part of it."""
    parts, _ = ndimage.label(mask)
    seeds, num_seeds = ndimage.label(mask & (doubt <= most_doubt))
    counts = np.bincount(seeds.reshape(-1)) >= _LEAST_WIDTH_VOXEL**mask.ndim
    counts[0] = False
    part_of = np.zeros(num_seeds + 1, parts.dtype)
    part_of[seeds.reshape(-1)] = parts.reshape(-1)  # each seed lies in one
    has_several = np.bincount(part_of[counts], minlength=parts.max() + 1) > 1
    torn = has_several[parts]
    seeds[~(counts[seeds] & torn)] = 0
    return np.asarray(torn & (watershed(doubt, seeds, mask=torn, watershed_line=True) == 0))


class CloseBordersd(MapTransform):
    """Probabilities become classes; see `close_borders`.

    Args:
        keys: probabilities, shape (classes, *spatial).

    The others as for `close_borders`.
    """

    def __init__(
        self, keys: KeysCollection, separated_classes: Sequence[int], threshold: float, logit_factor: float
    ) -> None:
        super().__init__(keys)
        self.options = tuple(separated_classes), threshold, logit_factor

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary with classes, shape (1, *spatial)."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            probabilities = torch.as_tensor(changed[key]).cpu().numpy()
            classes = close_borders(probabilities, *self.options)
            changed[key] = convert_to_dst_type(classes[None], changed[key], dtype=classes.dtype)[0]
        return changed
