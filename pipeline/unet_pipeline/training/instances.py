"""Targets of instances: what a network learns so that objects which touch can be told apart.

An instance map goes through the augmentation as codes of 8 bits, nearest neighbour, and becomes targets behind it: a border is as wide in a
patch whose objects were enlarged as in any other. A code is a label's class with a colour, and objects close to each other differ in it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import LoadImaged, MapTransform
from scipy import ndimage
from torch.nn.functional import max_pool1d, max_pool2d, max_pool3d

from unet_pipeline.dataset.instance_maps import INSTANCES, find_instances

_MOST_CODE = 255
_POOL = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def encode_instances(
    classes: np.ndarray, instances: np.ndarray | None, num_classes: int, reach_voxel: int
) -> np.ndarray:
    """Class and colour of each voxel in one number: class + colour x (num_classes + 1).

    Args:
        classes: shape (*spatial); `num_classes` is that of voxels without annotation.
        instances: same shape, one value per object; None: the connected parts (faces) of each class are the objects.
        num_classes: that the network gives.
        reach_voxel: objects at most that far from each other have different colours.

    Returns:
        uint8, same shape. Voxels of the first class and those without annotation have colour 0.

    Raises:
        ValueError: so many objects lie close together that their colours do not fit.
    """
    base = num_classes + 1
    is_object = (classes > 0) & (classes < num_classes)
    objects = _number_objects(classes, instances, is_object)
    colours = _colour_objects(objects, reach_voxel)
    most = int(colours.max()) if colours.size else 0
    if num_classes + most * base > _MOST_CODE:
        raise ValueError(
            f"{most} objects lie within {reach_voxel} voxels of each other; expected at most {(_MOST_CODE - num_classes) // base}. "
            "Give smaller numbers in instance_depths_voxel"
        )
    return (classes + colours[objects] * base).astype(np.uint8)


def _number_objects(classes: np.ndarray, instances: np.ndarray | None, is_object: np.ndarray) -> np.ndarray:
    """Objects 1 to n, 0 elsewhere; a voxel of a label that no instance has is one of an object of its own part."""
    if instances is None:
        instances = np.zeros(classes.shape, np.int64)
    left = is_object & (instances == 0)
    parts, _ = ndimage.label(left)
    numbers = np.where(left, parts + int(instances.max(initial=0)), instances) * is_object
    return np.unique(numbers, return_inverse=True)[1].reshape(classes.shape) + (0 if (numbers == 0).any() else 1)


def _colour_objects(objects: np.ndarray, reach_voxel: int) -> np.ndarray:
    """Colour of each object by its number; the least that no earlier neighbour has, and 0 for the voxels outside."""
    boxes = ndimage.find_objects(objects)
    colours = np.zeros(len(boxes) + 1, np.int64)
    for number, box in enumerate(boxes, start=1):
        grown = tuple(slice(max(0, side.start - reach_voxel), side.stop + reach_voxel) for side in box)
        near = objects[grown]
        if ((near != 0) & (near != number)).any():
            around = ndimage.binary_dilation(
                near == number, iterations=reach_voxel, structure=np.ones((3,) * near.ndim)
            )
            taken = set(colours[np.unique(near[around])].tolist())
        else:
            taken = {0}
        colours[number] = next(colour for colour in range(1, len(boxes) + 2) if colour not in taken)
    return colours


def compute_levels(codes: torch.Tensor, num_labels: int, num_classes: int, depths_voxel: Sequence[int]) -> torch.Tensor:
    """Classes to be learned: of a voxel deep in an object that of its label, nearer to the border one of the levels.

    A voxel is deeper than d where all voxels around it, up to d steps away (to faces and to corners in turn), have its code. The border of
    the image is none.

    Args:
        codes: from `encode_instances`, shape (batch, 1, *spatial).
        num_labels: labels without the first class.
        num_classes: that the network gives: the first class, the labels, and the levels from the outermost on.
        depths_voxel: rising; the greatest depth of each level.

    Returns:
        Same shape and type; voxels without annotation keep the class `num_classes`.
    """
    values = codes.float()
    classes = values % (num_classes + 1)
    is_object = (classes > 0) & (classes <= num_labels)
    targets = classes.clone()
    for level, depth in reversed(list(enumerate(_list_uniform(-values, values, depths_voxel)))):
        targets = torch.where(is_object & ~depth, torch.full_like(targets, num_labels + 1 + level), targets)
    return targets.to(codes.dtype)


def _list_uniform(least: torch.Tensor, most: torch.Tensor, depths_voxel: Sequence[int]) -> list[torch.Tensor]:
    """For each depth where all voxels around have one value."""
    uniform = []
    for step in range(1, max(depths_voxel) + 1):
        least, most = (_spread(values, corners=step % 2 == 0) for values in (least, most))
        if step in depths_voxel:
            uniform.append(-least == most)
    return uniform


def _spread(values: torch.Tensor, corners: bool) -> torch.Tensor:
    """The greatest value of each voxel and its neighbours."""
    dims = values.dim() - 2
    if corners:
        return _POOL[dims](values, 3, 1, 1)
    sides = [[3 if one == axis else 1 for one in range(dims)] for axis in range(dims)]
    pooled = [_POOL[dims](values, size, 1, [side // 2 for side in size]) for size in sides]
    return torch.stack(pooled).amax(dim=0)


class LevelLoss(torch.nn.Module):
    """A loss of levels, whose targets come as codes.

    Args:
        loss: of logits and classes.

    The others as for `compute_levels`.
    """

    def __init__(self, loss: torch.nn.Module, num_labels: int, num_classes: int, depths_voxel: Sequence[int]) -> None:
        super().__init__()
        self.loss, self.settings = loss, (num_labels, num_classes, tuple(depths_voxel))

    def forward(self, input: torch.Tensor | list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        """The loss of logits, shape (batch, classes, *spatial) or one such array per head, and codes, shape (batch, 1, *spatial)."""
        with torch.no_grad():
            levels = compute_levels(target, *self.settings)
        return torch.as_tensor(self.loss(input, levels))


class LoadInstancesd(LoadImaged):
    """MONAI's reader of label maps, and of the instance map of each that has one, under the key `instances`."""

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """The same dictionary with arrays."""
        changed = dict(data)
        path = find_instances(Path(changed[self.keys[0]]))
        if path is not None:
            changed[INSTANCES] = str(path)
        return dict(super().__call__(changed, reader))


class EncodeInstancesd(MapTransform):
    """Classes and their instance map become codes; see `encode_instances`.

    Args:
        keys: classes, shape (1, *spatial); `instances`, which goes away, has the instance map where there is one.
        as_levels: the targets are computed at once, as a validation needs them.

    The others as for `compute_levels`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_labels: int,
        num_classes: int,
        depths_voxel: Sequence[int],
        as_levels: bool = False,
    ) -> None:
        super().__init__(keys)
        self.num_labels, self.num_classes = num_labels, num_classes
        self.depths_voxel, self.as_levels = tuple(depths_voxel), as_levels

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary, uint8."""
        changed = dict(data)
        instances = changed.pop(INSTANCES, None)
        for key in self.key_iterator(changed):
            classes = np.asarray(changed[key])[0].astype(np.int64)
            known = None if instances is None else np.asarray(instances)[0].astype(np.int64)
            # a scale of 1.25 widens what lies between two objects
            array = encode_instances(classes, known, self.num_classes, 2 * max(self.depths_voxel))
            codes = torch.from_numpy(array)[None]
            if self.as_levels:
                codes = compute_levels(codes[None], self.num_labels, self.num_classes, self.depths_voxel)[0]
            changed[key] = codes
        return changed


class SeparateTouchingd(MapTransform):
    """Voxels of an object that touch another one (faces) become the first class, as in Ronneberger et al. 2015.

    Args:
        keys: classes, shape (1, *spatial); `instances`, which goes away, has the instance map where there is one.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary."""
        changed = dict(data)
        instances = changed.pop(INSTANCES, None)
        for key in self.key_iterator(changed):
            if instances is not None:
                touching = find_touching(np.asarray(instances)[0].astype(np.int64))
                changed[key] = changed[key] * torch.from_numpy(~touching)[None]
        return changed


def find_touching(instances: np.ndarray) -> np.ndarray:
    """Bool, same shape: voxels of an instance with a voxel of another one beside a face."""
    cross = ndimage.generate_binary_structure(instances.ndim, 1)
    most = ndimage.maximum_filter(instances, footprint=cross)
    without = np.where(instances == 0, np.iinfo(np.int64).max, instances)
    least = ndimage.minimum_filter(without, footprint=cross)
    return np.asarray((instances > 0) & ((most != instances) | (least != instances)))
