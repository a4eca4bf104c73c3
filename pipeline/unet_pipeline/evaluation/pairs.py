"""The two label maps of a case, read and put on one grid."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.dataset import geometry
from unet_pipeline.dataset.label_values import ROUNDED
from unet_pipeline.dataset.lattice import CUT, PLACED
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.pages import read_label_pages
from unet_pipeline.errors import EvaluationError, ImageFileError
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.inputs import PredictionInput

_CHANGES = (ROUNDED.code, PLACED.code, CUT.code)


@dataclass(frozen=True)
class Pair:
    """Two label map files of one case.

    Attributes:
        fold: the fold that validates the case; None for a test set.
        pixel_spacing_mm: of a picture, where the dataset knows it; one value counts for every axis.
        patient: whose image it is; None for a patient with this case only.
        spatial_dims: of the network, None where it is not known; of 3, untagged pages of a TIFF file are slices.
        missing_values: of labels that the reference is not annotated with; neither they nor regions with them are measured.
        source: of the image, on whose grid both are compared where one of them is cropped or padded.
    """

    case: str
    reference: Path
    prediction: Path
    fold: int | None = None
    pixel_spacing_mm: tuple[float, ...] | None = None
    patient: str | None = None
    source: PredictionInput | None = None
    spatial_dims: int | None = None
    missing_values: tuple[int, ...] = ()


def read_pair(pair: Pair, known_values: Collection[int] = ()) -> tuple[MedicalImage, MedicalImage]:
    """Reference and prediction on one grid: the image's where one of them is cropped or padded by whole voxels.

    Args:
        pair: the files.
        known_values: of labels; a prediction may scatter them, which in a reference is a trace of smoothing.

    Raises:
        ImageFileError: a file cannot be read.
        EvaluationError: the two lie on different grids.
    """
    reference = read_label_pages(pair.reference, pair.spatial_dims)
    prediction = read_label_pages(pair.prediction, pair.spatial_dims, known_values)
    if geometry.lacks_pixel_size(prediction, reference):
        reference = geometry.with_grid_of(reference, prediction)
    kind = geometry.compare_grids(reference, prediction, pair.prediction.name).kind
    if kind in (geometry.SAME, geometry.ROUNDING):
        return reference, prediction
    try:
        grid = _choose_grid(pair, reference, prediction)
        placed = geometry.put_on_grid(reference, grid, pair.reference.name)
        return placed, geometry.put_on_grid(prediction, grid, pair.prediction.name)
    except ImageFileError as error:
        raise EvaluationError(_describe(pair, reference, prediction, error)) from error


def _choose_grid(pair: Pair, reference: MedicalImage, prediction: MedicalImage) -> ImageGrid:
    """The image's grid; without an image that of the larger label map."""
    if pair.source is not None:
        return pair.source.read_grid(pair.spatial_dims)
    return max(reference.grid, prediction.grid, key=lambda grid: math.prod(grid.spatial_shape))


def _describe(pair: Pair, reference: MedicalImage, prediction: MedicalImage, error: ImageFileError) -> str:
    name, beside = pair.prediction.name, pair.reference.name
    if reference.spatial_shape != prediction.spatial_shape:
        what = f"has shape {prediction.spatial_shape}, its reference {reference.spatial_shape}"
        return (
            f"Prediction {name} {what}; expected the same grid, or a crop by whole voxels, and {error.file} {error.cause}. "
            "Predict on the original image, or resample the label map to it."
        )
    distance_mm = geometry.compare_grids(reference, prediction, name).max_distance_mm
    difference = geometry.describe_difference(reference.affine, prediction.affine)
    return (
        f"Prediction {name} lies up to {distance_mm:.3g} mm beside its reference {beside} ({difference}); expected the same grid. "
        "Predict on the original image, or resample the label map to it."
    )


def list_changes(*label_maps: MedicalImage) -> list[Problem]:
    """What was done to label maps so that they could be compared: values rounded, voxels padded, cropped or cut."""
    return [note for label_map in label_maps for note in label_map.notes if note.code in _CHANGES]


def sum_up_changes(notes: Iterable[Problem]) -> list[str]:
    """A sentence for each kind of change, with its first file and the number of the others."""
    of_kind: dict[str, list[Problem]] = {}
    for note in notes:
        of_kind.setdefault(note.code, []).append(note)
    return [
        f"{changes_alike[0].file} {changes_alike[0].cause}."
        + (f" The same kind of change was made to {len(changes_alike) - 1} more." if changes_alike[1:] else "")
        for changes_alike in of_kind.values()
    ]
