"""Image series and label objects below a folder by what their headers refer to, wherever the files lie.

UIDs and the patient's number serve to tell which belong together; none of them is shown or kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.dicom_file import is_dicom_file, is_directory_file, read_header
from unet_pipeline.dataset.dicom_folders import NO_IMAGES, PASSED_OVER
from unet_pipeline.dataset.dicom_stream import BoundedFile, read_elements

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

SEG, RTSTRUCT = "SEG", "RTSTRUCT"
LABEL_MODALITIES = (SEG, RTSTRUCT)
_ADDRESS = "series-"  # in the place of a file's name: one series of a folder that holds several
_MODALITY_TAG = 0x00080060
_TAGS = ["SOPInstanceUID", "Modality", "PatientID", "SeriesInstanceUID", "FrameOfReferenceUID"]


@dataclass
class ImageSeries:
    """Files of one series in one folder; `number` is the start of a hash of its UID."""

    number: str
    uid: str
    folder: Path
    patient: str
    frame_uid: str
    files: list[Path] = field(default_factory=list)
    instance_uids: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class LabelObject:
    """A SEG or RTSTRUCT file, and the UIDs of series and images that it refers to."""

    path: Path
    modality: str
    series_uids: frozenset[str]
    instance_uids: frozenset[str]
    frame_uids: frozenset[str]


@dataclass(frozen=True)
class DicomIndex:
    """What lies below a folder, sorted by path."""

    series: tuple[ImageSeries, ...]
    labels: tuple[LabelObject, ...]

    @cached_property
    def num_series_in(self) -> Counter[Path]:
        """Series of each folder."""
        return Counter(series.folder for series in self.series)


def number_series(uid: str) -> str:
    """A short name of a series, from which its UID cannot be told."""
    return hashlib.sha256(uid.encode()).hexdigest()[:8]


def read_modality(path: Path) -> str:
    """Modality of a DICOM file, of which no more is read than that; "" for any other file."""
    from pydicom.filereader import read_partial

    if image_suffix(path) or not path.is_file() or is_directory_file(path):
        return ""
    try:
        if not is_dicom_file(path):
            return ""
        stream: Any = BoundedFile(str(path))
        try:
            header = read_partial(stream, lambda tag, *_: tag > _MODALITY_TAG, force=True)
        finally:
            stream.close()
        return str(header.get("Modality", "") or "").strip().upper()
    except Exception:  # a damaged file is for the reader to complain about
        return ""


def list_candidates(root: Path) -> Iterator[Path]:
    """Files below `root` that may be DICOM, in the order of their paths; links that lead back are not followed again."""
    yield from _walk(root, set())


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(PASSED_OVER):
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.is_file() and not image_suffix(path):
            yield path


def index_dicom(root: Path) -> DicomIndex:
    """Series of images and label objects below `root`; what is neither, and what cannot be read, is left out."""
    series: dict[tuple[Path, str], ImageSeries] = {}
    labels: list[LabelObject] = []
    for path in list_candidates(root):
        modality = read_modality(path)
        if modality in LABEL_MODALITIES:
            labels.append(_read_label_object(path, modality))
        elif modality and modality not in NO_IMAGES:
            _add_image(series, path)
    return DicomIndex(tuple(series.values()), tuple(labels))


def _add_image(series: dict[tuple[Path, str], ImageSeries], path: Path) -> None:
    try:
        header = read_elements(path, force=True, stop_before_pixels=True, specific_tags=_TAGS)
        uid, instance = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
    except Exception:  # a damaged file is for the reader to complain about
        return
    patient, frame = str(header.get("PatientID", "") or ""), str(header.get("FrameOfReferenceUID", "") or "")
    known = series.setdefault(
        (path.parent, uid), ImageSeries(number_series(uid), uid, path.parent, patient.strip(), frame)
    )
    known.files.append(path)
    known.instance_uids.add(instance)


def _read_label_object(path: Path, modality: str) -> LabelObject:
    try:
        header = read_header(path)
        series = {
            str(item.SeriesInstanceUID)
            for keyword in ("ReferencedSeriesSequence", "RTReferencedSeriesSequence")
            for item in _find_items(header, keyword)
            if "SeriesInstanceUID" in item
        }
        keywords = ("ReferencedInstanceSequence", "SourceImageSequence", "ContourImageSequence")
        instances = {
            str(item.ReferencedSOPInstanceUID)
            for keyword in keywords
            for item in _find_items(header, keyword)
            if "ReferencedSOPInstanceUID" in item
        }
        frames = {str(header.get("FrameOfReferenceUID", "") or "")} | {
            str(item.get("FrameOfReferenceUID", "") or "")
            for item in header.get("ReferencedFrameOfReferenceSequence", None) or ()
        }
    except Exception:  # a damaged file is for the reader to complain about
        return LabelObject(path, modality, frozenset(), frozenset(), frozenset())
    return LabelObject(path, modality, frozenset(series), frozenset(instances), frozenset(frames - {""}))


def _find_items(header: Header, keyword: str) -> Iterator[Header]:
    """Items of all sequences of a name, at any depth."""
    for element in header:
        if element.VR != "SQ":
            continue
        for item in element.value or ():
            if element.keyword == keyword:
                yield item
            yield from _find_items(item, keyword)


# one series of a folder that holds several


def address_series(series: ImageSeries, is_alone: bool) -> Path:
    """The path of a series as the readers take it: its file, its folder, or its folder with an address in the place of a file's name."""
    if len(series.files) == 1:
        return series.files[0]
    return series.folder if is_alone else series.folder / f"{_ADDRESS}{series.number}"


def is_series_address(path: Path) -> bool:
    """Whether a path names one series of a folder that holds several."""
    return path.name.startswith(_ADDRESS) and not path.exists() and path.parent.is_dir()


def list_addressed_files(path: Path) -> list[Path]:
    """Files of the series at an address, sorted by name; none where the folder has no such series."""
    folder = path.parent
    files = _group_files(folder, folder.stat().st_mtime_ns)
    return list(files.get(path.name.removeprefix(_ADDRESS), ()))


@lru_cache(maxsize=8)
def _group_files(folder: Path, _changed_ns: int) -> dict[str, tuple[Path, ...]]:
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if read_modality(path) in ("", *NO_IMAGES):
            continue
        try:
            header = read_elements(path, force=True, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
        except Exception:  # a damaged file is for the reader to complain about
            continue
        groups.setdefault(number_series(str(header.get("SeriesInstanceUID", ""))), []).append(path)
    return {number: tuple(paths) for number, paths in groups.items()}
