"""Secondary captures: the planes of a series as colour pictures with the outlines of the structures, for whoever shows no segmentations.

One multi-frame object, a frame for each plane of the image, so that a result is one file as in every other format.
"""

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
    describe_equipment,
    identify,
    note_empty,
    open_object,
    read_algorithm,
    save_object,
)
from unet_pipeline.clinical.segments import Segment
from unet_pipeline.clinical.source import SourceSeries
from unet_pipeline.dataset.dicom import read_dicom
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import NOTE, Message, Problem
from unet_pipeline.prediction.outputs import CaseResult, ResultFormat

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NO_WINDOW = Message(
    "dicom-window-chosen",
    NOTE,
    "has no window that fits its values; its overlay shows those from the {low:g}th to the {high:g}th percentile",
    "Nothing has to be done; brightness and contrast of the overlay are no measurement.",
)
_CLASS_UID = "1.2.840.10008.5.1.4.1.1.7.4"  # multi-frame true colour
_SERIES_NUMBER = 302
_LEAST_PIXELS = 256  # of the smaller side, so that there is room for words
_MOST_BYTES = 2**32 - 2  # of one element
_PERCENTILES = 1, 99
_NO_CONTRAST = 1e-6  # of an image of one value
_LINE_SHARE = 400  # a line is a pixel wide for so many of the picture
_RATIO_STEPS = 10_000
_LOSSES = "LossyImageCompressionRatio", "LossyImageCompressionMethod"


def build_overlay_format(folder: BundleFolder, name: str, segments: tuple[Segment, ...]) -> ResultFormat:
    """Overlays as a format of label maps.

    Raises:
        PredictionError: highdicom is missing.
    """
    return ResultFormat(name, "_overlay.dcm", partial(_save, algorithm=read_algorithm(folder), segments=segments))


def _save(final: Path, result: CaseResult, algorithm: Algorithm, segments: tuple[Segment, ...]) -> tuple[Problem, ...]:
    def build(source: SourceSeries) -> tuple[Dataset, tuple[Problem, ...]]:
        path = result.source.files[0]
        dataset, empty, has_window = build_overlay(
            source, read_dicom(path, path.name).array[0], result, algorithm, segments
        )
        low, high = _PERCENTILES
        notes = () if has_window else (NO_WINDOW.about(path.name, low=low, high=high),)
        return dataset, (*notes, *note_empty(result, empty))

    return save_object(final, result, "secondary capture", build)


def build_overlay(
    source: SourceSeries, image: np.ndarray, result: CaseResult, algorithm: Algorithm, segments: Sequence[Segment]
) -> tuple[Dataset, list[str], bool]:
    """The object, the names of the structures without a voxel, and whether the source has a window.

    Args:
        image: rescaled values of the series, shape (i, j, k), or (i, j) of a projection.

    Raises:
        PredictionError: the result has values that are none of the segments', or is too large.
    """
    structures = Structures(source, result, segments, "a secondary capture")
    volume = image[:, :, None] if source.series.is_projection else image
    shape = volume.shape[:2]
    enlarged = max(1, -(-_LEAST_PIXELS // min(shape)))
    num_bytes = 3 * volume.size * enlarged**2
    if num_bytes > _MOST_BYTES:
        raise PredictionError(
            f"The overlay of {result.source.name} would have {num_bytes / 2**30:.1f} GiB; a DICOM object holds 4 GiB of pixels. Choose the "
            "format dicomseg."
        )
    windows = _list_windows(source)
    has_window = all(window is not None for window in windows)
    chosen = tuple(np.percentile(volume, _PERCENTILES).tolist())
    frames = bytearray()
    for index in range(volume.shape[2]):
        low, high = (windows[index] if has_window else None) or chosen
        picture = _draw(volume[:, :, index], structures, index, (low, high), enlarged)
        frames += picture.tobytes()
    identity = identify(source, result, "overlay", structures.values)
    dataset = open_object(
        source, _CLASS_UID, "OT", _SERIES_NUMBER, identity, **describe_equipment(algorithm, result.origin)
    )
    _describe(dataset, source, algorithm)
    _add_pixels(dataset, frames, (shape[1] * enlarged, shape[0] * enlarged), source)
    counts = structures.count_voxels()
    return dataset, [segment.name for segment, count in zip(segments, counts, strict=True) if not count], has_window


def _draw(
    plane: np.ndarray, structures: Structures, index: int, limits: tuple[float, float], enlarged: int
) -> np.ndarray:
    """A plane as a picture, shape (rows, columns, 3), uint8: grey values, outlines in the structures' colours, and the words."""
    low, high = limits
    grey = np.clip((plane.T - low) / max(high - low, _NO_CONTRAST), 0, 1) * 255
    picture = np.repeat(_enlarge(grey.round().astype(np.uint8), enlarged)[..., None], 3, axis=2)
    width = max(1, min(picture.shape[:2]) // _LINE_SHARE)
    names = []
    for number, segment in enumerate(structures.segments):
        mask = structures.find(segment, index).T
        if mask.any():
            colour = COLOURS[number % len(COLOURS)]
            picture[_find_border(_enlarge(mask, enlarged), width)] = list(bytes.fromhex(colour[1:]))
            names.append((segment.name, colour))
    return _write_words(picture, names)


def _enlarge(array: np.ndarray, times: int) -> np.ndarray:
    return array.repeat(times, axis=0).repeat(times, axis=1)


def _find_border(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask beside those that are not of it; the picture's edge is no border of its own."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, iterations=width, border_value=1)


def _write_words(picture: np.ndarray, names: Sequence[tuple[str, str]]) -> np.ndarray:
    """The purpose at the bottom, and the names of what is outlined from the top, as many as there is room for."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    drawing, (columns, rows) = ImageDraw.Draw(image), image.size
    size = max(12, min(rows, columns) // 30)
    font = ImageFont.load_default(size)
    words = [(PURPOSE.upper(), "#FFFFFF", rows - size - 6)]
    words += [(name, colour, 4 + line * (size + 3)) for line, (name, colour) in enumerate(names)]
    for text, colour, top in words:
        if top <= rows - size - 6:
            drawing.text((4, top), text, colour, font, stroke_width=1, stroke_fill="#000000")
    return np.asarray(image)


def _list_windows(source: SourceSeries) -> list[tuple[float, float] | None]:
    """The limits of the grey values of each plane by the first linear window of its header; None where there is none.

    Grey values of MONOCHROME1 were turned when they were read, so its windows do not fit them.
    """
    series = source.series
    if series.header.get("PhotometricInterpretation") == "MONOCHROME1":
        return [None for _ in series.planes]
    if not series.frame_numbers:
        return [_read_window(plane.header) for plane in series.planes]
    per_frame = series.header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [[per_frame[number - 1]] if len(per_frame) >= number else [] for number in series.frame_numbers]
    shared = list(series.header.get("SharedFunctionalGroupsSequence") or [])
    return [_find_window([*own, *shared], series.header) for own in groups]


def _find_window(groups: Sequence[Dataset], header: Dataset) -> tuple[float, float] | None:
    for group in groups:
        for item in group.get("FrameVOILUTSequence") or []:
            if (window := _read_window(item)) is not None:
                return window
    return _read_window(header)


def _read_window(header: Dataset) -> tuple[float, float] | None:
    from pydicom.multival import MultiValue

    try:
        centre, width = (header.get(name) for name in ("WindowCenter", "WindowWidth"))
        centre, width = (float(value[0] if isinstance(value, MultiValue) else value) for value in (centre, width))
    except (TypeError, ValueError, IndexError):  # there is none, or it is no number
        return None
    exact = str(header.get("VOILUTFunction") or "LINEAR").upper() != "LINEAR"
    if not np.isfinite([centre, width]).all() or width <= (0 if exact else 1):
        return None
    # PS3.3, C.11.2.1.2: the limits of LINEAR are those of whole values
    return (centre - width / 2, centre + width / 2) if exact else (centre - width / 2, centre + width / 2 - 1)


def _describe(dataset: Dataset, source: SourceSeries, algorithm: Algorithm) -> None:
    """Class of the object, and the images that it was made of."""
    from pydicom.dataset import Dataset

    references = []
    for image in source.images:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        if source.series.frame_numbers:
            reference.ReferencedFrameNumber = list(source.series.frame_numbers)
        references.append(reference)
    series = Dataset()
    series.SeriesInstanceUID = source.images[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = [_drop_frames(reference) for reference in references]
    dataset.ReferencedSeriesSequence, dataset.SourceImageSequence = [series], references
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = (
        f"Outlines of an automatic segmentation by {algorithm.name} {algorithm.version}; {PURPOSE}"
    )
    _copy_pixel_history(dataset, source)
    dataset.PatientOrientation = dataset.Laterality = ""


def _copy_pixel_history(dataset: Dataset, source: SourceSeries) -> None:
    """Whether the pixels name the patient, and whether a compression has cost some of them: once so, always so."""
    planes = () if source.series.frame_numbers else source.series.planes
    headers = [source.series.header, *(plane.header for plane in planes)]
    named = any(header.get("BurnedInAnnotation") == "YES" for header in headers)
    dataset.BurnedInAnnotation = "YES" if named else "NO"  # the words that are drawn here name nobody
    if any(header.get("LossyImageCompression") == "01" for header in headers):
        dataset.LossyImageCompression = "01"
        for name in _LOSSES:
            if name in source.images[0]:
                dataset[name] = source.images[0][name]


def _drop_frames(reference: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    copied = Dataset()
    copied.update(reference)
    copied.pop("ReferencedFrameNumber", None)
    return copied


def _add_pixels(dataset: Dataset, frames: bytearray, shape: tuple[int, int], source: SourceSeries) -> None:
    from pydicom.datadict import tag_for_keyword

    dataset.NumberOfFrames = len(source.series.planes)
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if dataset.NumberOfFrames > 1:
        dataset.PageNumberVector = list(range(1, dataset.NumberOfFrames + 1))
        dataset.FrameIncrementPointer = tag_for_keyword("PageNumberVector")
    between_columns, between_rows = source.series.spacing_mm[:2]
    ratio = between_rows / between_columns
    if abs(ratio - 1) > 1 / _RATIO_STEPS:
        dataset.PixelAspectRatio = [round(ratio * _RATIO_STEPS), _RATIO_STEPS]
    if len(frames) % 2:
        frames.append(0)
    dataset.PixelData = bytes(frames)
