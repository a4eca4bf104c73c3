"""A case as layers that a browser reads: gzip-compressed NIfTI, in the order nearest to RAS, cropped around the labels where that is asked.

The values are exact, as nibabel reads them, unless the page would become too large: then they are rounded to 256 steps.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import affines

from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.geometry import put_on_grid
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.pages import read_label_pages
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evidence.records.case_files import Labels, Source
from unet_pipeline.prediction.instances import find_predicted_instances
from unet_pipeline.prediction.outputs import probabilities_path

MARGIN_MM = 15.0  # around the labels: enough to see where in the body one is
_STEPS = 255
_MOST_NUMBERS = 65535
Box = tuple[slice, ...]
_EXACT_TYPES = (np.uint8, np.int16, np.uint16, np.int32)


@dataclass(frozen=True)
class Layers:
    """What the page gets of one case.

    Attributes:
        images: one NIfTI file per channel, or one of three channels for a picture in colour.
        reference: label map, None without one.
        predictions: one label map per result, None where a result lacks the case.
        probabilities: foreground classes along the fourth axis, 0 to 255; None where `predict` kept none.
        instances: instance map of the reference, then of each result; None where there is none.
        facts: where the crop lies in the file, for the export of a corrected label map.
    """

    images: tuple[bytes, ...]
    reference: bytes | None
    predictions: tuple[bytes | None, ...]
    probabilities: bytes | None
    instances: tuple[bytes | None, ...]
    facts: dict[str, object]


def build_layers(
    source: Source, predictions: Sequence[Path | None], labels: Labels, crop: bool = True, exact: bool = True
) -> Layers:
    """Read a case.

    Args:
        source: image and reference.
        predictions: label map files, one per result.
        labels: what their values mean.
        crop: keep a box around the labels of a volume only.
        exact: keep the image's values; otherwise round them to 256 steps.

    Raises:
        ImageFileError: a file cannot be read, or a label map does not lie on the image's grid.
    """
    case = _read_case(source, predictions, labels, crop)
    image, moved = case.image, _move(case.affine, case.box)
    reference, *found = [None if volume is None else _encode_labels(volume, moved) for volume in case.volumes[1:]]
    instances = tuple(None if volume is None else _encode_instances(volume, moved) for volume in case.instances)
    probabilities = _read_probabilities(predictions, case.turn, case.shape)
    facts = {
        "shape": list(image.spatial_shape),
        "affine": image.affine.tolist(),
        "start": [0, 0, 0] if case.box is None else [part.start for part in case.box],
        "turn": None if case.turn is None else case.turn.astype(int).tolist(),
        "spacing_mm": [float(size) for size in image.spacing_mm],
    }
    images = tuple(_encode_channels(case.volumes[0], moved, exact))
    chances = None if probabilities is None else _encode_probabilities(_cut(probabilities, case.box), moved)
    return Layers(images, reference, tuple(found), chances, instances, facts)


def read_cropped(
    source: Source, prediction: Path, labels: Labels
) -> tuple[MedicalImage, MedicalImage | None, MedicalImage]:
    """Image, reference and prediction near RAS, a volume cropped around what is labelled."""
    case = _read_case(source, [prediction], labels, crop=True)
    affine = _move(case.affine, case.box)
    is_picture = case.turn is None
    spacing_mm = case.image.spacing_mm if is_picture else tuple(map(float, affines.voxel_sizes(affine)))
    image, reference, found = (None if one is None else MedicalImage(one, affine, spacing_mm) for one in case.volumes)
    return image, reference, found  # type: ignore[return-value]  # image and prediction are there


@dataclass(frozen=True)
class _Case:
    """Image, reference and predictions near RAS, cut to a box; `affine` and `shape` are those of the whole."""

    image: MedicalImage
    turn: np.ndarray | None
    affine: np.ndarray
    shape: tuple[int, ...]
    box: Box | None
    volumes: list[Any]
    instances: list[Any]


def _read_case(source: Source, predictions: Sequence[Path | None], labels: Labels, crop: bool) -> _Case:
    dims = labels.spatial_dims
    image = source.image.read(dims)
    files = (source.reference, *predictions, *_find_instance_maps(source, predictions))
    maps = [None if path is None else _read_labels(path, image, dims) for path in files]
    turn = _find_turn(image)
    affine, arrays = _turn_all(image, maps, turn)
    volumes, instances = arrays[: 2 + len(predictions)], arrays[2 + len(predictions) :]
    background = next(iter(labels.table.values()))
    box = _find_box(volumes[1:], affine, background) if crop and turn is not None else None
    cut, cut_instances = ([None if one is None else _cut(one, box) for one in part] for part in (volumes, instances))
    return _Case(image, turn, affine, volumes[0].shape[1:], box, cut, cut_instances)


def _find_instance_maps(source: Source, predictions: Sequence[Path | None]) -> list[Path | None]:
    """Of the reference, then of each prediction."""
    reference = None if source.reference is None else find_instances(source.reference)
    return [reference, *(None if path is None else find_predicted_instances(path) for path in predictions)]


def _read_labels(path: Path, image: MedicalImage, dims: int | None) -> MedicalImage:
    label = read_label_pages(
        path, dims, known_values=None
    )  # predictions scatter labels, and references were read before
    if len(image.spatial_shape) == 2 and label.spatial_shape == image.spatial_shape:
        return label  # pictures have no place in the world
    return put_on_grid(label, image, path.name)


def _find_turn(image: MedicalImage) -> np.ndarray | None:
    """How the axes are turned to come near to RAS; None for a picture."""
    return nib.io_orientation(image.affine) if len(image.spatial_shape) == 3 else None


def _turn_all(
    image: MedicalImage, maps: Sequence[MedicalImage | None], turn: np.ndarray | None
) -> tuple[np.ndarray, list[Any]]:
    """Affine and arrays, channels first, in the order nearest to RAS."""
    arrays = [image.array, *(None if one is None else one.array for one in maps)]
    if turn is None:
        return np.eye(4), arrays
    affine = image.affine @ nib.orientations.inv_ornt_aff(turn, image.spatial_shape)
    return affine, [None if array is None else _turn(array, turn) for array in arrays]


def _turn(array: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return np.stack([nib.orientations.apply_orientation(channel, turn) for channel in array])


def _find_box(maps: Sequence[np.ndarray | None], affine: np.ndarray, background: int) -> Box | None:
    """Around everything that is labelled, with a margin; None where nothing is."""
    inside = [np.asarray(one[0] != background) for one in maps if one is not None]
    labelled = np.logical_or.reduce(inside) if inside else np.zeros((1, 1, 1), bool)
    if not labelled.any():
        return None
    spacing_mm = affines.voxel_sizes(affine)
    box = []
    for axis in range(3):
        there = np.flatnonzero(labelled.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = math.ceil(MARGIN_MM / float(spacing_mm[axis]))
        box.append(slice(max(0, int(there[0]) - margin), min(labelled.shape[axis], int(there[-1]) + 1 + margin)))
    return tuple(box)


def _cut(array: np.ndarray, box: Box | None) -> np.ndarray:
    return array if box is None else array[(slice(None), *box)]


def _move(affine: np.ndarray, box: Box | None) -> np.ndarray:
    """The affine of the crop: its first voxel lies where it lay."""
    if box is None:
        return affine
    moved = affine.copy()
    moved[:3, 3] = affines.apply_affine(affine, [part.start for part in box])
    return moved


def _encode_channels(array: np.ndarray, affine: np.ndarray, exact: bool) -> list[bytes]:
    if array.ndim == 3 and array.shape[0] == 3 and array.dtype == np.uint8:  # a picture in colour
        return [encode_nifti(np.moveaxis(array, 0, -1)[:, :, None, :], affine)]
    return [_encode_channel(channel, affine, exact) for channel in array]


def _encode_channel(channel: np.ndarray, affine: np.ndarray, exact: bool) -> bytes:
    if exact or channel.dtype == np.uint8:
        return encode_nifti(_shrink(channel), affine)
    finite = channel[np.isfinite(channel)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if high - low > _STEPS:  # a few bright voxels would take the steps of all others
        low, high = (float(edge) for edge in np.percentile(finite, [0.1, 99.9]))
    slope = max((high - low) / _STEPS, 1e-12)
    steps = np.clip(np.rint((np.nan_to_num(channel.astype(np.float64)) - low) / slope), 0, _STEPS).astype(np.uint8)
    return encode_nifti(steps, affine, slope, low)


def _shrink(array: np.ndarray) -> np.ndarray:
    """The smallest type that holds the values as they are, float32 at most."""
    if array.size and np.isfinite(array).all() and bool((array == np.rint(array)).all()):
        low, high = float(array.min()), float(array.max())
        for kind in _EXACT_TYPES:
            limits = np.iinfo(kind)
            if limits.min <= low and high <= limits.max:
                return array.astype(kind)
    return array.astype(np.float32)


def _encode_labels(volume: np.ndarray, affine: np.ndarray) -> bytes:
    labels = _shrink(volume[0])
    if labels.dtype not in (np.uint8, np.int16, np.uint16):
        raise EvaluationError(
            f"A label map has the value {labels.max()}; expected values up to 65535. Write it with smaller values."
        )
    return encode_nifti(labels, affine)


def _encode_instances(volume: np.ndarray, affine: np.ndarray) -> bytes:
    """An instance map; numbers beyond 16 bits, of objects far from each other, begin again at 1."""
    numbers = volume[0].astype(np.int64)
    return encode_nifti(np.where(numbers > 0, (numbers - 1) % _MOST_NUMBERS + 1, 0).astype(np.uint16), affine)


def encode_volume(image: MedicalImage) -> bytes:
    """The first channel as a gzip-compressed NIfTI file with the values as they are, on the image's own grid."""
    return encode_nifti(_shrink(image.array[0]), image.affine)


def encode_nifti(array: np.ndarray, affine: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> bytes:
    """A gzip-compressed NIfTI file; an axis is added to a picture of two. The same input gives the same bytes."""
    array = array[:, :, None] if array.ndim == 2 else array
    header = nib.Nifti1Header()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_sform(affine, code=1)
    header.set_zooms((*affines.voxel_sizes(affine), 1.0)[: array.ndim])
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, slope, inter
    header["magic"], header["xyzt_units"] = b"n+1", 2
    return gzip.compress(header.binaryblock + bytes(4) + array.tobytes(order="F"), compresslevel=6, mtime=0)


def find_probabilities(label_map: Path | None) -> Path | None:
    """What `predict --probabilities` left beside a label map; None for nothing."""
    path = None if label_map is None else probabilities_path(label_map, image_suffix(label_map))
    return path if path is not None and path.is_file() else None


def _read_probabilities(
    predictions: Sequence[Path | None], turn: np.ndarray | None, shape: Sequence[int]
) -> np.ndarray | None:
    """Of the first result, classes first, without the background; None where `predict` kept none, or of another shape."""
    path = find_probabilities(predictions[0])
    if path is None:
        return None
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as kept:
            array = np.swapaxes(kept["probabilities"], 1, 2)
    else:
        array = np.moveaxis(np.asanyarray(nib.load(path).dataobj), -1, 0)
        array = array if turn is None else _turn(array, turn)
    return array[1:] if array.shape[1:] == tuple(shape) else None


def _encode_probabilities(array: np.ndarray, affine: np.ndarray) -> bytes:
    steps = np.rint(np.clip(array, 0, 1) * _STEPS).astype(np.uint8)
    steps = np.moveaxis(steps, 0, -1)
    return encode_nifti(steps if steps.ndim == 4 else steps[:, :, None, :], affine, 1 / _STEPS)
