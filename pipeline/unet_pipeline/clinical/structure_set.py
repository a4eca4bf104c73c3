"""RT Structure Sets (RTSTRUCT): each structure of a result as closed contours in the planes of its series, in patient coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.objects import (
    COLOURS,
    PURPOSE,
    Algorithm,
    Structures,
    build_code,
    describe_equipment,
    hash_origin,
    identify,
    note_empty,
    open_object,
    read_algorithm,
    save_object,
    shorten,
)
from unet_pipeline.clinical.outlines import trace_outlines
from unet_pipeline.clinical.segments import Segment, find_uncoded
from unet_pipeline.clinical.source import SourceSeries, format_numbers
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.outputs import CaseResult, ResultFormat

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CLASS_UID = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS_UID = "1.2.840.10008.3.1.2.3.1"  # retired, and the only one that the attribute has
_SERIES_NUMBER = 301
_LABEL_CHARACTERS = 16  # of DICOM's value representation SH
_MICROMETRE = 3  # decimals of coordinates in mm, where pixels are not much smaller


def build_structure_set_format(folder: BundleFolder, name: str, segments: tuple[Segment, ...]) -> ResultFormat:
    """RTSTRUCT as a format of label maps.

    Raises:
        PredictionError: highdicom is missing.
    """
    save = partial(_save, algorithm=read_algorithm(folder), segments=segments)
    return ResultFormat(name, "_rtstruct.dcm", save, notes=find_uncoded(segments))


def _save(final: Path, result: CaseResult, algorithm: Algorithm, segments: tuple[Segment, ...]) -> tuple[Problem, ...]:
    def build(source: SourceSeries) -> tuple[Dataset, tuple[Problem, ...]]:
        dataset, empty = build_structure_set(source, result, algorithm, segments)
        return dataset, note_empty(result, empty)

    return save_object(final, result, "RTSTRUCT", build)


def build_structure_set(
    source: SourceSeries, result: CaseResult, algorithm: Algorithm, segments: Sequence[Segment]
) -> tuple[Dataset, list[str]]:
    """The object, and the names of the structures without a voxel, which have no contour.

    Raises:
        PredictionError: the image is a projection, or the result has values that are none of the segments'.
    """
    if source.series.is_projection:
        raise PredictionError(
            f"{result.source.name} is a picture without a place in the world, and RTSTRUCT has patient coordinates. Choose the format "
            "dicomseg or overlay."
        )
    structures = Structures(source, result, segments, "RTSTRUCT")
    identity = identify(source, result, "RTSTRUCT", structures.values)
    described = describe_equipment(algorithm, result.origin)
    dataset = open_object(source, _CLASS_UID, "RTSTRUCT", _SERIES_NUMBER, identity, **described)
    dataset.OperatorsName = ""
    dataset.FrameOfReferenceUID = source.images[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = source.images[0].PositionReferenceIndicator
    dataset.StructureSetLabel = "RESEARCH USE"[:_LABEL_CHARACTERS]
    dataset.StructureSetName = shorten(algorithm.name, f": {PURPOSE}")
    version = f"{algorithm.name} {algorithm.version}"
    dataset.StructureSetDescription = (
        f"Automatic contours of {version}, bundle_sha256={hash_origin(result.origin)}; {PURPOSE}"
    )
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.InstanceCreationDate, dataset.InstanceCreationTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_refer(source)]
    numbered = list(enumerate(segments, 1))
    dataset.StructureSetROISequence = [_describe(number, segment, dataset, version) for number, segment in numbered]
    contours = [_list_contours(source, structures, segment) for segment in segments]
    dataset.ROIContourSequence = [_colour(number, items) for number, items in enumerate(contours, 1)]
    dataset.RTROIObservationsSequence = [_observe(number, segment) for number, segment in numbered]
    return dataset, [segment.name for segment, items in zip(segments, contours, strict=True) if not items]


def _refer(source: SourceSeries) -> Dataset:
    """The frame of reference with study, series and images."""
    from pydicom.dataset import Dataset

    frame, study, series, image = Dataset(), Dataset(), Dataset(), source.images[0]
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.ContourImageSequence = [_refer_to(image) for image in source.images]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_CLASS_UID, image.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = image.FrameOfReferenceUID, [study]
    return frame


def _refer_to(image: Dataset, frame_number: int = 0) -> Dataset:
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if frame_number:
        reference.ReferencedFrameNumber = frame_number
    return reference


def _describe(number: int, segment: Segment, dataset: Dataset, version: str) -> Dataset:
    from pydicom.dataset import Dataset

    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, shorten(segment.name)
    roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    roi.ROIGenerationAlgorithm, roi.ROIGenerationDescription = "AUTOMATIC", shorten(version)
    return roi


def _observe(number: int, segment: Segment) -> Dataset:
    from pydicom.dataset import Dataset

    observation, code = Dataset(), segment.settled_code
    identification = build_code(code.type)
    if code.modifier:
        identification.SegmentedPropertyTypeModifierCodeSequence = [build_code(code.modifier)]
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.ROIObservationLabel = segment.name.replace("\\", "/")[:_LABEL_CHARACTERS]
    observation.RTROIIdentificationCodeSequence = [identification]
    observation.RTROIInterpretedType = observation.ROIInterpreter = ""
    return observation


def _colour(number: int, contours: Sequence[Dataset]) -> Dataset:
    from pydicom.dataset import Dataset

    item, colour = Dataset(), COLOURS[(number - 1) % len(COLOURS)]
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(bytes.fromhex(colour[1:]))
    if contours:
        item.ContourSequence = list(contours)
    return item


def _list_contours(source: SourceSeries, structures: Structures, segment: Segment) -> list[Dataset]:
    """The contours of a structure, plane by plane."""
    from pydicom.dataset import Dataset

    contours: list[Dataset] = []
    mask = structures.find(segment)
    for index in np.flatnonzero(mask.any((0, 1))).tolist():
        frames = source.series.frame_numbers
        image = _refer_to(source.images[0], frames[index]) if frames else _refer_to(source.images[index])
        for outline in trace_outlines(mask[:, :, index]):
            contour = Dataset()
            contour.ContourImageSequence = [image]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(outline)
            contour.ContourNumber = len(contours) + 1
            contour.ContourData = format_numbers(_place(source, index, outline).ravel())
            contours.append(contour)
    return contours


def _place(source: SourceSeries, index: int, outline: np.ndarray) -> np.ndarray:
    """Patient coordinates (LPS, mm) of an outline in a plane, in micrometres or in thousandths of a pixel, whichever is finer."""
    plane, spacing_mm = source.series.planes[index], np.array(source.series.spacing_mm[:2])
    placed = plane.position + (outline * spacing_mm) @ source.series.planes[0].directions
    decimals = max(_MICROMETRE, _MICROMETRE - int(np.floor(np.log10(spacing_mm.min()))))
    return placed.round(decimals)
