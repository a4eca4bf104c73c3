"""Label maps that were cropped or padded: voxels as large and turned as the image's, and a whole number of voxels beside them.

3D Slicer saves a segmentation cropped to its smallest extent. Such a map is put back voxel by voxel; nothing is interpolated.
"""

from __future__ import annotations

import itertools

import numpy as np

from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.messages import NOTE, WARNING, Message

PLACED = Message(
    "label-placed",
    NOTE,
    "has shape {found}, its image {expected}, and lies {offset} whole voxels from the image's first voxel; it was {done} to the image's "
    "grid, nothing was interpolated",
    "Nothing has to be done.",
)
CUT = Message(
    "label-cut",
    WARNING,
    "has {count} labelled voxels outside of its image; they were left out when it was put on the image's grid",
    "See that the label map belongs to this image.",
)

_TOLERANCE_VOXELS = 0.05  # as for the rounding of a header


def find_offset(image: MedicalImage | ImageGrid, label: MedicalImage | ImageGrid) -> np.ndarray | None:
    """Where the label's first voxel lies, in voxels of the image and rarely whole; None where the grids differ in more than place.

    Returns:
        One number per spatial axis; None for other voxel sizes or directions, for a label map without a place in the world (the
        affine is the identity, as of pictures), and for boxes that have no voxel in common.
    """
    dims = len(image.spatial_shape)
    if len(label.spatial_shape) != dims or np.array_equal(label.affine, np.eye(4)):
        return None
    to_image = np.linalg.inv(image.affine) @ label.affine
    ends = [(0, size - 1) for size in label.spatial_shape] + [(0, 0)] * (3 - dims)
    corners = np.array(list(itertools.product(*ends)), dtype=float)
    drift = corners @ (to_image[:3, :3] - np.eye(3)).T
    offset = to_image[:3, 3]
    if np.abs(drift).max() > _TOLERANCE_VOXELS or np.abs(offset[dims:]).max(initial=0) > _TOLERANCE_VOXELS:
        return None
    first, sizes = np.rint(offset[:dims]), np.array(label.spatial_shape)
    has_overlap = (first < image.spatial_shape).all() and (first + sizes > 0).all()
    return offset[:dims] if has_overlap else None


def is_whole(offset: np.ndarray) -> bool:
    """Whether an offset is one of whole voxels, up to the rounding of a header."""
    return bool(np.abs(offset - np.rint(offset)).max() <= _TOLERANCE_VOXELS)


def place_label(
    label: MedicalImage, image: MedicalImage | ImageGrid, offset_voxels: tuple[int, ...], file: str
) -> MedicalImage:
    """The label map on the image's grid; voxels that it does not have are 0.

    Args:
        label: one channel.
        offset_voxels: where its first voxel lies in the image.
        file: of the label, for the notes.

    Returns:
        Shape (1, *spatial shape of `image`), in the label's own type; with a note, and a warning where labelled voxels were cut.
    """
    first = np.array(offset_voxels)
    starts, ends = np.maximum(first, 0), np.minimum(first + label.spatial_shape, image.spatial_shape)
    inside = tuple(slice(start, end) for start, end in zip(starts - first, ends - first, strict=True))
    placed = np.zeros((1, *image.spatial_shape), label.array.dtype, order="F")
    place = tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
    placed[0][place] = label.array[0][inside]
    done = _describe(first, label, image)
    shapes = {"found": label.spatial_shape, "expected": image.spatial_shape}
    notes = [PLACED.about(file, **shapes, offset=offset_voxels, done=done)]
    if lost := int(np.count_nonzero(label.array)) - int(np.count_nonzero(placed)):
        notes.append(CUT.about(file, count=lost))
    return MedicalImage(placed, image.affine, image.spacing_mm, (*label.notes, *notes))


def _describe(first: np.ndarray, label: MedicalImage, image: MedicalImage | ImageGrid) -> str:
    ends = first + label.spatial_shape
    padded = (first > 0).any() or (ends < image.spatial_shape).any()
    cropped = (first < 0).any() or (ends > image.spatial_shape).any()
    return "padded and cropped" if padded and cropped else "cropped" if cropped else "padded"
