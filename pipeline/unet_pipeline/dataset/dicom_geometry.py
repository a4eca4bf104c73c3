"""Slices of a DICOM series by their headers: whether they make a regular volume, in which order, and where it lies.

No field of the patient, and no UID, appears in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.dicom_messages import (
    BAD_GEOMETRY,
    COLOUR,
    DUPLICATED_SLICE,
    GANTRY_TILT,
    MISSING_SLICE,
    MIXED_SLICES,
    NO_SPACING,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's and ITK's coordinates to NIfTI's, and back
_DIRECTION_TOLERANCE = 1e-3  # of a direction cosine
_UNIT_TOLERANCE = 1e-2  # of the products of both directions, which some stations write with few digits
_GAP_SHARE, _GAP_MM = 0.01, 0.01  # a gap may differ from the median by the larger of both
_TILT_DEGREES = 0.5


@dataclass(frozen=True)
class Slice:
    """The header of one file, as far as it is needed."""

    path: Path
    header: Header

    @property
    def position(self) -> np.ndarray:
        return np.array([float(value) for value in self.header.ImagePositionPatient])

    @property
    def directions(self) -> np.ndarray:
        """Along the rows and along the columns, shape (2, 3)."""
        return np.array([float(value) for value in self.header.ImageOrientationPatient]).reshape(2, 3)

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows and between columns, as DICOM orders them."""
        rows, columns = self.header.PixelSpacing
        return float(rows), float(columns)

    @property
    def normal(self) -> np.ndarray:
        return np.cross(*self.directions)


@dataclass(frozen=True)
class Series:
    """Files of one series in no order yet; `number` is the start of a hash of its UID, which tells series apart."""

    number: str
    slices: tuple[Slice, ...]

    def __str__(self) -> str:
        first = self.slices[0].header
        shape = f"{first.get('Columns', '?')}x{first.get('Rows', '?')}"
        return f"series {self.number} ({first.get('Modality', '?')}, {len(self.slices)} file(s) of {shape})"


def name_file(shown: str, path: Path) -> str:
    """A file of the series for a message; `shown` is the folder's name, or the file's own."""
    return shown if path.name == Path(shown).name else f"{shown}/{path.name}"


def order_slices(slices: Sequence[Slice], shown: str) -> tuple[list[Slice], np.ndarray]:
    """Slices in the order of their positions along the normal, and the step from one to the next in mm (LPS).

    Raises:
        ImageFileError: mixed sizes, spacings or orientations; repeated or missing slices; a tilted gantry.
    """
    for item in slices:
        _require_geometry(item, shown)
    first = slices[0]
    for item in slices[1:]:
        if difference := _find_difference(first, item):
            raise MIXED_SLICES.error(name_file(shown, item.path), difference=difference, first=first.path.name)
    ordered = sorted(slices, key=lambda item: float(item.position @ first.normal))
    if len(ordered) == 1:
        thickness = float(first.header.get("SliceThickness", 0) or 0)
        return ordered, first.normal * (thickness or min(first.spacing_mm))
    distances = np.array([float(item.position @ first.normal) for item in ordered])
    gaps = np.diff(distances)
    usual = float(np.median(gaps))
    tolerance_mm = max(_GAP_SHARE * usual, _GAP_MM)
    for number, gap in enumerate(gaps):
        before, after = ordered[number].path.name, ordered[number + 1].path.name
        if gap < _GAP_MM:
            raise DUPLICATED_SLICE.error(
                name_file(shown, ordered[number + 1].path), position=distances[number], other=before
            )
        if abs(gap - usual) > tolerance_mm:
            raise MISSING_SLICE.error(shown, gap=gap, first=before, second=after, usual=usual)
    step = (ordered[-1].position - ordered[0].position) / (len(ordered) - 1)
    tilt = np.degrees(np.arccos(np.clip(step @ first.normal / np.linalg.norm(step), -1, 1)))
    if tilt > _TILT_DEGREES:
        raise GANTRY_TILT.error(shown, angle=tilt)
    return ordered, step


def _require_geometry(item: Slice, shown: str) -> None:
    missing = [
        name
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        if item.header.get(name) in (None, "", 0)
    ]
    if missing:
        raise NO_SPACING.error(name_file(shown, item.path), missing=", ".join(missing))
    if not all(np.isfinite(size) and size > 0 for size in item.spacing_mm):
        raise BAD_GEOMETRY.error(name_file(shown, item.path), found="pixels of {:g}x{:g} mm".format(*item.spacing_mm))
    turned = item.directions @ item.directions.T
    if not np.allclose(turned, np.eye(2), atol=_UNIT_TOLERANCE) or not np.isfinite(item.position).all():
        raise BAD_GEOMETRY.error(name_file(shown, item.path), found="rows and columns that are not at right angles")
    if int(item.header.get("SamplesPerPixel", 1)) != 1:
        raise COLOUR.error(name_file(shown, item.path), kind=item.header.get("PhotometricInterpretation"))


def _find_difference(first: Slice, other: Slice) -> str:
    """What two slices of one volume may not differ in; empty when they agree."""
    modalities = [str(item.header.get("Modality") or "") for item in (first, other)]
    if modalities[0] != modalities[1]:
        return "the modality {} instead of {}".format(*(modality or "none" for modality in reversed(modalities)))
    shapes = [(int(item.header.Columns), int(item.header.Rows)) for item in (first, other)]
    if shapes[0] != shapes[1]:
        return "{}x{} pixels instead of {}x{}".format(*shapes[1], *shapes[0])
    if not np.allclose(first.directions, other.directions, atol=_DIRECTION_TOLERANCE):
        return "another orientation"
    if not np.allclose(first.spacing_mm, other.spacing_mm, rtol=1e-3):
        return "pixels of {:g}x{:g} mm instead of {:g}x{:g}".format(*other.spacing_mm, *first.spacing_mm)
    return ""


def build_affine(first: Slice, step: np.ndarray) -> np.ndarray:
    """Indices (i along the rows, j down the columns, k) to LPS+, for the first slice and the step to the next in mm."""
    between_rows, between_columns = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * between_columns
    affine[:3, 1] = first.directions[1] * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return affine
