"""The pages of a picture file: PNG and JPEG, decoded with Pillow after the checks that Pillow does not make, and TIFF.

Pillow alone cuts 16-bit colours to 8 bits, fills short PNG data with zeros, and ignores the orientation tag of a JPEG.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from unet_pipeline.dataset.picture_messages import (
    ANIMATED,
    COLOUR_MODE,
    LOSSY_IMAGE,
    LOSSY_LABEL,
    MAX_PIXELS,
    MAX_RATIO,
    OPAQUE,
    ORIENTATION,
    OTHER_CONTENT,
    TOO_LARGE,
    TRUNCATED,
)
from unet_pipeline.dataset.signatures import name_content, refuse_web_page
from unet_pipeline.dataset.tiff_file import decode_tiff, measure_tiff
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import Problem

_CHUNK_BYTES = 1 << 16
_SUFFIX_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
_OPENERS: dict[str, type[ImageFile]] = {"PNG": PngImageFile, "JPEG": JpegImageFile}
_TIFFS = ("TIFF", "BigTIFF")
_VALUE_BYTES = {"I;16": 2, "I;16B": 2, "I": 4, "F": 4}
_MODES = ("1", "L", "I;16", "I;16B", "I", "F", "RGB")
_ALPHA_MODES = ("RGBA", "LA")
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,  # tags of another type than tifffile expects
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    RuntimeError,  # of the decoders
    MemoryError,
    RecursionError,
    struct.error,
    zlib.error,
)
_ORIENTATION_TAG = 274
_PNG_GREY_ALPHA = 4  # colour type


@dataclass(frozen=True)
class PicturePage:
    """One decoded page.

    Attributes:
        rows: shape (height, width) or (height, width, channels); palette indices for mode "P".
        palette: RGB by index, shape (n, 3), for mode "P".
    """

    rows: np.ndarray
    palette: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """Size and type, for messages."""
        return f"{self.rows.shape[1]} x {self.rows.shape[0]} of {self.rows.dtype}" + (
            f" in {self.rows.shape[2]} channels" if self.rows.ndim == 3 else ""
        )


@dataclass(frozen=True)
class Picture:
    """A decoded file.

    Attributes:
        pages: one, or the slices of a volume.
        is_volume: the pages are slices.
        notes: what a user should know.
    """

    pages: list[PicturePage]
    is_volume: bool
    notes: tuple[Problem, ...]


def measure_picture(path: Path, shown: str, pages_as_slices: bool = False) -> tuple[tuple[int, ...], int, int]:
    """Width, height and, of a volume, number of slices; number of channels; bytes of a value; from the header alone.

    Raises:
        ImageFileError: as `decode_picture`, as far as the header shows it.
    """
    with path.open("rb") as stream:
        file_format = _find_format(stream, path, shown)
        with _refuse_damage(path, shown):
            if file_format in _TIFFS:
                form = measure_tiff(path, shown, pages_as_slices)
                size = (*form.size, form.num_slices) if form.is_volume else form.size
                return size, form.num_channels, form.dtype.itemsize
            picture = _OPENERS[file_format](stream)
        _check_header(picture, path.stat().st_size, shown)
        if picture.mode not in (*_MODES, *_ALPHA_MODES):
            raise COLOUR_MODE.error(shown, mode=picture.mode)
        is_deep = _has_deep_colours(picture, stream)
        is_grey = picture.mode not in ("RGB", "RGBA") or (is_deep and _png_header(stream)[3] == _PNG_GREY_ALPHA)
        return picture.size, 1 if is_grey else 3, 2 if is_deep else _VALUE_BYTES.get(picture.mode, 1)


def decode_picture(path: Path, shown: str, labels: bool = False, pages_as_slices: bool = False) -> Picture:
    """The pixels of a file, after every check that the decoders do not make.

    Args:
        labels: it is a label map, which may have a palette and may not be lossy.
        pages_as_slices: pages of a TIFF file that nothing else is said of are slices.

    Raises:
        ImageFileError: anything that makes the file unusable or its pixels ambiguous.
    """
    with path.open("rb") as stream, _refuse_damage(path, shown):
        file_format = _find_format(stream, path, shown)
        picture = (
            _read_tiff(path, shown, labels, pages_as_slices)
            if file_format in _TIFFS
            else _read_with_pillow(stream, path, file_format, shown, labels)
        )
    expected = _SUFFIX_FORMATS.get(path.suffix.lower(), file_format)
    if expected != file_format.removeprefix("Big"):
        raise OTHER_CONTENT.error(shown, found=file_format, expected=expected)
    return picture


@contextmanager
def _refuse_damage(path: Path, shown: str) -> Iterator[None]:
    """Within the block, whatever a decoder raises about a damaged file becomes one message."""
    try:
        yield
    except ImageFileError:
        raise
    except _DAMAGE as error:
        raise TRUNCATED.error(shown, cause=_say(error, path, shown)) from error


def _read_tiff(path: Path, shown: str, labels: bool, pages_as_slices: bool) -> Picture:
    content = decode_tiff(path, shown, labels, pages_as_slices)
    pages = [PicturePage(rows[..., 0] if rows.shape[-1] == 1 else rows, content.palette) for rows in content.array]
    return Picture(pages, content.is_volume, content.notes)


def _read_with_pillow(stream: BinaryIO, path: Path, file_format: str, shown: str, labels: bool) -> Picture:
    picture = _OPENERS[file_format](stream)
    _check_header(picture, path.stat().st_size, shown)
    _check_complete(file_format, stream)
    if isinstance(picture, PngImageFile) and (frames := picture.n_frames) > 1:
        raise ANIMATED.error(shown, frames=frames)
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    if orientation != 1:
        raise ORIENTATION.error(shown, found=orientation)
    if file_format == "JPEG" and labels:
        raise LOSSY_LABEL.error(shown)
    notes = [LOSSY_IMAGE.about(shown)] if file_format == "JPEG" else []
    if _has_deep_colours(picture, stream):
        page, of_page = _read_deep_colours(path, shown)
    else:
        picture.load()
        page, of_page = _to_page(picture, labels, shown)
    return Picture([page], False, (*notes, *of_page))


def _say(error: Exception, path: Path, shown: str) -> str:
    return (str(error).replace(str(path), shown) or type(error).__name__).rstrip(".")


def _find_format(stream: BinaryIO, path: Path, shown: str) -> str:
    start = stream.read(132)
    stream.seek(0)
    content = name_content(start)
    expected = _SUFFIX_FORMATS.get(path.suffix.lower(), "picture")
    if not content:
        raise TRUNCATED.error(shown, cause=f"it does not begin as a {expected} file does")
    refuse_web_page(content, shown)
    if content not in (*_OPENERS, *_TIFFS):
        raise OTHER_CONTENT.error(shown, found=content, expected=expected)
    return content


def _check_header(picture: ImageFile, size: int, shown: str) -> None:
    """Refuse a picture by its header, before anything is allocated for its pixels."""
    width, height = picture.size
    if width * height > min(MAX_PIXELS, MAX_RATIO * size):
        raise TOO_LARGE.error(shown, width=width, height=height, pages=1, size=size, limit=MAX_PIXELS)


def _has_deep_colours(picture: ImageFile, stream: BinaryIO) -> bool:
    """Whether it is a PNG with colours or alpha of 16 bit, which Pillow cuts to 8."""
    is_png = isinstance(picture, PngImageFile) and picture.mode in ("RGB", "RGBA", "LA")
    return is_png and _png_header(stream)[2] == 16


def _read_deep_colours(path: Path, shown: str) -> tuple[PicturePage, list[Problem]]:
    import imagecodecs

    rows = imagecodecs.png_decode(path.read_bytes())
    return _drop_alpha(rows, shown) if rows.shape[-1] in (2, 4) else (PicturePage(rows), [])


def _drop_alpha(rows: np.ndarray, shown: str) -> tuple[PicturePage, list[Problem]]:
    """A page without its last channel, which is opaque everywhere."""
    opaque = np.iinfo(rows.dtype).max
    if hidden := int(np.count_nonzero(rows[..., -1] != opaque)):
        mode = "RGBA" if rows.shape[-1] == 4 else "LA (grey with alpha)"
        raise COLOUR_MODE.error(shown, mode=f"{mode}, and {hidden} pixels are not opaque")
    kept = rows[..., 0] if rows.shape[-1] == 2 else rows[..., :-1]
    return PicturePage(kept), [OPAQUE.about(shown, value=opaque)]


def _to_page(picture: ImageFile, labels: bool, shown: str) -> tuple[PicturePage, list[Problem]]:
    rows = np.asarray(picture)
    if picture.mode == "P" and labels:
        colours = np.frombuffer(bytes(picture.getpalette("RGB") or b"").ljust(768, b"\0")[:768], np.uint8)
        return PicturePage(rows, colours.reshape(256, 3)), []
    if picture.mode in _ALPHA_MODES:
        return _drop_alpha(rows, shown)
    if picture.mode not in _MODES:
        raise COLOUR_MODE.error(shown, mode=picture.mode)
    dtype = np.uint8 if rows.dtype == bool else rows.dtype.newbyteorder("=")
    return PicturePage(rows.astype(dtype, copy=False)), []


# completeness


def _check_complete(file_format: str, stream: BinaryIO) -> None:
    """Raise EOFError or ValueError where Pillow may fill in what the file does not hold."""
    position = stream.tell()
    if file_format == "PNG":
        _check_png(stream)
    else:
        _check_jpeg(stream)
    stream.seek(position)


def _png_header(stream: BinaryIO) -> tuple[int, int, int, int, int]:
    """Width, height, bit depth, colour type, interlacing."""
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
