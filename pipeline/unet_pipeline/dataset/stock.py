"""Which files stock MONAI reads as this package does, so that no copy of them is needed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PillowImage

from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES, STOCK_SUFFIXES
from unet_pipeline.dataset.nifti import uses_mm
from unet_pipeline.dataset.nifti_file import is_plain_nifti

_GREY_MODES = ("1", "L", "I;16")


def stock_reads(path: Path, as_label: bool = False) -> bool:
    """Whether MONAI's LoadImage gives the same voxels for a file that this package has read without an error.

    Args:
        path: an image file or the folder of a DICOM series.
        as_label: a label map; one in colour would come with three channels, and a palette with its colours' indices only by luck.
    """
    suffix = image_suffix(path)
    if path.is_dir() or suffix not in STOCK_SUFFIXES:
        return False
    if suffix not in PICTURE_SUFFIXES:
        return is_plain_nifti(path) and uses_mm(path)
    with PillowImage.open(path) as picture:
        return picture.mode in (_GREY_MODES if as_label else (*_GREY_MODES, "RGB"))
