"""Masks of two values that smoothing, resampling or JPEG gave values in between -> two values again, where nothing else can be meant.

A third label would be lost by a threshold, so a mask is only one where no region, however small, has a value of its own in between.
Measured on simulated masks: JPEG of quality 50 to 100, bilinear, bicubic and Lanczos resizing and Gaussian blur leave no such region,
and every label of 5 x 5 pixels does, also after JPEG.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.dataset import is_picture
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.intensities import flatten_in_memory_order
from unet_pipeline.dataset.label_values import NOT_WHOLE, OFF_WHOLE
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.picture import SMOOTHED, TOO_MANY_COLOURS, measure_in_between
from unet_pipeline.dataset.picture_file import decode_picture
from unet_pipeline.dataset.picture_messages import LOSSY_LABEL
from unet_pipeline.errors import ImageFileError

if TYPE_CHECKING:
    from unet_pipeline.types import ImageArray

# what the reader of a label map says about a mask that has values in between
SMOOTHED_CODES = tuple(message.code for message in (SMOOTHED, LOSSY_LABEL, TOO_MANY_COLOURS, NOT_WHOLE, OFF_WHOLE))
THIRD_VALUE = "a third value"
_FULL_SCALE = (1, 255, 65535)  # white
_SNAP = 0.02  # of full scale: JPEG leaves 254 for 255
_BINS = 64  # of the upper half: what noise spreads over a few values is one
_MAX_BACKGROUND = 0.1  # of white
_BETWEEN = (0.15, 0.85)  # of the way from black to white
_FLAT = 0.1  # of the way, within a neighbourhood: a region, and no border
_MIN_REGION = 9  # flat voxels that touch: the middle of a region of 5 x 5
_BLOCK = 16  # pixels of JPEG that share their colours; its noise reaches no farther
_NOISE, _NOISE_VALUES = 0.1, 6  # so many values so near to black are the noise of JPEG
_LARGE_REGION = 4 * _BLOCK**2  # voxels that no such noise has in one piece
_MAX_FLAT_FRACTION = 0.01  # of the voxels in between
_MAX_COLOUR_DISTANCE = 0.3  # from the line between black and the colour of the mask: JPEG stores colours coarsely
_REGION_DISTANCE = 0.1  # of a region of another colour
_MAX_OFF_LINE_FRACTION = 0.001


def read_grey_mask(path: Path, shown: str, pages_as_slices: bool = False) -> MedicalImage:
    """The values of a label file as they are, in one channel and whatever they are: of colours, how far from black to the one colour.

    Raises:
        ImageFileError: the file cannot be read, or has several colours or channels.
    """
    image = _read_values(path, shown, pages_as_slices)
    if image.array.shape[0] == 1:
        return image
    if image.array.shape[0] == 3 and image.array.dtype.kind == "u":
        single = _project_colours(image.array)
        if single is not None:
            return replace(image, array=single)
    raise ImageFileError(
        shown, "has several colours or channels", "Save the label values as a grey picture.", TOO_MANY_COLOURS.code
    )


def _read_values(path: Path, shown: str, pages_as_slices: bool) -> MedicalImage:
    try:
        return read_image(path, shown, pages_as_slices)
    except ImageFileError:
        if not is_picture(path):
            raise
        picture = decode_picture(path, shown, labels=True, pages_as_slices=pages_as_slices)
        page = picture.pages[0]
        if page.palette is None or len(picture.pages) > 1:
            raise
        drawn = page.palette[page.rows]
        return MedicalImage(drawn.transpose(2, 1, 0), np.eye(4), (1.0, 1.0))


def _project_colours(array: ImageArray) -> ImageArray | None:
    """One channel for three of a picture in black, one colour and what lies between; None for more colours.

    Grey keeps its values, another colour becomes 1.
    """
    pixels = array.reshape(3, -1).astype(np.float32)
    brightest = pixels.max(axis=0)
    if not brightest.max():
        return array[:1]
    colour = np.median(pixels[:, brightest >= 0.75 * brightest.max()], axis=1)
    length = float(np.linalg.norm(colour))
    share = colour @ pixels / length**2
    distance = np.linalg.norm(pixels - colour[:, None] * share, axis=0) / length
    if np.mean(distance > _MAX_COLOUR_DISTANCE) > _MAX_OFF_LINE_FRACTION or _has_other_colour(
        distance.reshape(array.shape[1:])
    ):
        return None
    single = share.reshape(1, *array.shape[1:])
    if np.ptp(colour) > _SNAP * colour.max():
        return single
    return np.rint(single * colour.max()).clip(0, np.iinfo(array.dtype).max).astype(array.dtype)


def _has_other_colour(distance: np.ndarray) -> bool:
    from scipy import ndimage

    return _has_region(ndimage.minimum_filter(distance, size=3) > _REGION_DISTANCE)


def find_white(array: ImageArray) -> float:
    """The value of the mask's inside: the most frequent one in the upper half of its range; full scale where it is near to that."""
    values = flatten_in_memory_order(array)
    if array.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0
    low, high = float(values.min()), float(values.max())
    white = high
    if high > low:
        upper = values[values > (low + high) / 2]
        counts, edges = np.histogram(upper, bins=_BINS)
        most = int(counts.argmax())
        white = float(np.median(upper[(upper >= edges[most]) & (upper <= edges[most + 1])]))
    return next((float(full) for full in _FULL_SCALE if abs(white - full) <= _SNAP * full), white)


def choose_white(whites: Iterable[float], known: int | None = None) -> float | None:
    """The value that most masks have inside, the largest of those that are as frequent; None without a mask.

    Args:
        whites: of each mask.
        known: the label value that is declared, or that clean label maps have. Masks too thin to reach it after smoothing have it
            too.
    """
    values = [round(white, 3) for white in whites if white > 0]
    if not values:
        return None
    white = max(values, key=lambda white: (values.count(white), white))
    return float(known) if known is not None and known / 2 < white <= known * (1 + _SNAP) else white


def choose_value(white: float, declared: dict[str, int] | None) -> int | None:
    """The label value that the inside of a mask gets: the declared one, or what it has where that can be a label value.

    None where the table declares another value than a mask has that is not simply white, and for values above 255.
    """
    is_whole = float(white).is_integer()
    if declared is not None:
        value = max(declared.values())
        return value if not is_whole or white in (*_FULL_SCALE, value) else None
    if is_whole and 1 <= white <= 255:
        return int(white)
    return 255 if white == max(_FULL_SCALE) else 1 if white < 1 else None


def find_reason_against_threshold(array: ImageArray, white: float, is_lossy: bool = False) -> str:
    """Why values cannot be those of a mask of 0 and `white` with smoothed borders; empty when they can.

    Args:
        array: shape (1, i, j) or (1, i, j, k).
        white: of the inside.
        is_lossy: the file is a JPEG, so that values in between need no other sign of smoothing.
    """
    values = flatten_in_memory_order(array)
    if array.dtype.kind == "f" and not np.isfinite(values).all():
        return "it has values that are no numbers"
    if values.min() == values.max() and (values.max() <= _SNAP * white or values.max() > white / 2):
        return ""  # an empty mask, or a full one
    if float(values.max()) <= white / 2:
        return f"its greatest value is {values.max():g}, and the masks have {white:g}"
    background = float(np.median(values[values <= white / 2])) if (values <= white / 2).any() else white
    if abs(background) > _MAX_BACKGROUND * white:
        return f"its background is {background:g}; expected 0"
    if len(np.unique(values[: 1 << 16])) <= 2 and len(np.unique(values)) <= 2:
        return ""
    if not is_lossy and not _is_smoothed(array[0]) and not _is_scattered(array[0], white):
        return "its values do not lie along borders only, as smoothing leaves them"
    third = _find_third(array[0].astype(np.float32) / np.float32(white))
    return "" if third is None else f"it has regions of {THIRD_VALUE}, about {third * white:.3g}"


def _is_smoothed(array: ImageArray) -> bool:
    """Whether any slice along any axis, or the picture, has the values that smoothing leaves."""
    if array.ndim == 2:
        return measure_in_between(array).is_smoothed
    return any(
        measure_in_between(np.take(array, index, axis)).is_smoothed
        for axis in range(array.ndim)
        for index in range(array.shape[axis])
    )


def _is_scattered(array: ImageArray, white: float) -> bool:
    """Whether single pixels lie a little beside black, and others beside white, as JPEG of the best quality leaves them."""
    from scipy import ndimage

    dark, bright = np.abs(array) <= _SNAP * white, np.abs(array - white) <= _SNAP * white
    if not (dark | bright).all():
        return False
    ends = []
    for end in (dark, bright):
        values, counts = np.unique(array[end], return_counts=True)
        if len(values) < 2:
            return False
        ends.append(values[counts.argmax()])
    constant = ndimage.maximum_filter(array, size=3) == ndimage.minimum_filter(array, size=3)
    return not (constant & ~np.isin(array, ends)).any()


def _find_third(share: ImageArray) -> float | None:
    """A value, of the way from black (0) to white (1), that a region of its own has; None where only borders lie in between."""
    from scipy import ndimage

    least, greatest = (f(share, size=3, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
    between = (share >= _BETWEEN[0]) & (share <= _BETWEEN[1])
    flat = between & (greatest - least <= _FLAT)
    if np.count_nonzero(flat) > _MAX_FLAT_FRACTION * np.count_nonzero(between) or _has_region(flat):
        return float(np.median(share[flat]))
    # a label map without noise: regions of exactly one value, which may lie near black or white
    constant = (greatest == least) & (np.abs(share) > _SNAP) & (np.abs(share - 1) > _SNAP)
    if _has_region(constant):
        return float(np.median(share[constant]))
    return _find_dark_label(share)


def _find_dark_label(share: ImageArray) -> float | None:
    """The value of a region that is nearly black, as label 1 of 255 is; JPEG leaves whole blocks of such a value near white."""
    from scipy import ndimage

    dark = (share != 0) & (np.abs(share) <= _SNAP)
    if not dark.any():
        return None
    # the tail of a blur is as wide as its border
    wide = dark & (ndimage.maximum_filter(share, size=5) == ndimage.minimum_filter(share, size=5))
    if len(np.unique(share[(share > 0) & (share <= _NOISE)])) < _NOISE_VALUES:
        has_label = _has_region(wide)
    else:
        values, counts = np.unique(share[np.abs(share) <= _SNAP], return_counts=True)
        wide &= share != values[counts.argmax()]  # JPEG may store black as 1 or 2 everywhere
        near_white = ndimage.maximum_filter(share, size=2 * _BLOCK + 1) > 0.5
        has_label = _has_region(wide, _LARGE_REGION) or _has_region(wide & ~near_white)
    return float(np.median(share[wide])) if has_label else None


def _has_region(mask: np.ndarray, smallest: int = _MIN_REGION) -> bool:
    """Whether so many voxels of a mask touch, corners included."""
    from scipy import ndimage

    if np.count_nonzero(mask) < smallest:
        return False
    regions, _ = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return bool(np.bincount(regions.ravel())[1:].max(initial=0) >= smallest)


def threshold_mask(mask: MedicalImage, white: float, value: int) -> MedicalImage:
    """0 and `value`: what is above half of `white` is inside; uint8."""
    inside = mask.array > white / 2
    return replace(mask, array=np.where(inside, np.uint8(value), np.uint8(0)))
