"""The series that a result belongs to, as references need it: patient, study, and the place of every plane.

The patient's module goes from here into the DICOM objects that are written, and nowhere else: no message has a value of a header.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.clinical.uids import derive_uid
from unet_pipeline.dataset.dicom import OrderedSeries, order_series
from unet_pipeline.dataset.dicom_geometry import Slice
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import NOTE, Message, Problem

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

NO_FRAME_OF_REFERENCE = Message(
    "dicom-no-frame-of-reference",
    NOTE,
    "names no frame of reference; what was made of it has one of its own, the same for every result of this series",
    "Nothing has to be done; other series are not placed in relation to it.",
)
# of the modules of patient and study that must be there, if only empty
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_SEXES = ("M", "F", "O", "")
_PIXELS_GROUP = 0x7FE0
_NUMBER_CHARACTERS = 16  # of DICOM's value representation DS
_TELLING_LIBRARIES = ("highdicom", "pydicom", "pynetdicom", "dicomweb_client", "retrying", "urllib3")
_QUIET = RLock()  # filters of warnings belong to the whole process
_LEFT_OUT = (
    "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "ImagePositionPatient", "ImageOrientationPatient",
    "NumberOfFrames", "FrameOfReferenceUID", "PositionReferenceIndicator", "SliceThickness", "SpacingBetweenSlices", "PixelSpacing",
)  # fmt: skip


@dataclass(frozen=True)
class SourceSeries:
    """The series that an image was read from.

    Attributes:
        series: its headers in the order of the image's voxels.
        images: headers to refer to: one for each plane of the image in its order, or the one of a multi-frame object. Patient and study are
            valid and complete, the geometry is what the image was read with. They have no pixels.
        notes: what the user should know about it.
    """

    series: OrderedSeries
    images: tuple[Header, ...]
    notes: tuple[Problem, ...] = ()

    @property
    def step_mm(self) -> float:
        """Distance of two planes."""
        return float(self.series.spacing_mm[-1])

    def arrange_frames(self, values: np.ndarray) -> np.ndarray:
        """Planes of the image in the order of `images`, or of the frames of the multi-frame object.

        Args:
            values: shape (i, j, k), or (i, j) of a projection; with further axes behind them.

        Returns:
            Shape (planes, rows, columns), with the further axes behind them.
        """
        planes = values[:, :, None] if self.series.is_projection else values
        frames = np.moveaxis(planes, (0, 1, 2), (2, 1, 0))
        if not self.series.frame_numbers:
            return frames
        return frames[np.argsort(self.series.frame_numbers)]

    def list_uids(self) -> list[str]:
        """SOP Instance UIDs of the images, sorted."""
        return sorted(str(image.SOPInstanceUID) for image in self.images)


def read_source(path: Path, shown: str) -> SourceSeries:
    """The series of a folder, or of one file.

    Raises:
        ImageFileError: see `read_dicom`.
        PredictionError: it lacks what others refer to it by.
    """
    series = order_series(path, shown)
    missing = [name for name in _REQUIRED if not series.header.get(name)]
    if missing:
        raise PredictionError(
            f"{shown} lacks {', '.join(missing)}, by which a DICOM result refers to it. Export the original series, or choose the format "
            "nifti."
        )
    has_frame = series.is_projection or bool(series.header.get("FrameOfReferenceUID"))
    with keep_quiet():
        template = _copy_valid(series.header)
        for name in _MAY_BE_EMPTY:
            if name not in template:
                setattr(template, name, "")
        if template.PatientSex not in _SEXES:
            template.PatientSex = ""
        if series.is_projection:
            return SourceSeries(series, (template,))
        uid = str(series.header.get("FrameOfReferenceUID") or "")
        template.FrameOfReferenceUID = uid or derive_uid("frame of reference", str(template.SeriesInstanceUID))
        template.PositionReferenceIndicator = str(series.header.get("PositionReferenceIndicator") or "")
        place = _place_frames if series.frame_numbers else _place_files
        images = place(template, series)
    return SourceSeries(series, images, () if has_frame else (NO_FRAME_OF_REFERENCE.about(shown),))


@contextmanager
def keep_quiet() -> Iterator[None]:
    """No warning of these libraries is shown, in one thread at a time: those show values of the patient's module, or addresses."""
    with _QUIET, quiet_process():
        yield


@contextmanager
def quiet_process() -> Iterator[None]:
    """No thread of the process shows a warning of these libraries."""
    loggers = [logging.getLogger(name) for name in _TELLING_LIBRARIES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _copy_valid(header: Header) -> Header:
    """Elements of a header that are valid, decoded, without pixels, private elements, and the geometry."""
    from pydicom import config
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    copied = Dataset()
    for tag in list(header.keys()):
        if tag.group >= _PIXELS_GROUP or tag.is_private or tag.group <= 0x0002:
            continue
        try:
            element = header[tag]
            if element.keyword in _LEFT_OUT or element.VR == "UN":
                continue
            value = element.value
            if element.VR == "SQ":
                value = Items([_copy_valid(item) for item in value])
            elif element.VR == "PN":  # a name keeps the character set that it was read with
                value = [str(name) for name in value] if element.VM > 1 else str(value)
            copied.add(DataElement(element.tag, element.VR, value, validation_mode=config.RAISE))
        except Exception:  # whatever a value that is none raises; it is left out, as if it had not been there
            continue
    return copied


def _place_files(template: Header, series: OrderedSeries) -> tuple[Header, ...]:
    from pydicom.dataset import Dataset

    images = []
    for plane in series.planes:
        image = Dataset()
        image.update(template)
        for name in ("SOPClassUID", "SOPInstanceUID"):  # elements of their own: those of the template are shared
            image.add_new(name, "UI", plane.header[name].value)
        image.ImagePositionPatient = format_numbers(plane.header.ImagePositionPatient)
        image.ImageOrientationPatient = format_numbers(series.planes[0].header.ImageOrientationPatient)
        _add_measures(image, series)
        images.append(image)
    return tuple(images)


def _place_frames(template: Header, series: OrderedSeries) -> tuple[Header, ...]:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = format_numbers(series.planes[0].header.ImageOrientationPatient)
    _add_measures(measures, series)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Items([orientation]), Items([measures])
    template.SharedFunctionalGroupsSequence = Items([shared])
    in_file_order = sorted(zip(series.frame_numbers, series.planes, strict=True), key=lambda pair: pair[0])
    template.PerFrameFunctionalGroupsSequence = Items([_place_frame(plane) for _, plane in in_file_order])
    template.NumberOfFrames = len(series.planes)
    return (template,)


def _place_frame(plane: Slice) -> Header:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    group, position = Dataset(), Dataset()
    position.ImagePositionPatient = format_numbers(plane.header.ImagePositionPatient)
    group.PlanePositionSequence = Items([position])
    return group


def _add_measures(target: Header, series: OrderedSeries) -> None:
    """Size of the pixels, thickness, and distance of the planes as the image was read with."""
    first, step_mm = series.planes[0].header, series.spacing_mm[-1]
    thickness_mm = float(first.get("SliceThickness", 0) or 0) or step_mm
    target.PixelSpacing = format_numbers(first.PixelSpacing)
    (target.SliceThickness,), (target.SpacingBetweenSlices,) = format_numbers([thickness_mm]), format_numbers([step_mm])


def format_numbers(numbers: Iterable[float]) -> list[str]:
    """Numbers as the header has them, rounded to ten digits where its text is longer than DICOM allows."""
    texts = ((str(number), f"{float(number):.10g}") for number in numbers)
    return [text if len(text) <= _NUMBER_CHARACTERS else rounded for text, rounded in texts]
