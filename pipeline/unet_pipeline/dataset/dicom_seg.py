"""DICOM Segmentation (SEG): its segments, and the mask of some of them, every frame where its header places it.

BINARY, FRACTIONAL and LABELMAP; either byte order; whatever pydicom decodes. No field of the patient appears in a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_pipeline.dataset.dicom_file import read_header
from unet_pipeline.dataset.dicom_geometry import LPS_TO_RAS
from unet_pipeline.dataset.dicom_messages import NOT_DECODED
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.messages import ERROR, WARNING, Message, Problem

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

SEG_DAMAGED = Message(
    "seg-damaged", ERROR, "is no complete DICOM Segmentation: {cause}", "Export it again, or remove the file."
)
SEG_WITHOUT_PLACE = Message(
    "seg-without-place",
    ERROR,
    "has frames without a position, direction or pixel size ({cause}), so they lie on no slice of its series",
    "Export it with the positions of its source images.",
)
SEG_FRACTIONAL = Message(
    "seg-fractional",
    WARNING,
    "holds fractions of {structure} ({kind}), not a mask; values of one half and more were taken, {count} of {total} above 0",
    "Save a BINARY segmentation if another threshold is meant.",
)
SEG_OUTSIDE = Message(
    "seg-outside",
    WARNING,
    "has {count} values of {structure} outside of its image; they are left out",
    "See that it belongs to this series.",
)
_TOLERANCE_VOXELS = 0.05  # as for the rounding of a header
_HALF = 0.5


@dataclass(frozen=True)
class Frame:
    """A frame: its index in the file, the segment (None in a LABELMAP), and pixel (column, row) indices to RAS+ (4 x 3)."""

    index: int
    segment: int | None
    to_world: np.ndarray
    thickness_mm: float


def list_segments(header: Header) -> dict[int, str]:
    """Numbers and labels of the segments, without the background of a LABELMAP."""
    segments = {}
    for item in header.get("SegmentSequence", None) or ():
        number, label = int(item.get("SegmentNumber", 0) or 0), str(item.get("SegmentLabel", "") or "")
        if number > 0:
            segments[number] = " ".join(label.split()) or f"segment {number}"
    return segments


def read_segments(
    path: Path, shown: str, structure: str, numbers: Sequence[int], grid: ImageGrid | MedicalImage | None
) -> MedicalImage:
    """The mask of some segments together.

    Args:
        path: of a SEG.
        shown: its name for messages.
        structure: name of the segments for messages.
        numbers: of the segments.
        grid: of the image; the mask lies on it where every frame lies on a plane of it with its pixels on the image's, otherwise on the
            grid of its own frames.

    Returns:
        uint8 of shape (1, i, j, k), 0 and 1; 0 where the file has no frame.

    Raises:
        ImageFileError: it is damaged, has frames without a place, or pixels that cannot be decoded.
    """
    if grid is not None and len(grid.spatial_shape) != 3:
        raise SEG_WITHOUT_PLACE.error(shown, cause="its image is a projection")
    header, frames = _open(path, path.stat().st_mtime_ns, shown)
    chosen = [frame for frame in frames if frame.segment is None or frame.segment in numbers]
    target = grid if grid is not None and _lie_on(frames, header, grid) else None
    if target is None:
        target = _build_own_grid(frames, header, shown) if frames else grid
    if target is None:
        raise SEG_WITHOUT_PLACE.error(shown, cause="it has no frame at all")
    mask = np.zeros((1, *target.spatial_shape), np.uint8)
    to_voxels = np.linalg.inv(target.affine)
    outside = total = kept = 0
    for frame, pixels in _decode(header, chosen, numbers, shown):
        inside = pixels >= _HALF
        total, kept = total + int(np.count_nonzero(pixels)), kept + int(np.count_nonzero(inside))
        outside += _place(mask[0], to_voxels @ frame.to_world, inside)
    notes: list[Problem] = []
    if outside:
        notes.append(SEG_OUTSIDE.about(shown, count=outside, structure=structure))
    if _is_fractional(header):
        kind = str(header.get("SegmentationFractionalType", "") or "FRACTIONAL")
        notes.append(SEG_FRACTIONAL.about(shown, structure=structure, kind=kind, count=kept, total=total))
    return MedicalImage(mask, target.affine, target.spacing_mm, tuple(notes))


def _is_fractional(header: Header) -> bool:
    return str(header.get("SegmentationType", "")).upper() == "FRACTIONAL"


@lru_cache(maxsize=2)
def _open(path: Path, _changed_ns: int, shown: str) -> tuple[Header, tuple[Frame, ...]]:
    """Header and frames; those of the last files are kept, because every structure asks for them."""
    header = read_header(path)
    try:
        return header, tuple(_list_frames(header))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        missing = str(error).rpartition("attribute ")[2] or type(error).__name__
        raise SEG_WITHOUT_PLACE.error(shown, cause=f"without {missing}") from error


def _list_frames(header: Header) -> Iterator[Frame]:
    is_labelmap = str(header.get("SegmentationType", "")).upper() == "LABELMAP"
    shared = (header.get("SharedFunctionalGroupsSequence", None) or [None])[0]
    for index, group in enumerate(header.get("PerFrameFunctionalGroupsSequence", None) or ()):
        position = _find(group, shared, "PlanePositionSequence").ImagePositionPatient
        turned = _find(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
        measures = _find(group, shared, "PixelMeasuresSequence")
        segment = None
        if not is_labelmap:
            segment = int(_find(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        rows_mm, columns_mm = (float(size) for size in measures.PixelSpacing)
        to_world = np.zeros((4, 3))
        to_world[:3, 0] = np.array(turned[:3], float) * columns_mm
        to_world[:3, 1] = np.array(turned[3:], float) * rows_mm
        to_world[:3, 2], to_world[3, 2] = np.array(position, float), 1
        spacing = measures.get("SpacingBetweenSlices", None) or measures.get("SliceThickness", None) or 0
        yield Frame(index, segment, LPS_TO_RAS @ to_world, abs(float(spacing)))


def _find(group: Header, shared: Header | None, keyword: str) -> Any:
    """The item of a functional group, of the frame or shared by all."""
    items = group.get(keyword, None) or (shared.get(keyword, None) if shared is not None else None)
    if not items:
        raise KeyError(f"attribute {keyword}")
    return items[0]


def _lie_on(frames: Sequence[Frame], header: Header, grid: ImageGrid | MedicalImage) -> bool:
    """Whether the pixels of all frames lie on voxels of a grid, or of its continuation."""
    to_voxels = np.linalg.inv(grid.affine)
    ends = np.array([int(header.get("Columns", 1)) - 1, int(header.get("Rows", 1)) - 1], float)
    for frame in frames:
        placed = (to_voxels @ frame.to_world)[:3]
        axes = np.rint(placed[:, :2])
        if np.abs(axes).sum(axis=0).tolist() != [1, 1] or np.abs(axes).sum(axis=1).max() != 1:
            return False
        drift = np.abs(placed[:, :2] - axes) * np.maximum(ends, 1)
        origin = placed[:, 2]
        if drift.max() > _TOLERANCE_VOXELS or np.abs(origin - np.rint(origin)).max() > _TOLERANCE_VOXELS:
            return False
    return True


def _build_own_grid(frames: Sequence[Frame], header: Header, shown: str) -> ImageGrid:
    """The grid whose planes the frames are, with a plane for every frame that is lacking in between."""
    first = frames[0].to_world
    sides = np.linalg.norm(first[:3, :2], axis=0)
    if not np.isfinite(first).all() or (sides <= 0).any():
        raise SEG_WITHOUT_PLACE.error(shown, cause="pixels without a size")
    normal = np.cross(first[:3, 0], first[:3, 1])
    normal /= np.linalg.norm(normal)
    if any(not np.allclose(frame.to_world[:, :2], first[:, :2], atol=1e-3) for frame in frames):
        raise SEG_WITHOUT_PLACE.error(shown, cause="frames of different directions")
    places = np.array([frame.to_world[:3, 2] for frame in frames])
    levels = np.unique(np.round(places @ normal, 3))
    gaps = np.diff(levels)
    step_mm = float(gaps.min()) if len(gaps) else frames[0].thickness_mm or float(sides.min())
    count = int(np.rint((levels[-1] - levels[0]) / step_mm)) + 1
    lowest = places[np.argmin(places @ normal)]
    affine = np.eye(4)
    affine[:3, :2], affine[:3, 2], affine[:3, 3] = first[:3, :2], normal * step_mm, lowest
    shape = int(header.Columns), int(header.Rows), count
    return ImageGrid(1, shape, affine, (*map(float, sides), step_mm), 1)


def _place(mask: np.ndarray, to_voxels: np.ndarray, inside: np.ndarray) -> int:
    """Set the voxels of a frame, shape (rows, columns); the number of those that lie outside."""
    rows, columns = np.nonzero(inside)
    pixels = np.stack([columns, rows, np.ones_like(rows)])
    voxels = np.rint(to_voxels[:3] @ pixels).astype(int)
    is_within = ((voxels >= 0) & (voxels < np.array(mask.shape)[:, None])).all(axis=0)
    mask[tuple(voxels[:, is_within])] = 1
    return int(np.count_nonzero(~is_within))


def _unpack(header: Header, index: int) -> np.ndarray:
    """A frame of single bits, which need not begin with a byte; pydicom takes it for one that does."""
    shape = int(header.Rows), int(header.Columns)
    first = index * shape[0] * shape[1]
    last = first + shape[0] * shape[1]
    stored = np.frombuffer(header.PixelData, np.uint8)
    if header["PixelData"].VR == "OW" and header.original_encoding[1] is False:
        stored = stored.view(np.uint16).byteswap().view(np.uint8)
    bits = np.unpackbits(stored[first // 8 : -(-last // 8)], bitorder="little")
    return bits[first % 8 :][: last - first].reshape(shape)


def _decode(
    header: Header, frames: Sequence[Frame], numbers: Sequence[int], shown: str
) -> Iterator[tuple[Frame, np.ndarray]]:
    """Each frame with its pixels of shape (rows, columns): 0 and 1, or fractions."""
    from pydicom.pixels import pixel_array

    most = float(header.get("MaximumFractionalValue", 1) or 1) if _is_fractional(header) else 1.0
    for frame in frames:
        try:
            packed = int(header.BitsAllocated) == 1 and not header.file_meta.TransferSyntaxUID.is_compressed
            pixels = _unpack(header, frame.index) if packed else pixel_array(header, index=frame.index, raw=True)
        except Exception as error:  # whatever a decoder raises for a damaged stream
            if "PixelData" not in header:
                raise SEG_DAMAGED.error(shown, cause="it has no pixels") from error
            raise NOT_DECODED.error(shown, syntax=header.file_meta.TransferSyntaxUID.name) from error
        yield frame, (np.isin(pixels, numbers) if frame.segment is None else pixels / most)
