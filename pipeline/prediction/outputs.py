"""Label map files: which are there already, and how a new one gets its final name."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.dataset.dataset import case_name, image_suffix, list_images
from pipeline.dataset.image import read_image
from pipeline.errors import PredictionError
from pipeline.files import write_atomically


def list_inputs(source: Path) -> list[Path]:
    """The images to predict: `source` itself, or those directly in it.

    Raises:
        PredictionError: it does not exist, is no image, has no image, or has two images of one case.
    """
    if source.is_file():
        if not image_suffix(source):
            raise PredictionError(
                f"{source.name} is not in a known format; expected .nii, .nii.gz or .png. Convert it."
            )
        return [source]
    if not source.is_dir():
        raise PredictionError(f"Input {source} does not exist. Expected an image file or a folder of images.")
    images = list_images(source)
    if not images:
        raise PredictionError(
            f"Input folder {source} has no image; expected .nii, .nii.gz or .png files. Check the path."
        )
    names = [case_name(image) for image in images]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PredictionError(
            f"Input folder {source.name} has two images named {repeated[0]}; both would get one output. Rename one."
        )
    return images


def output_path(image: Path, out: Path, suffix: str) -> Path:
    """Where the label map of an image lies: the image's name, in `out`."""
    return out / f"{case_name(image)}{suffix}"


def finish_output(written: Path, image: Path, final: Path) -> None:
    """Give a label map that MONAI wrote its final name, once it is on exactly the image's grid.

    Going through the target spacing and back moves the affine by rounding errors; the header of a NIfTI file is therefore taken
    from the image itself.

    Raises:
        PredictionError: the shape is not the image's.
    """
    source = read_image(image)
    if image_suffix(final).startswith(".nii"):
        label_map = nib.load(written)
        _check_shape(label_map.shape, source.spatial_shape, image)
        header = nib.load(image).header
        restored = nib.Nifti1Image(np.asarray(label_map.dataobj, dtype=np.uint8), None)
        restored.header.set_xyzt_units(*header.get_xyzt_units())
        restored.header.set_zooms(header.get_zooms()[: len(source.spatial_shape)])
        # the codes say which of both is valid, and a reader picks by them
        restored.set_qform(header.get_qform(), int(header["qform_code"]), strip_shears=False)
        restored.set_sform(header.get_sform(), int(header["sform_code"]))
        with write_atomically(final) as partial:
            nib.save(restored, partial)
    else:
        _check_shape(read_image(written).spatial_shape, source.spatial_shape, image)
        os.replace(written, final)


def _check_shape(found: tuple[int, ...], expected: tuple[int, ...], image: Path) -> None:
    if tuple(found) != tuple(expected):
        raise PredictionError(f"The label map of {image.name} has shape {found}; expected the image's, {expected}.")
