"""Values of a label file -> whole numbers; those that scaling or float arithmetic moved a little are rounded, with a note.

A header that scales (scl_slope of NIfTI) stores a label map over the whole range of its type, and what comes back is 1.99997 for 2.
Interpolation leaves many values everywhere between, which no rounding mends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.intensities import flatten_in_memory_order
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.messages import ERROR, NOTE, Message

if TYPE_CHECKING:
    from unet_pipeline.types import ImageArray

ROUNDED = Message(
    "label-rounded",
    NOTE,
    "has values up to {distance:.2g} beside whole numbers (such as {value:.6g}), as a header that scales values or float arithmetic "
    "leaves them; they were rounded to {whole}",
    "Nothing has to be done. Store label maps as whole numbers without scaling.",
)
NOT_WHOLE = Message(
    "label-not-whole",
    ERROR,
    "has the value {value:g}; expected whole numbers",
    "Save the label map without interpolation.",
)
OFF_WHOLE = Message(
    "label-scaled",
    ERROR,
    "has the value {value:.6g}, more than {limit} beside a whole number; expected whole numbers. Its {count} distinct values come from "
    "a header that scales (scl_slope), from arithmetic or from averaging",
    "Multiply the values back to the whole numbers that are meant, and save them without scaling and without interpolation.",
)

MAX_DISTANCE = 0.05  # a real probability or an interpolated border lies farther from whole numbers
MAX_VALUES = 64  # of a label map; as `check` has it for one case
_MAX_VALUE = np.iinfo(np.int32).max
_PIECE = 1 << 20  # voxels


def round_values(label: MedicalImage, shown: str) -> MedicalImage:
    """The label map with whole numbers: int32 where the values were real; with a note where a value changed.

    Args:
        label: as read, with one channel.

    Raises:
        ImageFileError: NaN, infinite or huge values, or values that are no whole numbers and not near few of them.
    """
    if np.issubdtype(label.array.dtype, np.integer):
        return label
    voxels = flatten_in_memory_order(label.array)
    rounded = np.empty(voxels.size, dtype=np.int32)
    distance, farthest = 0.0, 0.0
    for start in range(0, voxels.size, _PIECE):
        piece = voxels[start : start + _PIECE]
        nearest = np.rint(piece)
        unusable = ~(np.abs(nearest) <= _MAX_VALUE)  # NaN too
        if unusable.any():
            raise NOT_WHOLE.error(shown, value=piece[unusable][0])
        beside = np.abs(piece - nearest)
        if (worst := float(beside.max())) > distance:
            distance, farthest = worst, float(piece[beside.argmax()])
        rounded[start : start + _PIECE] = nearest
    whole = rounded.reshape(label.array.shape, order="F")
    if distance == 0:
        return MedicalImage(whole, label.affine, label.spacing_mm, label.notes)
    if distance > MAX_DISTANCE:
        raise _explain(voxels, farthest, shown)
    values = _list_values(rounded)
    if len(values) > MAX_VALUES:
        raise NOT_WHOLE.error(shown, value=farthest)
    listed = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    note = ROUNDED.about(shown, distance=distance, value=farthest, whole=listed)
    return MedicalImage(whole, label.affine, label.spacing_mm, (*label.notes, note))


def is_rounded(label: MedicalImage) -> bool:
    """Whether values are other than those of the file, so that stock MONAI would read others."""
    return any(note.code == ROUNDED.code for note in label.notes)


def _explain(voxels: ImageArray, farthest: float, shown: str) -> Exception:
    """The error about values far from whole ones: few of them come from scaling, many from interpolation."""
    count = len(_list_values(voxels))
    if count > MAX_VALUES:
        return NOT_WHOLE.error(shown, value=farthest)
    return OFF_WHOLE.error(shown, count=count, value=farthest, limit=MAX_DISTANCE)


def _list_values(flat: ImageArray) -> list[float]:
    """Distinct values in order, of which one more than `MAX_VALUES` is enough to know that they are too many."""
    values: set[float] = set()
    for start in range(0, flat.size, _PIECE):
        values.update(np.unique(flat[start : start + _PIECE]).tolist())
        if len(values) > MAX_VALUES:
            break
    return sorted(values)
