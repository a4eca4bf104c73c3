"""One case -> its image with all channels, and its label map on the image's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from unet_pipeline.dataset import geometry
from unet_pipeline.dataset.dataset import Case, StructureMask
from unet_pipeline.dataset.dicom_structures import read_structure
from unet_pipeline.dataset.image import read_grid, read_image, read_label_map
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.dataset.joining import is_recoded, recode
from unet_pipeline.dataset.label_values import is_rounded
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.dataset.missing_channels import insert_missing
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.structure_masks import NO_MASK, join_masks
from unet_pipeline.messages import ERROR, NOTE, Message

CHANNEL_SHAPE = Message(
    "channel-shape",
    ERROR,
    "has shape {found}, the first channel {first} has {expected}",
    "Resample the channels of a case to one grid.",
)
CHANNEL_GRID = Message(
    "channel-grid",
    ERROR,
    "lies up to {distance:.3g} mm away from the first channel {first}",
    "Resample the channels of a case to one grid.",
)
HEADER_COPIED = Message(
    "header-copied",
    NOTE,
    "lay elsewhere ({cause}); the image's header is used, as asked for",
    "Look at the contact sheet: the outlines must fit the image.",
)
LABEL_RESAMPLED = Message(
    "label-resampled",
    NOTE,
    "{cause}; it was resampled to the image's grid with nearest neighbours, as asked for",
    "Look at the contact sheet: the outlines must fit the image.",
)


def read_case_image(root: Path, case: Case, options: ReadOptions) -> MedicalImage:
    """The image of a case; several files become the channels of one array, in which those that the case lacks are 0.

    Raises:
        ImageFileError: a file cannot be read, or a channel lies on another grid than the first.
    """
    first, *others = case.images
    image = read_image(root / first, first.as_posix(), options.pages_as_slices)
    if not others and not case.missing_channels:
        return image
    arrays, notes = [image.array], [*image.notes]
    for path in others:
        channel = read_image(root / path, path.as_posix(), options.pages_as_slices)
        _check_channel(image, channel, path, first)
        arrays.append(channel.array)
        notes += channel.notes
    array = insert_missing(np.concatenate(arrays), case.missing_channels)
    return MedicalImage(array, image.affine, image.spacing_mm, tuple(notes), image.modality)


def read_case_grid(root: Path, case: Case, options: ReadOptions | None = None) -> ImageGrid:
    """The grid of a case's image with all channels, from the headers of its files alone.

    Raises:
        ImageFileError: as `read_case_image`, as far as the headers show it.
    """
    options = options or ReadOptions()
    first, *others = case.images
    grid = read_grid(root / first, first.as_posix(), options.pages_as_slices)
    num_channels = grid.num_channels + len(case.missing_channels)
    for path in others:
        channel = read_grid(root / path, path.as_posix(), options.pages_as_slices)
        _check_channel(grid, channel, path, first)
        num_channels += channel.num_channels
    return replace(grid, num_channels=num_channels)


def _check_channel(image: MedicalImage | ImageGrid, channel: MedicalImage | ImageGrid, path: Path, first: Path) -> None:
    if channel.spatial_shape != image.spatial_shape:
        raise CHANNEL_SHAPE.error(
            path.as_posix(), found=channel.spatial_shape, first=first.name, expected=image.spatial_shape
        )
    comparison = geometry.compare_grids(image, channel, path.as_posix())
    if comparison.kind not in (geometry.SAME, geometry.ROUNDING):
        raise CHANNEL_GRID.error(path.as_posix(), distance=comparison.max_distance_mm, first=first.name)


def read_case_label(
    root: Path, case: Case, image: MedicalImage | ImageGrid | None, options: ReadOptions
) -> tuple[MedicalImage, bool]:
    """The label map of a case on the grid of its image; as it is, where there is no image to compare it with.

    Returns:
        The label map, and whether its grid or values are other than the file's, as those of masks that were joined are.

    Raises:
        ImageFileError: a file cannot be read, or does not lie on the image's grid.
        DatasetError: the case has no label map.
    """
    path = case.require_label()
    if case.masks is not None:
        return _read_joined(root, case, image, options), True
    label, is_changed = _read_on_grid(root, path, image, options)
    if options.labels_are_instances:
        return replace(label, array=(label.array > 0).astype(np.uint8)), True
    return recode(label, case), is_changed or is_recoded(case)


def read_case_instances(
    root: Path, case: Case, image: MedicalImage | ImageGrid, options: ReadOptions
) -> tuple[MedicalImage, Path, bool] | None:
    """The instance map of a case on the grid of its image, its path below the root, and whether that is another grid than the file's.

    Returns:
        None without one.

    Raises:
        ImageFileError: the file cannot be read, or does not lie on the image's grid.
    """
    path = case.require_label()
    if not options.labels_are_instances:
        beside = None if case.masks is not None else find_instances(root / path)
        if beside is None:
            return None
        path = beside.relative_to(root)
    instances, is_changed = _read_on_grid(root, path, image, options)
    return instances, path, is_changed


def _read_joined(root: Path, case: Case, image: MedicalImage | ImageGrid | None, options: ReadOptions) -> MedicalImage:
    """The masks of a case as one label map, on the grid of the first mask where there is no image."""
    if image is None and not case.masks:
        raise NO_MASK.error(case.require_label().as_posix())
    grid = image or read_mask(root, (case.masks or ())[0], None, options)
    array, notes = join_masks(case, grid.spatial_shape, lambda mask: read_mask(root, mask, grid, options))
    return MedicalImage(array, grid.affine, grid.spacing_mm, tuple(notes))


def read_mask(
    root: Path, mask: StructureMask, image: MedicalImage | ImageGrid | None, options: ReadOptions
) -> MedicalImage:
    """The mask of one structure on the grid of an image."""
    if not mask.numbers:
        return _read_on_grid(root, mask.path, image, options)[0]
    label = read_structure(root, mask, image)
    return label if image is None else _fit(label, image, mask.path.as_posix(), options)[0]


def _read_on_grid(
    root: Path, path: Path, image: MedicalImage | ImageGrid | None, options: ReadOptions
) -> tuple[MedicalImage, bool]:
    """One label file on the grid of an image, and whether it was put there."""
    shown = path.as_posix()
    label = read_label_map(root / path, shown, options.pages_as_slices)
    is_changed = is_rounded(label)
    if image is None:
        return label, is_changed
    fitted, is_moved = _fit(label, image, shown, options)
    return fitted, is_changed or is_moved


def _fit(
    label: MedicalImage, image: MedicalImage | ImageGrid, shown: str, options: ReadOptions
) -> tuple[MedicalImage, bool]:
    """A label map on the grid of an image, and whether it was put there.

    Raises:
        ImageFileError: it lies elsewhere.
    """
    comparison = geometry.compare_grids(image, label, shown)
    problem = comparison.problem
    if problem is None:
        return label, False
    if comparison.kind in (geometry.ROUNDING, geometry.PLACED):
        return geometry.put_on_grid(label, image, shown), True
    if comparison.copy_header_helps and options.copy_header:
        changed, note = geometry.with_grid_of(label, image), HEADER_COPIED.about(shown, cause=problem.cause)
    elif comparison.resampling_helps and options.resample_labels:
        changed, note = geometry.resample_label(label, image), LABEL_RESAMPLED.about(shown, cause=problem.cause)
    else:
        raise problem.as_error()
    return MedicalImage(changed.array, changed.affine, changed.spacing_mm, (*label.notes, note)), True
