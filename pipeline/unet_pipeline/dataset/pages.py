"""Pages of TIFF files of which no tag speaks, where a network says what they are and no option does."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.picture_messages import SEVERAL_PAGES
from unet_pipeline.dataset.tiff_file import TIMES
from unet_pipeline.errors import ImageFileError

Seen = TypeVar("Seen")
_TAGS = "If the pages are slices, save it as ImageJ or OME-TIFF, whose tags say so (Fiji: Image > Properties)"


def read_pages(look: Callable[[bool], Seen], spatial_dims: int | None) -> Seen:
    """What `look` gives; it is told whether untagged pages are slices, first that they are not.

    Args:
        look: reads a file.
        spatial_dims: of the network: of 3, the pages are slices; None where it is not known.

    Raises:
        ImageFileError: the file cannot be read. No option is named, as `predict` and `evaluate` have none for it.
    """
    try:
        return look(False)
    except ImageFileError as error:
        if error.code == TIMES.code:
            raise _advise(error, f"Save one frame per case. {_TAGS}.") from error
        if error.code != SEVERAL_PAGES.code:
            raise
        if spatial_dims == 2:
            raise _advise(error, "Save each page as a picture of its own.") from error
        if spatial_dims != 3:
            raise _advise(error, f"Save one page. {_TAGS}.") from error
    return look(True)


def _advise(error: ImageFileError, remedy: str) -> ImageFileError:
    return ImageFileError(error.file, error.cause, remedy, error.code)


def read_label_pages(path: Path, spatial_dims: int | None, known_values: Collection[int] | None = ()) -> MedicalImage:
    """A label map, as `read_label_map` reads it and `read_pages` takes its pages."""
    return read_pages(
        lambda as_slices: read_label_map(path, pages_as_slices=as_slices, known_values=known_values), spatial_dims
    )
