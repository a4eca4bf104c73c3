"""DICOM Segmentation objects (SEG): a label map that refers to the series that it was made of, through highdicom.

A frame for each segment and plane that has some of it, at the position of the source's own plane. Frames without a voxel are left out,
as the standard allows; the segment's description stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.segments import Segment, find_uncoded
from unet_pipeline.clinical.source import SourceSeries, keep_quiet, read_source
from unet_pipeline.clinical.uids import derive_uid
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import write_atomically
from unet_pipeline.messages import NOTE, Message, Problem
from unet_pipeline.planning.label_codes import split_code
from unet_pipeline.prediction.result_formats import CaseResult, ResultFormat
from unet_pipeline.prediction.reuse import Origin

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

EMPTY_SEGMENTS = Message(
    "segments-empty",
    NOTE,
    "has no voxel of {names}; the segments are described and have no frame",
    "See whether the image shows them.",
)
BINARY, LABELMAP, FRACTIONAL = "BINARY", "LABELMAP", "FRACTIONAL"
_MAKER = "unet-pipeline"
_PURPOSE = "research use only"
_SERIES_NUMBER = 300  # behind the series of a study as scanners number them
_TEXT_CHARACTERS = 64  # of DICOM's value representation LO
_STEPS = 255  # of probabilities


@dataclass(frozen=True)
class Algorithm:
    """What made a result, as its object names it.

    Attributes:
        name, version: of the bundle.
    """

    name: str
    version: str


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
    _require_highdicom()
    algorithm = Algorithm(folder.name, str(folder.read_metadata().get("version") or ""))
    save = partial(_save, algorithm=algorithm, segments=segments)
    return ResultFormat(name, ".dcm", partial(save, kind=kind), partial(save, kind=FRACTIONAL), find_uncoded(segments))


def hash_origin(origin: Origin) -> str:
    """SHA-256 of the weights and configs that a result was made with."""
    parts = [list(origin.weights_sha256), sorted(origin.configs_sha256.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _require_highdicom() -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise PredictionError(
            "highdicom, which writes DICOM SEG, is not installed. Install it with `pip install 'unet-pipeline[dicom]'`."
        ) from error


def _save(
    final: Path, result: CaseResult, algorithm: Algorithm, segments: tuple[Segment, ...], kind: str
) -> tuple[Problem, ...]:
    """Write a result as `final`."""
    path = result.source.files[0]
    source = read_source(path, path.name)
    try:
        segmentation, empty = build_segmentation(source, result, algorithm, segments, kind)
        with keep_quiet(), write_atomically(final) as partial_path:
            segmentation.save_as(partial_path)
    except (PredictionError, OSError, MemoryError):
        raise
    except Exception as error:  # its text may have values of the header
        raise PredictionError(
            f"{path.name} cannot be written as DICOM SEG ({type(error).__name__}); its headers have what the standard does not allow. "
            "Choose the format nifti."
        ) from None
    notes = (EMPTY_SEGMENTS.about(path.name, names=", ".join(empty)),) if empty and kind != FRACTIONAL else ()
    return (*(source.notes if kind != FRACTIONAL else ()), *notes)


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
    identity = [*source.list_uids(), kind, bundle_sha256, json.dumps(dict(result.origin.options), default=str)]
    identity.append(hashlib.sha256(pixels.tobytes()).hexdigest())
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
            manufacturer=_MAKER,
            manufacturer_model_name=algorithm.name[:_TEXT_CHARACTERS],
            software_versions=unet_pipeline.__version__,
            device_serial_number=bundle_sha256[:16],
            max_fractional_value=_STEPS,
            content_label="SEGMENTATION",
            content_description=f"Automatic segmentation, {_PURPOSE}",
            series_description=_shorten(algorithm.name, f": {_PURPOSE}"),
            specific_character_set="ISO_IR 192",
        )
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
    values = _require_labels(result, segments, overlap)
    if overlap:
        chosen = np.stack([values[..., segment.channel] > 0 for segment in segments], axis=-1)
        return source.arrange_frames(chosen.astype(np.uint8)), in_turn
    own = [segment.value for segment in segments]
    numbers = own if kind == LABELMAP and 0 not in own and own == sorted(own) else in_turn
    table = np.zeros(256, np.uint8)
    table[own] = numbers
    return source.arrange_frames(table[values]), numbers


def _require_labels(result: CaseResult, segments: Sequence[Segment], overlap: bool) -> np.ndarray:
    """Label values as uint8, once each is known."""
    values = result.values
    if values.dtype.kind not in "bui":
        raise PredictionError(
            f"The result of {result.source.name} has values of {values.dtype}; DICOM SEG holds labels. The bundle's postprocessing lacks a "
            "threshold or argmax: choose the format nifti."
        )
    known = {0, 1} if overlap else {0, *(segment.value for segment in segments)}
    unknown = sorted(set(np.unique(values).tolist()) - known)
    if unknown or (overlap and values.shape[-1] <= max(segment.channel for segment in segments)):
        seen = f"the value {unknown[0]}" if unknown else f"{values.shape[-1]} structures"
        raise PredictionError(
            f"The result of {result.source.name} has {seen}; the bundle names {', '.join(segment.name for segment in segments)}. Correct "
            "channel_def in its metadata.json."
        )
    return values.astype(np.uint8)


def _describe(segment: Segment, number: int, name: str, version: str, bundle_sha256: str) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    code = segment.settled_code
    region = [_build_code(code.region)] if code.region else None
    description = SegmentDescription(
        segment_number=number,
        segment_label=_shorten(segment.name),
        segmented_property_category=_build_code(code.category),
        segmented_property_type=_build_code(code.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=_shorten(name),
            family=codes.DCM.ArtificialIntelligence,
            version=_shorten(version) or "0",
            source=_MAKER,
            parameters={"bundle_sha256": bundle_sha256},
        ),
        anatomic_regions=region,
    )
    if code.modifier and region:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_build_code(code.modifier)]
    elif code.modifier:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_build_code(code.modifier)]
    return description


def _build_code(text: str) -> Any:
    from highdicom.sr import CodedConcept

    scheme, value, meaning = split_code(text)
    return CodedConcept(value, scheme, meaning)


def _shorten(text: str, ending: str = "") -> str:
    """A text of DICOM's length, without what separates values."""
    return text.replace("\\", "/")[: _TEXT_CHARACTERS - len(ending)] + ending


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
