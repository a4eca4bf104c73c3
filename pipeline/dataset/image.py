"""One image file -> array and geometry, or one clear error. Chooses the reader by the file's name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nibabel.filebasedimages import ImageFileError as NiftiFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from pipeline.dataset.dataset import PICTURE_SUFFIXES, SHOWN_FORMATS, image_suffix
from pipeline.dataset.dicom import is_dicom_file, read_dicom
from pipeline.dataset.itk import read_itk
from pipeline.dataset.medical_image import MedicalImage
from pipeline.dataset.nifti import read_nifti
from pipeline.dataset.picture import read_picture, read_picture_label_stack, read_picture_labels, read_picture_stack
from pipeline.dataset.problems import ERROR, Message
from pipeline.errors import ImageFileError

Reader = Callable[[Path, str], MedicalImage]
READERS: dict[str, Reader] = {
    **dict.fromkeys((".nii.gz", ".nii"), read_nifti),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), read_itk),
    **dict.fromkeys(PICTURE_SUFFIXES, read_picture),
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
    if path.is_dir():
        return _read_safely(read_dicom, path, shown, "DICOM series")
    suffix = image_suffix(path)
    if not path.is_file():
        raise MISSING.error(shown)
    if not suffix:
        if is_dicom_file(path):
            return _read_safely(read_dicom, path, shown, "DICOM")
        raise UNKNOWN_FORMAT.error(shown, known=SHOWN_FORMATS)
    as_volume = pages_as_slices and suffix in (".tif", ".tiff")
    return _read_safely(read_picture_stack if as_volume else READERS[suffix], path, shown, suffix)


def _read_safely(reader: Reader, path: Path, shown: str, format_name: str) -> MedicalImage:
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
