"""DICOM Segmentation objects (SEG): a label map that refers to the series that it was made of, through highdicom.

A frame for each segment and plane that has some of it, at the position of the source's own plane. Frames without a voxel are left out,
as the standard allows; the segment's description stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.objects import (
    MAKER,
    PURPOSE,
    Algorithm,
    build_code,
    describe_equipment,
    hash_origin,
    identify,
    note_empty,
    read_algorithm,
    require_labels,
    save_object,
    shorten,
)
from unet_pipeline.clinical.segments import Segment, find_uncoded
from unet_pipeline.clinical.source import SourceSeries, keep_quiet
from unet_pipeline.clinical.uids import derive_uid
from unet_pipeline.messages import NOTE, Message, Problem
from unet_pipeline.prediction.outputs import CaseResult, ResultFormat

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

MISREAD_BITS = Message(
    "dicom-bits-misread",
    NOTE,
    "has a segmentation of {frames} frames of {rows} x {columns} pixels as bits, which viewers with Cornerstone3D 5.14, such as OHIF, "
    "refuse or misread",
    "Nothing has to be done for programs that follow the standard; for OHIF choose the format dicomseg-labelmap, unless structures overlap.",
)
BINARY, LABELMAP, FRACTIONAL = "BINARY", "LABELMAP", "FRACTIONAL"
_SERIES_NUMBER = 300  # behind the series of a study as scanners number them
_STEPS = 255  # of probabilities


def build_segmentation_format(
    folder: BundleFolder, name: str, kind: str, segments: tuple[Segment, ...]
) -> ResultFormat:
    """SEG as a format of label maps; probabilities are fractional.

    Args:
        folder: the bundle.
        name: of the format.
        kind: BINARY or LABELMAP.
        segments: of the bundle's results.

    Raises:
        PredictionError: highdicom is missing.
    """
    algorithm = read_algorithm(folder)
    save = partial(_save, algorithm=algorithm, segments=segments)
    return ResultFormat(name, ".dcm", partial(save, kind=kind), partial(save, kind=FRACTIONAL), find_uncoded(segments))


def _save(
    final: Path, result: CaseResult, algorithm: Algorithm, segments: tuple[Segment, ...], kind: str
) -> tuple[Problem, ...]:
    """Write a result as `final`."""

    def build(source: SourceSeries) -> tuple[Segmentation, tuple[Problem, ...]]:
        segmentation, empty = build_segmentation(source, result, algorithm, segments, kind)
        notes = () if kind == FRACTIONAL else note_empty(result, empty)
        frames = segmentation.Rows, segmentation.Columns, int(segmentation.NumberOfFrames)
        if segmentation.SegmentationType == BINARY and is_misread_as_bits(*frames):
            rows, columns, num_frames = frames
            name = result.source.files[0].name
            notes = (*notes, MISREAD_BITS.about(name, rows=rows, columns=columns, frames=num_frames))
        return segmentation, notes

    notes = save_object(final, result, "DICOM SEG", build)
    return () if kind == FRACTIONAL else notes  # the label map's say the same


def is_misread_as_bits(rows: int, columns: int, frames: int) -> bool:
    """Whether Cornerstone3D 5.14 refuses or misreads BINARY frames of that size.

    The standard packs the bits of all frames without a gap and pads them to an even number of bytes; it tells from the number of bytes
    whether each frame begins a byte of its own, and knows no padding.
    """
    pixels = rows * columns
    num_bytes = -(-pixels * frames // 8)
    return num_bytes % 2 == 1 or (pixels % 8 != 0 and num_bytes == frames * -(-pixels // 8))


def build_segmentation(
    source: SourceSeries, result: CaseResult, algorithm: Algorithm, segments: Sequence[Segment], kind: str
) -> tuple[Segmentation, list[str]]:
    """The object, and the names of the segments without a voxel.

    Its UIDs follow from the images, the voxels, and what made them.

    Args:
        source: the series of the image.
        result: on the image's grid; probabilities if `kind` is FRACTIONAL.
        algorithm: that made it.
        segments: of the result.
        kind: BINARY, LABELMAP or FRACTIONAL; structures that may overlap are BINARY.

    Raises:
        PredictionError: the result has values that are none of the segments'.
    """
    from highdicom.seg import Segmentation

    bundle_sha256 = hash_origin(result.origin)
    overlap = kind != FRACTIONAL and result.values.ndim > len(source.series.spacing_mm)
    kind = BINARY if overlap else kind
    pixels, numbers = _arrange_pixels(source, result, segments, kind, overlap)
    identity = identify(source, result, kind, pixels)
    texts = algorithm.name, algorithm.version, bundle_sha256
    with keep_quiet():
        segmentation = Segmentation(
            source_images=source.images,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=[
                _describe(segment, number, *texts) for segment, number in zip(segments, numbers, strict=True)
            ],
            series_instance_uid=derive_uid("series", *identity),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=derive_uid("instance", *identity),
            instance_number=1,
            max_fractional_value=_STEPS,
            content_label="SEGMENTATION",
            content_description=f"Automatic segmentation, {PURPOSE}",
            **describe_equipment(algorithm, result.origin),
        )
    segmentation.ContentCreatorName = ""  # of type 2, which highdicom leaves out; a program made the content
    if source.series.is_projection:  # of type 2C, where no position says it
        segmentation.PatientOrientation = source.images[0].get("PatientOrientation") or ""
    _name_dimensions(segmentation, derive_uid("dimensions", *identity))
    return segmentation, _list_empty(pixels, segments, numbers)


def _arrange_pixels(
    source: SourceSeries, result: CaseResult, segments: Sequence[Segment], kind: str, overlap: bool
) -> tuple[np.ndarray, list[int]]:
    """Planes in the order of the source, and the number of each segment.

    A label map of numbers, shape (planes, rows, columns), uint8; for FRACTIONAL and for structures that may overlap with the segments as
    the last axis. Numbers are the label values in a LABELMAP, if none of the segments has the value 0.
    """
    in_turn = list(range(1, len(segments) + 1))
    if kind == FRACTIONAL:
        shares = np.stack([result.values[segment.channel] for segment in segments], axis=-1)
        steps = np.rint(np.clip(shares, 0, 1) * _STEPS) / _STEPS
        return source.arrange_frames(steps.astype(np.float32)), in_turn
    values = require_labels(result, segments, overlap)
    if overlap:
        chosen = np.stack([values[..., segment.channel] > 0 for segment in segments], axis=-1)
        return source.arrange_frames(chosen.astype(np.uint8)), in_turn
    own = [segment.value for segment in segments]
    numbers = own if kind == LABELMAP and 0 not in own and own == sorted(own) else in_turn
    table = np.zeros(256, np.uint8)
    table[own] = numbers
    return source.arrange_frames(table[values]), numbers


def _describe(segment: Segment, number: int, name: str, version: str, bundle_sha256: str) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    code = segment.settled_code
    region = [build_code(code.region)] if code.region else None
    description = SegmentDescription(
        segment_number=number,
        segment_label=shorten(segment.name),
        segmented_property_category=build_code(code.category),
        segmented_property_type=build_code(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=shorten(name),
            family=codes.DCM.ArtificialIntelligence,
            version=shorten(version) or "0",
            source=MAKER,
            parameters={"bundle_sha256": bundle_sha256},
        ),
        anatomic_regions=region,
    )
    if code.modifier and region:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [build_code(code.modifier)]
    elif code.modifier:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [build_code(code.modifier)]
    return description


def _name_dimensions(segmentation: Segmentation, uid: str) -> None:
    """The UID of how frames are indexed, which highdicom draws by chance."""
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _list_empty(pixels: np.ndarray, segments: Sequence[Segment], numbers: Sequence[int]) -> list[str]:
    if pixels.ndim == 4:
        sizes = np.count_nonzero(pixels.reshape(-1, len(segments)), axis=0)
    else:
        sizes = np.bincount(pixels.ravel(), minlength=256)[list(numbers)]
    return [segment.name for segment, size in zip(segments, sizes.tolist(), strict=True) if not size]
