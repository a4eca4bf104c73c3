"""From probabilities to instances: a seeded watershed over the whole image, behind the network. 2D and 3D.

The network gives a class for the inner part of each label's objects, and classes for the levels between their border and it, the outermost
first, which all labels share. Windows are stitched before: no border of a window can cut an object or count it twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, SaveImaged
from monai.utils import convert_to_dst_type
from scipy import ndimage
from skimage.segmentation import watershed

_INSTANCES = "instances"
_STEPS = 1000  # of the depth: the last digits, which windows and devices change, decide nothing
_LEVEL = 50  # steps from one depth at which parts may fall apart to the next
_RISE = 200  # steps from where parts fall apart to the depth that each has somewhere; what rises less is texture
_PNG_MOST = np.iinfo(np.uint16).max


def separate_instances(
    probabilities: np.ndarray,
    num_labels: int,
    seed_threshold: float = 0.5,
    smallest_voxels: float = 0.0,
    closes_gaps: bool = False,
) -> np.ndarray:
    """Instance map of an image.

    Every voxel whose probability of the background is under a half belongs to an instance, and so each connected part (faces) of these has
    a seed: itself, or, where it falls apart at some expected depth into several parts that count, those. A part counts that has the size
    of an instance, is deeper somewhere than a share of the greatest depth, and is there by a fifth of it deeper than where it falls apart.
    No single depth parts all objects: between two that touch along a long line it stays high, and small ones do not reach it.

    Args:
        probabilities: shape (classes, *spatial): the first class, `num_labels` labels, the levels from the outermost on.
        num_labels: labels without the first class.
        seed_threshold: of the expected depth, 0 to 1, which a seed exceeds where its neighbour in the same part does.
        smallest_voxels: instances of fewer voxels are left out, and seeds of fewer part nothing.
        closes_gaps: the network was trained with gaps of background between objects that touch; they are given back.

    Returns:
        int32, shape (*spatial): 0 outside, 1 to n from the first voxel on; all 0 without any instance.
    """
    mask = probabilities[0] < 0.5
    depth = np.rint(_STEPS * _compute_depth(probabilities, num_labels)).astype(np.int32)
    seeds = _find_seeds(mask, depth, _STEPS * seed_threshold, smallest_voxels)
    if closes_gaps:
        cross = ndimage.generate_binary_structure(mask.ndim, 1)
        padded = np.pad(mask, 2)  # closing eats from the border of the image otherwise
        inside = (slice(2, -2),) * mask.ndim
        mask = mask | ndimage.binary_closing(padded, cross)[inside]
    instances = watershed(-depth, seeds, mask=mask, connectivity=mask.ndim)  # a corner is nearest to its own seed
    sizes = np.bincount(instances.reshape(-1))
    instances[(sizes < smallest_voxels)[instances]] = 0
    return _number_by_first_voxel(instances)


def _number_by_first_voxel(instances: np.ndarray) -> np.ndarray:
    numbers, first = np.unique(instances[instances > 0], return_index=True)
    number_of = np.zeros(instances.max(initial=0) + 1, np.int32)
    number_of[numbers[np.argsort(first)]] = np.arange(1, len(numbers) + 1)
    return number_of[instances]


def _find_seeds(mask: np.ndarray, depth: np.ndarray, least_depth: float, smallest_voxels: float) -> np.ndarray:
    """Numbers of the seeds, not without gaps: the leaves of the tree of parts that lie over rising depths."""
    seeds, _ = ndimage.label(mask)
    for level in range(_LEVEL, _STEPS, _LEVEL):
        parts, num_parts = ndimage.label(mask & (depth > level))
        if not num_parts:
            break
        seed_of = np.zeros(num_parts + 1, seeds.dtype)  # 0 where a part was too small or flat at a lower depth already
        seed_of[parts.reshape(-1)] = seeds.reshape(-1)
        is_deep = np.zeros(num_parts + 1, bool)
        is_deep[parts[depth > max(least_depth, level + _RISE)]] = True
        counts = (np.bincount(parts.reshape(-1)) >= smallest_voxels) & is_deep & (seed_of > 0)
        counts[0] = False
        falls_apart = np.bincount(seed_of[counts], minlength=seeds.max() + 1) > 1
        renewed = (counts & falls_apart[seed_of])[parts]
        last = seeds.max()
        seeds[falls_apart[seeds]] = 0
        seeds[renewed] = last + parts[renewed]
    return np.asarray(seeds)


def _compute_depth(probabilities: np.ndarray, num_labels: int) -> np.ndarray:
    """Expected level of each voxel by the greatest, 0 to 1; the inner part is one level below the last."""
    num_levels = len(probabilities) - 1 - num_labels
    inner = probabilities[1 : num_labels + 1].sum(axis=0)
    levels = probabilities[num_labels + 1 :]
    shares = np.arange(num_levels).reshape(-1, *[1] * inner.ndim) / max(1, num_levels)
    return np.asarray(inner + (shares * levels).sum(axis=0), np.float32)


def choose_classes(instances: np.ndarray, probabilities: np.ndarray, num_labels: int) -> np.ndarray:
    """Class of each voxel, uint8: of a whole instance the label with the most probability in it; 0 outside."""
    sums = [np.bincount(instances.reshape(-1), probabilities[label].reshape(-1)) for label in range(1, num_labels + 1)]
    of_instance = (1 + np.argmax(sums, axis=0)).astype(np.uint8)
    of_instance[0] = 0
    return of_instance[instances]


class SeparateInstancesd(MapTransform):
    """Probabilities become classes, and under a key of their own there are instances; see `separate_instances`.

    Args:
        keys: probabilities, shape (classes, *spatial), with the affine of the image.
        smallest: volume or area of an instance, in the affine's unit, which is pixels for pictures.

    The others as for `separate_instances`.
    """

    def __init__(
        self, keys: KeysCollection, num_labels: int, seed_threshold: float, smallest: float, closes_gaps: bool
    ) -> None:
        super().__init__(keys)
        self.num_labels, self.seed_threshold = num_labels, seed_threshold
        self.smallest, self.closes_gaps = smallest, closes_gaps

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary with classes, shape (1, *spatial), and `instances` likewise."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            probabilities = torch.as_tensor(changed[key]).cpu().numpy()
            sizes = np.asarray(getattr(changed[key], "pixdim", np.ones(probabilities.ndim - 1)), float)
            smallest_voxels = self.smallest / float(np.prod(sizes))
            options = self.num_labels, self.seed_threshold, smallest_voxels, self.closes_gaps
            instances = separate_instances(probabilities, *options)
            classes = choose_classes(instances, probabilities, self.num_labels)
            for name, array in ((_INSTANCES, instances), (key, classes)):
                changed[name] = convert_to_dst_type(array[None], changed[key], dtype=array.dtype)[0]
        return changed


class SaveInstancesd(SaveImaged):
    """MONAI's writer, with 16 bits per voxel where they are enough, and 32 for more than 65,535 instances.

    Raises:
        ValueError: a picture has more than 65,535 instances, which a PNG file cannot number.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same dictionary."""
        for key in self.key_iterator(dict(data)):
            num_instances = int(data[key].max())
            if num_instances > _PNG_MOST and self.saver.output_ext == ".png":
                raise ValueError(
                    f"{num_instances} instances; a PNG file numbers {_PNG_MOST}. Cut the picture into parts."
                )
            dtype = np.uint16 if num_instances <= _PNG_MOST else np.uint32
            self.saver.set_options(init_kwargs={"output_dtype": dtype})
        return dict(super().__call__(data))
