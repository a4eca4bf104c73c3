"""One image file -> array and geometry, or one clear error. Chooses the reader by the file's name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from nibabel.filebasedimages import ImageFileError as NiftiFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from pipeline.dataset.dataset import PICTURE_SUFFIXES, SHOWN_FORMATS, image_suffix
from pipeline.dataset.dicom import is_dicom_file, read_dicom, read_dicom_grid
from pipeline.dataset.itk import read_itk, read_itk_grid
from pipeline.dataset.medical_image import ImageGrid, MedicalImage
from pipeline.dataset.nifti import read_nifti, read_nifti_grid
from pipeline.dataset.paths import find_dead_end, require_fetched
from pipeline.dataset.picture import (
    read_picture,
    read_picture_grid,
    read_picture_label_stack,
    read_picture_labels,
    read_picture_stack,
)
from pipeline.dataset.problems import ERROR, Message
from pipeline.errors import ImageFileError

Reader = Callable[[Path, str], MedicalImage]
_Read = TypeVar("_Read", MedicalImage, ImageGrid)
READERS: dict[str, Reader] = {
    **dict.fromkeys((".nii.gz", ".nii"), read_nifti),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), read_itk),
    **dict.fromkeys(PICTURE_SUFFIXES, read_picture),
}
_GRID_READERS: dict[Callable, Callable[[Path, str], ImageGrid]] = {
    read_nifti: read_nifti_grid,
    read_itk: read_itk_grid,
    read_picture: read_picture_grid,
    read_dicom: read_dicom_grid,
}
MISSING = Message("missing", ERROR, "does not exist", "Restore it, or remove the case from the dataset.")
UNKNOWN_FORMAT = Message("unknown-format", ERROR, "is not in a known format; expected {known}", "Convert it.")
UNREADABLE = Message(
    "unreadable", ERROR, "cannot be read as {format}: {cause}", "Copy it again from its source, or remove the case."
)
SEVERAL_CHANNELS = Message(
    "label-channels",
    ERROR,
    "has {found} channels; expected a label map with one",
    "Save the label values as a grey image.",
)
NOT_WHOLE = Message(
    "label-not-whole",
    ERROR,
    "has the value {value:g}; expected whole numbers",
    "Save the label map without interpolation.",
)
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


def read_image(path: Path, shown_as: str | None = None, pages_as_slices: bool = False) -> MedicalImage:
    """Read one image file, or the DICOM series of a folder.

    Args:
        path: the file or folder.
        shown_as: the name for messages; a path relative to the dataset. The file name when not given.
        pages_as_slices: a TIFF file of several pages is a volume.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, or not 2D or 3D.
    """
    shown = shown_as or path.name
    reader, format_name = _choose_reader(path, shown)
    as_volume = pages_as_slices and format_name in (".tif", ".tiff")
    return _read_safely(read_picture_stack if as_volume else reader, path, shown, format_name)


def read_grid(path: Path, shown_as: str | None = None) -> ImageGrid:
    """The grid of an image file, or of the DICOM series of a folder, from the header alone.

    Raises:
        ImageFileError: as `read_image`, as far as the header shows it.
    """
    shown = shown_as or path.name
    reader, format_name = _choose_reader(path, shown)
    return _read_safely(_GRID_READERS[reader], path, shown, format_name)


def _choose_reader(path: Path, shown: str) -> tuple[Reader, str]:
    """What reads a file or folder, and the name of its format."""
    if path.is_dir():
        return read_dicom, "DICOM series"
    suffix = image_suffix(path)
    if not path.is_file():
        problem = find_dead_end(path, shown)
        raise problem.as_error() if problem else MISSING.error(shown)
    require_fetched(path, shown)
    if suffix:
        return READERS[suffix], suffix
    if is_dicom_file(path):
        return read_dicom, "DICOM"
    raise UNKNOWN_FORMAT.error(shown, known=SHOWN_FORMATS)


def _read_safely(reader: Callable[[Path, str], _Read], path: Path, shown: str, format_name: str) -> _Read:
    try:
        return reader(path, shown)
    except ImageFileError:
        raise
    except (UnidentifiedImageError, *_READ_ERRORS) as error:
        cause = str(error).replace(str(path), shown) or type(error).__name__
        raise UNREADABLE.error(shown, format=format_name, cause=cause.rstrip(".")) from error


def read_label_map(path: Path, shown_as: str | None = None, pages_as_slices: bool = False) -> MedicalImage:
    """Read one label file: one channel of whole numbers.

    Returns:
        The image with an integer array of shape (1, i, j) or (1, i, j, k).

    Raises:
        ImageFileError: as `read_image`; or several channels, or values that are not whole numbers.
    """
    shown = shown_as or path.name
    suffix = image_suffix(path)
    if suffix in PICTURE_SUFFIXES and path.is_file():
        as_volume = pages_as_slices and suffix in (".tif", ".tiff")
        image = _read_safely(read_picture_label_stack if as_volume else read_picture_labels, path, shown, suffix)
    else:
        image = read_image(path, shown, pages_as_slices)
    if (channels := image.array.shape[0]) != 1:
        raise SEVERAL_CHANNELS.error(shown, found=channels)
    if np.issubdtype(image.array.dtype, np.integer):
        return image
    rounded = np.rint(image.array)
    usable = (rounded == image.array) & (np.abs(rounded) <= np.iinfo(np.int32).max)
    if not usable.all():
        raise NOT_WHOLE.error(shown, value=image.array[~usable].flat[0])
    return MedicalImage(rounded.astype(np.int32), image.affine, image.spacing_mm, image.notes)
