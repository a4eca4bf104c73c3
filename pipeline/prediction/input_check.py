"""Whether a network can take an image, said before its grid is allocated, and what the user should know about it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from pipeline.dataset.medical_image import ImageGrid, MedicalImage
from pipeline.dataset.problems import WARNING, Message, Problem
from pipeline.errors import PredictionError
from pipeline.prediction.grids import map_grid
from pipeline.prediction.memory import FLOAT, find_free_bytes
from pipeline.prediction.modality import compare_modality
from pipeline.prediction.parts import Expected
from pipeline.prediction.recipe import begins_as_planned, list_image_transforms
from pipeline.types import IMAGE

UNSEEN_SPACING = Message(
    "unseen-spacing",
    WARNING,
    "has voxels of {found} mm, and the network was trained at {expected} mm",
    "The label map is made all the same; look at it before you use it.",
)
CONSTANT_INPUT = Message(
    "constant-input",
    WARNING,
    "has the value {value:g} in every voxel",
    "There is nothing to be seen in it, and its label map means nothing: export it again.",
)
_FAR_SPACING = 3.0  # times finer or coarser
_MOST_SHEAR_DEGREES = 0.5  # as of a gantry that is tilted
_MOST_VOXELS = 2**31  # made of far fewer; more than that an image never has to be refined to
_MOST_REFINED = 8.0  # voxels of the network's grid for one of the image


def check_input(image: MedicalImage, expected: Expected, shown: str) -> tuple[Problem, ...]:
    """Whether a network can take an image.

    Args:
        image: as read.
        expected: by the bundle.
        shown: the image's name for messages.

    Returns:
        What the user should know about it, worst first; no errors.

    Raises:
        PredictionError: other number of channels or dimensions, or voxels without a value.
    """
    check_grid(image.grid, expected, shown)
    is_real = expected.is_planned and image.array.dtype.kind == "f"
    if is_real and (count := int(np.count_nonzero(~np.isfinite(image.array)))):
        raise PredictionError(f"{shown} has {count} voxels that are NaN or infinite; expected numbers. Replace them.")
    notes = (*note_content(image, shown, expected.modalities), *image.notes)
    if expected.spacing_mm is None:
        return notes
    ratios = np.sort(image.spacing_mm) / np.sort(expected.spacing_mm)
    if (np.maximum(ratios, 1 / ratios) <= _FAR_SPACING).all():
        return notes
    return (UNSEEN_SPACING.about(shown, found=_show(image.spacing_mm), expected=_show(expected.spacing_mm)), *notes)


def note_content(image: MedicalImage, shown: str, modalities: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Warnings about an image that is another kind than the training's, or in which nothing can be seen."""
    lowest = image.array.min()
    constant = (CONSTANT_INPUT.about(shown, value=float(lowest)),) if lowest == image.array.max() else ()
    return (*constant, *compare_modality(image.modality, modalities, shown))


def check_grid(grid: ImageGrid, expected: Expected, shown: str) -> None:
    """Whether a network can take an image, by its header.

    Raises:
        PredictionError: other number of channels or dimensions, or axes that are far from orthogonal.
    """
    found = len(grid.spatial_shape), grid.num_channels
    wanted = expected.spatial_dims, len(expected.channel_names)
    if found != wanted:
        raise PredictionError(
            f"{shown} has {found[0]} dimensions and {found[1]} channel(s); the bundle expects {wanted[0]} and "
            f"{wanted[1]} ({', '.join(expected.channel_names)}). Give it images like those it was trained on"
            + ("; the last axis of a 4D file, such as time, counts as channels." if found[1] > 4 else ".")
        )
    shear = _measure_shear(grid.affine) if expected.is_planned else 0.0
    if shear > _MOST_SHEAR_DEGREES:
        raise PredictionError(
            f"{shown} has sheared axes: {90 - shear:.2f} degrees between two of them; expected a box, 90 degrees. Resample it to an "
            "orthogonal grid."
        )


def check_size(grid: ImageGrid, preprocessing: Any, shown: str, free_bytes: int | None = None) -> None:
    """Whether an image on the network's grid is one that this machine can hold; nothing of it is allocated.

    Args:
        grid: of the image.
        preprocessing: of the bundle; what does not begin as `plan` writes it is not judged.
        shown: the image's name for messages.
        free_bytes: of main memory; as much as there is, if None.

    Raises:
        PredictionError: it is too large.
    """
    if not begins_as_planned(preprocessing):
        return
    shape, affine = find_network_grid(grid, preprocessing)
    native, voxels = prod(grid.spatial_shape), prod(shape)
    needed = grid.num_channels * (native * grid.value_bytes + voxels * FLOAT)
    free_bytes = find_free_bytes(torch.device("cpu")) if free_bytes is None else free_bytes
    is_endless = voxels > _MOST_VOXELS and voxels > _MOST_REFINED * native
    if needed <= free_bytes and not is_endless:
        return
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[: len(shape)]
    raise PredictionError(
        f"{shown} is too large on the network's grid: {'x'.join(map(str, grid.spatial_shape))} voxels of {_show(grid.spacing_mm)} mm "
        f"become {'x'.join(map(str, shape))} of {_show(spacing)} mm, {needed / 2**30:.1f} GiB at least; {free_bytes / 2**30:.1f} GiB are "
        "free. See that the voxel size in its header is right, or crop it."
    )


def is_box(grid: ImageGrid, preprocessing: Any) -> bool:
    """Whether the axes of image and network's grid run along each other, both ways."""
    shape, affine = find_network_grid(grid, preprocessing)
    there = map_grid(grid.affine, grid.spatial_shape, affine, shape)
    return there is not None and map_grid(affine, shape, grid.affine, grid.spatial_shape) is not None


def find_network_grid(grid: ImageGrid, preprocessing: Any) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of an image on the network's grid, without its voxels.

    Args:
        grid: of the image.
        preprocessing: that begins as `plan` writes it.
    """
    image = MetaTensor(torch.zeros(1).expand(1, *grid.spatial_shape), affine=torch.from_numpy(grid.affine))
    for transform in list_image_transforms(preprocessing)[2:4]:
        image = transform({IMAGE: image}, lazy=True)[IMAGE]
    return tuple(map(int, image.peek_pending_shape())), image.peek_pending_affine().numpy()


def _measure_shear(affine: np.ndarray) -> float:
    """How far two axes are from orthogonal, in degrees, at most."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = [abs(float(columns[:, i] @ columns[:, j])) for i, j in combinations(range(3), 2)]
    return float(np.degrees(np.arcsin(min(1.0, max(cosines)))))


def _show(sizes: Sequence[float]) -> str:
    return "x".join(f"{size:.3g}" for size in sizes)
