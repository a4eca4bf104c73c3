"""Label map files: which are there already, and how a new one gets its final name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from unet_pipeline.dataset.dataset import case_name, list_images
from unet_pipeline.files import write_atomically
from unet_pipeline.gzip_files import write_gzip
from unet_pipeline.prediction.inputs import PredictionInput

# by that of the label map; arrays of pictures for the others
_PROBABILITIES_SUFFIXES = {".nii": ".nii.gz", ".nii.gz": ".nii.gz", ".nrrd": ".nii.gz"}
REPORT_SUFFIX = "_sr.dcm"  # of the volume report of a DICOM result
WITH_REPORT = "dicomseg-sr"  # the format of a DICOM SEG with that report beside it
_FIRST_VOXEL = 352  # bytes: the header, and four that say that there is no extension


def output_path(source: PredictionInput, out: Path, suffix: str) -> Path:
    """Where the label map of an image lies: the image's name, in `out`."""
    return out / f"{source.name}{suffix}"


def find_output(source: PredictionInput, out: Path, suffix: str) -> Path:
    """The label map of a case: under the case's name, or under that of its image file, as `predict` on a folder names it."""
    named = output_path(source, out, suffix)
    by_file = out / f"{case_name(source.files[0])}{suffix}"
    return by_file if by_file.is_file() and not named.is_file() else named


def find_any_output(source: PredictionInput, out: Path) -> Path:
    """The result of a case in any format, under the case's name or that of its image file; a path that does not exist if there is none."""
    names = (source.name, case_name(source.files[0]))
    images = list_images(out) if out.is_dir() else []
    return next((path for name in names for path in images if case_name(path) == name), out / source.name)


def write_volume(final: Path, values: np.ndarray, image: Path) -> None:
    """Write label values as NIfTI with the grid of the image's header.

    Args:
        final: the label map's name.
        values: of the image's spatial shape, uint8; or with an axis more, one place for each of several structures.
        image: a NIfTI file.
    """
    header = nib.load(image).header
    restored = nib.Nifti1Image(values, None)
    restored.header["xyzt_units"] = header["xyzt_units"]  # also a code that stands for no unit
    restored.header.set_zooms((*header.get_zooms(), 1.0)[: values.ndim])
    # the codes say which of both is valid, and a reader picks by them
    with suppress(HeaderDataError):  # a quaternion that is no rotation; the sform is what is read then
        restored.set_qform(header.get_qform(), int(header["qform_code"]), strip_shears=False)
    restored.set_sform(header.get_sform(), int(header["sform_code"]))
    with write_atomically(final) as partial:
        _save(restored, values, partial)


def _save(image: nib.Nifti1Image, values: np.ndarray, path: Path) -> None:
    """Write an image as `nib.save` does, but packed by the faster library, and each value once."""
    if not path.name.endswith(".gz"):
        nib.save(image, path)
        return
    image.update_header()
    header = image.header
    header["vox_offset"] = _FIRST_VOXEL
    header.set_slope_inter(1, 0)
    with write_gzip(path) as stream:
        stream.write(header.binaryblock)
        stream.write(bytes(_FIRST_VOXEL - len(header.binaryblock)))
        stream.write(np.ascontiguousarray(values.T).data)


def probabilities_path(label_map: Path, suffix: str) -> Path:
    """Where the probabilities of an image lie: beside its label map."""
    stem = label_map.name.removesuffix(suffix)
    own = suffix if suffix.endswith(".dcm") else _PROBABILITIES_SUFFIXES.get(suffix, ".npz")
    return label_map.with_name(f"{stem}_probabilities{own}")


def report_path(label_map: Path) -> Path:
    """Where the volume report of a DICOM SEG lies: beside it."""
    return label_map.with_name(label_map.name.removesuffix(".dcm") + REPORT_SUFFIX)


def list_beside(label_map: Path, suffix: str, with_probabilities: bool, format: object) -> list[Path]:
    """What is written beside a label map: probabilities where they are wanted, and the report of a format with one."""
    return [
        *([probabilities_path(label_map, suffix)] if with_probabilities else []),
        *([report_path(label_map)] if format == WITH_REPORT else []),
    ]


def write_probabilities(path: Path, probabilities: np.ndarray, affine: np.ndarray) -> None:
    """Write the probabilities of every class.

    Args:
        path: ends in .nii.gz, for a float32 volume with the classes along the fourth axis and the image's affine; or in .npz, for
            the array "probabilities" of shape (classes, height, width), as pictures have their rows first.
        probabilities: shape (classes, *spatial), on the image's grid.
        affine: of the image that was predicted.
    """
    with write_atomically(path) as partial:
        if path.suffix == ".npz":
            with partial.open("wb") as stream:  # numpy would add its ending to a name
                np.savez_compressed(stream, probabilities=np.swapaxes(probabilities, 1, 2))
        else:
            nib.save(nib.Nifti1Image(np.moveaxis(probabilities, 0, -1), affine), partial)
