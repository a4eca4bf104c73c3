"""One image file -> array and geometry, or one clear error. Chooses the reader by the file's name."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from nibabel.filebasedimages import ImageFileError as NiftiFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from unet_pipeline.boundary import describe_cause
from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.dicom import read_dicom, read_dicom_grid
from unet_pipeline.dataset.dicom_file import is_dicom_file
from unet_pipeline.dataset.dicom_index import is_series_address
from unet_pipeline.dataset.formats import FORMAT_OF, FORMATS, PICTURE_SUFFIXES, SHOWN_FORMATS
from unet_pipeline.dataset.itk import read_itk, read_itk_grid
from unet_pipeline.dataset.label_values import round_values
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.nifti import read_nifti, read_nifti_grid
from unet_pipeline.dataset.nifti_messages import COLOURS
from unet_pipeline.dataset.paths import find_dead_end, require_fetched
from unet_pipeline.dataset.picture import read_picture, read_picture_grid, read_picture_labels
from unet_pipeline.errors import ImageFileError
from unet_pipeline.gzip_files import GZIP_ERRORS
from unet_pipeline.messages import ERROR, Message

_Read = TypeVar("_Read", MedicalImage, ImageGrid)


class Reader(NamedTuple):
    """What reads a format: the whole image, and its grid from the header alone; both get the file and its name for messages."""

    image: Callable[[Path, str], MedicalImage]
    grid: Callable[[Path, str], ImageGrid]


_DICOM = Reader(read_dicom, read_dicom_grid)
_PAGES_AS_SLICES = Reader(partial(read_picture, pages_as_slices=True), partial(read_picture_grid, pages_as_slices=True))
READERS = {
    "NIfTI": Reader(read_nifti, read_nifti_grid),
    "NRRD": Reader(read_itk, read_itk_grid),
    "MetaImage": Reader(read_itk, read_itk_grid),
    **{name: Reader(read_picture, read_picture_grid) for name, row in FORMATS.items() if row.is_picture},
}
MISSING = Message("missing", ERROR, "does not exist", "Restore it, or remove the case from the dataset.")
NO_FILE = Message(
    "not-a-file", ERROR, "is a device or a pipe; expected a file or a folder", "Write its content into a file first."
)
UNKNOWN_FORMAT = Message("unknown-format", ERROR, "is not in a known format; expected {known}", "Convert it.")
UNREADABLE = Message(
    "unreadable", ERROR, "cannot be read as {format}: {cause}", "Copy it again from its source, or remove the case."
)
NOT_ACCESSIBLE = Message(
    "not-accessible",
    ERROR,
    "{cause}",
    "Change its permissions, or look at the disk or the network drive, then try again.",
)
LABEL_IN_COLOUR = Message(
    "label-nifti-colours",
    ERROR,
    "holds colours (RGB); expected a label map of whole numbers in one channel",
    "Save the label values themselves, not their colours.",
)
SEVERAL_CHANNELS = Message(
    "label-channels",
    ERROR,
    "has {found} channels; expected a label map with one",
    "Save the label values as a grey image.",
)
_TIFF_SUFFIXES = FORMATS["TIFF"].suffixes
_READ_ERRORS = (  # what the libraries raise about damaged files, each of them seen in benchmarks/fuzz_readers.py
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,  # an infinite vox_offset
    LookupError,
    AttributeError,  # pydicom, of an element that is missing
    TypeError,
    NotImplementedError,
    RecursionError,
    struct.error,
    *GZIP_ERRORS,
    HeaderDataError,
    PillowImage.DecompressionBombError,
    NiftiFileError,
)


def read_image(path: Path | str, shown_as: str | None = None, pages_as_slices: bool = False) -> MedicalImage:
    """Read one image file, or the DICOM series of a folder.

    Args:
        shown_as: the name for messages; a path relative to the dataset. The file name when not given.
        pages_as_slices: the pages of a TIFF file are slices where its tags do not say what they are.

    Raises:
        ImageFileError: the file is missing, unreadable, truncated, or not 2D or 3D.
    """
    path = Path(path)
    shown = shown_as or path.name
    reader, format_name = _choose_reader(path, shown, pages_as_slices)
    return _read_safely(reader.image, path, shown, format_name)


def read_grid(path: Path, shown_as: str | None = None, pages_as_slices: bool = False) -> ImageGrid:
    """The grid of an image file, or of the DICOM series of a folder, from the header alone.

    Args:
        path, shown_as, pages_as_slices: as in `read_image`.

    Raises:
        ImageFileError: as `read_image`, as far as the header shows it.
    """
    path = Path(path)
    shown = shown_as or path.name
    reader, format_name = _choose_reader(path, shown, pages_as_slices)
    return _read_safely(reader.grid, path, shown, format_name)


def _choose_reader(path: Path, shown: str, pages_as_slices: bool) -> tuple[Reader, str]:
    """What reads a file or folder, and the name of its format."""
    if path.is_dir() or is_series_address(path):
        return _DICOM, "DICOM series"
    suffix = image_suffix(path)
    if not path.is_file():
        problem = find_dead_end(path, shown)
        if problem is None and path.exists():
            raise NO_FILE.error(shown)
        raise problem.as_error() if problem else MISSING.error(shown)
    require_fetched(path, shown)
    if suffix:
        return _PAGES_AS_SLICES if pages_as_slices and suffix in _TIFF_SUFFIXES else READERS[FORMAT_OF[suffix]], suffix
    if is_dicom_file(path):
        return _DICOM, "DICOM"
    raise UNKNOWN_FORMAT.error(shown, known=SHOWN_FORMATS)


def _read_safely(reader: Callable[[Path, str], _Read], path: Path, shown: str, format_name: str) -> _Read:
    try:
        return reader(path, shown)
    except ImageFileError:
        raise
    except Exception as error:
        is_of_pydicom = type(error).__module__.startswith("pydicom")  # imported where it is needed only
        if not is_of_pydicom and not isinstance(error, (UnidentifiedImageError, *_READ_ERRORS)):
            raise
        if isinstance(error, OSError) and error.errno is not None:  # not the file's content
            raise NOT_ACCESSIBLE.error(shown, cause=describe_cause(error)) from error
        cause = str(error).replace(str(path), shown) or type(error).__name__
        raise UNREADABLE.error(shown, format=format_name, cause=cause.rstrip(".")) from error


def read_label_map(
    path: Path | str,
    shown_as: str | None = None,
    pages_as_slices: bool = False,
    known_values: Collection[int] | None = (),
) -> MedicalImage:
    """Read one label file: one channel of whole numbers, or of values so near to few of them that they are rounded, with a note.

    Args:
        path, shown_as, pages_as_slices: as in `read_image`.
        known_values: of labels: a picture with these and no others is not taken for smoothed, however scattered they are; None for any
            value, as in label maps that are known to be predicted.

    Returns:
        The image with an integer array of shape (1, i, j) or (1, i, j, k).

    Raises:
        ImageFileError: as `read_image`; or several channels, or values that are no whole numbers.
    """
    path = Path(path)
    shown = shown_as or path.name
    suffix = image_suffix(path)
    if suffix in PICTURE_SUFFIXES and path.is_file():
        as_slices = pages_as_slices and suffix in _TIFF_SUFFIXES
        reader = partial(read_picture_labels, pages_as_slices=as_slices, known_values=known_values)
        image = _read_safely(reader, path, shown, suffix)
    else:
        image = read_image(path, shown, pages_as_slices)
    if any(note.code == COLOURS.code for note in image.notes):
        raise LABEL_IN_COLOUR.error(shown)
    if (channels := image.array.shape[0]) != 1:
        raise SEVERAL_CHANNELS.error(shown, found=channels)
    return round_values(image, shown)
