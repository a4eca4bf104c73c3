"""What every DICOM object of a result has in common: what made it, its texts and codes, the values it holds, and how it gets its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.segments import Segment
from unet_pipeline.clinical.source import SourceSeries, keep_quiet, read_source
from unet_pipeline.clinical.uids import derive_uid
from unet_pipeline.errors import PipelineError, PredictionError
from unet_pipeline.files import write_atomically
from unet_pipeline.messages import NOTE, Message, Problem
from unet_pipeline.planning.label_codes import split_code
from unet_pipeline.prediction.outputs import CaseResult
from unet_pipeline.prediction.reuse import Origin

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

EMPTY_SEGMENTS = Message(
    "segments-empty",
    NOTE,
    "shows nothing of {names}; the result describes them all the same",
    "See whether the image shows them.",
)
MAKER = "unet-pipeline"
PURPOSE = "research use only"
TEXT_CHARACTERS = 64  # of DICOM's value representation LO
COLOURS = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)  # Okabe and Ito's, for dark images
_UTF_8 = "ISO_IR 192"


@dataclass(frozen=True)
class Algorithm:
    """What made a result, as its object names it.

    Attributes:
        name, version: of the bundle.
    """

    name: str
    version: str


def read_algorithm(folder: BundleFolder) -> Algorithm:
    """What a bundle's results were made by.

    Raises:
        PredictionError: highdicom is missing.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise PredictionError(
            "highdicom, which writes DICOM objects, is not installed. Install it with `pip install 'unet-pipeline[dicom]'`."
        ) from error
    return Algorithm(folder.name, str(folder.read_metadata().get("version") or ""))


def hash_origin(origin: Origin) -> str:
    """SHA-256 of the weights and configs that a result was made with."""
    parts = [list(origin.weights_sha256), sorted(origin.configs_sha256.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def identify(source: SourceSeries, result: CaseResult, kind: str, voxels: np.ndarray) -> list[str]:
    """What the UIDs of an object follow from: images, kind, weights and configs, options, and voxels."""
    options = {name: value for name, value in result.origin.options.items() if name != "format"}  # said by the kind
    identity = [*source.list_uids(), kind, hash_origin(result.origin), json.dumps(options, default=str)]
    return [*identity, hashlib.sha256(voxels.tobytes()).hexdigest()]


def describe_equipment(algorithm: Algorithm, origin: Origin) -> dict[str, Any]:
    """The equipment's and the series' description, as highdicom's classes take them."""
    return {
        "manufacturer": MAKER,
        "manufacturer_model_name": algorithm.name[:TEXT_CHARACTERS],
        "software_versions": unet_pipeline.__version__,
        "device_serial_number": hash_origin(origin)[:16],
        "series_description": shorten(algorithm.name, f": {PURPOSE}"),
        "specific_character_set": _UTF_8,
    }


def open_object(
    source: SourceSeries, class_uid: str, modality: str, series_number: int, identity: Sequence[str], **described: Any
) -> Dataset:
    """An object of a class that highdicom has no writer of, with patient, study, series and equipment.

    Args:
        source: whose patient and study it belongs to.
        class_uid: of the object.
        modality, series_number: of its series.
        identity: see `identify`.
        described: see `describe_equipment`.
    """
    from highdicom.base import SOPClass
    from pydicom.uid import ImplicitVRLittleEndian

    image = source.images[0]
    dataset = SOPClass(
        study_instance_uid=image.StudyInstanceUID,
        series_instance_uid=derive_uid("series", *identity),
        series_number=series_number,
        sop_instance_uid=derive_uid("instance", *identity),
        sop_class_uid=class_uid,
        instance_number=1,
        modality=modality,
        # texts of contours may be longer than the 64 KiB of explicit value representations
        transfer_syntax_uid=ImplicitVRLittleEndian,
        **described,
    )
    dataset.copy_patient_and_study_information(image)
    return dataset


def require_labels(
    result: CaseResult, segments: Sequence[Segment], overlap: bool, kind: str = "DICOM SEG"
) -> np.ndarray:
    """Label values as uint8, once each is known.

    Raises:
        PredictionError: the result has values that are none of the segments'.
    """
    values = result.values
    if values.dtype.kind not in "bui":
        raise PredictionError(
            f"The result of {result.source.name} has values of {values.dtype}; {kind} holds labels. The bundle's postprocessing lacks a "
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


class Structures:
    """The places of the structures of a result on the image's grid.

    Attributes:
        segments: of the result.
        values: label values, shape (i, j, k); or with the channels as an axis more, where structures may overlap.
    """

    def __init__(self, source: SourceSeries, result: CaseResult, segments: Sequence[Segment], kind: str) -> None:
        self.segments = tuple(segments)
        self.overlap = result.values.ndim > len(source.series.spacing_mm)
        values = require_labels(result, segments, self.overlap, kind)
        self.values = values[:, :, None] if source.series.is_projection else values

    def find(self, segment: Segment, plane: int | slice = slice(None)) -> np.ndarray:
        """Where a structure is, in the volume or in one plane; boolean, shape (i, j, k) or (i, j)."""
        if self.overlap:
            return self.values[:, :, plane, segment.channel] > 0
        return self.values[:, :, plane] == segment.value

    def count_voxels(self) -> list[int]:
        """Of each segment."""
        return [int(np.count_nonzero(self.find(segment))) for segment in self.segments]


def save_object(
    final: Path, result: CaseResult, kind: str, build: Callable[[SourceSeries], tuple[Dataset, Sequence[Problem]]]
) -> tuple[Problem, ...]:
    """Write the object of a result as `final`; what the user should know.

    Args:
        kind: for the message, such as DICOM SEG.
        build: makes the object of the series.

    Raises:
        PredictionError: the series or the result cannot be written so.
    """
    path = result.source.files[0]
    source = read_source(path, path.name)
    try:
        with keep_quiet():
            dataset, notes = build(source)
            with write_atomically(final) as partial_path:
                dataset.save_as(partial_path, enforce_file_format=True)
    except (PipelineError, OSError, MemoryError):
        raise
    except Exception as error:  # its text may have values of the header
        raise PredictionError(
            f"{path.name} cannot be written as {kind} ({type(error).__name__}); its headers have what the standard does not allow. "
            "Choose the format nifti."
        ) from None
    return (*source.notes, *notes)


def note_empty(result: CaseResult, names: Sequence[str]) -> tuple[Problem, ...]:
    """A note about the structures without a voxel."""
    return (EMPTY_SEGMENTS.about(result.source.files[0].name, names=", ".join(names)),) if names else ()


def build_code(text: str) -> Any:
    """A code of "SCHEME VALUE MEANING"."""
    from highdicom.sr import CodedConcept

    scheme, value, meaning = split_code(text)
    return CodedConcept(value, scheme, meaning)


def shorten(text: str, ending: str = "") -> str:
    """A text of DICOM's length, without what separates values."""
    return text.replace("\\", "/")[: TEXT_CHARACTERS - len(ending)] + ending
