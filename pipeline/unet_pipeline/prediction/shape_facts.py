"""What a label map shows without a reference: the parts of each label, and how compact they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class ShapeFacts:
    """Of one label of one image; shares are NaN where it has no voxel.

    Attributes:
        num_voxels: of the label.
        num_parts: connected by faces or edges or corners.
        largest_share: of the label's voxels in its largest part.
        filled_share: of the box around the label that it fills.
        touches_border: share of its voxels on the border of the image.
    """

    num_voxels: int
    num_parts: int
    largest_share: float
    filled_share: float
    touches_border: float


def describe_shapes(values: np.ndarray, label_values: tuple[int, ...]) -> tuple[ShapeFacts, ...]:
    """Facts of each label, in their order.

    Args:
        values: of a label map, shape (*spatial), 0 to 255.
        label_values: of the labels that are asked for.
    """
    boxes = ndimage.find_objects(values.astype(np.int32, copy=False), max_label=max(label_values, default=0) or 1)
    return tuple(_describe(values, value, boxes[value - 1] if value > 0 else None) for value in label_values)


def _describe(values: np.ndarray, value: int, box: tuple[slice, ...] | None) -> ShapeFacts:
    inside = values[box] == value if box is not None else values == value
    num_voxels = int(np.count_nonzero(inside))
    if not num_voxels:
        return ShapeFacts(0, 0, *[float("nan")] * 3)
    parts, num_parts = ndimage.label(inside, np.ones([3] * inside.ndim))
    largest = int(np.bincount(parts.reshape(-1))[1:].max())
    return ShapeFacts(
        num_voxels,
        int(num_parts),
        largest / num_voxels,
        num_voxels / inside.size,
        _count_border(values == value if box is None else inside, box, values.shape) / num_voxels,
    )


def _count_border(inside: np.ndarray, box: tuple[slice, ...] | None, shape: tuple[int, ...]) -> int:
    """Voxels of a mask that lie on the border of the image which its box was cut out of."""
    on_border = np.zeros(inside.shape, bool)
    for axis, size in enumerate(shape):
        start, stop = (box[axis].start, box[axis].stop) if box is not None else (0, size)
        planes = np.moveaxis(on_border, axis, 0)
        if start == 0:
            planes[0] = True
        if stop == size:
            planes[-1] = True
    return int(np.count_nonzero(inside & on_border))
