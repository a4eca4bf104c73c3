"""TIFF files (BigTIFF, ImageJ and OME-TIFF among them), read by tifffile: their own tags say what a page is.

A page may be a slice, a channel or a point in time. tifffile knows the tags of the programs that write them; where none of them says it,
the user has to. tifffile fills what a file lacks with zeros, and decodes whatever is claimed, so both are checked before.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.picture_messages import (
    COLOUR_MODE,
    LOSSY_IMAGE,
    LOSSY_LABEL,
    MAX_PIXELS,
    MAX_RATIO,
    OPAQUE,
    ORIENTATION,
    SEVERAL_PAGES,
    TOO_LARGE,
    UNCLEAR_PIXELS,
    UNEQUAL_PAGES,
)
from unet_pipeline.messages import ERROR, NOTE, Message, Problem

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

TIMES = Message(
    "tiff-time-series",
    ERROR,
    "is a time series of {count} frames by its {kind} tags; expected one image, with slices or channels",
    "Save one frame per case. If the frames are slices, say so in the tags (Fiji: Image > Properties), or give --pages-as-slices.",
)
UNSUPPORTED_AXES = Message(
    "tiff-axes",
    ERROR,
    "has {found}; expected rows and columns, and slices or channels",
    "Save what is to be segmented as one image, with its channels or slices.",
)
EXTRA_CHANNEL = Message(
    "tiff-extra-sample",
    NOTE,
    "has {count} samples per pixel, of which the last has no stated meaning; it is read as a channel",
    "See that it is one, and save the picture without it where not.",
)

_SAMPLES, _CHANNELS, _SLICES, _TIMES = "S", "C", "Z", "T"
_BITS_OF_TYPE = {"f": "real numbers", "c": "complex numbers"}
_COMPRESSIONS = {
    1: 1,
    32773: 64,
    5: 4096,
    8: 1040,
    32946: 1040,
    34925: MAX_RATIO,
    50000: MAX_RATIO,
    6: MAX_RATIO,
    7: MAX_RATIO,
}
_JPEG = (6, 7)
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_GREYS = (_WHITE_IS_0, _BLACK_IS_0)
_PHOTOMETRIC = {
    4: "transparency mask",
    5: "CMYK",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "raw sensor data (CFA)",
}
_UNSPECIFIED = 0
_WRITERS = {"imagej": "ImageJ", "ome": "OME"}
_ORIENTATION_TAG = 274
_MAX_PAGES = 1 << 16

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it would write to stderr about every odd tag


@dataclass(frozen=True)
class TiffForm:
    """What the tags say.

    Attributes:
        size: width and height.
        num_slices: 1 for a picture.
        num_channels: as they are stored, alpha included.
        is_volume: the pages are slices.
        drops_alpha: the last channel is an alpha channel, which is left out.
        dtype: of the values.
    """

    size: tuple[int, int]
    num_slices: int
    num_channels: int
    is_volume: bool
    drops_alpha: bool
    dtype: np.dtype


@dataclass(frozen=True)
class TiffContent:
    """Decoded pixels.

    Attributes:
        array: shape (slices, height, width, channels), in the byte order of the machine.
        palette: RGB by index, shape (n, 3), uint8; None where there is none.
        is_volume: the pages are slices.
        notes: what a user should know.
    """

    array: np.ndarray
    palette: np.ndarray | None
    is_volume: bool
    notes: tuple[Problem, ...]


def measure_tiff(path: Path, shown: str, pages_as_slices: bool = False) -> TiffForm:
    """What the tags of a file say, without its pixels.

    Args:
        path, shown, pages_as_slices: as in `decode_tiff`.

    Raises:
        ImageFileError: as `decode_tiff`, as far as the tags show it.
        OSError, ValueError, ...: damaged.
    """
    with _open(path) as tiff:
        series = _choose_series(tiff, pages_as_slices, shown)
        form = _describe(series, False, pages_as_slices, shown)
        is_unclear = _has_unclear_sample(series.keyframe)
    if is_unclear:
        channels = decode_tiff(path, shown, pages_as_slices=pages_as_slices).array.shape[-1]
        return TiffForm(form.size, form.num_slices, channels, form.is_volume, False, form.dtype)
    return form


def decode_tiff(path: Path, shown: str, labels: bool = False, pages_as_slices: bool = False) -> TiffContent:
    """All pixels of a file.

    Args:
        labels: it is a label map, which may have a palette and may not be lossy.
        pages_as_slices: pages of which no tag says what they are, and those that are points in time, are slices.

    Raises:
        ImageFileError: pages or pixels that can be understood in several ways or not at all, or too many of them.
        OSError, ValueError, ...: damaged.
    """
    with _open(path) as tiff:
        series = _choose_series(tiff, pages_as_slices, shown)
        form = _describe(series, labels, pages_as_slices, shown)
        page = series.keyframe
        _check_size(series, path.stat().st_size, shown)
        _check_complete(series, path.stat().st_size)
        _check_directory(tiff)
        notes: list[Problem] = []
        if page.compression in _JPEG:
            if labels:
                raise LOSSY_LABEL.error(shown)
            notes.append(LOSSY_IMAGE.about(shown))
        array = _order_axes(series.asarray(maxworkers=1), series.axes)
        palette = _read_palette(page) if page.photometric == _PALETTE else None
        is_inverted = page.photometric == _WHITE_IS_0
        is_unclear = _has_unclear_sample(page)
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if is_inverted:
        array = 1 - array  # of one bit; others are refused
    if form.drops_alpha or is_unclear:
        array, of_alpha = _drop_alpha(array, form.drops_alpha, shown)
        notes += of_alpha
    return TiffContent(array, palette, form.is_volume, tuple(notes))


@contextmanager
def _open(path: Path) -> Iterator[TiffFile]:
    import tifffile  # most images are no TIFF

    with tifffile.TiffFile(path, _multifile=False) as tiff:  # no other file is read, whatever OME's XML names
        yield tiff


def _choose_series(tiff: TiffFile, pages_as_slices: bool, shown: str) -> TiffPageSeries:
    """The one image of a file; levels of less resolution below it do not count."""
    num_pages = len(tiff.pages)
    if not 0 < num_pages <= _MAX_PAGES:
        raise ValueError(f"it has {num_pages} pages")
    series = tiff.series
    if not series:
        raise ValueError("its tags describe no image")
    for kind, is_described in (("imagej", tiff.is_imagej), ("ome", tiff.is_ome)):
        if is_described and series[0].kind != kind:
            raise EOFError(f"it does not hold the pages that its {_WRITERS[kind]} tags describe")
    if len(series) > 1:
        kinds = [
            f"{one.shape[-1]} x {one.shape[-2]} of {one.dtype}" if one.ndim > 1 else "no picture" for one in series[:2]
        ]
        if pages_as_slices:
            raise UNEQUAL_PAGES.error(shown, first=kinds[0], page=1 + len(series[0].pages), found=kinds[1])
        raise SEVERAL_PAGES.error(shown, pages=num_pages)
    return series[0]


def _describe(series: TiffPageSeries, labels: bool, pages_as_slices: bool, shown: str) -> TiffForm:
    page = series.keyframe
    _check_pixels(page, labels, shown)
    orientation = page.tags.valueof(_ORIENTATION_TAG, 1)
    if orientation != 1:
        raise ORIENTATION.error(shown, found=int(orientation))
    lengths = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if axis in "YX" or size > 1}
    if not {"Y", "X"} <= lengths.keys() or 0 in series.shape:
        raise UNSUPPORTED_AXES.error(shown, found=f"the axes {series.axes} {series.shape}")
    height, width = lengths.pop("Y"), lengths.pop("X")
    samples, channels, slices = (lengths.pop(axis, 1) for axis in (_SAMPLES, _CHANNELS, _SLICES))
    times = lengths.pop(_TIMES, 1)
    others = math.prod(lengths.values())
    if times > 1 and not (pages_as_slices and slices == 1):
        raise TIMES.error(shown, count=times, kind=_WRITERS.get(series.kind, "own"))
    if others > 1 and not pages_as_slices:
        if not set(lengths) <= set("IQ"):
            raise UNSUPPORTED_AXES.error(shown, found=f"the axes {series.axes} {series.shape}")
        raise SEVERAL_PAGES.error(shown, pages=others)
    if sum(count > 1 for count in (slices, times, others)) > 1:
        raise UNSUPPORTED_AXES.error(shown, found=f"the axes {series.axes} {series.shape}")
    if samples > 1 and channels > 1:
        raise UNSUPPORTED_AXES.error(shown, found=f"{samples} samples in each of {channels} channels")
    is_volume = slices > 1 or pages_as_slices
    drops_alpha = samples > 1 and bool(page.extrasamples) and page.extrasamples[-1] != _UNSPECIFIED
    count = samples * channels - drops_alpha
    return TiffForm((width, height), slices * times * others, count, is_volume, drops_alpha, np.dtype(series.dtype))


def _check_pixels(page: TiffPage, labels: bool, shown: str) -> None:
    """Refuse pixels whose values do not say what they are."""
    photometric, bits = int(page.photometric), page.bitspersample
    if page.dtype is None or page.dtype.kind not in "biuf":
        kind = (
            "values of an unknown type" if page.dtype is None else _BITS_OF_TYPE.get(page.dtype.kind, str(page.dtype))
        )
        raise UNCLEAR_PIXELS.error(shown, found=kind)
    if int(page.compression) not in _COMPRESSIONS:
        raise UNCLEAR_PIXELS.error(
            shown, found=f"the compression {getattr(page.compression, 'name', page.compression)}"
        )
    if photometric == _WHITE_IS_0 and bits > 1:
        raise UNCLEAR_PIXELS.error(shown, found=f"{bits}-bit grey with white as 0")
    if photometric == _PALETTE and not labels:
        raise COLOUR_MODE.error(shown, mode="P")
    is_colour = photometric == _RGB or (photometric == _YCBCR and page.compression in _JPEG)
    if not (is_colour or photometric in (*_GREYS, _PALETTE)):
        raise COLOUR_MODE.error(shown, mode=_PHOTOMETRIC.get(photometric, f"number {photometric}"))


def _has_unclear_sample(page: TiffPage) -> bool:
    """Whether colours come with one more sample that may be alpha or a channel."""
    return page.photometric == _RGB and [int(kind) for kind in page.extrasamples] == [_UNSPECIFIED]


def _check_size(series: TiffPageSeries, size: int, shown: str) -> None:
    """Refuse by the tags, before anything is allocated, what the compression cannot have made of the file."""
    height, width = (series.shape[series.axes.index(axis)] for axis in "YX")
    needed = series.size * np.dtype(series.dtype).itemsize
    if series.keyframe.bitspersample < 8:
        needed = needed * series.keyframe.bitspersample // 8
    most = size * _COMPRESSIONS[int(series.keyframe.compression)]
    is_compressed = series.keyframe.compression != 1  # what is not is counted by `_check_complete`
    if width * height > MAX_PIXELS or (is_compressed and needed > most):
        pages = max(1, series.size // (width * height))
        raise TOO_LARGE.error(shown, width=width, height=height, pages=pages, size=size, limit=MAX_PIXELS)


def _check_complete(series: TiffPageSeries, size: int) -> None:
    """Raise EOFError where tifffile would fill in what the file does not hold."""
    if series.dataoffset is not None:  # one piece, such as ImageJ's pages without tags of their own
        end = series.dataoffset + series.nbytes
        if end > size:
            raise EOFError(f"its pixels end at byte {end}, the file has {size}")
        return
    for page in series.pages:
        if page is None:
            raise EOFError("a page is missing")
        _check_page(page, series.keyframe, size)


def _check_directory(tiff: TiffFile) -> None:
    """Raise EOFError where pages are missing behind the last one that tifffile finds."""
    stream, form = tiff.filehandle, tiff.tiff
    stream.seek(tiff.pages[-1].offset)
    (num_tags,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
    end = stream.tell() + num_tags * form.tagsize + form.offsetsize
    if end > stream.size:
        raise EOFError(f"its last directory ends at byte {end}, the file has {stream.size}")
    stream.seek(end - form.offsetsize)
    (following,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
    if following:
        raise EOFError(f"its last directory names a further page at byte {following}, which is none")


def _check_page(page: TiffPage | TiffFrame, keyframe: TiffPage, size: int) -> None:
    places, lengths = page.dataoffsets, page.databytecounts
    num_segments = math.prod(keyframe.chunked)
    if min(len(places), len(lengths)) < num_segments and not keyframe.is_contiguous:
        raise EOFError(f"it has {len(places)} pieces of pixels, its size needs {num_segments}")
    ends = [place + length for place, length in zip(places, lengths, strict=False)]
    if not ends or min(places) <= 0 or min(lengths) <= 0:
        raise EOFError("a piece of its pixels is missing")
    if max(ends) > size:
        raise EOFError(f"its pixels end at byte {max(ends)}, the file has {size}")
    needed = math.ceil(keyframe.size * keyframe.bitspersample / 8)
    if keyframe.compression == 1 and sum(lengths) < needed:
        raise EOFError(f"its pixel data have {sum(lengths)} bytes, its size needs {needed}")


def _order_axes(array: np.ndarray, axes: str) -> np.ndarray:
    """Shape (slices, height, width, channels)."""
    behind = [axes.index(axis) for axis in (_SAMPLES, _CHANNELS) if axis in axes]
    inside = [axes.index(axis) for axis in "YX"]
    before = [index for index in range(len(axes)) if index not in (*behind, *inside)]
    height, width = (array.shape[index] for index in inside)
    num_channels = math.prod(array.shape[index] for index in behind)
    return array.transpose(*before, *inside, *behind).reshape(-1, height, width, num_channels)


def _read_palette(page: TiffPage) -> np.ndarray:
    """RGB by index, 8 bit; programs that store 8 bits where the standard has 16 are understood."""
    table = np.asarray(page.colormap).T
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8)


def _drop_alpha(array: np.ndarray, is_alpha: bool, shown: str) -> tuple[np.ndarray, list[Problem]]:
    """The channels without the last, where it is opaque everywhere; a channel of no stated meaning stays where it is not."""
    last = array[..., -1]
    opaque = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1
    hidden = int(np.count_nonzero(last != opaque))
    if not hidden:
        return array[..., :-1], [OPAQUE.about(shown, value=f"{opaque:g}")]
    if not is_alpha:
        return array, [EXTRA_CHANNEL.about(shown, count=array.shape[-1])]
    raise COLOUR_MODE.error(
        shown, mode=f"{'RGBA' if array.shape[-1] == 4 else 'LA (grey with alpha)'}, and {hidden} pixels are not opaque"
    )
