"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) files, read with SimpleITK after the bytes there were counted.

SimpleITK fills truncated data without an error in some cases, allocates whatever a header claims, and follows a header
to data files anywhere. It keeps NaN and infinity in these formats.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.messages import ERROR, WARNING, Message, Problem

if TYPE_CHECKING:
    import SimpleITK

NO_HEADER = Message(
    "itk-header",
    ERROR,
    "has no usable {format} header: {cause}",
    "Copy it again from its source, or write it again with SimpleITK.",
)
UNSUPPORTED = Message(
    "itk-unsupported",
    ERROR,
    "has {found}; expected {expected}",
    "Read it with the program that wrote it and save it as NIfTI, or write it again with SimpleITK.",
)
DATA_OUTSIDE = Message(
    "itk-data-outside",
    ERROR,
    "names a data file outside of its own folder; expected a relative name without '..'",
    "Put the data file beside the header and correct its name there.",
)
NO_DATA_FILE = Message(
    "itk-data-missing",
    ERROR,
    "names the data file {name}, which does not exist",
    "Put the data file beside the header; both belong together.",
)
TRUNCATED = Message(
    "itk-truncated",
    ERROR,
    "is truncated or damaged: {found}, and its header claims {needed} bytes of voxels",
    "Copy it again from its source, or remove the case.",
)
UNREADABLE = Message(
    "itk-unreadable",
    ERROR,
    "cannot be read by SimpleITK: {cause}",
    "Copy it again from its source, or save it as NIfTI.",
)
NO_SPACING = Message(
    "itk-no-spacing",
    WARNING,
    "states no voxel size; 1 mm along every axis is taken",
    "See that this is meant, or write the voxel size into the header.",
)

_MAX_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_MAX_DEFLATE_RATIO = 1032  # the most that DEFLATE can shrink anything (zlib's technical notes)
_EITHER_DEFLATE = 47  # zlib or gzip, found by its first bytes
_NRRD_TYPES = {
    1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
    2: "short, short int, signed short, signed short int, int16, int16_t, "
    "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
    8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, "
    "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
}
_META_TYPES = {
    1: "MET_CHAR, MET_UCHAR",
    2: "MET_SHORT, MET_USHORT",
    4: "MET_INT, MET_UINT, MET_LONG, MET_ULONG, MET_FLOAT",  # MetaIO's long has four bytes
    8: "MET_LONG_LONG, MET_ULONG_LONG, MET_DOUBLE",
}
_ITEM_BYTES = {
    name: size for table in (_NRRD_TYPES, _META_TYPES) for size, names in table.items() for name in names.split(", ")
}
_INTENSITY_FUNCTION = (("Slope", "1"), ("Offset", "0"))  # with the values that change nothing


@dataclass(frozen=True)
class _Claim:
    """What a header says about the voxels.

    Attributes:
        sizes: of all axes, that of the components included.
        item_bytes: of one value.
        data_name: the file with the voxels, as the header names it; "" for the header's own file.
        skip: bytes before the voxels; -1: the voxels are the last bytes.
        has_spacing: the header states a voxel size.
    """

    sizes: tuple[int, ...]
    item_bytes: int
    compressed: bool
    data_name: str
    skip: int
    has_spacing: bool

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.sizes, dtype=object)) * self.item_bytes


def read_itk(path: Path, shown: str) -> MedicalImage:
    """The image of a NRRD or MetaImage file; components become channels.

    Raises:
        ImageFileError: a header that is not understood, fewer voxels than it claims, a data file that is missing or
            elsewhere, or an image that is not 2D or 3D.
    """
    claim, header_bytes = _read_claim(path, shown)
    data_path = _find_data(path, claim.data_name, shown)
    _check_data(data_path, 0 if claim.data_name else header_bytes, claim, shown)
    image = _call_simpleitk(_build_reader(path).Execute, path, shown)
    notes = () if claim.has_spacing else (NO_SPACING.about(shown),)
    return _arrange(image, claim, shown, notes)


def read_itk_grid(path: Path, shown: str) -> ImageGrid:
    """The grid of a NRRD or MetaImage file, from its header alone.

    Raises:
        ImageFileError: as `read_itk`, as far as the header shows it.
    """
    claim, _ = _read_claim(path, shown)
    _find_data(path, claim.data_name, shown)
    reader = _build_reader(path)
    _call_simpleitk(reader.ReadImageInformation, path, shown)
    affine, spacing_mm = _find_grid(reader, shown)
    return ImageGrid(reader.GetNumberOfComponents(), reader.GetSize(), affine, spacing_mm, claim.item_bytes)


def find_data_file(path: Path) -> Path:
    """The file with the voxels that a NRRD or MetaImage header names: another one, or its own.

    Raises:
        ImageFileError: as `read_itk_grid`.
    """
    claim, _ = _read_claim(path, path.name)
    return _find_data(path, claim.data_name, path.name)


def _read_claim(path: Path, shown: str) -> tuple[_Claim, int]:
    """What the header says, and its length in bytes."""
    is_nrrd = _is_nrrd(path)
    with path.open("rb") as stream:
        fields, header_bytes = _read_header(stream, is_nrrd, shown)
    try:
        claim = _parse_nrrd(fields, shown) if is_nrrd else _parse_meta(fields, shown)
    except (KeyError, ValueError, IndexError) as error:
        cause = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise NO_HEADER.error(shown, format=_name(is_nrrd), cause=cause) from error
    if not claim.sizes or min(claim.sizes) < 1:
        raise NO_HEADER.error(shown, format=_name(is_nrrd), cause=f"its sizes are {claim.sizes}")
    return claim, header_bytes


def _is_nrrd(path: Path) -> bool:
    return path.suffix.lower() in (".nrrd", ".nhdr")


def _name(is_nrrd: bool) -> str:
    return "NRRD" if is_nrrd else "MetaImage"


# headers


def _read_header(stream: BinaryIO, is_nrrd: bool, shown: str) -> tuple[dict[str, str], int]:
    """Fields of the text header and its length in bytes; keys of NRRD in lower case without spaces."""
    fields: dict[str, str] = {}
    is_first = True
    while line := stream.readline(_MAX_HEADER_BYTES):
        text = line.decode("latin-1").strip()
        if is_first and is_nrrd and not text.startswith("NRRD000"):
            raise NO_HEADER.error(shown, format="NRRD", cause="it does not begin with NRRD000")
        if stream.tell() > _MAX_HEADER_BYTES:
            break
        if is_nrrd and not text:
            return fields, stream.tell()
        key, separator, value = text.partition(": " if is_nrrd else "=")
        if is_nrrd and separator and not text.startswith("#") and ":=" not in key:
            fields[key.strip().lower().replace(" ", "")] = value.strip()
        elif not is_nrrd:
            if not separator:
                raise NO_HEADER.error(
                    shown, format="MetaImage", cause=f"its line {len(fields) + 1} is no 'key = value'"
                )
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return fields, stream.tell()
        is_first = False
    if is_nrrd and "datafile" in fields:
        return fields, stream.tell()
    raise NO_HEADER.error(shown, format=_name(is_nrrd), cause="it does not end")


def _parse_nrrd(fields: dict[str, str], shown: str) -> _Claim:
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise UNSUPPORTED.error(shown, found=f"the encoding {encoding}", expected="raw or gzip")
    if int(fields.get("lineskip", "0")):
        raise UNSUPPORTED.error(shown, found="lines before its voxels", expected="none")
    sizes = tuple(int(size) for size in fields["sizes"].split())
    if len(sizes) != int(fields["dimension"]):
        raise ValueError(f"it has {len(sizes)} sizes for {fields['dimension']} dimensions")
    data_name = fields.get("datafile", "")
    _refuse_series(data_name, shown)
    return _Claim(
        sizes=sizes,
        item_bytes=_find_item_bytes(fields["type"].lower(), shown),
        compressed=encoding != "raw",
        data_name=data_name,
        skip=int(fields.get("byteskip", "0")),
        has_spacing="spacedirections" in fields or "spacings" in fields,
    )


def _parse_meta(fields: dict[str, str], shown: str) -> _Claim:
    if fields.get("BinaryData", "True").lower() != "true":
        raise UNSUPPORTED.error(shown, found="its voxels as text", expected="binary ones")
    slope, intercept = (
        float(fields.get(f"ElementToIntensityFunction{part}", default)) for part, default in _INTENSITY_FUNCTION
    )
    if (slope, intercept) != (1, 0):
        raise UNSUPPORTED.error(shown, found="an intensity function, which SimpleITK ignores", expected="none")
    sizes = tuple(int(size) for size in fields["DimSize"].split())
    if len(sizes) != int(fields["NDims"]):
        raise ValueError(f"it has {len(sizes)} sizes for {fields['NDims']} dimensions")
    data_name = fields["ElementDataFile"]
    _refuse_series(data_name, shown)
    return _Claim(
        sizes=(int(fields.get("ElementNumberOfChannels", "1")), *sizes),
        item_bytes=_find_item_bytes(fields["ElementType"].removesuffix("_ARRAY"), shown),
        compressed=fields.get("CompressedData", "False").lower() == "true",
        data_name="" if data_name.upper() == "LOCAL" else data_name,
        skip=int(fields.get("HeaderSize", "0")),
        has_spacing="ElementSpacing" in fields or "ElementSize" in fields,
    )


def _find_item_bytes(name: str, shown: str) -> int:
    if name not in _ITEM_BYTES:
        raise UNSUPPORTED.error(shown, found=f"values of type {name}", expected="whole or real numbers")
    return _ITEM_BYTES[name]


def _refuse_series(data_name: str, shown: str) -> None:
    if not data_name.isprintable():
        raise ValueError("the name of its data file is no name")
    if data_name.upper().startswith("LIST") or "%" in data_name:
        raise UNSUPPORTED.error(shown, found="a list of data files", expected="one")


# voxels


def _find_data(path: Path, name: str, shown: str) -> Path:
    if not name:
        return path
    parts = PureWindowsPath(name)  # knows both separators and drives
    if parts.anchor or ".." in parts.parts:
        raise DATA_OUTSIDE.error(shown)
    data_path = path.parent / name
    if not Path(os.path.realpath(data_path)).is_relative_to(path.parent.resolve()):
        raise DATA_OUTSIDE.error(shown)
    if not data_path.is_file():
        raise NO_DATA_FILE.error(shown, name=name)
    return data_path


def _check_data(data_path: Path, offset: int, claim: _Claim, shown: str) -> None:
    """Compare the bytes there with those claimed, before anything is allocated for them."""
    there = data_path.stat().st_size - offset
    if not claim.compressed:
        if (usable := there - max(0, claim.skip)) < claim.num_bytes:
            raise TRUNCATED.error(shown, found=f"it holds {max(0, usable)} bytes", needed=claim.num_bytes)
        return
    if claim.num_bytes > (most := there * _MAX_DEFLATE_RATIO):
        raise TRUNCATED.error(shown, found=f"its compressed data can hold {most} bytes at most", needed=claim.num_bytes)
    with data_path.open("rb") as stream:
        stream.seek(offset)
        fault = _find_fault(stream, claim.num_bytes + max(0, claim.skip))
    if fault:
        raise TRUNCATED.error(shown, found=fault, needed=claim.num_bytes)


def _find_fault(stream: BinaryIO, needed: int) -> str:
    """Inflate to the end, piece by piece, and say what is wrong; "" when the length and the checksums are right."""
    inflater, inflated = zlib.decompressobj(_EITHER_DEFLATE), 0
    piece = stream.read(_CHUNK_BYTES)
    try:
        while piece:
            inflated += len(inflater.decompress(piece, _CHUNK_BYTES))
            if inflated > needed:
                return f"its compressed data hold more than {needed} bytes"
            piece = inflater.unconsumed_tail
            if inflater.eof:
                if inflater.unused_data[:2] != b"\x1f\x8b":  # a further gzip member
                    break
                piece, inflater = inflater.unused_data, zlib.decompressobj(_EITHER_DEFLATE)
            piece = piece or stream.read(_CHUNK_BYTES)
    except zlib.error as error:
        return f"its compressed data are damaged after {inflated} bytes ({error})"
    if inflated < needed:
        return f"its compressed data hold {inflated} bytes"
    return "" if inflater.eof else "its compressed data end before their checksum"


def _build_reader(path: Path) -> SimpleITK.ImageFileReader:
    import SimpleITK  # takes as long as all of this package, and most images are NIfTI or pictures

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
    reader.SetFileName(str(path))
    return reader


def _call_simpleitk(function: Callable[[], Any], path: Path, shown: str) -> Any:
    try:
        return function()
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).replace(str(path), shown).splitlines() if line.strip()]
        cause = lines[-1].replace(str(path.parent), "").rstrip(".") if lines else "no reason given"
        raise UNREADABLE.error(shown, cause=cause) from error


def _arrange(image: SimpleITK.Image, claim: _Claim, shown: str, notes: tuple[Problem, ...]) -> MedicalImage:
    import SimpleITK

    affine, spacing_mm = _find_grid(image, shown)
    array = SimpleITK.GetArrayFromImage(image).T  # (components, i, j, k), or without the first
    if array.dtype.kind not in "iuf":
        raise UNSUPPORTED.error(shown, found=f"values of type {array.dtype}", expected="whole or real numbers")
    if array.nbytes != claim.num_bytes:
        cause = f"it claims {claim.num_bytes} bytes of voxels, SimpleITK understands {array.nbytes}"
        raise UNREADABLE.error(shown, cause=cause)
    channels_first = array if array.ndim == len(spacing_mm) + 1 else array[None]
    return MedicalImage(channels_first, affine, spacing_mm, notes)


def _find_grid(image: SimpleITK.Image | SimpleITK.ImageFileReader, shown: str) -> tuple[np.ndarray, tuple[float, ...]]:
    """Affine (RAS+) and voxel size, of an image or of a reader that has read the header."""
    dims = image.GetDimension()
    if dims not in (2, 3):
        raise UNSUPPORTED.error(shown, found=f"{dims} dimensions {image.GetSize()}", expected="2 or 3")
    affine = np.eye(4)
    affine[:dims, :dims] = np.reshape(image.GetDirection(), (dims, dims)) * image.GetSpacing()
    affine[:dims, 3] = image.GetOrigin()
    affine[:2] *= -1  # LPS to RAS
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UNREADABLE.error(shown, cause="its affine has no inverse, so its voxels have no place in the world")
    return affine, tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0)[:dims])
