"""Whether a file is DICOM, and its header; also without preamble and mark, as older archives and planning systems write it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.dataset.dicom_stream import read_elements

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

DIRECTORY_NAME = "DICOMDIR"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
FILE_ENDINGS = (".dcm", ".dicom", ".ima")
_PREAMBLE_BYTES = 128
_MARK = b"DICM"
_FIRST_GROUPS = (0x0002, 0x0008)  # of file meta information, and of the data set behind it
_FIRST_ELEMENTS = 0x0070  # the identifying module begins below it
_VALUE_KINDS = (b"UL", b"UI", b"CS", b"SH", b"LO", b"DA", b"TM", b"DT", b"OB", b"PN", b"AE", b"ST", b"SQ", b"UN", b"US")
_MAX_FIRST_VALUE_BYTES = 1024
_DEFERRED_BYTES = 1024  # longer values are read when they are asked for


def is_dicom_file(path: Path) -> bool:
    """Whether a file has DICOM's mark after the preamble, or begins with elements that only DICOM begins with."""
    with path.open("rb") as stream:
        start = stream.read(_PREAMBLE_BYTES + len(_MARK))
    return start[_PREAMBLE_BYTES:] == _MARK or (_begins_with_element(start) and _names_an_object(path))


def is_directory_file(path: Path) -> bool:
    """Whether a file is the directory of a DICOM medium, by its name."""
    return path.name.upper().partition(";")[0] == DIRECTORY_NAME


def dicom_case_name(path: Path) -> str:
    """Name of a DICOM file without its usual endings."""
    ending = next((ending for ending in FILE_ENDINGS if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)] or path.name


def read_header(path: Path) -> FileDataset:
    """The elements of a DICOM file, long values only when they are asked for; with its transfer syntax, stated or found.

    Raises:
        InvalidDicomError, EOFError, OSError, ValueError, ...: whatever pydicom raises for a damaged file.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    header = read_elements(path, defer_size=_DEFERRED_BYTES, force=True)
    if "TransferSyntaxUID" not in header.file_meta:
        is_implicit, is_little = header.original_encoding
        explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    return header


def _begins_with_element(start: bytes) -> bool:
    """Whether the first bytes are an element of an early group, in either byte order, with a value of plausible length."""
    for order in "<>":
        if len(start) < 8:
            return False
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group not in _FIRST_GROUPS or element >= _FIRST_ELEMENTS:
            continue
        if start[4:6] in _VALUE_KINDS:
            return True
        (length,) = struct.unpack(f"{order}I", start[4:8])
        if order == "<" and length <= _MAX_FIRST_VALUE_BYTES and length % 2 == 0:
            return True
    return False


def _names_an_object(path: Path) -> bool:
    """Whether pydicom finds class or series in a file that has no mark; chance does not make these."""
    try:
        elements = read_elements(
            path, force=True, stop_before_pixels=True, specific_tags=["SOPClassUID", "SeriesInstanceUID", "Modality"]
        )
        return any(str(elements.get(name, "")) for name in ("SOPClassUID", "SeriesInstanceUID", "Modality"))
    except Exception:  # of bytes that are no DICOM pydicom may raise anything
        return False
