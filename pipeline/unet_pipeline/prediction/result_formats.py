"""Formats of label maps: the bundle's own, which its engine writes, and others, which take what the engine made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from unet_pipeline.dataset.dicom_geometry import LPS_TO_RAS
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import fits_png, write_image
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import write_atomically
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.outputs import write_probabilities

if TYPE_CHECKING:
    from unet_pipeline.prediction.engine import Case, CasePrediction
    from unet_pipeline.prediction.reuse import Origin


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
