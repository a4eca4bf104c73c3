"""Whether a network can take an image, said before its grid is allocated, and what the user should know about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from unet_pipeline.dataset.medical_image import LARGEST_VALUE, ImageGrid, MedicalImage
from unet_pipeline.device.memory import find_free_bytes
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import WARNING, Message, Problem, name_elements
from unet_pipeline.prediction.grids import map_grid
from unet_pipeline.prediction.memory import FLOAT
from unet_pipeline.prediction.modality import compare_modality
from unet_pipeline.prediction.parts import Expected
from unet_pipeline.prediction.recipe import begins_as_planned, list_image_transforms
from unet_pipeline.types import IMAGE

UNSEEN_SPACING = Message(
    "unseen-spacing",
    WARNING,
    "has voxels of {found} mm, and the network was trained at {expected} mm",
    "The label map is made all the same; look at it before you use it.",
)
CONSTANT_INPUT = Message(
    "constant-input",
    WARNING,
    "has the value {value:g} everywhere",
    "There is nothing to be seen in it, and its label map means nothing: export it again.",
)
FLAT_INPUT = Message(
    "flat-input",
    WARNING,
    "has one voxel along an axis, and the network was trained on volumes",
    "Give it the whole volume; the label map of a single slice is worth little.",
)
_FAR_SPACING = 3.0  # times finer or coarser
_MOST_SHEAR_DEGREES = 0.5  # as of a gantry that is tilted
# on the network's grid, and for one voxel of the image: more than both an image never has to be refined to
_ENDLESS = ((2**31, 8), (2**26, 512))
_FEWEST_VOXELS = 8  # of an image on the network's grid, unless it has as few itself
_FEWEST_PIXELS = 2  # along an axis of a picture; MONAI writes no narrower one


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
    check_values(image, shown)
    is_flat = expected.is_planned and expected.spatial_dims == 3 and min(image.spatial_shape) == 1
    flat = (FLAT_INPUT.about(shown),) if is_flat else ()
    notes = (*note_content(image, shown, expected.modalities), *flat, *image.notes)
    if expected.spacing_mm is None:
        return notes
    ratios = np.sort(image.spacing_mm) / np.sort(expected.spacing_mm)
    if (np.maximum(ratios, 1 / ratios) <= _FAR_SPACING).all():
        return notes
    return (UNSEEN_SPACING.about(shown, found=_show(image.spacing_mm), expected=_show(expected.spacing_mm)), *notes)


def check_values(image: MedicalImage, shown: str) -> None:
    """Whether all voxels are numbers that float32 can compute with.

    Raises:
        PredictionError: some are NaN, infinite, or so large that the intensities cannot be normalised.
    """
    if image.array.dtype.kind == "f" and (count := int(np.count_nonzero(~np.isfinite(image.array)))):
        raise PredictionError(f"{shown} has {count} values that are NaN or infinite; expected numbers. Replace them.")
    largest = max(abs(float(image.array.min())), abs(float(image.array.max())))
    if largest > LARGEST_VALUE:
        raise PredictionError(
            f"{shown} has values up to {largest:.3g}; expected less than {LARGEST_VALUE:g}, which is far beyond any intensity. Correct the "
            "scaling in its header (such as scl_slope), or replace the values."
        )


def note_content(image: MedicalImage, shown: str, modalities: Sequence[str] = ()) -> tuple[Problem, ...]:
    """Warnings about an image that is another kind than the training's, or in which nothing can be seen."""
    lowest, highest = image.array.min(), image.array.max()
    # in the network's numbers
    is_constant = np.float32(lowest) == np.float32(highest)
    constant = (CONSTANT_INPUT.about(shown, value=float(lowest)),) if is_constant else ()
    return (*constant, *compare_modality(image.modality, modalities, shown))


def check_grid(grid: ImageGrid, expected: Expected, shown: str) -> None:
    """Whether a network can take an image, by its header.

    Raises:
        PredictionError: other number of channels or dimensions, a picture of one row, or axes that are far from orthogonal.
    """
    counted = len(grid.spatial_shape), grid.num_channels
    wanted = expected.spatial_dims, len(expected.channel_names)
    if counted != wanted:
        raise PredictionError(
            f"{shown} has {counted[0]} dimensions and {counted[1]} channel(s); the bundle expects {wanted[0]} and "
            f"{wanted[1]} ({', '.join(expected.channel_names)}). Give it images like those it was trained on"
            + ("; the last axis of a 4D file, such as time, counts as channels." if counted[1] > 4 else ".")
        )
    if expected.counts_pixels:
        if min(grid.spatial_shape) < _FEWEST_PIXELS:
            raise PredictionError(
                f"{shown} has {grid.spatial_shape[0]} x {grid.spatial_shape[1]} pixels; expected at least {_FEWEST_PIXELS} along each axis. "
                "Give it a picture like those it was trained on."
            )
        return
    check_box(grid, shown)


def see_grid(grid: ImageGrid, expected: Expected) -> ImageGrid:
    """The grid as the network sees it: of a picture the size of its pixels, which DICOM and others state, does not count."""
    if not expected.counts_pixels:
        return grid
    return replace(grid, affine=np.eye(4), spacing_mm=(1.0,) * len(grid.spatial_shape))


def check_box(grid: ImageGrid, shown: str) -> None:
    """Whether an image's axes are orthogonal.

    Raises:
        PredictionError: they are far from it.
    """
    shear = _measure_shear(grid.affine)
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
        PredictionError: it is too large, or nearly nothing of it is left.
    """
    if not begins_as_planned(preprocessing):
        return
    shape, affine = find_network_grid(grid, preprocessing)
    compare_sizes(grid, shape, np.linalg.norm(affine[:3, :3], axis=0), shown, free_bytes)


def compare_sizes(
    grid: ImageGrid, shape: Sequence[int], spacing_mm: Sequence[float], shown: str, free_bytes: int | None = None
) -> None:
    """Whether an image on the network's grid is one that this machine can hold, and of which something is left.

    Args:
        grid: of the image.
        shape: of the image on the network's grid.
        spacing_mm: of the network's grid.
        shown: the image's name for messages.
        free_bytes: as in `check_size`.

    Raises:
        PredictionError: it is too large, or nearly nothing of it is left.
    """
    native, voxels = prod(grid.spatial_shape), prod(shape)
    elements = name_elements("voxels", len(shape) == 2)
    sizes = f"{'x'.join(map(str, grid.spatial_shape))} {elements} of {_show(grid.spacing_mm)} mm"
    becomes = f"become {'x'.join(map(str, shape))} of {_show(spacing_mm[: len(shape)])} mm"
    if voxels <= _FEWEST_VOXELS < native:
        raise PredictionError(
            f"{shown} is too small on the network's grid: {sizes} {becomes}, in which nothing can be seen. See that the spacing in its "
            "header is right, and in mm."
        )
    needed = grid.num_channels * (native * grid.value_bytes + voxels * FLOAT)
    free_bytes = find_free_bytes(torch.device("cpu")) if free_bytes is None else free_bytes
    is_endless = any(voxels > most and voxels > refined * native for most, refined in _ENDLESS)
    if needed <= free_bytes and not is_endless:
        return
    raise PredictionError(
        f"{shown} is too large on the network's grid: {sizes} {becomes}, {needed / 2**30:.1f} GiB at least; {free_bytes / 2**30:.1f} GiB "
        "are free. See that the spacing in its header is right, or crop it."
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
