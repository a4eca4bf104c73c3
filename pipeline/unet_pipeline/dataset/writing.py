"""Images written in the two formats that stock MONAI reads without a further package: NIfTI, and PNG for pictures."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as PillowImage

from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.nifti_file import VECTOR_INTENT
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_atomically

_NIFTI_TYPES = {"bool": np.uint8, "float16": np.float32, "float64": np.float32, "int64": np.int32, "uint64": np.int32}


def write_image(path: Path, image: MedicalImage) -> None:
    """Write an image as NIfTI or PNG, by the suffix of `path`; values and grid stay. Channels lie along the last axis of a NIfTI file.

    Raises:
        DatasetError: the format cannot hold the channels or the type of the values.
    """
    with write_atomically(path) as partial:
        if path.name.endswith(".png"):
            _to_picture(image, path.name).save(partial)
        else:
            nib.save(_to_nifti(image), partial)


def fits_png(dtype: np.dtype, num_channels: int) -> bool:
    """Whether a PNG file can hold such pixels without loss: 8 bit grey or RGB, or 16 bit grey."""
    return (dtype == np.uint8 and num_channels in (1, 3)) or (dtype == np.uint16 and num_channels == 1)


def _to_picture(image: MedicalImage, shown: str) -> PillowImage.Image:
    if not fits_png(image.array.dtype, image.array.shape[0]):
        raise DatasetError(
            f"{shown}: {image.array.shape[0]} channel(s) of {image.array.dtype} do not fit into a PNG file; expected 8 bit "
            "grey or RGB, or 16 bit grey. Save the image with 8 bits per channel."
        )
    rows = image.array[0].T if image.array.shape[0] == 1 else image.array.transpose(2, 1, 0)
    return PillowImage.fromarray(np.ascontiguousarray(rows))


def _to_nifti(image: MedicalImage) -> nib.Nifti1Image:
    array = image.array.astype(_NIFTI_TYPES.get(str(image.array.dtype), image.array.dtype), copy=False)
    array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    written = nib.Nifti1Image(array, image.affine)
    if image.array.ndim == 3 and image.array.shape[0] > 1:
        # a 2D image with channels: MONAI takes the third axis for them, as the bundle's config says, and readers know it by the intent
        written.header["intent_code"] = VECTOR_INTENT
    written.header.set_xyzt_units("mm")
    written.set_qform(image.affine, 1)
    written.set_sform(image.affine, 1)
    return written
