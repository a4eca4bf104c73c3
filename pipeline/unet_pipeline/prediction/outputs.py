"""Result files: which are there already, how a new one gets its final name, and in which format.

The bundle's own format is written by its engine; the others take what the engine made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from unet_pipeline.dataset.dataset import case_name, list_images
from unet_pipeline.dataset.dicom_geometry import LPS_TO_RAS
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import fits_png, write_image
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import write_atomically
from unet_pipeline.gzip_files import write_gzip
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.inputs import PredictionInput

if TYPE_CHECKING:
    from unet_pipeline.prediction.engine import Case, CasePrediction
    from unet_pipeline.prediction.reuse import Origin

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


def list_reports(label_map: Path, format: object) -> list[Path]:
    """The volume report of a label map, where the format has one."""
    return [report_path(label_map)] if format == WITH_REPORT else []


def list_beside(label_map: Path, suffix: str, with_probabilities: bool, format: object) -> list[Path]:
    """What is written beside a label map: probabilities where they are wanted, and the report of a format with one."""
    return [
        *([probabilities_path(label_map, suffix)] if with_probabilities else []),
        *list_reports(label_map, format),
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


@dataclass(frozen=True)
class CaseResult:
    """What was made of an image, on its own grid.

    Attributes:
        source: the image.
        affine: of the image, RAS+.
        values: label values of its spatial shape; or with an axis more, one place for each of several structures; or probabilities, with the
            classes along the first axis.
        origin: what predicted it.
    """

    source: PredictionInput
    affine: np.ndarray
    values: np.ndarray
    origin: Origin


Write = Callable[[Path, CaseResult], tuple[Problem, ...]]


@dataclass(frozen=True)
class ResultFormat:
    """A format of label maps.

    Attributes:
        name: for the record; "" of the bundle's own.
        suffix: of the files; "" for what the bundle writes.
        save: writes a label map, whole or not at all; None for the engine's writer.
        save_probabilities: likewise; None for NIfTI, or arrays of pictures.
        notes: what the user should know, once.
    """

    name: str = ""
    suffix: str = ""
    save: Write | None = None
    save_probabilities: Write | None = None
    notes: tuple[Problem, ...] = ()

    def write(
        self, final: Path, case: Case, prediction: CasePrediction, staging: Path, own_suffix: str, origin: Origin
    ) -> tuple[Problem, ...]:
        """Write a label map as `final`; what the user should know about it.

        Args:
            staging: a folder that goes away.
            own_suffix: that the bundle's own label maps have.
        """
        if self.save is None:
            return case.engine.write(case, prediction, final, staging)
        values, notes = _settle_values(case, prediction, staging, own_suffix)
        return (*notes, *self.save(final, CaseResult(case.source, case.affine, values, origin)))

    def write_probabilities(self, path: Path, case: Case, probabilities: np.ndarray, origin: Origin) -> None:
        """Write the probabilities of every class, shape (classes, *spatial)."""
        if self.save_probabilities is not None:
            self.save_probabilities(path, CaseResult(case.source, case.affine, probabilities, origin))
            return
        is_nifti = case.files[0].name.endswith((".nii", ".nii.gz"))
        write_probabilities(path, probabilities, nib.load(case.files[0]).affine if is_nifti else case.affine)


OWN = ResultFormat()


def build_file_format(name: str, own_suffix: str, spatial_dims: int) -> ResultFormat:
    """NIfTI, NRRD or PNG.

    Args:
        name: nifti, nrrd or png.
        own_suffix: that the bundle's own label maps have; "" where that is not known.
        spatial_dims: of the bundle's images.

    Raises:
        PredictionError: PNG for volumes.
    """
    suffix = {"nifti": ".nii.gz", "nrrd": ".nrrd", "png": ".png"}[name]
    if suffix == own_suffix:
        return OWN
    if name == "png" and spatial_dims == 3:
        raise PredictionError(
            "--format is png, and the bundle's label maps have 3 axes; a PNG file holds 2. Choose nifti or nrrd."
        )
    return ResultFormat(name, suffix, _write_nrrd if name == "nrrd" else _write_image)


def _settle_values(
    case: Case, prediction: CasePrediction, staging: Path, own_suffix: str
) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """The label values on the image's grid; what only the bundle's writer knows to make, it writes first."""
    if isinstance(prediction.values, np.ndarray):
        return prediction.values, ()
    with tempfile.TemporaryDirectory(dir=staging) as folder:
        own = Path(folder) / f"result{own_suffix}"
        notes = case.engine.write(case, prediction, own, staging)
        return read_label_map(own)[0], notes


def read_label_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The values of a label map file as it holds them, and its affine in RAS+."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = nib.load(path)
        return np.asarray(image.dataobj), image.affine
    picture = read_image(path)
    return picture.array[0], picture.affine


def _write_image(final: Path, result: CaseResult) -> tuple[Problem, ...]:
    """NIfTI or PNG, by the suffix."""
    affine, values = result.affine, result.values
    if final.name.endswith(".png") and (values.ndim != 2 or not fits_png(values.dtype, 1)):
        raise PredictionError(
            f"The label map of {result.source.name} has the shape {values.shape} and values of {values.dtype}; a PNG file holds 2 axes of "
            "8 or 16 bit. Choose nifti or nrrd."
        )
    spacing_mm = tuple(float(size) for size in np.linalg.norm(affine[:3, : values.ndim], axis=0))
    write_image(final, MedicalImage(values[None], affine, spacing_mm))
    return ()


def _write_nrrd(final: Path, result: CaseResult) -> tuple[Problem, ...]:
    write_nrrd(final, result.values, result.affine)
    return ()


def write_nrrd(final: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Write values of the image's spatial shape and its affine as NRRD, whole or not at all.

    Structures that may overlap, along one axis more, are the components of each voxel.
    """
    import SimpleITK  # takes as long as all of this package

    spatial_dims = 2 if values.ndim == 2 else 3
    affine = LPS_TO_RAS @ affine
    array = np.moveaxis(values, (0, 1, 2)[:spatial_dims], (2, 1, 0)[3 - spatial_dims :])
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array), isVector=values.ndim == 4)
    spacing_mm = np.linalg.norm(affine[:3, :spatial_dims], axis=0)
    direction = (affine[:3, :spatial_dims] / spacing_mm)[:spatial_dims]
    image.SetSpacing(spacing_mm.tolist())
    image.SetOrigin(affine[:spatial_dims, 3].tolist())
    if abs(np.linalg.det(direction)) > 0.1:  # a picture that stands upright has no place in two dimensions
        image.SetDirection(direction.ravel().tolist())
    with write_atomically(final) as partial:
        SimpleITK.WriteImage(image, str(partial), useCompression=True)
