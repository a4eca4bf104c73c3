"""Picture files as images and label maps, turned so that i runs along the width, as MONAI's reader turns them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.picture_file import PicturePage, decode_picture, measure_picture
from unet_pipeline.dataset.picture_messages import SAVE_LABELS, UNCLEAR_PIXELS
from unet_pipeline.messages import ERROR, NOTE, Message, Problem

PALETTE = Message(
    "label-palette",
    NOTE,
    "has a palette; its indices are the label values: {mapping}",
    "See that the values are meant.",
)
COLOURS = Message(
    "label-colours",
    NOTE,
    "has colours, which became label values: {mapping}",
    "See that every label file gives a colour the same value; save the values as a grey picture where not.",
)
TOO_MANY_COLOURS = Message(
    "label-many-colours",
    ERROR,
    "has {found} colours; expected at most {limit} in a label map. It is smoothed (antialiased) or a photograph",
    SAVE_LABELS,
)
SMOOTHED = Message(
    "label-smoothed",
    ERROR,
    "has {values} in-between values on {percent:.2g} % of the pixels ({border_percent:.0f} % of those along borders), as "
    "smoothing (antialiasing), interpolation or JPEG compression leave behind",
    "Threshold it (`--fix OUT` does so in a copy, for a mask of two values), or save the labels again without smoothing.",
)
MAX_LABEL_COLOURS = 16


def read_picture(path: Path, shown: str, pages_as_slices: bool = False) -> MedicalImage:
    """The image of a picture file, shape (channels, i, j): one channel for grey, three for RGB, others as TIFF's tags say.

    A TIFF file whose tags say that its pages are slices is a volume, shape (channels, i, j, k) with k = page.

    Args:
        pages_as_slices: pages of a TIFF file that no tag speaks of are slices, and a single page is one.

    Raises:
        ImageFileError: damaged, too large, of several pages, or with pixels that can be understood in several ways.
    """
    picture = decode_picture(path, shown, pages_as_slices=pages_as_slices)
    return _build([page.rows for page in picture.pages], picture.is_volume, picture.notes)


def read_picture_grid(path: Path, shown: str, pages_as_slices: bool = False) -> ImageGrid:
    """The grid of a picture file, from its header alone.

    Args:
        path, shown, pages_as_slices: as in `read_picture`.

    Raises:
        ImageFileError: as `read_picture`, as far as the header shows it.
    """
    shape, num_channels, value_bytes = measure_picture(path, shown, pages_as_slices)
    return ImageGrid(num_channels, shape, np.eye(4), (1.0,) * len(shape), value_bytes)


def read_picture_labels(
    path: Path, shown: str, pages_as_slices: bool = False, known_values: Collection[int] | None = ()
) -> MedicalImage:
    """The label map of a picture file, shape (1, i, j), or (1, i, j, k) of a volume; see `read_picture`.

    Grey gives its values, a palette its indices, RGB a number per colour: black is 0, the others follow from 1 in the
    order of their value. A note states such a mapping, one for all pages.

    Args:
        path, shown, pages_as_slices: as in `read_picture`.
        known_values: of labels, so that they are no traces of smoothing wherever they lie; None where all are.

    Raises:
        ImageFileError: as `read_picture`; or JPEG, more than 16 colours, or values left behind by smoothing.
    """
    picture = decode_picture(path, shown, labels=True, pages_as_slices=pages_as_slices)
    rows, of_mapping = _label_rows(picture.pages, shown, known_values)
    return _build(rows, picture.is_volume, picture.notes + of_mapping)


def _build(pages: list[np.ndarray], is_volume: bool, notes: tuple[Problem, ...]) -> MedicalImage:
    if not is_volume:
        return MedicalImage(_channels_first(pages[0]), np.eye(4), (1.0, 1.0), notes)
    stacked = np.stack([_channels_first(rows) for rows in pages], axis=-1)
    return MedicalImage(stacked, np.eye(4), (1.0,) * 3, notes)


def _channels_first(rows: np.ndarray) -> np.ndarray:
    return rows.T[None] if rows.ndim == 2 else rows.transpose(2, 1, 0)


# label values


@dataclass(frozen=True)
class IntermediatePixels:
    """Pixels whose value lies between those of their neighbours and belongs to no region.

    Attributes:
        num_values: distinct values of such pixels.
        num_pixels: such pixels.
        border_fraction: their share of the pixels whose 3 x 3 neighbourhood is not constant; 0 where there are none.
    """

    num_values: int
    num_pixels: int
    border_fraction: float

    @property
    def is_smoothed(self) -> bool:
        """Whether so many come from smoothing; a heuristic.

        Measured on 0/255 masks of five datasets: JPEG at quality 95 leaves 17 % or more along the borders, halving by
        averaging 19 % and 3 values, bilinear resizing 38 %; label maps of up to 100 instances have 0.7 % at most. It
        takes label maps for smoothed whose regions are a pixel wide and touch in the order of their values.
        """
        return self.num_values >= 3 and self.border_fraction > 0.1


def measure_in_between(rows: np.ndarray, known_values: Collection[int] = ()) -> IntermediatePixels:
    """Count the values that smoothing leaves along the borders of a label map.

    A pixel counts when it lies strictly between the least and greatest value of its 3 x 3 neighbourhood and at most
    two of its eight neighbours share its value: a pixel in a region, even in a corner of 2 x 2, has three.

    Args:
        rows: real or whole numbers, shape (height, width).
        known_values: that do not count.
    """
    if _count_values(rows) < 5:  # three values between two others
        return IntermediatePixels(0, 0, 0.0)
    from scipy import ndimage  # takes as long as all of this package, and most images need none of it

    least, greatest = (f(rows, size=3, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
    padded = np.pad(rows, 1, mode="edge")
    height, width = rows.shape
    equal = np.zeros(rows.shape, dtype=np.uint8)
    for row, column in np.ndindex(3, 3):
        equal += padded[row : row + height, column : column + width] == rows
    between = (least < rows) & (rows < greatest) & (equal <= 3)  # itself and two
    if known_values:
        between &= ~np.isin(rows, list(known_values))
    num_border = int(np.count_nonzero(least < greatest))
    num_pixels = int(np.count_nonzero(between))
    return IntermediatePixels(np.unique(rows[between]).size, num_pixels, num_pixels / num_border if num_border else 0.0)


def _count_values(rows: np.ndarray) -> int:
    if rows.dtype in (np.uint8, np.uint16):
        return int(np.count_nonzero(np.bincount(rows.ravel())))
    return int(np.unique(rows).size)


def _label_rows(
    pages: list[PicturePage], shown: str, known_values: Collection[int] | None
) -> tuple[list[np.ndarray], tuple[Problem, ...]]:
    """Label values of all pages, and the note on the one mapping of the whole file."""
    if all(page.rows.ndim == 3 and (page.rows == page.rows[..., :1]).all() for page in pages):
        pages = [PicturePage(np.ascontiguousarray(page.rows[..., 0])) for page in pages]
    if pages[0].rows.ndim == 3 and (pages[0].rows.shape[2] != 3 or pages[0].rows.dtype != np.uint8):
        if pages[0].rows.shape[2] != 3:
            return [page.rows for page in pages], ()  # channels, of which a label map has one
        raise UNCLEAR_PIXELS.error(shown, found=f"colours of {8 * pages[0].rows.itemsize} bit")
    colours = _list_colours(pages, shown)
    for page in pages:
        drawn = page.rows if page.palette is None else page.palette[page.rows]
        for channel in np.atleast_3d(drawn).transpose(2, 0, 1):
            _refuse_smoothed(channel, shown, known_values)
    if pages[0].palette is not None:
        indices = sorted({int(index) for page in pages for index in np.unique(page.rows)})
        mapping = ", ".join(f"{index}=#{bytes(pages[0].palette[index]).hex()}" for index in indices)
        return [page.rows for page in pages], (PALETTE.about(shown, mapping=mapping),)
    if not colours:
        return [page.rows for page in pages], ()
    mapping = ", ".join(f"{value}=#{colour:06x}" for value, colour in enumerate(colours))
    rows = [np.searchsorted(colours, _pack(page.rows)).astype(np.uint8) for page in pages]
    return rows, (COLOURS.about(shown, mapping=mapping),)


def _refuse_smoothed(rows: np.ndarray, shown: str, known_values: Collection[int] | None) -> None:
    if known_values is None:
        return
    in_between = measure_in_between(rows, known_values)
    if in_between.is_smoothed:
        raise SMOOTHED.error(
            shown,
            values=in_between.num_values,
            percent=100 * in_between.num_pixels / rows.size,
            border_percent=100 * in_between.border_fraction,
        )


def _list_colours(pages: list[PicturePage], shown: str) -> list[int]:
    """All colours of RGB pages as 0xrrggbb, sorted, always with black, so that no other colour becomes 0."""
    colours = {int(colour) for page in pages if page.rows.ndim == 3 for colour in np.unique(_pack(page.rows))}
    if len(colours) > MAX_LABEL_COLOURS:
        raise TOO_MANY_COLOURS.error(shown, found=len(colours), limit=MAX_LABEL_COLOURS)
    return sorted(colours | {0}) if colours else []


def _pack(rows: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(rows.astype(np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue
