"""The pages of a picture file (PNG, TIFF, JPEG), decoded with Pillow after the checks that Pillow does not make.

Pillow alone cuts 16-bit colours to 8 bits, fills short PNG data with zeros, and ignores the orientation tag of a JPEG.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.dataset.problems import ERROR, NOTE, WARNING, Message, Problem
from pipeline.dataset.signatures import name_content

SAVE_LABELS = "Save the label values as a grey PNG, without smoothing and without lossy compression."
OTHER_CONTENT = Message(
    "picture-other-content",
    ERROR,
    "holds {found} data, but its name says {expected}",
    "Give it the suffix of its content, or save it again in the format that its name says.",
)
TRUNCATED = Message(
    "picture-truncated", ERROR, "is truncated or damaged: {cause}", "Copy it again from its source, or remove the case."
)
TOO_LARGE = Message(
    "picture-too-large",
    ERROR,
    "claims {width} x {height} pixels on {pages} page(s) in a file of {size} bytes; expected at most {limit} pixels a page",
    "Copy it again from its source, or cut it into tiles.",
)
SEVERAL_PAGES = Message(
    "picture-pages",
    ERROR,
    "has {pages} pages; expected one",
    'Choose "pages as slices" (--pages-as-slices) to read the pages as the slices of a volume, or save one page.',
)
COLOUR_MODE = Message(
    "picture-colour-mode",
    ERROR,
    "cannot be used, its colour mode is {mode}; expected grey or RGB without alpha",
    "Save it as grey (8 or 16 bit) or as RGB (8 bit).",
)
UNCLEAR_PIXELS = Message(
    "picture-unclear-pixels",
    ERROR,
    "stores its pixels as {found}; expected grey with black as 0, or RGB of 8 bit",
    "Save it as grey (8 or 16 bit), as RGB (8 bit), or with a channel per file.",
)
ORIENTATION = Message(
    "picture-orientation",
    ERROR,
    "has the orientation tag {found}; expected 1, because programs differ on whether they turn the picture by it",
    "Turn the pixels themselves and save without the tag, and see that image and label still match.",
)
OPAQUE = Message(
    "picture-opaque-alpha", NOTE, "has an alpha channel that is 255 everywhere; it is read as RGB", "Nothing to do."
)
LOSSY_IMAGE = Message(
    "picture-lossy",
    WARNING,
    "is compressed with JPEG, which changes intensities near edges",
    "Use the original in a format without loss where there is one.",
)
LOSSY_LABEL = Message(
    "label-lossy", ERROR, "is compressed with JPEG, which is lossy and changes label values", SAVE_LABELS
)

_MAX_PIXELS = 2**28  # a page of 16,384 x 16,384
_MAX_RATIO = 2**16  # decoded to stored bytes; beyond what any of the compressions reaches on a blank page
_CHUNK_BYTES = 1 << 16
_SUFFIX_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
_OPENERS: dict[str, type[ImageFile]] = {"PNG": PngImageFile, "JPEG": JpegImageFile, "TIFF": TiffImageFile}
_VALUE_BYTES = {"I;16": 2, "I;16B": 2, "I": 4, "F": 4}
_MODES = ("1", "L", "I;16", "I;16B", "I", "F", "RGB")
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, zlib.error)
# tags of the TIFF 6.0 specification
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 277, 339
_ORIENTATION_TAG = 274
_DATA_TAGS = ((273, 279), (324, 325))  # offsets and lengths of strips, and of tiles


@dataclass(frozen=True)
class PicturePage:
    """One decoded page.

    Attributes:
        rows: shape (height, width) or (height, width, 3); palette indices for mode "P".
        palette: RGB by index, shape (n, 3), for mode "P".
    """

    rows: np.ndarray
    palette: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """Size and type, for messages."""
        return f"{self.rows.shape[1]} x {self.rows.shape[0]} of {self.rows.dtype}" + (
            " in colour" if self.rows.ndim == 3 else ""
        )


def measure_picture(path: Path, shown: str) -> tuple[tuple[int, int], int, int]:
    """Width and height, number of channels, and bytes of a value of a picture's one page, from its header alone.

    Raises:
        ImageFileError: as `decode_picture`, as far as the header shows it.
    """
    with path.open("rb") as stream:
        picture, _, num_pages = _open_picture(stream, path, shown)
        if num_pages > 1:
            raise SEVERAL_PAGES.error(shown, pages=num_pages)
        _check_header(picture, path.stat().st_size, num_pages, shown)
        if picture.mode not in (*_MODES, "RGBA"):
            raise COLOUR_MODE.error(shown, mode=picture.mode)
        return picture.size, 3 if picture.mode in ("RGB", "RGBA") else 1, _VALUE_BYTES.get(picture.mode, 1)


def _open_picture(stream: BinaryIO, path: Path, shown: str) -> tuple[ImageFile, str, int]:
    """A picture whose header is read, the format of its content, and its number of pages."""
    found = _find_format(stream, path, shown)
    try:
        num_pages = _count_tiff_pages(stream, path.stat().st_size) if found == "TIFF" else 1
        return _OPENERS[found](stream), found, num_pages
    except _DAMAGE as error:
        raise TRUNCATED.error(shown, cause=_say(error, path, shown)) from error


def decode_picture(
    path: Path, shown: str, labels: bool = False, one_page: bool = False
) -> tuple[list[PicturePage], tuple[Problem, ...]]:
    """All pages of a file, after every check that Pillow does not make.

    Args:
        path: the file.
        shown: its name for messages.
        labels: it is a label map, which may have a palette and may not be lossy.
        one_page: refuse several pages.

    Raises:
        ImageFileError: anything that makes the file unusable or its pixels ambiguous.
    """
    with path.open("rb") as stream:
        picture, found, num_pages = _open_picture(stream, path, shown)
        size = path.stat().st_size
        if one_page and num_pages > 1:
            raise SEVERAL_PAGES.error(shown, pages=num_pages)
        pages: list[PicturePage] = []
        notes: list[Problem] = []
        for index in range(num_pages):
            try:
                picture.seek(index)
                _check_header(picture, size, num_pages, shown)
                _check_complete(picture, found, stream, size)
                orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
                picture.load()
            except _DAMAGE as error:
                raise TRUNCATED.error(shown, cause=_say(error, path, shown)) from error
            if orientation != 1:
                raise ORIENTATION.error(shown, found=orientation)
            page, of_page = _to_page(picture, labels, shown)
            pages.append(page)
            notes += of_page
        expected = _SUFFIX_FORMATS.get(path.suffix.lower(), found)
        if expected != found:
            raise OTHER_CONTENT.error(shown, found=found, expected=expected)
        if _is_lossy(picture):
            if labels:
                raise LOSSY_LABEL.error(shown)
            notes.append(LOSSY_IMAGE.about(shown))
    return pages, tuple(dict.fromkeys(notes))


def _say(error: Exception, path: Path, shown: str) -> str:
    return (str(error).replace(str(path), shown) or type(error).__name__).rstrip(".")


def _find_format(stream: BinaryIO, path: Path, shown: str) -> str:
    start = stream.read(132)
    stream.seek(0)
    found = name_content(start)
    expected = _SUFFIX_FORMATS.get(path.suffix.lower(), "picture")
    if not found:
        raise TRUNCATED.error(shown, cause=f"it does not begin as a {expected} file does")
    if found not in _OPENERS:
        raise OTHER_CONTENT.error(shown, found=found, expected=expected)
    return found


def _check_header(picture: ImageFile, size: int, num_pages: int, shown: str) -> None:
    """Refuse a page by its header, before anything is allocated for its pixels."""
    width, height = picture.size
    if width * height > min(_MAX_PIXELS, _MAX_RATIO * size):
        raise TOO_LARGE.error(shown, width=width, height=height, pages=num_pages, size=size, limit=_MAX_PIXELS)
    found = ""
    if isinstance(picture, TiffImageFile):
        found = _find_unclear_tiff(picture)
    elif isinstance(picture, PngImageFile) and picture.mode in ("RGB", "RGBA") and _png_header(picture.fp)[2] == 16:
        found = "colours of 16 bit"
    if found:
        raise UNCLEAR_PIXELS.error(shown, found=found)


def _find_unclear_tiff(picture: TiffImageFile) -> str:
    """What Pillow would change or drop without a word; "" when there is nothing."""
    tags = picture.tag_v2
    bits = max(tags.get(_BITS, (1,)))
    num_samples = tags.get(_SAMPLES, 1)
    if picture.mode in ("RGB", "RGBA") and bits > 8:
        return f"colours of {bits} bit"
    if picture.mode == "RGB" and num_samples != 3:
        return f"{num_samples} samples, of which one has no stated meaning"
    if bits == 8 and 2 in tags.get(_SAMPLE_FORMAT, ()):
        return "signed whole numbers of 8 bit"
    if tags.get(_PHOTOMETRIC) == 0 and bits > 1:
        return f"{bits}-bit grey with white as 0"
    return ""


def _is_lossy(picture: ImageFile) -> bool:
    return isinstance(picture, JpegImageFile) or (
        isinstance(picture, TiffImageFile) and picture.tag_v2.get(_COMPRESSION) in (6, 7)
    )


def _to_page(picture: ImageFile, labels: bool, shown: str) -> tuple[PicturePage, list[Problem]]:
    rows = np.asarray(picture)
    if picture.mode == "P" and labels:
        colours = np.frombuffer(bytes(picture.getpalette("RGB") or b"").ljust(768, b"\0")[:768], np.uint8)
        return PicturePage(rows, colours.reshape(256, 3)), []
    if picture.mode == "RGBA":
        if hidden := int(np.count_nonzero(rows[..., 3] != 255)):
            raise COLOUR_MODE.error(shown, mode=f"RGBA, and {hidden} pixels are not opaque")
        return PicturePage(rows[..., :3]), [OPAQUE.about(shown)]
    if picture.mode not in _MODES:
        raise COLOUR_MODE.error(shown, mode=picture.mode)
    dtype = np.uint8 if rows.dtype == bool else rows.dtype.newbyteorder("=")
    return PicturePage(rows.astype(dtype, copy=False)), []


# completeness


def _check_complete(picture: ImageFile, found: str, stream: BinaryIO, size: int) -> None:
    """Raise EOFError or ValueError where Pillow may fill in what the file does not hold."""
    position = stream.tell()
    if found == "PNG":
        _check_png(stream)
    elif found == "JPEG":
        _check_jpeg(stream)
    elif isinstance(picture, TiffImageFile):
        for offsets, lengths in _DATA_TAGS:
            ends = [
                sum(place) for place in zip(*(picture.tag_v2.get(tag, ()) for tag in (offsets, lengths)), strict=True)
            ]
            if ends and max(ends) > size:
                raise EOFError(f"its pixels end at byte {max(ends)}, the file has {size}")
            needed = picture.width * picture.height * sum(picture.tag_v2.get(_BITS, (1,))) // 8
            if ends and picture.tag_v2.get(_COMPRESSION, 1) == 1 and sum(picture.tag_v2[lengths]) < needed:
                raise EOFError(f"its pixel data have {sum(picture.tag_v2[lengths])} bytes, its size needs {needed}")
    stream.seek(position)


def _png_header(stream: IO[bytes] | None) -> tuple[int, int, int, int, int]:
    """Width, height, bit depth, colour type, interlacing."""
    if stream is None:
        raise EOFError("it is closed")
    position = stream.tell()
    stream.seek(16)
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", stream.read(13))
    stream.seek(position)
    return width, height, depth, colour_type, interlaced


def _check_png(stream: BinaryIO) -> None:
    """Inflate the pixel data piece by piece and compare their length with the header's size."""
    width, height, depth, colour_type, interlaced = _png_header(stream)
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour_type, 1)
    # Adam7: first column, first row, step along the columns, step along the rows of each pass
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    expected = 0
    for column, row, step_i, step_j in adam7 if interlaced else ((0, 0, 1, 1),):
        num_columns, num_rows = -(-(width - column) // step_i), -(-(height - row) // step_j)
        expected += max(0, num_rows) * (1 + (num_columns * bits + 7) // 8) if num_columns > 0 else 0
    inflater, inflated = zlib.decompressobj(), 0
    for piece in _iterate_png_data(stream):
        while piece and inflated < expected:
            inflated += len(inflater.decompress(piece, _CHUNK_BYTES))
            piece = inflater.unconsumed_tail
    if inflated < expected:
        raise EOFError(f"its pixel data have {inflated} bytes, its size needs {expected}")


def _iterate_png_data(stream: BinaryIO) -> Iterator[bytes]:
    """The content of every IDAT chunk, in pieces; to the end of the file's last chunk."""
    stream.seek(8)
    while True:
        start = stream.read(8)
        if len(start) < 8:
            raise EOFError("it ends before its last chunk")
        length, kind = struct.unpack(">I4s", start)
        while kind == b"IDAT" and length:
            piece = stream.read(min(length, _CHUNK_BYTES))
            if not piece:
                raise EOFError("it ends within its pixel data")
            length -= len(piece)
            yield piece
        stream.seek(length, 1)
        if len(stream.read(4)) < 4:
            raise EOFError("it ends within a chunk")
        if kind == b"IEND":
            return


def _check_jpeg(stream: BinaryIO) -> None:
    """Follow the segments from the start to the end marker; what comes behind it does not count."""
    stream.seek(0)
    content = stream.read()
    position = 2
    while position + 4 <= len(content) + 2:
        if (position := content.find(b"\xff", position)) < 0 or position + 1 >= len(content):
            break
        marker = content[position + 1]
        if marker == 0xD9:
            return
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, fill bytes, restarts: no length
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    raise EOFError("it has no end marker")


def _count_tiff_pages(stream: BinaryIO, size: int) -> int:
    """Number of directories, each of which must lie within the file (Pillow reads half a directory with a warning)."""
    order = "<" if stream.read(2) == b"II" else ">"
    stream.seek(4)
    (offset,) = struct.unpack(order + "I", stream.read(4))
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        stream.seek(offset)
        (num_entries,) = struct.unpack(order + "H", stream.read(2))
        stream.seek(offset + 2 + 12 * num_entries)
        (offset,) = struct.unpack(order + "I", stream.read(4))
    stream.seek(0)
    if not seen:
        raise EOFError("it has no page")
    return len(seen)
