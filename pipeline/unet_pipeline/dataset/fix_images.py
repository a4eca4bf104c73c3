"""Grey images that were saved as colours: three channels that are the same, or differ as JPEG leaves them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from unet_pipeline.dataset.case_reading import read_case_grid, read_case_image
from unet_pipeline.dataset.dataset import Case, is_picture
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.nifti import COLOURS
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import ImageFileError

_MAX_DIFFERENCE = 4 / 255  # of full scale, between two channels of one pixel: what JPEG leaves of grey


def find_grey_cases(root: Path, cases: Iterable[Case], options: ReadOptions) -> set[str]:
    """Names of the cases whose image is grey saved as colours; none where any case has true colours, because all images must be alike.

    A case whose image cannot be read has no say.
    """
    grey_cases = set()
    for case in cases:
        if len(case.images) > 1:
            return set()
        try:
            if not _may_have_colours(root, case):
                continue
            image = read_case_image(root, case, options)
        except ImageFileError:
            continue
        if image.array.shape[0] != 3 or not _holds_colours(case, image):
            continue
        if measure_difference(image) > _MAX_DIFFERENCE:
            return set()
        grey_cases.add(case.name)
    return grey_cases


def _may_have_colours(root: Path, case: Case) -> bool:
    return not (root / case.image).is_dir() and read_case_grid(root, case).num_channels == 3


def _holds_colours(case: Case, image: MedicalImage) -> bool:
    """Whether three channels are colours, and not three images of other kinds."""
    if is_picture(case.image):
        return image.array.dtype in (np.uint8, np.uint16)
    return any(note.code == COLOURS.code for note in image.notes)


def measure_difference(image: MedicalImage) -> float:
    """The greatest difference between two channels of one pixel, as a fraction of full scale."""
    differences = (
        int(np.abs(image.array[0].astype(np.int32) - image.array[other].astype(np.int32)).max()) for other in (1, 2)
    )
    return max(differences) / float(np.iinfo(image.array.dtype).max)


def make_grey(image: MedicalImage) -> MedicalImage:
    """One channel: the three where they are the same, otherwise their mean to the nearest whole number."""
    if not measure_difference(image):
        return replace(image, array=image.array[:1])
    mean = np.rint(image.array.mean(axis=0, dtype=np.float64))[None]
    return replace(image, array=mean.astype(image.array.dtype))
