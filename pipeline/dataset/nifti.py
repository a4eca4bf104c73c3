"""NIfTI files: the header by nibabel, the voxels straight into the array they stay in.

nibabel alone allocates whatever a header claims, accepts a wrong gzip checksum and turns a voxel size of 0 into 1 mm;
SimpleITK fills a truncated file with zeros.
"""

from __future__ import annotations

import gzip
from io import BufferedReader
from itertools import combinations, product
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from pipeline.dataset.medical_image import ImageGrid, MedicalImage
from pipeline.dataset.problems import ERROR, WARNING, Message, Problem
from pipeline.gzip_files import open_gzip

FORMS_DIFFER = Message(
    "nifti-forms-differ",
    WARNING,
    "has two affines that {difference}; the sform is used, as nibabel and MONAI do",
    "See that the sform is right (programs that take the qform place the image elsewhere), and write both alike.",
)
NO_FORM = Message(
    "nifti-no-affine",
    WARNING,
    "has neither sform nor qform (both codes are 0); the grid is made from the voxel size alone, and the orientation is a guess",
    "Convert it again from its source with the orientation, or see that left and right are where they should be.",
)
SHEAR = Message(
    "nifti-shear",
    WARNING,
    "has axes that are not orthogonal: {angle:.2f} degrees between two of them; expected 90",
    "Resample it to an orthogonal grid, or see that the shear is meant (a tilted gantry); `predict` takes up to 0.5 degrees.",
)
BAD_PIXDIM = Message(
    "nifti-voxel-size",
    ERROR,
    "has the voxel size {found} mm in its header, which its grid is made from; expected numbers above 0",
    "Correct the header (pixdim), or convert the image again from its source.",
)
ODD_PIXDIM = Message(
    "nifti-odd-voxel-size",
    WARNING,
    "has the voxel size {found} mm in its header; {taken}",
    "Correct the header (pixdim): other programs may understand it differently.",
)
UNIT = Message(
    "nifti-unit",
    WARNING,
    "says that its lengths are in {unit}s; they were converted, which makes voxels of {found} mm",
    "See that this is their size; if the numbers are mm already, correct xyzt_units in the header.",
)
ODD_UNIT = Message(
    "nifti-odd-unit",
    ERROR,
    "says that its lengths are in {unit}s, which would make voxels of {found} mm; expected less than {most:g} mm",
    "Correct xyzt_units in the header: 2 means mm.",
)
ODD_SLOPE = Message(
    "nifti-scaling",
    ERROR,
    "has the scaling {slope} x value + {intercept} in its header; expected numbers",
    "Correct scl_slope and scl_inter, or convert the image again from its source.",
)

_NIFTI_HEADER_BYTES = 348
_UNIT_BYTE = 123  # of the header, in either byte order
_MAX_DEFLATE_RATIO = 1032  # the most that DEFLATE can shrink anything (zlib's technical notes)
_CHUNK_BYTES = 1 << 20
_UNITS = {1: ("metre", 1e3), 3: ("micrometre", 1e-3)}  # the lower three bits of xyzt_units, and mm; 2 is mm, 0 unknown
_MOST_MM = 100.0  # of a voxel, where the unit is an unusual one
_FORMS_TOLERANCE_MM = 1e-3
_MAX_SHEAR_COSINE = 1e-3
_FLOAT32_EPS = float(np.finfo(np.float32).eps)


def read_nifti(path: Path, shown: str) -> MedicalImage:
    """The image of a NIfTI-1 file; float32 where the header scales the values, otherwise the type of the file.

    Holds the result and a chunk of the file in memory.

    Raises:
        ImageFileError: a voxel size that gives no grid.
        OSError, EOFError, ValueError, ...: anything that the stream, its header or its affine makes unusable.
    """
    with _open(path) as stream:
        image, claimed_bytes, notes = _read_head(stream, path, shown)
        array = _read_voxels(stream, image, claimed_bytes)
        while stream.read(_CHUNK_BYTES):  # to the end, so that gzip compares its checksum
            pass
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    affine = _find_affine_mm(image)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[: array.ndim - 1]
    return MedicalImage(array, affine, tuple(float(size) for size in spacing_mm), tuple(notes))


def read_nifti_grid(path: Path, shown: str) -> ImageGrid:
    """The grid of a NIfTI-1 file, from its header alone.

    Raises:
        ImageFileError, OSError, ...: as `read_nifti`, as far as the header shows it.
    """
    with _open(path) as stream:
        image, _, _ = _read_head(stream, path, shown)
    shape = _trim_shape(image.shape)
    spatial_shape = shape[:3]
    affine = _find_affine_mm(image)
    spacing_mm = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0)[: len(spatial_shape)])
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    value_bytes = 4 if scaled else image.get_data_dtype().itemsize
    return ImageGrid(shape[3] if len(shape) == 4 else 1, spatial_shape, affine, spacing_mm, value_bytes)


def uses_mm(path: Path) -> bool:
    """Whether the lengths of a NIfTI file are in mm, as all take them that do not look at the unit; also where it states none."""
    with _open(path) as stream:
        start = stream.read(_NIFTI_HEADER_BYTES)
    return len(start) < _NIFTI_HEADER_BYTES or start[_UNIT_BYTE] & 7 not in _UNITS


def _find_affine_mm(image: nib.Nifti1Image) -> np.ndarray:
    """The affine with its lengths in mm, whatever the header's unit is."""
    affine = np.array(image.affine, dtype=np.float64)
    _, mm = _UNITS.get(int(image.header["xyzt_units"]) & 7, ("", 1.0))
    affine[:3] *= mm
    return affine


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return open_gzip(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _read_head(
    stream: BufferedReader | gzip.GzipFile, path: Path, shown: str
) -> tuple[nib.Nifti1Image, int, list[Problem]]:
    """An image without voxels, the bytes that its header claims, and notes; the stream is then at the voxels."""
    start = stream.read(_NIFTI_HEADER_BYTES)
    if len(start) < _NIFTI_HEADER_BYTES:
        raise EOFError(f"{len(start)} bytes are no NIfTI header, which has {_NIFTI_HEADER_BYTES}")
    header = _parse_header(start)
    offset = int(header["vox_offset"])
    claimed_bytes = offset + int(np.prod(header.get_data_shape(), dtype=np.float64)) * (
        header.get_data_dtype().itemsize  # what nibabel allocates by; `bitpix` may say otherwise
    )
    possible_bytes = path.stat().st_size * (_MAX_DEFLATE_RATIO if isinstance(stream, gzip.GzipFile) else 1)
    if claimed_bytes > possible_bytes:
        raise EOFError(f"the header claims {claimed_bytes} bytes, the file can hold {possible_bytes} at most")
    head = start + stream.read(max(0, offset - len(start)))
    _require_scaling(header, shown)
    notes = _note_pixdim(header, shown)
    image = nib.Nifti1Image.from_bytes(head)  # the header's checks and the affine; it reads no voxels
    _check_layout(image)
    notes += _note_grid(image, header, shown)
    if len(head) < offset or offset < _NIFTI_HEADER_BYTES:
        raise EOFError(f"it is truncated, {len(head)} bytes of {claimed_bytes}")
    return image, claimed_bytes, notes


def _parse_header(start: bytes) -> nib.Nifti1Header:
    size = int.from_bytes(start[:4], "little")
    if size not in (348, 0x5C010000):  # either byte order; NIfTI-2 says 540
        raise ValueError("it does not begin with a NIfTI-1 header")
    return nib.Nifti1Header(start, check=False)


def _check_layout(image: nib.Nifti1Image) -> None:
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(f"its voxels are {image.get_data_dtype()}; expected whole or real numbers")
    shape = _trim_shape(image.shape)
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"it has {len(shape)} dimensions {shape}; expected 2, 3, or 4 with channels last")
    if 0 in shape:
        raise ValueError(f"it has no voxels, shape {shape}")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-12:
        raise ValueError("its affine has no inverse, so its voxels have no place in the world")


def _trim_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of length 1 behind the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return tuple(int(size) for size in shape)


def _read_voxels(stream: BufferedReader | gzip.GzipFile, image: nib.Nifti1Image, claimed_bytes: int) -> np.ndarray:
    """The voxels from the stream's position on, first axis fastest; scaled chunk by chunk."""
    shape, stored = _trim_shape(image.shape), image.get_data_dtype()
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    scaled = (slope, intercept) != (1, 0)
    flat = np.empty(int(np.prod(shape)), dtype=np.float32 if scaled else stored.newbyteorder("="))
    num_chunk = max(1, _CHUNK_BYTES // stored.itemsize)
    chunk = np.empty(min(flat.size, num_chunk), dtype=stored)
    for first in range(0, flat.size, num_chunk):
        target = flat[first : first + num_chunk]
        part = target if target.dtype == stored else chunk[: target.size]
        if missing := _fill(stream, part):
            num_read = claimed_bytes - (flat.size - first) * stored.itemsize + part.nbytes - missing
            raise EOFError(f"it is truncated, {num_read} bytes of {claimed_bytes}")
        if part is not target:
            target[...] = part.astype(np.float64) * slope + intercept if scaled else part
    return flat.reshape(shape, order="F")


def _fill(stream: BufferedReader | gzip.GzipFile, part: np.ndarray) -> int:
    """Fill an array from a stream, in its memory; number of bytes that are missing."""
    memory, first = part.view(np.uint8).data, 0
    while first < len(memory) and (count := stream.readinto(memory[first:])):
        first += count
    return len(memory) - first


# what a user should know about the grid


def _note_pixdim(header: nib.Nifti1Header, shown: str) -> list[Problem]:
    """Voxel sizes that are no sizes, before nibabel repairs them."""
    sizes = np.asarray(header["pixdim"][1 : 1 + min(3, len(header.get_data_shape()))], dtype=np.float64)
    found = " x ".join(f"{size:g}" for size in sizes)
    unusable = ~np.isfinite(sizes) | (sizes == 0)
    if unusable.any():
        if int(header["sform_code"]) <= 0:
            raise BAD_PIXDIM.error(shown, found=found)
        return [ODD_PIXDIM.about(shown, found=found, taken="it does not matter here, because the sform gives the grid")]
    if (sizes < 0).any():
        return [ODD_PIXDIM.about(shown, found=found, taken="the absolute values are taken, as nibabel does")]
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
    found = "x".join(f"{size:.4g}" for size in sizes)
    if sizes.max() > _MOST_MM:
        raise ODD_UNIT.error(shown, unit=unit, found=found, most=_MOST_MM)
    return UNIT.about(shown, unit=unit, found=found)


def _require_scaling(header: nib.Nifti1Header, shown: str) -> None:
    """Slope and intercept are numbers; a slope of 0 or NaN means that there is no scaling."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    is_scaled = slope != 0 and not np.isnan(slope)
    if np.isinf(slope) or (is_scaled and not np.isfinite(intercept)):
        raise ODD_SLOPE.error(shown, slope=slope, intercept=intercept)


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
