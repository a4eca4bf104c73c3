"""One image file -> array and geometry, or one clear error.

NIfTI is read with nibabel after the length of the stream was compared with what the header claims: nibabel alone
allocates whatever a header claims and accepts a wrong gzip checksum, and SimpleITK fills a truncated file with zeros.
Pictures are read with Pillow and turned so that i runs along the width, as MONAI's reader does.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError as NiftiFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from pipeline.dataset.dataset import IMAGE_SUFFIXES, image_suffix
from pipeline.errors import ImageFileError
from pipeline.types import Affine, ImageArray

_NIFTI_HEADER_BYTES = 348
_MAX_DEFLATE_RATIO = 1032  # the most that DEFLATE can shrink anything (zlib's technical notes)
_CHUNK_BYTES = 1 << 20
_PICTURE_MODES = {"1": 1, "L": 1, "I;16": 1, "I": 1, "F": 1, "RGB": 3}
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,  # an infinite vox_offset
    KeyError,
    zlib.error,
    HeaderDataError,
    PillowImage.DecompressionBombError,
    NiftiFileError,
)


@dataclass(frozen=True)
class MedicalImage:
    """Voxels and grid of one file.

    Attributes:
        array: shape (channels, i, j) or (channels, i, j, k), values after the file's own scaling.
        affine: voxel indices to world coordinates in mm, RAS+; identity for pictures, which have no spacing.
        spacing_mm: voxel size along each spatial axis; 1.0 per axis for pictures, meaning pixels.
    """

    array: ImageArray
    affine: Affine
    spacing_mm: tuple[float, ...]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]


def read_image(path: Path, shown_as: str | None = None) -> MedicalImage:
    """Read one NIfTI or PNG file.

    Args:
        path: the file.
        shown_as: the name for messages; a path relative to the dataset. The file name when not given.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, or not 2D or 3D.
    """
    shown = shown_as or path.name
    suffix = image_suffix(path)
    if not path.is_file():
        raise ImageFileError(shown, "does not exist", "Restore it, or remove the case from the dataset.")
    if not suffix:
        raise ImageFileError(shown, f"is not in a known format; expected {', '.join(IMAGE_SUFFIXES)}", "Convert it.")
    try:
        return _read_picture(path) if suffix == ".png" else _read_nifti(path, compressed=suffix == ".nii.gz")
    except (UnidentifiedImageError, *_READ_ERRORS) as error:
        cause = str(error).replace(str(path), shown) or type(error).__name__
        raise ImageFileError(
            shown,
            f"cannot be read as {suffix}: {cause.rstrip('.')}",
            "Copy it again from its source, or remove the case.",
        ) from error


def _read_nifti(path: Path, compressed: bool) -> MedicalImage:
    opener = gzip.open if compressed else open
    with opener(path, "rb") as stream:
        start = stream.read(_NIFTI_HEADER_BYTES)
        if len(start) < _NIFTI_HEADER_BYTES:
            raise EOFError(f"{len(start)} bytes are no NIfTI header, which has {_NIFTI_HEADER_BYTES}")
        header = _parse_header(start)
        claimed_bytes = int(header["vox_offset"]) + int(np.prod(header.get_data_shape(), dtype=np.float64)) * (
            header.get_data_dtype().itemsize  # what nibabel allocates by; `bitpix` may say otherwise
        )
        possible_bytes = path.stat().st_size * (_MAX_DEFLATE_RATIO if compressed else 1)
        if claimed_bytes > possible_bytes:
            raise EOFError(f"the header claims {claimed_bytes} bytes, the file can hold {possible_bytes} at most")
        content = start + stream.read(max(0, claimed_bytes - len(start)))
        while stream.read(_CHUNK_BYTES):  # to the end, so that gzip compares its checksum
            pass
    if len(content) < claimed_bytes:
        raise EOFError(f"it is truncated, {len(content)} bytes of {claimed_bytes}")
    image = (nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image).from_bytes(content)
    return _arrange_nifti(image)


def _parse_header(start: bytes) -> nib.Nifti1Header:
    size = int.from_bytes(start[:4], "little")
    if size not in (348, 0x5C010000):  # either byte order; NIfTI-2 says 540
        raise ValueError("it does not begin with a NIfTI-1 header")
    return nib.Nifti1Header(start, check=False)


def _arrange_nifti(image: nib.Nifti1Image) -> MedicalImage:
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"its voxels are {image.get_data_dtype()}; expected whole or real numbers")
    array = np.asanyarray(image.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3, 4):
        raise ValueError(f"it has {array.ndim} dimensions {array.shape}; expected 2, 3, or 4 with channels last")
    if 0 in array.shape:
        raise ValueError(f"it has no voxels, shape {array.shape}")
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError("its affine has no inverse, so its voxels have no place in the world")
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[: array.ndim - 1]
    return MedicalImage(array, affine, tuple(float(size) for size in spacing_mm))


def _read_picture(path: Path) -> MedicalImage:
    with PillowImage.open(path) as picture:
        if picture.mode not in _PICTURE_MODES:
            raise ValueError(f"its colour mode is {picture.mode}; expected grey (8 or 16 bit) or RGB without alpha")
        array = np.asarray(picture)
    array = array.astype(np.uint8) if array.dtype == bool else array
    channel_first = array.T[None] if array.ndim == 2 else array.transpose(2, 1, 0)
    return MedicalImage(channel_first, np.eye(4), (1.0, 1.0))


def read_label_map(path: Path, shown_as: str | None = None) -> MedicalImage:
    """Read one label file: one channel of whole numbers.

    Returns:
        The image with an integer array of shape (1, i, j) or (1, i, j, k).

    Raises:
        ImageFileError: as `read_image`; or several channels, or values that are not whole numbers.
    """
    shown = shown_as or path.name
    image = read_image(path, shown)
    if (channels := image.array.shape[0]) != 1:
        raise ImageFileError(
            shown, f"has {channels} channels; expected a label map with one", "Save the label values as a grey image."
        )
    if np.issubdtype(image.array.dtype, np.integer):
        return image
    rounded = np.rint(image.array)
    usable = (rounded == image.array) & (np.abs(rounded) <= np.iinfo(np.int32).max)
    if not usable.all():
        example = image.array[~usable].flat[0]
        raise ImageFileError(
            shown, f"has the value {example:g}; expected whole numbers", "Save the label map without interpolation."
        )
    return MedicalImage(rounded.astype(np.int32), image.affine, image.spacing_mm)
