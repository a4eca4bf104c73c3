"""The weights of Ronneberger et al. 2015 for the cross-entropy: voxels between two objects weigh more."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage

_REACH = 5.0  # in sigma; beyond it a border adds less than 0.001 % of its weight


def compute_border_weights(
    label_map: np.ndarray, class_weights: Sequence[float], border_weight: float, border_sigma_voxel: float
) -> np.ndarray:
    """Weight of each voxel: that of its class, and more between two objects that are close to each other.

    An object is a connected component (faces touching) of one class other than the first. With d1 and d2, the distances to the
    nearest and the second-nearest object in voxels, a voxel of the first class gets `border_weight` x exp(-(d1 + d2)^2 / (2 sigma^2))
    on top, equation 2 of the paper.

    Args:
        label_map: classes, shape (*spatial). Other values than the classes weigh nothing.
        class_weights: one per class.
        border_weight: w0, 10 in the paper.
        border_sigma_voxel: sigma, 5 in the paper.

    Returns:
        float32, same shape. Without two objects the class weights alone.
    """
    weights = np.zeros(label_map.shape, np.float32)
    for index, weight in enumerate(class_weights):
        weights[label_map == index] = weight
    reach = int(np.ceil(_REACH * border_sigma_voxel))
    nearest = np.full(label_map.shape, np.inf, np.float32)
    second = np.full(label_map.shape, np.inf, np.float32)
    for index in range(1, len(class_weights)):
        objects, _ = ndimage.label(label_map == index)
        for number, box in enumerate(ndimage.find_objects(objects), start=1):
            grown = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
            distance = ndimage.distance_transform_edt(objects[grown] != number).astype(np.float32)
            second[grown] = np.minimum(second[grown], np.maximum(nearest[grown], distance))
            nearest[grown] = np.minimum(nearest[grown], distance)
    between = (label_map == 0) & np.isfinite(second)
    both = nearest[between] + second[between]
    weights[between] += border_weight * np.exp(-(both**2) / (2 * border_sigma_voxel**2))
    return weights


class BorderWeightd(MapTransform):
    """Adds the weights of a label map under a key of their own.

    Args:
        keys: the label map, shape (1, *spatial).
        weight_key: gets the weights, shape (1, *spatial), float32.

    The others as for `compute_border_weights`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        weight_key: str,
        class_weights: Sequence[float],
        border_weight: float,
        border_sigma_voxel: float,
    ) -> None:
        super().__init__(keys)
        self.weight_key = weight_key
        self.settings = tuple(class_weights), border_weight, border_sigma_voxel

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary with the weights beside the label map."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            label_map = np.asarray(changed[key])[0]
            changed[self.weight_key] = torch.from_numpy(compute_border_weights(label_map, *self.settings))[None]
        return changed
