"""Structured reports of volumes (TID 1500): millilitres of each structure with its code, and what they were measured in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.objects import (
    MAKER,
    PURPOSE,
    Algorithm,
    Structures,
    build_code,
    describe_equipment,
    hash_origin,
    identify,
    note_empty,
    read_algorithm,
    save_object,
    shorten,
)
from unet_pipeline.clinical.segmentation import BINARY, LABELMAP, build_segmentation
from unet_pipeline.clinical.segments import Segment, find_uncoded
from unet_pipeline.clinical.source import SourceSeries
from unet_pipeline.clinical.uids import derive_uid
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import Problem
from unet_pipeline.planning.label_codes import LabelCode
from unet_pipeline.prediction.outputs import REPORT_SUFFIX, CaseResult, ResultFormat, Write, report_path

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SERIES_NUMBER = 303
_MM3_PER_ML = 1000
_DIGITS = 6
_VOLUME, _MILLILITRE = "SCT 118565006 Volume", "UCUM mL milliliter"
_PRESENCE, _NOT_DETECTED = "SCT 705057003 Presence", "SCT 260415000 Not detected"
_SIDES = ("7771000", "24028007", "51440002")  # left, right, both
_ANY_PROCEDURE = "SCT 363679005 Imaging procedure"
_PROCEDURES = {
    "CT": "LN 25045-6 CT unspecified body region",
    "MR": "LN 25056-3 MRI unspecified body region",
    "PT": "LN 44136-0 PET unspecified body region",
    "NM": "LN 49118-3 NM unspecified body region",
}


@dataclass(frozen=True)
class _Volume:
    """Of a structure, with its place in the list and the planes that have some of it."""

    number: int
    segment: Segment
    volume_ml: float
    planes: tuple[int, ...]


def build_report_format(folder: BundleFolder, name: str, segments: tuple[Segment, ...]) -> ResultFormat:
    """The report as a format of label maps.

    Raises:
        PredictionError: highdicom is missing.
    """
    save = partial(_save, algorithm=read_algorithm(folder), segments=segments)
    return ResultFormat(name, REPORT_SUFFIX, save, notes=find_uncoded(segments))


def add_report(folder: BundleFolder, segmentation: ResultFormat, segments: tuple[Segment, ...]) -> ResultFormat:
    """The format of a DICOM SEG with one more object beside each, the report that refers to it.

    Raises:
        PredictionError: highdicom is missing.
    """
    save = partial(_save_both, algorithm=read_algorithm(folder), segments=segments, save_segmentation=segmentation.save)
    return replace(segmentation, save=save)


def _save_both(
    final: Path,
    result: CaseResult,
    algorithm: Algorithm,
    segments: tuple[Segment, ...],
    save_segmentation: Write | None,
) -> tuple[Problem, ...]:
    notes = save_segmentation(final, result) if save_segmentation else ()
    _save(report_path(final), result, algorithm, segments)  # its notes are those of the segmentation
    return notes


def _save(final: Path, result: CaseResult, algorithm: Algorithm, segments: tuple[Segment, ...]) -> tuple[Problem, ...]:
    beside = final.with_name(final.name.removesuffix(REPORT_SUFFIX) + ".dcm")

    def build(source: SourceSeries) -> tuple[Dataset, tuple[Problem, ...]]:
        segmentation = find_segmentation(beside, source, result, algorithm, segments)
        report, empty = build_report(source, result, algorithm, segments, segmentation)
        return report, note_empty(result, empty)

    return save_object(final, result, "structured report", build)


def find_segmentation(
    path: Path, source: SourceSeries, result: CaseResult, algorithm: Algorithm, segments: Sequence[Segment]
) -> Dataset | None:
    """The DICOM SEG of a file if it is that of this very result, as its UID tells."""
    from pydicom import dcmread

    if not path.is_file():
        return None
    try:
        there = dcmread(path, stop_before_pixels=True)
        kind = str(there.SegmentationType)
    except Exception:  # whatever pydicom raises for what is no SEG
        return None
    if kind not in (BINARY, LABELMAP):
        return None
    expected, _ = build_segmentation(source, result, algorithm, segments, kind)
    return expected if expected.SOPInstanceUID == there.get("SOPInstanceUID") else None


def build_report(
    source: SourceSeries,
    result: CaseResult,
    algorithm: Algorithm,
    segments: Sequence[Segment],
    segmentation: Dataset | None = None,
) -> tuple[Dataset, list[str]]:
    """The report, and the names of the structures of 0 ml.

    Args:
        source: the series of the image.
        result: label values on its grid.
        algorithm: that made them.
        segments: of the result.
        segmentation: the DICOM SEG of the result, to which the volumes refer; to the images, if None.

    Raises:
        PredictionError: the image is a projection, or the result has values that are none of the segments'.
    """
    from highdicom.sr import EnhancedSR, MeasurementReport
    from pydicom.sr.codedict import codes

    if source.series.is_projection:
        raise PredictionError(
            f"{result.source.name} is a picture, whose structures have no volume. Choose the format dicomseg or overlay."
        )
    structures, bundle_sha256 = Structures(source, result, segments, "the report"), hash_origin(result.origin)
    refer = "" if segmentation is None else str(segmentation.SOPInstanceUID)
    identity = [*identify(source, result, "SR", structures.values), refer]
    volumes = _measure_volumes(source, structures)
    modality = str(source.images[0].get("Modality") or "")
    report = MeasurementReport(
        observation_context=_name_device(algorithm, bundle_sha256),
        procedure_reported=build_code(_PROCEDURES.get(modality, _ANY_PROCEDURE)),
        imaging_measurements=[
            _measure(source, algorithm, volume, segmentation, identity, bundle_sha256) for volume in volumes
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    document = EnhancedSR(
        evidence=[*source.images, *([] if segmentation is None else [segmentation])],
        content=report,
        series_instance_uid=derive_uid("series", *identity),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=derive_uid("instance", *identity),
        instance_number=1,
        is_complete=True,
        is_verified=False,
        **describe_equipment(algorithm, result.origin),
    )
    return document, [volume.segment.name for volume in volumes if not volume.volume_ml]


def _measure_volumes(source: SourceSeries, structures: Structures) -> list[_Volume]:
    voxel_ml = abs(float(np.linalg.det(source.series.affine[:3, :3]))) / _MM3_PER_ML
    volumes = []
    for number, segment in enumerate(structures.segments):
        sizes = np.count_nonzero(structures.find(segment), axis=(0, 1))
        volume_ml = float(f"{sizes.sum() * voxel_ml:.{_DIGITS}g}")
        volumes.append(_Volume(number, segment, volume_ml, tuple(np.flatnonzero(sizes).tolist())))
    return volumes


def _measure(
    source: SourceSeries,
    algorithm: Algorithm,
    found: _Volume,
    segmentation: Dataset | None,
    identity: Sequence[str],
    bundle_sha256: str,
) -> Any:
    """The group of a structure's volume; one without a voxel is said not to be detected."""
    from highdicom import sr

    code = found.segment.settled_code
    common = {
        "tracking_identifier": sr.TrackingIdentifier(
            derive_uid("tracking", *identity, str(found.number)), found.segment.name
        ),
        "finding_category": build_code(code.category),
        "finding_type": build_code(code.type),
        "finding_sites": _name_site(code),
        "algorithm_id": sr.AlgorithmIdentification(
            shorten(algorithm.name),
            shorten(algorithm.version) or "0",
            [f"bundle_sha256={bundle_sha256}", PURPOSE],
            manufacturer=MAKER,
        ),
        "measurements": [sr.Measurement(build_code(_VOLUME), found.volume_ml, build_code(_MILLILITRE))],
    }
    if not found.volume_ml:
        common["qualitative_evaluations"] = [sr.QualitativeEvaluation(build_code(_PRESENCE), build_code(_NOT_DETECTED))]
    if segmentation is None:
        return sr.MeasurementsAndQualitativeEvaluations(**common, source_images=_refer(source, found.planes))
    series = sr.SourceSeriesForSegmentation(source.images[0].SeriesInstanceUID)
    number = segmentation.SegmentSequence[found.number].SegmentNumber
    segment = sr.ReferencedSegment(
        segmentation.SOPClassUID, segmentation.SOPInstanceUID, int(number), source_series=series
    )
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**common, referenced_segment=segment)


def _refer(source: SourceSeries, planes: Sequence[int]) -> list[Any]:
    """The images of some planes; all of them, if there are none."""
    from highdicom.sr import SourceImageForMeasurementGroup

    chosen, frames = planes or range(len(source.series.planes)), source.series.frame_numbers
    if frames:
        image, numbers = source.images[0], sorted(frames[index] for index in chosen)
        return [SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID, numbers)]
    images = [source.images[index] for index in chosen]
    return [SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID) for image in images]


def _name_site(code: LabelCode) -> list[Any] | None:
    """Where a finding is, or the structure itself with its side."""
    from highdicom.sr import FindingSite

    if not (code.region or code.modifier):
        return None
    modifier = build_code(code.modifier) if code.modifier else None
    kind = "laterality" if modifier and modifier.value in _SIDES else "topographical_modifier"
    return [FindingSite(build_code(code.region or code.type), **{kind: modifier})]


def _name_device(algorithm: Algorithm, bundle_sha256: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    attributes = sr.DeviceObserverIdentifyingAttributes(
        derive_uid("device", bundle_sha256), algorithm.name, MAKER, algorithm.name, bundle_sha256[:16]
    )
    return sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, attributes))
