"""What a NIfTI or Analyze file is: one file or a pair, compressed or not, which version, and which of its axes are channels.

Names deceive: `.nii` may be compressed, `.nii.gz` plain. What is read is decided by content. The shape alone does not tell channels
from time points either; the header's intent and units do.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder

from unet_pipeline.dataset.dataset import PAIR_SUFFIXES, case_name, image_suffix, list_parts
from unet_pipeline.dataset.signatures import GZIP, name_content, refuse_web_page
from unet_pipeline.gzip_files import open_gzip
from unet_pipeline.messages import ERROR, Message

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialHeader, SpatialImage

OTHER_CONTENT = Message(
    "nifti-other-content",
    ERROR,
    "is named as {expected} and holds {found}",
    "Give it the suffix of its content, or convert it to NIfTI.",
)
NO_PARTNER = Message(
    "nifti-pair-incomplete",
    ERROR,
    "is half of a pair of files (.hdr and .img), and {missing} is not beside it",
    "Put both files into one folder under one name, or convert the image to one .nii.gz file.",
)
HEADER_ALONE = Message(
    "nifti-header-alone",
    ERROR,
    "is the header of a pair of files (.hdr and .img) and holds no voxels",
    "Rename it to .hdr and put its .img file beside it, or convert both to one .nii.gz file.",
)
UNSUPPORTED_VALUES = Message(
    "nifti-values",
    ERROR,
    "has {found} as voxels; expected whole or real numbers, or colours (RGB)",
    "Save what is to be segmented, such as the magnitude of complex numbers, as real numbers.",
)
UNSUPPORTED_AXES = Message(
    "nifti-axes",
    ERROR,
    "has {found}; expected 2 or 3 axes in space, and channels along the fourth or the fifth",
    "Save the volume, or the channels, that are to be segmented.",
)
TIME_SERIES = Message(
    "nifti-time-series",
    ERROR,
    "is a time series of {count} volumes{step}; expected one volume, or channels along the fourth axis",
    "Save one volume per case; where the volumes are meant as channels, clear the unit of time in the header (xyzt_units) or save a file per "
    "channel.",
)

VECTOR_INTENT = 1007
_TIME_SERIES_INTENT = 2001
_TIME_UNITS = {8: "s", 16: "ms", 24: "us"}
_FREQUENCY_UNITS = {32: "Hz", 40: "ppm", 48: "rad/s"}
_MAX_CHANNELS = 16  # with a unit of time and more volumes than this it is no image with channels
_HEADER_BYTES = {348: 348, 540: 540}  # by the number that both NIfTI versions begin with
_OTHER_VALUES = {1: "single bits", 32: "complex numbers", 1792: "complex numbers", 2048: "complex numbers"}
RGB_CODES = {128: 3, 2304: 4}


@dataclass(frozen=True)
class Arrangement:
    """What the axes of a file are.

    Attributes:
        spatial_shape: (i, j) or (i, j, k).
        num_channels: along a further axis, or colours within a voxel.
        in_voxel: values in each voxel: 3 for RGB, 4 with alpha, otherwise 1.
    """

    spatial_shape: tuple[int, ...]
    num_channels: int
    in_voxel: int = 1


def open_content(path: Path) -> gzip.GzipFile | BinaryIO:
    """A stream of the uncompressed bytes, whatever the name says."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == GZIP
    return open_gzip(path) if compressed else path.open("rb")


def is_compressed(stream: gzip.GzipFile | BinaryIO) -> bool:
    """Whether a stream of `open_content` inflates."""
    return isinstance(stream, gzip.GzipFile)


def find_parts(path: Path, shown: str) -> tuple[Path, Path]:
    """The files with the header and with the voxels: twice the same but for a pair.

    Raises:
        ImageFileError: one file of a pair is missing.
    """
    if image_suffix(path) not in PAIR_SUFFIXES:
        return path, path
    parts = list_parts(path)
    if len(parts) < 2:
        missing = "img" if image_suffix(path).startswith(".hdr") else "hdr"
        raise NO_PARTNER.error(shown, missing=f"{case_name(path)}.{missing}")
    header, voxels = sorted(parts, key=lambda part: image_suffix(part))
    return header, voxels


def read_header(stream: BinaryIO | gzip.GzipFile, shown: str, expected: str) -> tuple[bytes, SpatialHeader]:
    """The first bytes of a file and its unchecked header: NIfTI-1, NIfTI-2 or Analyze 7.5.

    Raises:
        ImageFileError: it holds something else.
        EOFError: fewer bytes than a header has.
    """
    start = stream.read(_HEADER_BYTES[348])
    length = next((n for n in _HEADER_BYTES if start[:4] in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), 0)
    if not length and (content := name_content(start)):
        refuse_web_page(content, shown)
        raise OTHER_CONTENT.error(shown, expected=expected, found=content)
    if len(start) < _HEADER_BYTES[348]:
        raise EOFError(f"{len(start)} bytes are no NIfTI header, which has 348 or 540")
    start += stream.read(length - len(start)) if length > len(start) else b""
    if not length:
        raise ValueError("it does not begin with a NIfTI header")
    if len(start) < length:
        raise EOFError(f"{len(start)} bytes are no NIfTI-2 header, which has {length}")
    if length == _HEADER_BYTES[540]:
        return start, nib.Nifti2Header(start, check=False)
    is_nifti = start[344:348] in (b"n+1\0", b"ni1\0")
    return start, (nib.Nifti1Header if is_nifti else nib.Spm2AnalyzeImage.header_class)(start, check=False)


def is_analyze(header: SpatialHeader) -> bool:
    """Whether a header is Analyze 7.5, which does not say which side is left."""
    return "magic" not in header


def has_own_voxels(header: SpatialHeader) -> bool:
    """Whether the voxels follow the header in its own file."""
    return not is_analyze(header) and bytes(header["magic"]).startswith(b"n+")


def build_image(header: SpatialHeader, head: bytes) -> SpatialImage:
    """An image without voxels, for its affine and its scaling; runs nibabel's checks of the header.

    Args:
        header: unchecked.
        head: the bytes of the file in front of its voxels.
    """
    is_second = isinstance(header, nib.Nifti2Header)
    if has_own_voxels(header):
        return (nib.Nifti2Image if is_second else nib.Nifti1Image).from_bytes(head)
    of_nifti = nib.Nifti2Pair if is_second else nib.Nifti1Pair
    kind = nib.Spm2AnalyzeImage if is_analyze(header) else of_nifti
    parts = {"header": FileHolder(fileobj=io.BytesIO(head)), "image": FileHolder(fileobj=io.BytesIO())}
    if is_analyze(header):
        parts["mat"] = FileHolder(fileobj=io.BytesIO())  # SPM's orientation beside the pair, which nothing checks
    return kind.from_file_map(parts)


def arrange_axes(header: SpatialHeader, shown: str) -> Arrangement:
    """Which axes of a file lie in space, and where its channels are.

    Channels may lie along the fourth axis, along the fifth (the NIfTI standard's place for vectors), within the voxels (RGB), or,
    with the intent of a vector, along the third axis of a file with three: a 2D image.

    Raises:
        ImageFileError: values, axes or times that no image to be segmented has.
    """
    code = int(header["datatype"])
    if code in _OTHER_VALUES:
        raise UNSUPPORTED_VALUES.error(shown, found=_OTHER_VALUES[code])
    shape = tuple(int(size) for size in header.get_data_shape())
    if not shape or min(shape) < 1:
        raise ValueError(f"it has no voxels, shape {shape}")
    if len(shape) > 3 and set(shape[2:]) == {1}:
        shape = shape[:2]  # as ITK reads and MONAI writes a 2D image
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    in_voxel = RGB_CODES.get(code, 1)
    intent = 0 if is_analyze(header) else int(header["intent_code"])
    if len(shape) == 3 and intent == VECTOR_INTENT and in_voxel == 1:
        return Arrangement(shape[:2], shape[2])
    if len(shape) in (2, 3):
        return Arrangement(shape, min(in_voxel, 3), in_voxel)
    if len(shape) > 5 or len(shape) < 2:
        raise UNSUPPORTED_AXES.error(shown, found=f"{len(shape)} axes {shape}")
    times, channels = (*shape[3:], 1)[:2]
    if in_voxel > 1:
        raise UNSUPPORTED_AXES.error(shown, found=f"colours (RGB) and {len(shape)} axes {shape}")
    if times > 1:
        _refuse_times(header, times, shown)
    if times > 1 and channels > 1:
        raise UNSUPPORTED_AXES.error(shown, found=f"{times} volumes of {channels} channels each {shape}")
    if channels > 1 and shape[2] == 1:
        return Arrangement(shape[:2], channels)  # as ITK writes and reads a 2D image with several channels
    return Arrangement(shape[:3], max(times, channels))


def _refuse_times(header: SpatialHeader, count: int, shown: str) -> None:
    """Raise where the header says that the fourth axis is time or frequency, and not only by a unit that many programs set always."""
    if is_analyze(header):
        return
    unit, step = int(header["xyzt_units"]) & 56, float(header["pixdim"][4])
    if unit in _FREQUENCY_UNITS:
        axes = f"{count} volumes along a fourth axis in {_FREQUENCY_UNITS[unit]} (a spectrum)"
        raise UNSUPPORTED_AXES.error(shown, found=axes)
    is_timed = unit in _TIME_UNITS and (count > _MAX_CHANNELS or (np.isfinite(step) and step not in (0, 1)))
    if int(header["intent_code"]) == _TIME_SERIES_INTENT or is_timed:
        shown_step = f", {step:g} {_TIME_UNITS[unit]} apart" if unit in _TIME_UNITS and step > 0 else ""
        raise TIME_SERIES.error(shown, count=count, step=shown_step)


def read_stored_shape(path: Path) -> tuple[int, ...]:
    """All axes of a file as its header has them, those of length 1 too.

    Raises:
        ImageFileError: it is no NIfTI file.
        OSError, EOFError, ValueError: it is damaged.
    """
    header_path, _ = find_parts(path, path.name)
    with open_content(header_path) as stream:
        _, header = read_header(stream, path.name, "NIfTI")
    return tuple(int(size) for size in header.get_data_shape())


def is_plain_nifti(path: Path) -> bool:
    """Whether MONAI reads the same channels and axes from a file that this package has read: one file, compressed as its name says."""
    if image_suffix(path) in PAIR_SUFFIXES:
        return False
    with open_content(path) as stream:
        if is_compressed(stream) != path.name.lower().endswith(".gz"):
            return False
        _, header = read_header(stream, path.name, "NIfTI")
    is_long_real = header.get_data_dtype().kind == "f" and header.get_data_dtype().itemsize > 8
    return int(header["datatype"]) not in RGB_CODES and not is_long_real and len(header.get_data_shape()) <= 4
