"""A DICOM series -> one volume, after its headers were checked; headers with pydicom, pixels with SimpleITK (GDCM).

MONAI's and ITK's readers take two series in one folder, a tilted gantry, a missing or repeated slice, a screenshot among the
slices, and say nothing. Here each is told apart. No field of the patient, and no UID, appears in a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.dicom_file import DIRECTORY_CLASS, is_dicom_file, is_directory_file, read_header
from unet_pipeline.dataset.dicom_folders import NO_IMAGES, VOLUME_MODALITIES
from unet_pipeline.dataset.dicom_geometry import LPS_TO_RAS, Series, Slice, build_affine, name_file, order_slices
from unet_pipeline.dataset.dicom_index import is_series_address, list_addressed_files, number_series
from unet_pipeline.dataset.dicom_messages import (
    COLOUR,
    CORRUPT,
    FRAMES_WITHOUT_POSITION,
    INVERTED,
    MISSING_SLICE,
    NO_DICOM,
    NO_IMAGE_SERIES,
    NOT_DECODED,
    NOT_DICOM,
    SET_ASIDE,
    SEVERAL_PICTURES,
    SEVERAL_SERIES,
    SHORT_PIXELS,
    SLICES_LEFT_OUT,
)
from unet_pipeline.dataset.medical_image import ImageGrid, MedicalImage
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import Problem, show_first

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PROJECTIONS = ("CR", "DX", "MG", "RG", "RF", "XA", "PX", "IO")  # X-rays through the body
_VALUE_BYTES = 2  # nearly always, see `_shrink`
_SHOWN_NAMES = 5


def read_dicom(path: Path, shown: str) -> MedicalImage:
    """The one image series of a folder, or one DICOM file.

    Returns:
        Array of shape (1, i, j, k), i along the rows, j down the columns, k along the normal of the slices; (1, i, j) for a
        projection such as an X-ray. Rescaled by each file's own slope and intercept. Affine in RAS+.

    Raises:
        ImageFileError: no series or several, or slices that do not make a regular volume.
    """
    series = order_series(path, shown)
    with _silent():
        voxels = _read_voxels(series, shown)
    return MedicalImage(voxels[None], series.affine, series.spacing_mm, series.notes, _read_modality(series.header))


def read_dicom_grid(path: Path, shown: str) -> ImageGrid:
    """The grid of the one image series of a folder, or of one DICOM file, from the headers alone.

    Raises:
        ImageFileError: as `read_dicom`, as far as the headers show it.
    """
    series = order_series(path, shown)
    shape = int(series.header.Columns), int(series.header.Rows), len(series.planes)
    return ImageGrid(1, shape[: len(series.spacing_mm)], series.affine, series.spacing_mm, _VALUE_BYTES)


@dataclass(frozen=True)
class OrderedSeries:
    """The headers of one image series in the order of the image's voxels.

    Attributes:
        planes: one for each index k of the image: a file, or a frame of which only the geometry is known; one of a projection.
        path, header: of a multi-frame object's file, or of the first one that was found.
        frame_numbers: of a multi-frame object, the frame of each plane, counted from 1; otherwise none.
        affine: of the image, in RAS+.
        spacing_mm: of its two or three axes.
        notes: what the user should know about it.
    """

    planes: tuple[Slice, ...]
    path: Path
    header: Header
    frame_numbers: tuple[int, ...]
    affine: np.ndarray
    spacing_mm: tuple[float, ...]
    notes: tuple[Problem, ...]

    @property
    def is_projection(self) -> bool:
        """Whether it is a picture without a place in the world."""
        return len(self.spacing_mm) == 2


def order_series(path: Path, shown: str) -> OrderedSeries:
    """The one image series of a folder, or one DICOM file: which file or frame holds which plane of the image, and where it lies.

    Raises:
        ImageFileError: as `read_dicom`, as far as the headers show it.
    """
    series, notes = _find_series(path, shown)
    first = series.slices[0]
    if first.header.get("PhotometricInterpretation") == "MONOCHROME1":
        notes.append(INVERTED.about(shown))
    frame_numbers: tuple[int, ...] = ()
    if _has_frames(series):
        frames = _list_frames(first, shown)
        planes, step = order_slices(frames, shown)
        frame_numbers = tuple(frames.index(frame) + 1 for frame in planes)
    elif _is_projection(series, shown):
        affine, spacing_mm = _place_projection(first, shown)
        return OrderedSeries((first,), first.path, first.header, (), affine, spacing_mm, tuple(notes))
    else:
        planes, step = _order(series, notes, shown)
    affine = LPS_TO_RAS @ build_affine(planes[0], step)
    spacing = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return OrderedSeries(tuple(planes), first.path, first.header, frame_numbers, affine, spacing, tuple(notes))


def _find_series(path: Path, shown: str) -> tuple[Series, list[Problem]]:
    slices, notes = _read_headers(_list_files(path), shown)
    series, notes_of_choice = choose_series(slices, shown)
    return series, notes + notes_of_choice


def _list_files(path: Path) -> list[Path]:
    if is_series_address(path):
        return list_addressed_files(path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.is_file()]


def _order(series: Series, notes: Sequence[Problem], shown: str) -> tuple[list[Slice], np.ndarray]:
    """As `order_slices`; where a slice is missing, what was passed over is named, because it may be that slice."""
    try:
        return order_slices(series.slices, shown)
    except ImageFileError as error:
        lost = [note.cause for note in notes if note.code in (NOT_DICOM.code, SLICES_LEFT_OUT.code)]
        if error.code != MISSING_SLICE.code or not lost:
            raise
        raise ImageFileError(error.file, "; it ".join([error.cause, *lost]), error.remedy, error.code) from error


def _has_frames(series: Series) -> bool:
    header = series.slices[0].header
    has_several = int(header.get("NumberOfFrames", 1) or 1) > 1
    return len(series.slices) == 1 and (has_several or "PerFrameFunctionalGroupsSequence" in header)


def _is_projection(series: Series, shown: str) -> bool:
    """Whether it is one picture without a place in the world.

    Raises:
        ImageFileError: there are several such pictures.
    """
    first = series.slices[0].header
    if len(series.slices) == 1 and _read_modality(first) in _PROJECTIONS and not _has_frames(series):
        return True  # some stations write where the patient lay, which makes no volume of it
    if any("ImagePositionPatient" in item.header for item in series.slices):
        return False  # of a volume in which one lacks its position `order_slices` says so
    if len(series.slices) > 1:
        names = show_first(sorted(item.path.name for item in series.slices), _SHOWN_NAMES)
        raise SEVERAL_PICTURES.error(shown, count=len(series.slices), names=names)
    return True


def _read_headers(files: Sequence[Path], shown: str) -> tuple[list[Slice], list[Problem]]:
    from pydicom.errors import InvalidDicomError  # takes a tenth of a second, and few images are DICOM

    slices, not_dicom = [], []
    for file in files:
        if file.name.startswith(".") or is_directory_file(file):
            continue
        try:
            if not is_dicom_file(file):
                not_dicom.append(file.name)
                continue
            header = read_header(file)
        except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
            raise CORRUPT.error(name_file(shown, file), cause=_first_line(error)) from error
        if header.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY_CLASS:
            continue
        if "SeriesInstanceUID" not in header:
            raise CORRUPT.error(name_file(shown, file), cause="it belongs to no series")
        slices.append(Slice(file, header))
    if not slices:
        raise NO_DICOM.error(shown)
    left_out = show_first(not_dicom, _SHOWN_NAMES)
    return slices, [NOT_DICOM.about(shown, count=len(not_dicom), names=left_out)] if not_dicom else []


def choose_series(slices: Iterable[Slice], shown: str) -> tuple[Series, list[Problem]]:
    """The one series of images; localizers, screenshots and objects that are no images are set aside.

    Raises:
        ImageFileError: there is none, or there are several.
    """
    images: dict[str, list[Slice]] = {}
    aside: dict[str, list[Slice]] = {}
    for item in slices:
        if reason := find_reason_to_set_aside(item.header):
            aside.setdefault(reason, []).append(item)
        else:
            images.setdefault(str(item.header.get("SeriesInstanceUID", "")), []).append(item)
    chosen = [Series(number_series(uid), tuple(items)) for uid, items in sorted(images.items())]
    listed = ", ".join(f"{len(items)} {reason}" for reason, items in sorted(aside.items()))
    if not chosen:
        raise NO_IMAGE_SERIES.error(shown, found=listed)
    if len(chosen) > 1:
        raise SEVERAL_SERIES.error(shown, count=len(chosen), listed="; ".join(map(str, chosen)))
    notes = [SET_ASIDE.about(shown, listed=listed, taken=chosen[0])] if aside else []
    (uid,) = images
    lost = [item.path.name for items in aside.values() for item in items if item.header.get("SeriesInstanceUID") == uid]
    if lost:
        notes.append(SLICES_LEFT_OUT.about(shown, names=show_first(sorted(lost), _SHOWN_NAMES), taken=chosen[0]))
    return chosen[0], notes


def find_reason_to_set_aside(header: Header) -> str:
    """Why a file is no part of an image, as a plural; "" if it is."""
    modality = str(header.get("Modality", ""))
    if modality in NO_IMAGES:
        return f"{modality} object(s)"
    if str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE):
        return "secondary capture(s)"
    if "LOCALIZER" in [str(value).upper() for value in header.get("ImageType", None) or []]:
        return "localizer(s)"
    has_frames = int(header.get("NumberOfFrames", 1) or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header
    if modality in VOLUME_MODALITIES and not has_frames and "ImagePositionPatient" not in header:
        return f"{modality} picture(s) without position"
    return ""


def _read_voxels(series: OrderedSeries, shown: str) -> np.ndarray:
    """Rescaled voxels, shape (i, j, k), or (i, j) of a projection."""
    if series.is_projection:
        return _shrink(_read_pixels(series.planes[0], shown)).T
    if series.frame_numbers:
        pixels = _read_pixels(Slice(series.path, series.header), shown)
        pixels = pixels[None] if pixels.ndim == 2 else pixels
        return _shrink(pixels[np.array(series.frame_numbers) - 1].transpose(2, 1, 0))
    return _read_slices(series.planes, shown)


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
    import SimpleITK  # takes as long as all of this package, and most images are NIfTI or pictures

    file = name_file(shown, item.path)
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
    # what was deflated as a whole has no place in the file
    is_deflated = header.file_meta.TransferSyntaxUID.is_deflated
    num_bytes = length if is_deflated else min(length, item.path.stat().st_size - start)
    if num_bytes < expected:
        raise SHORT_PIXELS.error(file, found=num_bytes, expected=expected)


def _list_frames(item: Slice, shown: str) -> list[Slice]:
    """The geometry of the frames of an enhanced multi-frame object, in the order of the file."""
    from pydicom.dataset import Dataset

    header = item.header
    groups = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    frames: list[Slice] = []
    try:
        for group in groups:
            plane = group.get("PlanePositionSequence") or shared[0].PlanePositionSequence
            turned = group.get("PlaneOrientationSequence") or shared[0].PlaneOrientationSequence
            measures = group.get("PixelMeasuresSequence") or shared[0].PixelMeasuresSequence
            frame = Dataset()
            frame.ImagePositionPatient = plane[0].ImagePositionPatient
            frame.ImageOrientationPatient = turned[0].ImageOrientationPatient
            frame.PixelSpacing = measures[0].PixelSpacing
            frame.SliceThickness = measures[0].get("SliceThickness", 0)
            frame.Rows, frame.Columns = header.Rows, header.Columns
            frames.append(Slice(Path(f"frame {len(frames) + 1}"), frame))
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise FRAMES_WITHOUT_POSITION.error(shown, count=header.get("NumberOfFrames", 1)) from error
    return frames


def _place_projection(item: Slice, shown: str) -> tuple[np.ndarray, tuple[float, float]]:
    if int(item.header.get("SamplesPerPixel", 1)) != 1:
        raise COLOUR.error(shown, kind=item.header.get("PhotometricInterpretation"))
    if int(item.header.get("NumberOfFrames", 1) or 1) > 1:
        raise FRAMES_WITHOUT_POSITION.error(shown, count=item.header.NumberOfFrames)
    spacing = item.header.get("PixelSpacing") or item.header.get("ImagerPixelSpacing") or (1.0, 1.0)
    between_rows, between_columns = (float(value) for value in spacing)
    return np.diag([between_columns, between_rows, 1.0, 1.0]), (between_columns, between_rows)


def _read_modality(header: Header) -> str:
    return str(header.get("Modality") or "").strip().upper()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _silent() -> Iterator[None]:
    """GDCM warns on stderr about what was checked here."""
    import SimpleITK

    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)
