"""What moves the voxels of a patch, drawn for one sample, and where in its case each voxel of the patch then comes from.

Crop, rotation, scaling, stretch, elastic deformation and mirroring are one map from the patch to the whole case, so that what a rotation
brings in from outside the patch is real image. Only beyond the border of the case is the image mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from unet_pipeline.training.row_layout import Shape, Values

Range = tuple[float, float]

# a bicubic interpolation may leave the range of its values; the sum of its absolute weights is below this in 2D
_BICUBIC_OVERSHOOT = 2.0


@dataclass(frozen=True)
class SpatialAugmentation:
    """Rotation, scaling, stretching, elastic deformation and mirroring, as one map from output to input.

    Args:
        spacing_mm: of the patch; rotations keep lengths in mm.
        affine_probability: of a sample to be rotated, scaled and stretched.
        rotation_range_rad: largest angle to either side; one in 2D, in 3D one about each axis.
        scale_range: smallest and largest enlargement of an object, drawn on a logarithmic scale.
        stretch_range: each axis is enlarged by a further factor of at most 1 + this, or its inverse.
        elastic_probability: of a sample to be deformed.
        elastic_control_points: random displacements per axis, with smooth interpolation (bicubic in 2D, linear in 3D) between them.
        elastic_sigma_voxel: standard deviation of the displacements along each axis.
        mirror_probability: per axis.
    """

    spacing_mm: Sequence[float]
    affine_probability: float
    rotation_range_rad: Sequence[float]
    scale_range: Range
    stretch_range: float
    elastic_probability: float
    elastic_control_points: Sequence[int]
    elastic_sigma_voxel: float
    mirror_probability: Sequence[float]

    def draw_matrix(self, generator: np.random.Generator) -> np.ndarray | None:
        """Output to input in mm about the centre, shape (dims, dims); None where nothing is to be done."""
        dims = len(self.spacing_mm)
        matrix = np.eye(dims)
        if generator.random() < self.affine_probability:
            for axis, limit in enumerate(self.rotation_range_rad):
                first, second = (0, 1) if dims == 2 else [other for other in range(3) if other != axis]
                matrix = matrix @ _rotate(dims, first, second, generator.uniform(-limit, limit))
            scale = math.exp(generator.uniform(*np.log(self.scale_range)))
            stretch = np.exp(generator.uniform(-1, 1, dims) * math.log1p(self.stretch_range))
            matrix = matrix / (scale * stretch)
        mirrored = generator.random(dims) < np.asarray(self.mirror_probability[:dims])
        matrix = matrix * np.where(mirrored, -1.0, 1.0)[:, None]
        return None if np.array_equal(matrix, np.eye(dims)) else matrix

    def draw_displacements(self, generator: np.random.Generator) -> np.ndarray | None:
        """Displacements in voxels at the control points, shape (dims, *points); None where nothing is to be done."""
        if generator.random() >= self.elastic_probability:
            return None
        points = tuple(self.elastic_control_points)
        return generator.normal(0, self.elastic_sigma_voxel, (len(points), *points))

    def list_shapes(self) -> dict[str, Shape]:
        """Values of a sample: its matrix in voxels and its displacements, which are 0 where nothing is to be done."""
        dims, points = len(self.spacing_mm), tuple(self.elastic_control_points)
        return {"matrix": (dims, dims), "field": (dims, *points)}

    def draw(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """The values of one sample."""
        spacing_mm = np.asarray(self.spacing_mm, dtype=np.float64)
        matrix, field = self.draw_matrix(generator), self.draw_displacements(generator)
        shapes = self.list_shapes()
        return {
            "matrix": np.eye(len(spacing_mm)) if matrix is None else matrix * spacing_mm / spacing_mm[:, None],
            "field": np.zeros(shapes["field"]) if field is None else field,
        }


def is_moved(values: Values) -> torch.Tensor:
    """Which samples of a batch need an interpolation, shape (batch); others are cut out, and mirrored at most."""
    matrix, field = values["matrix"], values["field"]
    identity = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    return (matrix.abs() != identity).flatten(1).any(1) | has_displacements(field)


def has_displacements(field: torch.Tensor) -> torch.Tensor:
    """Which samples are deformed, shape (batch)."""
    return (field != 0).flatten(1).any(1)


def find_box(
    matrix: np.ndarray, field: np.ndarray, centre: np.ndarray, patch_size: Sequence[int], case_shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and size of the part of a case that a patch is made of, as whole numbers of shape (dims,); its centre lies in the case."""
    sizes, patch = np.asarray(case_shape), np.asarray(patch_size)
    reach = np.abs(matrix) @ ((patch - 1) / 2)
    overshoot = _BICUBIC_OVERSHOOT if len(sizes) == 2 else 1.0
    reach = reach + overshoot * np.abs(field).reshape(len(sizes), -1).max(axis=1)
    # what is mirrored at a border comes to lie between both: the centre is in the case, and the reach to both sides the same
    low, high = centre - reach, centre + reach
    first = np.clip(np.floor(low), 0, sizes - 1).astype(np.int64)
    last = np.clip(np.ceil(high), 0, sizes - 1).astype(np.int64)
    return first, last - first + 1


def compute_places(values: Values, patch_size: Sequence[int], deformed: torch.Tensor | None = None) -> torch.Tensor:
    """Where each voxel of the patches is taken from, in voxels of the part of the case that is at hand.

    Args:
        values: of the samples: `centre`, `case_shape`, `lower` (first voxel at hand) and `box_shape` (how many), each of shape
            (batch, dims), and those of `SpatialAugmentation`.
        patch_size: of the patches.
        deformed: indices of the samples with displacements; None adds those of all, which are 0 where there are none.

    Returns:
        Shape (batch, dims, *patch_size), float32, from 0 to the size less 1.
    """
    matrix = values["matrix"].float()
    batch, dims = matrix.shape[:2]
    ones = [1] * dims
    places = values["centre"].float().view(batch, dims, *ones)
    for axis, size in enumerate(patch_size):
        offsets = torch.arange(size, device=matrix.device) - (size - 1) / 2
        along = [size if other == axis else 1 for other in range(dims)]
        places = places + (matrix[:, :, axis, None] * offsets).view(batch, dims, *along)
    if deformed is None:
        places = places + _interpolate(values["field"], patch_size)
    elif len(deformed):
        places[deformed] += _interpolate(values["field"][deformed], patch_size)
    case_shape, lower, box_shape = (
        values[name].float().view(batch, dims, *ones) for name in ("case_shape", "lower", "box_shape")
    )
    inside = torch.minimum(places.clamp(min=-0.5), case_shape - 0.5)
    places = 2 * inside - places  # what lies outside is mirrored at the border
    return torch.minimum((places - lower).clamp(min=0), box_shape - 1)


def _interpolate(field: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    mode = "bicubic" if len(patch_size) == 2 else "trilinear"
    return functional.interpolate(field.float(), size=tuple(patch_size), mode=mode, align_corners=True)


def _rotate(dims: int, first: int, second: int, angle: float) -> np.ndarray:
    rotation = np.eye(dims)
    rotation[[first, second], [first, second]] = math.cos(angle)
    rotation[first, second], rotation[second, first] = -math.sin(angle), math.sin(angle)
    return rotation
