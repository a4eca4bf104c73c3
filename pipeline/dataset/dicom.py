"""A DICOM series -> one volume, after its headers were checked; headers with pydicom, pixels with SimpleITK (GDCM).

MONAI's and ITK's readers take two series in one folder, a tilted gantry, a missing or repeated slice, a screenshot among the
slices, and say nothing. Here each is told apart. No field of the patient, and no UID, appears in a message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset as Header
from pydicom.errors import InvalidDicomError

from pipeline.dataset.dicom_messages import (
    COLOUR,
    CORRUPT,
    DUPLICATED_SLICE,
    FRAMES_WITHOUT_POSITION,
    GANTRY_TILT,
    INVERTED,
    MISSING_SLICE,
    MIXED_SLICES,
    NO_DICOM,
    NO_IMAGE_SERIES,
    NO_SPACING,
    NOT_DECODED,
    NOT_DICOM,
    SET_ASIDE,
    SEVERAL_SERIES,
    SHORT_PIXELS,
)
from pipeline.dataset.medical_image import MedicalImage
from pipeline.dataset.problems import Problem

_PREAMBLE_BYTES = 128
_DIRECTION_TOLERANCE = 1e-3  # of a direction cosine
_GAP_SHARE, _GAP_MM = 0.01, 0.01  # a gap may differ from the median by the larger of both
_TILT_DEGREES = 0.5
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DIRECTORY = "1.2.840.10008.1.3.10"
_NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "DOC")
_VOLUME_MODALITIES = ("CT", "MR", "PT", "NM")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """The header of one file, as far as it is needed."""

    path: Path
    header: Header

    @property
    def position(self) -> np.ndarray:
        return np.array([float(value) for value in self.header.ImagePositionPatient])

    @property
    def directions(self) -> np.ndarray:
        """Along the rows and along the columns, shape (2, 3)."""
        return np.array([float(value) for value in self.header.ImageOrientationPatient]).reshape(2, 3)

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows and between columns, as DICOM orders them."""
        rows, columns = self.header.PixelSpacing
        return float(rows), float(columns)

    @property
    def normal(self) -> np.ndarray:
        return np.cross(*self.directions)


@dataclass(frozen=True)
class Series:
    """Files of one series in no order yet; `number` is the start of a hash of its UID, which tells series apart."""

    number: str
    slices: tuple[Slice, ...]

    def __str__(self) -> str:
        first = self.slices[0].header
        shape = f"{first.get('Columns', '?')}x{first.get('Rows', '?')}"
        return f"series {self.number} ({first.get('Modality', '?')}, {len(self.slices)} file(s) of {shape})"


def is_dicom_file(path: Path) -> bool:
    """Whether a file has DICOM's mark after the preamble."""
    with path.open("rb") as stream:
        return stream.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"


def read_dicom(path: Path, shown: str) -> MedicalImage:
    """The one image series of a folder, or one DICOM file.

    Returns:
        Array of shape (1, i, j, k), i along the rows, j down the columns, k along the normal of the slices; (1, i, j) for a
        projection such as an X-ray. Rescaled by each file's own slope and intercept. Affine in RAS+.

    Raises:
        ImageFileError: no series or several, or slices that do not make a regular volume.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    slices, notes = _read_headers([file for file in files if file.is_file()], shown)
    series, notes_of_choice = choose_series(slices, shown)
    notes += notes_of_choice
    first = series.slices[0].header
    if first.get("PhotometricInterpretation") == "MONOCHROME1":
        notes.append(INVERTED.about(shown))
    with _silent():
        if len(series.slices) == 1 and int(first.get("NumberOfFrames", 1) or 1) > 1:
            array, affine = _read_frames(series.slices[0], shown)
        elif "ImagePositionPatient" not in first:
            return _read_projection(series.slices[0], shown, notes)
        else:
            ordered, step = order_slices(series.slices, shown)
            array, affine = _read_slices(ordered, shown), _build_affine(ordered[0], step)
    spacing_mm = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return MedicalImage(array[None], _LPS_TO_RAS @ affine, spacing_mm, tuple(notes))


def _read_headers(files: Sequence[Path], shown: str) -> tuple[list[Slice], list[Problem]]:
    slices, foreign = [], []
    for file in files:
        if file.name.startswith(".") or file.name == "DICOMDIR":
            continue
        try:
            if not is_dicom_file(file):
                foreign.append(file.name)
                continue
            header = pydicom.dcmread(file, defer_size=1024)
        except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
            raise CORRUPT.error(f"{shown}/{file.name}", cause=_first_line(error)) from error
        if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
            continue
        if "SeriesInstanceUID" not in header:
            raise CORRUPT.error(f"{shown}/{file.name}", cause="it belongs to no series")
        slices.append(Slice(file, header))
    if not slices:
        raise NO_DICOM.error(shown)
    notes = [NOT_DICOM.about(shown, count=len(foreign), name=foreign[0])] if foreign else []
    return slices, notes


def choose_series(slices: Iterable[Slice], shown: str) -> tuple[Series, list[Problem]]:
    """The one series of images; localizers, screenshots and objects that are no images are set aside.

    Raises:
        ImageFileError: there is none, or there are several.
    """
    images: dict[str, list[Slice]] = {}
    aside: dict[str, int] = {}
    for item in slices:
        if reason := _reason_to_set_aside(item.header):
            aside[reason] = aside.get(reason, 0) + 1
        else:
            images.setdefault(str(item.header.get("SeriesInstanceUID", "")), []).append(item)
    found = [
        Series(hashlib.sha256(uid.encode()).hexdigest()[:8], tuple(items)) for uid, items in sorted(images.items())
    ]
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(aside.items()))
    if not found:
        raise NO_IMAGE_SERIES.error(shown, found=listed)
    if len(found) > 1:
        raise SEVERAL_SERIES.error(shown, count=len(found), listed="; ".join(map(str, found)))
    notes = [SET_ASIDE.about(shown, listed=listed, taken=found[0])] if aside else []
    return found[0], notes


def _reason_to_set_aside(header: Header) -> str:
    modality = str(header.get("Modality", ""))
    if modality in _NO_IMAGES:
        return f"{modality} object(s)"
    if str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
        return "secondary capture(s)"
    if "LOCALIZER" in [str(value).upper() for value in header.get("ImageType", None) or []]:
        return "localizer(s)"
    frames = int(header.get("NumberOfFrames", 1) or 1)
    if modality in _VOLUME_MODALITIES and frames == 1 and "ImagePositionPatient" not in header:
        return f"{modality} picture(s) without position"
    return ""


def order_slices(slices: Sequence[Slice], shown: str) -> tuple[list[Slice], np.ndarray]:
    """Slices in the order of their positions along the normal, and the step from one to the next in mm (LPS).

    Raises:
        ImageFileError: mixed sizes, spacings or orientations; repeated or missing slices; a tilted gantry.
    """
    for item in slices:
        _require_geometry(item, shown)
    first = slices[0]
    for item in slices[1:]:
        if difference := _find_difference(first, item):
            raise MIXED_SLICES.error(f"{shown}/{item.path.name}", difference=difference, first=first.path.name)
    ordered = sorted(slices, key=lambda item: float(item.position @ first.normal))
    if len(ordered) == 1:
        thickness = float(first.header.get("SliceThickness", 0) or 0)
        return ordered, first.normal * (thickness or min(first.spacing_mm))
    distances = np.array([float(item.position @ first.normal) for item in ordered])
    gaps = np.diff(distances)
    usual = float(np.median(gaps))
    tolerance_mm = max(_GAP_SHARE * usual, _GAP_MM)
    for number, gap in enumerate(gaps):
        before, after = ordered[number].path.name, ordered[number + 1].path.name
        if gap < _GAP_MM:
            raise DUPLICATED_SLICE.error(f"{shown}/{after}", position=distances[number], other=before)
        if abs(gap - usual) > tolerance_mm:
            raise MISSING_SLICE.error(shown, gap=gap, first=before, second=after, usual=usual)
    step = (ordered[-1].position - ordered[0].position) / (len(ordered) - 1)
    tilt = np.degrees(np.arccos(np.clip(step @ first.normal / np.linalg.norm(step), -1, 1)))
    if tilt > _TILT_DEGREES:
        raise GANTRY_TILT.error(shown, angle=tilt)
    return ordered, step


def _require_geometry(item: Slice, shown: str) -> None:
    missing = [
        name
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        if item.header.get(name) in (None, "")
    ]
    if missing:
        raise NO_SPACING.error(f"{shown}/{item.path.name}", missing=", ".join(missing))
    if int(item.header.get("SamplesPerPixel", 1)) != 1:
        raise COLOUR.error(f"{shown}/{item.path.name}", kind=item.header.get("PhotometricInterpretation"))


def _find_difference(first: Slice, other: Slice) -> str:
    """What two slices of one volume may not differ in; empty when they agree."""
    shapes = [(int(item.header.Columns), int(item.header.Rows)) for item in (first, other)]
    if shapes[0] != shapes[1]:
        return "{}x{} pixels instead of {}x{}".format(*shapes[1], *shapes[0])
    if not np.allclose(first.directions, other.directions, atol=_DIRECTION_TOLERANCE):
        return "another orientation"
    if not np.allclose(first.spacing_mm, other.spacing_mm, rtol=1e-3):
        return "pixels of {:g}x{:g} mm instead of {:g}x{:g}".format(*other.spacing_mm, *first.spacing_mm)
    return ""


def _build_affine(first: Slice, step: np.ndarray) -> np.ndarray:
    """Indices (i along the rows, j down the columns, k) to LPS+."""
    between_rows, between_columns = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * between_columns
    affine[:3, 1] = first.directions[1] * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return affine


def _read_slices(ordered: Sequence[Slice], shown: str) -> np.ndarray:
    """Pixels of all slices, shape (i, j, k)."""
    first = _read_pixels(ordered[0], shown)
    real = any(not float(item.header.get("RescaleSlope", 1) or 1).is_integer() for item in ordered)
    kind = np.float32 if real or first.dtype.kind == "f" else np.int32
    volume = np.empty((*first.shape[::-1], len(ordered)), kind, order="F")
    for number, item in enumerate(ordered):
        volume[..., number] = (first if number == 0 else _read_pixels(item, shown)).T
    return _shrink(volume)


def _shrink(volume: np.ndarray) -> np.ndarray:
    """As 16 bit where the values fit, which is nearly always."""
    limits = np.iinfo(np.int16)
    fits = volume.dtype.kind == "i" and volume.min() >= limits.min and volume.max() <= limits.max
    return volume.astype(np.int16) if fits else volume


def _read_pixels(item: Slice, shown: str) -> np.ndarray:
    """Rescaled pixels of a file, shape (rows, columns), or (frames, rows, columns)."""
    file = f"{shown}/{item.path.name}" if item.path.name != Path(shown).name else shown
    _require_pixels(item, file)
    try:
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(item.path), imageIO="GDCMImageIO"))
    except RuntimeError:  # such as GDCM with run-length encoding
        pixels = _decode_with_pydicom(item, file)
    return pixels[0] if pixels.ndim == 3 and pixels.shape[0] == 1 else pixels


def _decode_with_pydicom(item: Slice, file: str) -> np.ndarray:
    """Rescaled pixels that GDCM cannot decode."""
    header = item.header
    try:
        if header.get("PhotometricInterpretation") != "MONOCHROME2":
            raise ValueError("GDCM turns other grey scales, pydicom does not")
        pixels = header.pixel_array
    except Exception as error:  # whatever a decoder raises for a damaged stream
        raise NOT_DECODED.error(file, syntax=header.file_meta.TransferSyntaxUID.name) from error
    slope, intercept = float(header.get("RescaleSlope", 1) or 1), float(header.get("RescaleIntercept", 0) or 0)
    rescaled = pixels.astype(np.float64) * slope + intercept
    return rescaled.astype(np.int32 if slope.is_integer() and intercept.is_integer() else np.float32)


def _require_pixels(item: Slice, file: str) -> None:
    """Whether the file has the pixels that its header claims."""
    header = item.header
    if "PixelData" not in header:
        raise SHORT_PIXELS.error(file, found=0, expected="some")
    element = header.get_item("PixelData")
    length = int(getattr(element, "length", 0) or 0) or len(getattr(element, "value", b"") or b"")
    if header.file_meta.TransferSyntaxUID.is_compressed:
        return
    frames = int(header.get("NumberOfFrames", 1) or 1)
    expected = int(header.Rows) * int(header.Columns) * frames * int(header.get("SamplesPerPixel", 1))
    expected *= (int(header.BitsAllocated) + 7) // 8
    start = int(getattr(element, "value_tell", 0))
    found = min(length, item.path.stat().st_size - start)
    if found < expected:
        raise SHORT_PIXELS.error(file, found=found, expected=expected)


def _read_frames(item: Slice, shown: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames of an enhanced multi-frame object in the order of their positions, and the affine in LPS+."""
    header = item.header
    groups = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    frames: list[Slice] = []
    try:
        for group in groups:
            plane = group.get("PlanePositionSequence") or shared[0].PlanePositionSequence
            turned = group.get("PlaneOrientationSequence") or shared[0].PlaneOrientationSequence
            measures = group.get("PixelMeasuresSequence") or shared[0].PixelMeasuresSequence
            frame = Header()
            frame.ImagePositionPatient = plane[0].ImagePositionPatient
            frame.ImageOrientationPatient = turned[0].ImageOrientationPatient
            frame.PixelSpacing = measures[0].PixelSpacing
            frame.SliceThickness = measures[0].get("SliceThickness", 0)
            frame.Rows, frame.Columns = header.Rows, header.Columns
            frames.append(Slice(Path(f"frame {len(frames) + 1}"), frame))
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise FRAMES_WITHOUT_POSITION.error(shown, count=header.NumberOfFrames) from error
    ordered, step = order_slices(frames, shown)
    pixels = _read_pixels(item, shown)
    order = [frames.index(frame) for frame in ordered]
    return _shrink(pixels[order].transpose(2, 1, 0)), _build_affine(ordered[0], step)


def _read_projection(item: Slice, shown: str, notes: list[Problem]) -> MedicalImage:
    """A single picture without a place in the world, such as an X-ray."""
    if int(item.header.get("SamplesPerPixel", 1)) != 1:
        raise COLOUR.error(shown, kind=item.header.get("PhotometricInterpretation"))
    if int(item.header.get("NumberOfFrames", 1) or 1) > 1:
        raise FRAMES_WITHOUT_POSITION.error(shown, count=item.header.NumberOfFrames)
    pixels = _shrink(_read_pixels(item, shown))
    spacing = item.header.get("PixelSpacing") or item.header.get("ImagerPixelSpacing") or (1.0, 1.0)
    between_rows, between_columns = (float(value) for value in spacing)
    affine = np.diag([between_columns, between_rows, 1.0, 1.0])
    return MedicalImage(pixels.T[None], affine, (between_columns, between_rows), tuple(notes))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _silent() -> Iterator[None]:
    """GDCM warns on stderr about what was checked here."""
    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)
