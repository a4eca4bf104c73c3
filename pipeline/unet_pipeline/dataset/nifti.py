"""NIfTI files: the header by nibabel, the voxels straight into the array they stay in.

nibabel alone allocates whatever a header claims, accepts a wrong gzip checksum and turns a voxel size of 0 into 1 mm;
SimpleITK fills a truncated file with zeros.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from unet_pipeline.dataset.dataset import PAIR_SUFFIXES, image_suffix
from unet_pipeline.dataset.medical_image import LARGEST_VALUE, ImageGrid, MedicalImage
from unet_pipeline.dataset.nifti_file import (
    HEADER_ALONE,
    UNSUPPORTED_VALUES,
    Arrangement,
    arrange_axes,
    build_image,
    find_parts,
    has_own_voxels,
    is_analyze,
    is_compressed,
    open_content,
    read_header,
)
from unet_pipeline.dataset.nifti_messages import (
    ANALYZE,
    BAD_PIXDIM,
    COLOURS,
    FORMS_DIFFER,
    NO_FORM,
    NO_PLACE,
    NO_ROTATION,
    ODD_OFFSET,
    ODD_PIXDIM,
    ODD_SLOPE,
    ODD_UNIT,
    OPAQUE,
    SHEAR,
    UNIT,
)
from unet_pipeline.messages import Problem

if TYPE_CHECKING:
    import gzip

    from nibabel.spatialimages import SpatialHeader, SpatialImage

_LEAST_VOLUME = 1e-6  # of a voxel by one with orthogonal axes of the same lengths; flatter is no grid
_MAX_HEAD_BYTES = 1 << 26  # extensions of real files have up to some megabytes
_MAX_DEFLATE_RATIO = 1032  # the most that DEFLATE can shrink anything (zlib's technical notes)
_CHUNK_BYTES = 1 << 20
_UNITS = {1: ("metre", 1e3), 3: ("micrometre", 1e-3)}  # the lower three bits of xyzt_units, and mm; 2 is mm, 0 unknown
_MOST_MM = 100.0  # of a voxel, where the unit is an unusual one
_FORMS_TOLERANCE_MM = 1e-3
_MAX_SHEAR_COSINE = 1e-3
_FLOAT32_EPS = float(np.finfo(np.float32).eps)


def read_nifti(path: Path, shown: str) -> MedicalImage:
    """The image of a NIfTI-1, NIfTI-2 or Analyze file; float32 where the header scales the values, otherwise the type of the file.

    Holds the result and a chunk of the file in memory.

    Args:
        path: one file, or either file of a pair.

    Raises:
        ImageFileError: a voxel size that gives no grid, or axes or values that no image to be segmented has.
        OSError, EOFError, ValueError, ...: anything that the stream, its header or its affine makes unusable.
    """
    with ExitStack() as opened:
        head = _read_head(path, shown, opened)
        flat = _read_voxels(head)
        while head.stream.read(_CHUNK_BYTES):  # to the end, so that gzip compares its checksum
            pass
    array, notes = _put_channels_first(flat, head.arrangement, shown)
    affine, spacing_mm = _find_grid(head)
    return MedicalImage(array, affine, spacing_mm, (*head.notes, *notes))


def read_nifti_grid(path: Path, shown: str) -> ImageGrid:
    """The grid of a NIfTI or Analyze file, from its header alone.

    Raises:
        ImageFileError, OSError, ...: as `read_nifti`, as far as the header shows it.
    """
    with ExitStack() as opened:
        head = _read_head(path, shown, opened)
    affine, spacing_mm = _find_grid(head)
    value_bytes = 4 if head.is_scaled else head.stored.itemsize // head.arrangement.in_voxel
    return ImageGrid(head.arrangement.num_channels, head.arrangement.spatial_shape, affine, spacing_mm, value_bytes)


def uses_mm(path: Path) -> bool:
    """Whether the lengths of a file that this package has read are in mm, as all take them that do not look at the unit."""
    header_path, _ = find_parts(path, path.name)
    with open_content(header_path) as stream:
        _, header = read_header(stream, path.name, _name_format(path))
    return _find_unit(header) is None


def _find_unit(header: SpatialHeader) -> tuple[str, float] | None:
    """Name and mm of an unusual unit; None for mm, and where the header has none."""
    return None if is_analyze(header) else _UNITS.get(int(header["xyzt_units"]) & 7)


def _find_affine_mm(image: SpatialImage) -> np.ndarray:
    """The affine with its lengths in mm, whatever the header's unit is."""
    affine = np.array(image.affine, dtype=np.float64)
    _, mm = _find_unit(image.header) or ("", 1.0)
    affine[:3] *= mm
    return affine


@dataclass(frozen=True)
class _Head:
    """What comes before the voxels.

    Attributes:
        image: without voxels.
        arrangement: of its axes.
        stream: at the voxels.
        claimed_bytes: of the file with the voxels, by the header.
        notes: what a user should know.
    """

    image: SpatialImage
    arrangement: Arrangement
    stream: BinaryIO | gzip.GzipFile
    claimed_bytes: int
    notes: tuple[Problem, ...]

    @property
    def stored(self) -> np.dtype:
        return self.image.get_data_dtype()

    @property
    def is_scaled(self) -> bool:
        return (self.image.dataobj.slope, self.image.dataobj.inter) != (1, 0) and self.arrangement.in_voxel == 1


def _find_grid(head: _Head) -> tuple[np.ndarray, tuple[float, ...]]:
    affine = _find_affine_mm(head.image)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[: len(head.arrangement.spatial_shape)]
    return affine, tuple(float(size) for size in spacing_mm)


def _read_head(path: Path, shown: str, opened: ExitStack) -> _Head:
    """Everything before the voxels; the stream is kept open by `opened`."""
    header_path, voxel_path = find_parts(path, shown)
    stream = open_content(header_path)
    opened.callback(stream.close)
    start, header = read_header(stream, shown, _name_format(path))
    arrangement = arrange_axes(header, shown)
    is_alone = has_own_voxels(header)
    if not is_alone and header_path == voxel_path:
        raise HEADER_ALONE.error(shown)
    if not is_alone:
        stream = open_content(voxel_path)
        opened.callback(stream.close)
    claimed_bytes = _count_claimed_bytes(header, header_path if is_alone else voxel_path, is_compressed(stream), shown)
    offset = int(header["vox_offset"])
    head = start + stream.read(max(0, offset - len(start))) if is_alone else start
    if not is_analyze(header):
        _require_scaling(header, shown)
    notes = _note_pixdim(header, shown)
    try:
        image = build_image(header, head)  # nibabel's checks of the header, and the affine; it reads no voxels
    except ValueError as error:
        if "w2 should be positive" not in str(error):
            raise
        raise NO_ROTATION.error(shown) from error
    _check_place(image, shown)
    notes += [ANALYZE.about(shown)] if is_analyze(header) else _note_grid(image, header, shown)
    if is_alone and (len(head) < offset or offset < len(start)):
        raise EOFError(f"it is truncated, {len(head)} bytes of {claimed_bytes}")
    if not is_alone:
        _skip(stream, offset)
    return _Head(image, arrangement, stream, claimed_bytes, tuple(notes))


def _name_format(path: Path) -> str:
    return "NIfTI or Analyze" if image_suffix(path) in PAIR_SUFFIXES else "NIfTI"


def _count_claimed_bytes(header: SpatialHeader, path: Path, compressed: bool, shown: str) -> int:
    """Bytes of the file with the voxels, by the header, once they are known to be possible.

    Raises:
        EOFError, ValueError: the file cannot hold them.
    """
    vox_offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) if has_own_voxels(header) else 0
    if not least <= vox_offset <= _MAX_HEAD_BYTES:
        raise ODD_OFFSET.error(shown, given=vox_offset, least=least, most=_MAX_HEAD_BYTES)
    offset = int(vox_offset)
    claimed_bytes = offset + int(np.prod(header.get_data_shape(), dtype=np.float64)) * (
        header.get_data_dtype().itemsize  # what nibabel allocates by; `bitpix` may say otherwise
    )
    possible_bytes = path.stat().st_size * (_MAX_DEFLATE_RATIO if compressed else 1)
    if claimed_bytes > possible_bytes:
        raise EOFError(f"the header claims {claimed_bytes} bytes, the file can hold {possible_bytes} at most")
    return claimed_bytes


def _check_place(image: SpatialImage, shown: str) -> None:
    """The affine can be inverted; judged by the directions of its axes, whatever their lengths."""
    lengths = np.linalg.norm(image.affine[:3, :3], axis=0)
    is_finite = np.isfinite(image.affine).all() and np.isfinite(lengths).all() and lengths.min() > 0
    if not is_finite or abs(np.linalg.det(image.affine[:3, :3] / lengths)) < _LEAST_VOLUME:
        raise NO_PLACE.error(shown)


def _skip(stream: BinaryIO | gzip.GzipFile, count: int) -> None:
    if len(stream.read(count)) < count:
        raise EOFError(f"its voxels begin behind the end of the file, at byte {count}")


def _read_voxels(head: _Head) -> np.ndarray:
    """The voxels from the stream's position on, one behind the other; scaled chunk by chunk."""
    slope, intercept = head.image.dataobj.slope, head.image.dataobj.inter
    count = int(np.prod(head.image.shape))
    flat = np.empty(count, dtype=np.float32 if head.is_scaled else _choose_type(head.stored))
    num_chunk = max(1, _CHUNK_BYTES // head.stored.itemsize)
    chunk = np.empty(min(count, num_chunk), dtype=head.stored)
    for first in range(0, count, num_chunk):
        target = flat[first : first + num_chunk]
        part = target if target.dtype == head.stored else chunk[: target.size]
        if missing := _fill(head.stream, part):
            num_read = head.claimed_bytes - (count - first) * part.itemsize + part.nbytes - missing
            raise EOFError(f"it is truncated, {num_read} bytes of {head.claimed_bytes}")
        if part is not target:
            target[...] = part.astype(np.float64) * slope + intercept if head.is_scaled else part
    return flat


def _choose_type(stored: np.dtype) -> np.dtype:
    """The type of the file in the machine's byte order; nothing reads real numbers of 16 bytes."""
    return np.dtype(np.float64) if stored.kind == "f" and stored.itemsize > 8 else stored.newbyteorder("=")


def _fill(stream: BinaryIO | gzip.GzipFile, part: np.ndarray) -> int:
    """Fill an array from a stream, in its memory; number of bytes that are missing."""
    memory, first = part.view(np.uint8).data, 0
    while first < len(memory) and (count := stream.readinto(memory[first:])):  # type: ignore[union-attr]
        first += count
    return len(memory) - first


def _put_channels_first(
    flat: np.ndarray, arrangement: Arrangement, shown: str
) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """Shape (channels, i, j) or (channels, i, j, k), each channel in the order of the file."""
    notes: list[Problem] = []
    if arrangement.in_voxel > 1:
        colours = flat.view(np.uint8).reshape(-1, arrangement.in_voxel)
        if arrangement.in_voxel == 4:
            if hidden := int(np.count_nonzero(colours[:, 3] != 255)):
                raise UNSUPPORTED_VALUES.error(shown, found=f"colours with transparency in {hidden} of them (RGBA)")
            notes.append(OPAQUE.about(shown))
        notes.append(COLOURS.about(shown))
        flat = np.concatenate([colours[:, channel] for channel in range(3)])
    shape = (*arrangement.spatial_shape, arrangement.num_channels)
    return np.moveaxis(flat.reshape(shape, order="F"), -1, 0), tuple(notes)


# what a user should know about the grid


def _note_pixdim(header: nib.Nifti1Header, shown: str) -> list[Problem]:
    """Voxel sizes that are no sizes, before nibabel repairs them."""
    sizes = np.asarray(header["pixdim"][1 : 1 + min(3, len(header.get_data_shape()))], dtype=np.float64)
    voxel_size = " x ".join(f"{size:g}" for size in sizes)
    unusable = ~np.isfinite(sizes) | (sizes == 0)
    if unusable.any():
        if is_analyze(header) or int(header["sform_code"]) <= 0:
            raise BAD_PIXDIM.error(shown, found=voxel_size)
        return [
            ODD_PIXDIM.about(shown, found=voxel_size, taken="it does not matter here, because the sform gives the grid")
        ]
    if (sizes < 0).any():
        return [ODD_PIXDIM.about(shown, found=voxel_size, taken="the absolute values are taken, as nibabel does")]
    return []


def _note_grid(image: nib.Nifti1Image, header: nib.Nifti1Header, shown: str) -> list[Problem]:
    notes = []
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if has_sform and has_qform and (difference := _compare_forms(image)):
        notes.append(FORMS_DIFFER.about(shown, difference=difference))
    if not has_sform and not has_qform:
        notes.append(NO_FORM.about(shown))
    if abs(90 - (angle := _find_sharpest_angle(image.affine))) > np.degrees(np.arcsin(_MAX_SHEAR_COSINE)):
        notes.append(SHEAR.about(shown, angle=angle))
    if unit := _UNITS.get(int(header["xyzt_units"]) & 7):
        notes.append(_note_unit(image, unit[0], shown))
    return notes


def _note_unit(image: nib.Nifti1Image, unit: str, shown: str) -> Problem:
    sizes = np.linalg.norm(_find_affine_mm(image)[:3, :3], axis=0)
    voxel_size = "x".join(f"{size:.4g}" for size in sizes)
    if sizes.max() > _MOST_MM:
        raise ODD_UNIT.error(shown, unit=unit, found=voxel_size, most=_MOST_MM)
    return UNIT.about(shown, unit=unit, found=voxel_size)


def _require_scaling(header: nib.Nifti1Header, shown: str) -> None:
    """Slope and intercept are numbers of a size that an image can have; a slope of 0 or NaN means that there is no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    is_scaled = slope != 0 and not np.isnan(slope)
    if is_scaled and not (abs(slope) <= LARGEST_VALUE and abs(intercept) <= LARGEST_VALUE):
        raise ODD_SLOPE.error(shown, slope=slope, intercept=intercept, most=LARGEST_VALUE)


def _compare_forms(image: nib.Nifti1Image) -> str:
    """How sform and qform differ, as the end of a sentence; "" for equal ones up to the rounding of float32.

    The quaternion's first part is computed from the other three, which loses half of the digits near a half turn; so
    the first voxel, which no rotation moves, is compared strictly and the corners less so.
    """
    try:
        qform = image.header.get_qform()
    except HeaderDataError:
        return "cannot be compared, because the quaternion of the qform is no rotation"
    sform = image.header.get_sform()
    corners = np.array([*product(*((0, size - 1) for size in (*image.shape[:3], 1)[:3]))])
    places = [corners @ form[:3, :3].T + form[:3, 3] for form in (sform, qform)]
    distances_mm = np.linalg.norm(places[0] - places[1], axis=1)
    tolerance_mm = _FORMS_TOLERANCE_MM + 8 * _FLOAT32_EPS * float(np.abs(places).max())
    imaginary = np.array([float(image.header[f"quatern_{part}"]) for part in "bcd"])
    real = np.sqrt(max(0.0, 1 - float(imaginary @ imaginary)))
    rounding = min(np.sqrt(3 * _FLOAT32_EPS), 3 * _FLOAT32_EPS / max(2 * real, _FLOAT32_EPS))
    extent_mm = float(np.linalg.norm(places[0] - places[0][0], axis=1).max())
    corners_agree = distances_mm.max() <= tolerance_mm + 2 * rounding * extent_mm
    if not np.isfinite(distances_mm).all() or (distances_mm[0] <= tolerance_mm and corners_agree):
        return ""
    return f"place its corners up to {distances_mm.max():.3g} mm apart"


def _find_sharpest_angle(affine: np.ndarray) -> float:
    """The smallest angle in degrees between two axes of the grid, 90 for orthogonal ones."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = [abs(float(columns[:, i] @ columns[:, j])) for i, j in combinations(range(3), 2)]
    return float(np.degrees(np.arccos(min(1.0, max(cosines)))))
