"""The instance map beside a label map, and a table of its instances: size, place and shape of each."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.writing import fits_png, write_image
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import write_atomically
from unet_pipeline.prediction.outputs import write_nrrd, write_volume

if TYPE_CHECKING:
    from unet_pipeline.prediction.engine import Case, CasePrediction
    from unet_pipeline.prediction.parts import Parts

_FILE_SUFFIXES = (".png", ".nii", ".nii.gz", ".nrrd")
_AXES = "ijk"


def instances_path(label_map: Path, suffix: str, own_suffix: str = ".nii.gz") -> Path:
    """Where the instance map of a label map lies: beside it; of a format that holds none, such as DICOM SEG, in the bundle's own."""
    kept = suffix if suffix in _FILE_SUFFIXES else own_suffix
    return label_map.with_name(f"{label_map.name.removesuffix(suffix)}_instances{kept}")


def find_predicted_instances(label_map: Path) -> Path | None:
    """The instance map beside a predicted label map, where there is one."""
    path = instances_path(label_map, image_suffix(label_map))
    return path if path.is_file() else None


def table_path(instance_map: Path) -> Path:
    """Where the table of an instance map lies."""
    suffix = next(suffix for suffix in reversed(_FILE_SUFFIXES) if instance_map.name.endswith(suffix))
    return instance_map.with_name(f"{instance_map.name.removesuffix(suffix)}.csv")


def list_companions(prediction: CasePrediction, label_map: Path, suffix: str, own_suffix: str) -> list[Path]:
    """The instance map and its table beside a label map, of a bundle that gives them."""
    if prediction.instances is None:
        return []
    path = instances_path(label_map, suffix, own_suffix)
    return [path, table_path(path)]


def write_companions(companions: Sequence[Path], case: Case, prediction: CasePrediction, parts: Parts) -> None:
    """Write them, if there are any."""
    if prediction.instances is None or parts.plan is None:
        return
    instances = as_unsigned(prediction.instances)
    write_instances(companions[0], instances, case.affine, case.files[0])
    is_volume = parts.expected.spacing_mm is not None
    spacing_mm = np.linalg.norm(case.affine[:3, : instances.ndim], axis=0) if is_volume else None
    names = {value: name for name, value in parts.plan.label_table.items()}
    write_table(companions[1], instances, np.asarray(prediction.values)[0], names, spacing_mm)


def as_unsigned(instances: np.ndarray) -> np.ndarray:
    """The same numbers in 16 bits, or in 32 where there are more than 65,535."""
    return instances.astype(np.uint16 if instances.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32)


def write_instances(path: Path, instances: np.ndarray, affine: np.ndarray, image: Path) -> None:
    """Write an instance map, whole or not at all.

    Args:
        path: by its ending NIfTI, NRRD or PNG.
        instances: shape of the image, from `as_unsigned`.
        affine: of the image.
        image: whose header a NIfTI file gets, where it is one.

    Raises:
        PredictionError: a PNG file cannot hold so many instances.
    """
    if path.name.endswith(".png") and not fits_png(instances.dtype, 1):
        raise PredictionError(
            f"{path.name} would have {int(instances.max())} instances; a PNG file numbers 65,535. Choose --format nifti."
        )
    if path.name.endswith(".nii.gz") and image.name.endswith((".nii", ".nii.gz")):
        write_volume(path, instances, image)
    elif path.name.endswith(".nrrd"):
        write_nrrd(path, instances, affine)
    else:
        spacing_mm = tuple(float(size) for size in np.linalg.norm(affine[:3, : instances.ndim], axis=0))
        write_image(path, MedicalImage(instances[None], affine, spacing_mm))


def write_table(
    path: Path, instances: np.ndarray, classes: np.ndarray, names: Mapping[int, str], spacing_mm: Sequence[float] | None
) -> None:
    """Write a row for each instance, whole or not at all; the header alone without any.

    Args:
        instances: 0 outside.
        classes: value of each voxel in the label map, same shape.
        names: of the labels by their values.
        spacing_mm: along each axis; None where it is not known, and then there are no columns in mm.
    """
    rows = list(_measure(instances, spacing_mm))
    with write_atomically(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_list_columns(instances.ndim, spacing_mm is not None))
        for number, first, *values in rows:
            value = int(classes[first])
            writer.writerow([number, names[value], *(f"{one:.6g}" if math.isfinite(one) else "" for one in values)])


def _list_columns(dims: int, in_mm: bool) -> list[str]:
    axes = _AXES[:dims]
    size = "area" if dims == 2 else "volume"
    own = [f"{size}_{'pixel' if dims == 2 else 'voxel'}", *(f"centroid_{axis}_voxel" for axis in axes)]
    of_mm = [f"{size}_mm{dims}", *(f"centroid_{axis}_mm" for axis in axes)] if in_mm else []
    return ["instance", "label", *own, *of_mm, "eccentricity", "solidity"]


def _measure(instances: np.ndarray, spacing_mm: Sequence[float] | None) -> Iterator[tuple[Any, ...]]:
    """Number, first voxel, and the numbers of each instance."""
    from skimage.measure import regionprops  # loads as much as a prediction does

    sizes = np.asarray(spacing_mm if spacing_mm is not None else (1.0,) * instances.ndim)
    for region in regionprops(instances):
        centroid = region.coords.mean(axis=0)
        in_mm = [] if spacing_mm is None else [len(region.coords) * float(sizes.prod()), *(centroid * sizes)]
        shape = compute_eccentricity(region.coords, sizes), _compute_solidity(region)
        yield region.label, tuple(region.coords[0]), len(region.coords), *centroid, *in_mm, *shape


def compute_eccentricity(voxels: np.ndarray, spacing: Sequence[float] | np.ndarray) -> float:
    """Of the ellipse, or ellipsoid with its longest and shortest axis, of the same second moments: 0 of a disc, towards 1 of a line.

    Args:
        voxels: shape (number, axes), indices.
        spacing: along each axis.
    """
    placed = (voxels - voxels.mean(axis=0)) * np.asarray(spacing)
    # a voxel is no point: it has the moments of a cube
    moments = placed.T @ placed / len(placed) + np.diag(np.square(spacing) / 12)
    values = np.linalg.eigvalsh(moments)
    return float(np.sqrt(max(0.0, 1 - values[0] / values[-1])))


def _compute_solidity(region: Any) -> float:
    """Size by that of the convex hull; NaN where the voxels have none, as those in a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            solidity = float(region.solidity)
        except (ValueError, RuntimeError, ZeroDivisionError):
            return math.nan
    return solidity if 0 < solidity <= 1 else math.nan
