"""DICOM RT Structure Set (RTSTRUCT): its regions of interest (ROI), and their contours as a mask on the image's grid.

No field of the patient appears in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.contours import fill_contours
from unet_pipeline.dataset.dicom_file import read_header
from unet_pipeline.dataset.dicom_geometry import LPS_TO_RAS
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

    from unet_pipeline.types import Affine

CONTOURS_WITHOUT_GRID = Message(
    "contours-without-grid",
    ERROR,
    "holds contours, which are drawn on the grid of their image, and the image has none that can be read",
    "Put the image right.",
)
CONTOURS_DAMAGED = Message(
    "contours-damaged",
    ERROR,
    "has a contour of {structure} that is none: {cause}",
    "Export the structure set again, or leave the structure out of the label table.",
)
CONTOURS_OBLIQUE = Message(
    "contours-oblique",
    ERROR,
    "has a contour of {structure} that leaves its slice by {slices:.2g} slices; contours are filled in the slices of the image they "
    "refer to",
    "Export the structure set on the axial slices of its series, or save it as a SEG.",
)
CONTOURS_BETWEEN = Message(
    "contours-between-slices",
    WARNING,
    "has {count} contours of {structure} between the slices of its image, up to {slices:.2g} slices away; the nearest slice has them",
    "See that the structure set was drawn on this series.",
)
CONTOURS_OUTSIDE = Message(
    "contours-outside",
    WARNING,
    "has {count} contours of {structure} that lie, or reach, outside of its image; what is outside is left out",
    "See that it belongs to this series.",
)
CONTOURS_SKIPPED = Message(
    "contours-not-closed",
    NOTE,
    "has {count} points or open lines of {structure}, which enclose nothing; they are passed over",
    "Nothing has to be done, unless they were meant as outlines.",
)
SLICES_WITHOUT_CONTOUR = Message(
    "contours-with-gaps",
    WARNING,
    "has contours of {structure} on {count} slices, and on none of {missing} slices between them; nothing is filled in between",
    "Interpolate the contours in the program that drew them, if the structure goes through.",
)
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "")
_OFF_SLICES, _BETWEEN_SLICES = 0.5, 0.1
_MOST_MISSING_SHARE = 0.3  # of the slices between the first and the last one


def list_rois(header: Header) -> dict[int, str]:
    """Numbers and names of the regions of interest."""
    rois = {}
    for item in header.get("StructureSetROISequence", None) or ():
        number, name = int(item.get("ROINumber", 0) or 0), str(item.get("ROIName", "") or "")
        rois[number] = " ".join(name.split()) or f"roi {number}"
    return rois


def read_rois(
    path: Path, shown: str, structure: str, numbers: Sequence[int], grid: ImageGrid | MedicalImage | None
) -> MedicalImage:
    """The mask of some regions of interest together, by `fill_contours` in every slice.

    Args:
        path: of an RTSTRUCT.
        shown: its name for messages.
        structure: name of the regions for messages.
        numbers: of the regions.
        grid: of the image.

    Returns:
        uint8 of shape (1, i, j, k), 0 and 1.

    Raises:
        ImageFileError: a contour is damaged or leaves its slice, or there is no grid of three axes.
    """
    if grid is None or len(grid.spatial_shape) != 3:
        raise CONTOURS_WITHOUT_GRID.error(shown)
    mask, notes = np.zeros((1, *grid.spatial_shape), np.uint8), []
    drawn_on: set[int] = set()
    for number in numbers:
        points, skipped = _read_contours(path, path.stat().st_mtime_ns, number, shown, structure)
        if skipped:
            notes.append(CONTOURS_SKIPPED.about(shown, count=skipped, structure=structure))
        placed = [_to_voxels(contour, grid.affine) for contour in points]
        by_slice, notes_of_place = _sort_by_slice(placed, grid.spatial_shape, shown, structure)
        notes += notes_of_place
        drawn_on |= set(by_slice)
        for level, contours in by_slice.items():
            mask[0, :, :, level] |= fill_contours(contours, (grid.spatial_shape[0], grid.spatial_shape[1]))
    if missing := _count_gaps(drawn_on):
        notes.append(SLICES_WITHOUT_CONTOUR.about(shown, structure=structure, count=len(drawn_on), missing=missing))
    return MedicalImage(mask, grid.affine, grid.spacing_mm, tuple(notes))


def _count_gaps(drawn_on: set[int]) -> int:
    """Slices without a contour between the first and the last one, if they are many; parts of a structure that lie apart have few."""
    if not drawn_on:
        return 0
    span = max(drawn_on) - min(drawn_on) + 1
    missing = span - len(drawn_on)
    return missing if missing > _MOST_MISSING_SHARE * span else 0


@lru_cache(maxsize=2)
def _open(path: Path, _changed_ns: int) -> Header:
    """The header; those of the last files are kept, because every structure asks for them."""
    return read_header(path)


def _read_contours(
    path: Path, changed_ns: int, number: int, shown: str, structure: str
) -> tuple[list[np.ndarray], int]:
    """Closed contours of a region in LPS+ mm, each of shape (points, 3), and how many were no closed ones."""
    contours, skipped = [], 0
    for item in _open(path, changed_ns).get("ROIContourSequence", None) or ():
        if int(item.get("ReferencedROINumber", -1)) != number:
            continue
        for contour in item.get("ContourSequence", None) or ():
            if str(contour.get("ContourGeometricType", "") or "").upper() not in _CLOSED:
                skipped += 1
                continue
            try:
                numbers = np.array(contour.get("ContourData", None) or (), float)
            except (TypeError, ValueError) as error:
                raise CONTOURS_DAMAGED.error(shown, structure=structure, cause="its points are no numbers") from error
            if numbers.size % 3 or not np.isfinite(numbers).all():
                cause = f"it has {numbers.size} numbers, which make no points of three"
                raise CONTOURS_DAMAGED.error(shown, structure=structure, cause=cause)
            if numbers.size:
                contours.append(numbers.reshape(-1, 3))
    return contours, skipped


def _to_voxels(points: np.ndarray, affine: Affine) -> np.ndarray:
    to_voxels = np.linalg.inv(affine) @ LPS_TO_RAS
    return points @ to_voxels[:3, :3].T + to_voxels[:3, 3]


def _sort_by_slice(
    contours: Sequence[np.ndarray], shape: tuple[int, ...], shown: str, structure: str
) -> tuple[dict[int, list[np.ndarray]], list[Problem]]:
    """Contours in voxels by the slice that is nearest to them, points (i, j), and what is to be said about them."""
    by_slice: dict[int, list[np.ndarray]] = {}
    between = outside = 0
    farthest = 0.0
    for points in contours:
        height, spread = float(points[:, 2].mean()), float(np.ptp(points[:, 2]))
        if spread > _OFF_SLICES:
            raise CONTOURS_OBLIQUE.error(shown, structure=structure, slices=spread)
        level = int(np.rint(height))
        away = abs(height - level)
        between, farthest = between + (away > _BETWEEN_SLICES), max(farthest, away)
        is_within = 0 <= level < shape[2]
        outside += not is_within or bool((points[:, :2] < -1).any() or (points[:, :2] > shape[:2]).any())
        if is_within:
            by_slice.setdefault(level, []).append(points[:, :2])
    problems = []
    if between:
        problems.append(CONTOURS_BETWEEN.about(shown, count=between, structure=structure, slices=farthest))
    if outside:
        problems.append(CONTOURS_OUTSIDE.about(shown, count=outside, structure=structure))
    return by_slice, problems
