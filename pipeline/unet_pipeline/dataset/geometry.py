"""Does a label map lie on its image? Compared by where the corner voxels are in the world, and told apart by cause."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.lattice import PLACED as LABEL_PLACED
from unet_pipeline.dataset.lattice import find_offset, is_whole, place_label
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.messages import ERROR, NOTE, Message, Problem

if TYPE_CHECKING:
    from unet_pipeline.types import Affine

SAME, ROUNDING, PLACED, OTHER_HEADER, RESAMPLED, OTHER_CONTENT = (
    "same",
    "rounding",
    "placed",
    "other header",
    "resampled",
    "other content",
)

# headers hold float32, whose rounding moves a corner by less than this
_FLOAT32_MM = 1e-4
# a header written with a few decimals moves a corner by less than a twentieth of a voxel; a real shift by more
_ROUNDING_VOXELS = 0.05
_ROTATION_DEGREES = 0.05
_AXIS_NAMES = ("left-right", "front-back", "head-foot")

HEADER_ROUNDED = Message(
    "header-rounded",
    NOTE,
    "lies up to {distance:.2g} mm beside its image, a rounding of the header; the image's header is used",
    "Nothing has to be done.",
)
HEADER_DIFFERS = Message(
    "header-differs",
    ERROR,
    "has another affine than its image: {difference}",
    "If its voxels correspond to the image's, `--copy-header` takes the image's header; otherwise export it again.",
)
NO_GEOMETRY = Message(
    "label-without-geometry",
    ERROR,
    "has no place in the world (its affine is the identity), its image has one",
    "If its voxels correspond to the image's, `--copy-header` takes the image's header; otherwise export it again.",
)
PIXEL_SIZE_TAKEN = Message(
    "label-without-pixel-size",
    NOTE,
    "states no pixel size; its image's is used",
    "Nothing has to be done.",
)
GRID_DIFFERS = Message(
    "grid-differs",
    ERROR,
    "has shape {found}, its image {expected}, and both cover the same part of the world",
    "Draw or export the label on the image's own grid, or let `--resample-labels` do so with nearest neighbours.",
)
OFF_LATTICE = Message(
    "label-between-voxels",
    ERROR,
    "has shape {found}, its image {expected}; its voxels are as large and turned as the image's, but lie between them: its first voxel is "
    "({offset}) voxels from the image's, and a whole number of voxels would be on the image's lattice",
    "Export it on the image's own grid, or let `--resample-labels` take the nearest voxels.",
)
SLICES_LACK = Message(
    "label-lacks-slices",
    ERROR,
    "has shape {found}, its image {expected}; it begins at the image's first voxel and lacks the last {missing} along one axis, as a map "
    "does that was cropped, and one that lost slices anywhere",
    "Draw or export the label on the image's own grid; if it was cropped, `--resample-labels` pads it.",
)
SHAPE_DIFFERS = Message(
    "shape-differs",
    ERROR,
    "has shape {found}, its image {expected}",
    "Draw or export the label on the image's own grid.",
)


@dataclass(frozen=True)
class GridComparison:
    """How a label map lies with respect to its image.

    Attributes:
        kind: SAME, ROUNDING, PLACED (cropped or padded by whole voxels), OTHER_HEADER, RESAMPLED or OTHER_CONTENT.
        problem: what to tell the user; None when both are the same.
        max_distance_mm: the farthest that a corner voxel of the one lies from that of the other; infinite for other shapes.
        offset_voxels: of a label map to be placed, where its first voxel lies in the image.
    """

    kind: str
    problem: Problem | None
    max_distance_mm: float
    offset_voxels: tuple[int, ...] = ()

    @property
    def copy_header_helps(self) -> bool:
        return self.kind == OTHER_HEADER

    @property
    def resampling_helps(self) -> bool:
        return self.kind == RESAMPLED


def compare_grids(image: MedicalImage | ImageGrid, label: MedicalImage | ImageGrid, file: str) -> GridComparison:
    """Compare the grid of a label map with that of its image.

    Args:
        image: 2D or 3D.
        label: of any shape.
        file: of the label, for the message.
    """
    if image.spatial_shape != label.spatial_shape:
        shapes = {"found": label.spatial_shape, "expected": image.spatial_shape}
        if (offset := find_offset(image, label)) is not None:
            return _compare_lattices(offset, file, image.spatial_shape, label.spatial_shape)
        if _cover_the_same(image, label):
            return GridComparison(RESAMPLED, GRID_DIFFERS.about(file, **shapes), float("inf"))
        return GridComparison(OTHER_CONTENT, SHAPE_DIFFERS.about(file, **shapes), float("inf"))
    corners = _corners(image.spatial_shape)
    distance_mm = float(
        np.linalg.norm(_to_world(image.affine, corners) - _to_world(label.affine, corners), axis=1).max()
    )
    if distance_mm <= _FLOAT32_MM:
        return GridComparison(SAME, None, distance_mm)
    if distance_mm <= _ROUNDING_VOXELS * min(image.spacing_mm):
        return GridComparison(ROUNDING, HEADER_ROUNDED.about(file, distance=distance_mm), distance_mm)
    if lacks_pixel_size(image, label):
        return GridComparison(ROUNDING, PIXEL_SIZE_TAKEN.about(file), 0.0)
    if np.array_equal(label.affine, np.eye(4)):
        return GridComparison(OTHER_HEADER, NO_GEOMETRY.about(file), distance_mm)
    problem = HEADER_DIFFERS.about(file, difference=describe_difference(image.affine, label.affine))
    return GridComparison(OTHER_HEADER, problem, distance_mm)


def lacks_pixel_size(image: MedicalImage | ImageGrid, label: MedicalImage | ImageGrid) -> bool:
    """Whether both are pictures without a place in the world, such as an X-ray, and only the image knows the size of a pixel."""
    axes_alone = np.diag([*image.spacing_mm, *[1.0] * (4 - len(image.spacing_mm))])
    is_picture = len(image.spatial_shape) == 2 and np.allclose(image.affine, axes_alone)
    return is_picture and image.spatial_shape == label.spatial_shape and np.array_equal(label.affine, np.eye(4))


def _compare_lattices(
    offset: np.ndarray, file: str, image_shape: tuple[int, ...], label_shape: tuple[int, ...]
) -> GridComparison:
    """Grids of other shapes whose voxels are alike: a crop by whole voxels, or one between the image's voxels."""
    shapes = {"found": label_shape, "expected": image_shape}
    if not is_whole(offset):
        shown = ", ".join(f"{part:.3g}" for part in offset)
        return GridComparison(RESAMPLED, OFF_LATTICE.about(file, **shapes, offset=shown), float("inf"))
    whole = tuple(int(part) for part in np.rint(offset))
    missing = [there - here for there, here in zip(image_shape, label_shape, strict=True) if there != here]
    if not any(whole) and len(missing) == 1 and missing[0] > 0:
        return GridComparison(RESAMPLED, SLICES_LACK.about(file, **shapes, missing=missing[0]), float("inf"))
    return GridComparison(PLACED, LABEL_PLACED.about(file, **shapes, offset=whole, done="put"), float("inf"), whole)


def put_on_grid(label: MedicalImage, image: MedicalImage | ImageGrid, file: str) -> MedicalImage:
    """The label map on the image's grid, where that needs no choice: it lies there, up to rounding, or was cropped or padded.

    Args:
        label: one channel.
        file: of the label, for messages.

    Raises:
        ImageFileError: it lies elsewhere.
    """
    comparison = compare_grids(image, label, file)
    if comparison.problem is None:
        return label
    if comparison.kind == ROUNDING:
        return MedicalImage(label.array, image.affine, image.spacing_mm, (*label.notes, comparison.problem))
    if comparison.kind != PLACED:
        raise comparison.problem.as_error()
    return place_label(label, image, comparison.offset_voxels, file)


def fill_the_same(image: MedicalImage | ImageGrid, label: MedicalImage | ImageGrid) -> bool:
    """Whether the voxels of both lie on the same places of the world in another order, as after a flip with its header; one shape."""
    corners = _corners(image.spatial_shape)
    places = [_to_world(grid.affine, corners) for grid in (image, label)]
    tolerance_mm = _ROUNDING_VOXELS * min(image.spacing_mm)
    apart_mm = np.linalg.norm(places[0][:, None] - places[1][None], axis=2)
    return bool((apart_mm.min(axis=0) <= tolerance_mm).all() and (apart_mm.min(axis=1) <= tolerance_mm).all())


def _corners(shape: tuple[int, ...]) -> np.ndarray:
    """Indices of the corner voxels, shape (corners, 3); missing axes are 0."""
    ends = [(0, size - 1) for size in shape] + [(0, 0)] * (3 - len(shape))
    return np.array(list(itertools.product(*ends)), dtype=float)


def _to_world(affine: Affine, indices: np.ndarray) -> np.ndarray:
    return indices @ affine[:3, :3].T + affine[:3, 3]


def _cover_the_same(image: MedicalImage | ImageGrid, label: MedicalImage | ImageGrid) -> bool:
    """Whether the spacings differ and both boxes, to the outer faces of the voxels, agree within a coarser voxel."""
    if len(image.spatial_shape) != len(label.spatial_shape) or np.allclose(
        np.sort(image.spacing_mm), np.sort(label.spacing_mm), rtol=0.01
    ):
        return False
    boxes = []
    for grid in (image, label):
        outside = _corners(grid.spatial_shape) + np.where(_corners(grid.spatial_shape) > 0, 0.5, -0.5)
        outside[:, len(grid.spatial_shape) :] = 0
        world = _to_world(grid.affine, outside)
        boxes.append((world.min(axis=0), world.max(axis=0)))
    tolerance_mm = max(*image.spacing_mm, *label.spacing_mm)
    return all(np.allclose(first, second, rtol=0, atol=tolerance_mm) for first, second in zip(*boxes, strict=True))


def describe_difference(image: Affine, label: Affine) -> str:
    """In words, what makes two affines of one shape differ: spacing, flipped or permuted axes, rotation, origin."""
    differences = []
    spacings = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (image, label)]
    if not np.allclose(spacings[0], spacings[1], rtol=1e-3):
        shown = ["x".join(f"{size:.4g}" for size in spacing) for spacing in spacings]
        differences.append(f"spacing {shown[1]} instead of {shown[0]} mm")
    directions = [affine[:3, :3] / spacing for affine, spacing in zip((image, label), spacings, strict=True)]
    relative = directions[0].T @ directions[1]  # from the label's axes to the image's
    nearest = np.abs(relative).argmax(axis=0)
    if sorted(nearest) == [0, 1, 2] and not np.array_equal(nearest, [0, 1, 2]):
        differences.append(f"axes permuted to {', '.join('ijk'[axis] for axis in nearest)}")
    elif flipped := [axis for axis in range(3) if relative[axis, axis] < -0.9]:
        names = [_AXIS_NAMES[int(np.abs(directions[0][:, axis]).argmax())] for axis in flipped]
        differences.append(f"flipped {' and '.join(names)}")
    else:
        angle = np.degrees(np.arccos(np.clip((np.trace(relative) - 1) / 2, -1, 1)))
        if angle > _ROTATION_DEGREES:
            differences.append(f"rotated by {angle:.2g} degrees")
    shift = label[:3, 3] - image[:3, 3]
    if not differences or (len(differences) == 1 and differences[0].startswith("rotated")):
        differences.append(f"origin shifted by ({', '.join(f'{part:.4g}' for part in shift)}) mm")
    return "; ".join(differences)


def with_grid_of(label: MedicalImage, image: MedicalImage | ImageGrid) -> MedicalImage:
    """The label's voxels under the image's header; both have one shape."""
    return MedicalImage(label.array, image.affine, image.spacing_mm, label.notes)


def resample_label(label: MedicalImage, image: MedicalImage | ImageGrid) -> MedicalImage:
    """The label map on the image's grid: each voxel takes the nearest one of the label; outside it is 0.

    Returns:
        An image of shape (1, *spatial shape of `image`), in the label's own type.
    """
    from scipy import ndimage  # takes as long as all of this package, and a prediction needs none of it

    dims = len(image.spatial_shape)
    to_label = np.linalg.inv(label.affine) @ image.affine
    resampled = ndimage.affine_transform(
        label.array[0],
        to_label[:dims, :dims],
        offset=to_label[:dims, 3],
        output_shape=image.spatial_shape,
        order=0,
        mode="grid-constant",
        cval=0,
    )
    return MedicalImage(resampled[None], image.affine, image.spacing_mm, label.notes)
