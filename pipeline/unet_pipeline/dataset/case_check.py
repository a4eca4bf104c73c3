"""One case -> everything that its own files tell: problems, grid, voxels per label value, samples, hashes, a tile."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unet_pipeline.dataset.case_reading import read_case_image, read_case_instances, read_case_label
from unet_pipeline.dataset.dataset import Case, is_picture
from unet_pipeline.dataset.fingerprint import compute_coarsest_factor
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.dataset.intensities import count_samples, flatten_in_memory_order, sample_foreground
from unet_pipeline.dataset.manifest import Stamp, read_stamp
from unet_pipeline.dataset.medical_image import LARGEST_VALUE, MedicalImage
from unet_pipeline.dataset.missing_channels import zero_constant
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.orientation import compute_coarse_map
from unet_pipeline.dataset.stock import stock_reads
from unet_pipeline.dataset.tiles import (
    EMPTY_MASK,
    IMAGE_UNREADABLE,
    MASK_UNREADABLE,
    NO_MASK,
    Tile,
    make_tile,
)
from unet_pipeline.errors import ImageFileError
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem

_MAX_LABEL_VALUES = 64  # a mask that was saved with interpolation has more
_PIECE = 1 << 20  # voxels; what is counted in pieces needs no array of the volume's size

NOT_FINITE = Message(
    "not-finite", ERROR, "has {count} values that are NaN or infinite", "Replace them, or remove the case."
)
TOO_LARGE = Message(
    "values-too-large",
    ERROR,
    "has values up to {value:.3g}; expected less than {most:g}, which is far beyond any intensity",
    "Correct the scaling in its header (such as scl_slope), replace the values, or remove the case.",
)
CONSTANT = Message("constant", ERROR, "is constant ({value:g})", "Export it again, or remove the case.")
GREY_AS_COLOURS = Message(
    "grey-as-colours",
    NOTE,
    "has three channels that are the same: it is grey, saved as colours",
    "Nothing has to be done; `--fix OUT` keeps one channel in a copy, which is trained on faster.",
)
TOO_MANY_VALUES = Message(
    "too-many-values",
    ERROR,
    "has {count} distinct values, which no label map has",
    "Save the label map without interpolation and without lossy compression.",
)
SPACING_DISAGREES = Message(
    "spacing-disagrees",
    WARNING,
    "has the spacing {found} mm in its header, and {given} mm in the dataset's table",
    "The header is used. Correct whichever is wrong.",
)


@dataclass(frozen=True)
class FileRecord:
    """One file of the manifest; `stamp` is what it looked like before it was hashed (`manifest.read_stamp`)."""

    path: str
    num_bytes: int
    sha256: str
    stamp: Stamp | None = None


@dataclass
class CaseFindings:
    """What one case told. `shape` is empty when the case cannot be used."""

    case: Case
    problems: list[Problem] = field(default_factory=list)
    records: list[FileRecord] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    num_channels: int = 0
    dtype: np.dtype | None = None
    voxels_by_value: dict[int, int] = field(default_factory=dict)
    samples: np.ndarray | None = None
    coarsest_factor: int = 1
    coarse_map: np.ndarray | None = None
    image_digest: str = ""
    channel_digests: tuple[str, ...] = ()
    constant_channels: tuple[int, ...] = ()  # with those that the case has no file of; none of an image of one channel
    modality: str = ""
    image_changed: bool = False
    label_changed: bool = False
    tile: Tile | None = None
    num_objects: int = 0  # n where the values are 1 to n, with or without 0
    instance_sizes: np.ndarray | None = None  # voxels of each object; None without an instance map

    def add(self, problem: Problem) -> None:
        self.problems.append(problem)

    @property
    def has_errors(self) -> bool:
        return any(problem.severity == ERROR for problem in self.problems)


def examine_case(
    root: Path,
    case: Case,
    options: ReadOptions,
    tile_pixels: int | None = None,
    ignore_value: int | None = None,
    max_samples: int | None = None,
) -> CaseFindings:
    """Read a case once; a file that cannot be read is a finding, not an exception.

    Args:
        options: how its files are to be read.
        tile_pixels: keep a picture whose longer side has so many pixels; none if None.
        ignore_value: of voxels without annotation.
        max_samples: for the intensity statistics; as many as for a single case if None.
    """
    findings = CaseFindings(case)
    image = _read(findings, root, case, options)
    label = None if case.label is None else _read_label(findings, root, image, options)
    if image is not None:
        _examine_intensities(findings, image)
        if options.missing_channels and findings.constant_channels:
            findings.image_changed |= zero_constant(image.array) is not image.array
    if label is not None and case.label is not None:
        _count_values(findings, label, case.label)
    if image is not None and label is not None and not findings.has_errors:
        findings.shape, findings.spacing_mm = image.spatial_shape, image.spacing_mm
        findings.modality = image.modality
        findings.num_channels, findings.dtype = image.array.shape[0], image.array.dtype
        annotated = label.array[0]
        if ignore_value in findings.voxels_by_value:
            annotated = np.where(annotated == ignore_value, 0, annotated)
        findings.samples = sample_foreground(image, annotated, max_samples or count_samples(1))
        if label.array.ndim == 3:
            findings.coarsest_factor = compute_coarsest_factor(annotated)
            missing = findings.constant_channels if options.missing_channels else ()
            findings.coarse_map = compute_coarse_map(np.delete(image.array, missing, 0) if missing else image.array)
        _measure_instances(findings, root, image, options)
    if tile_pixels is not None:
        findings.tile = _draw(findings, root, image, label, options, ignore_value, tile_pixels)
    return findings


def _draw(
    findings: CaseFindings,
    root: Path,
    image: MedicalImage | None,
    label: MedicalImage | None,
    options: ReadOptions,
    ignore_value: int | None,
    tile_pixels: int,
) -> Tile:
    """The case as it is looked at; a mask that was refused is drawn as far as its file can be read at all."""
    case, marks = findings.case, () if image is not None else (IMAGE_UNREADABLE,)
    mask = label
    if label is None and case.label_files:
        try:
            mask = read_image(root / case.label_files[0], case.label_files[0].as_posix(), options.pages_as_slices)
        except ImageFileError:
            marks = (*marks, MASK_UNREADABLE)
    elif label is None:
        marks = (*marks, NO_MASK)
    elif findings.voxels_by_value and not set(findings.voxels_by_value) - {0, ignore_value}:
        marks = (*marks, EMPTY_MASK)
    return make_tile(case, image, mask, marks, findings.voxels_by_value, tile_pixels)


def _read(findings: CaseFindings, root: Path, case: Case, options: ReadOptions) -> MedicalImage | None:
    try:
        image = read_case_image(root, case, options)
    except ImageFileError as error:
        _add_error(findings, error)
        return None
    for path in case.images:
        findings.records += _record_files(root, path)
    findings.problems += image.notes
    findings.image_changed = not all(stock_reads(root / path) for path in case.images)
    return image


def _read_label(
    findings: CaseFindings, root: Path, image: MedicalImage | None, options: ReadOptions
) -> MedicalImage | None:
    """The label map; without a readable image it is read all the same, because it tells which values there are."""
    try:
        label, findings.label_changed = read_case_label(root, findings.case, image, options)
    except ImageFileError as error:
        _add_error(findings, error)
        return None
    for path in findings.case.label_files:
        findings.label_changed |= not stock_reads(root / path, as_label=True)
        findings.records += _record_files(root, path)
    findings.problems += label.notes
    return label


def _measure_instances(findings: CaseFindings, root: Path, image: MedicalImage, options: ReadOptions) -> None:
    try:
        known = read_case_instances(root, findings.case, image, options)
    except ImageFileError as error:
        _add_error(findings, error)
        return
    if known is not None:
        instances, path, is_moved = known
        findings.label_changed |= is_moved or not stock_reads(root / path, as_label=True)
        values, counts = np.unique(instances.array, return_counts=True)
        findings.instance_sizes = counts[values != 0]


def _add_error(findings: CaseFindings, error: ImageFileError) -> None:
    findings.add(Problem(ERROR, error.file, error.cause, error.remedy, error.code))


def _record_files(root: Path, relative: Path) -> list[FileRecord]:
    """The files of an image or label map, for the manifest."""
    records = []
    for file in list_image_files(root / relative):
        stamp = read_stamp(file)
        records.append(FileRecord(file.relative_to(root).as_posix(), stamp[0], compute_sha256(file), stamp))
    return records


def _examine_intensities(findings: CaseFindings, image: MedicalImage) -> None:
    file = findings.case.image.as_posix()
    whole = hashlib.blake2b(str(image.spatial_shape).encode(), digest_size=16)
    digests = []
    not_finite, lowest, highest = 0, np.inf, -np.inf
    real = image.array.dtype.kind == "f"
    constant = []
    for place, channel in enumerate(image.array):
        low, high = np.inf, -np.inf
        voxels = flatten_in_memory_order(channel)
        digest = _begin_digest(image)
        for start in range(0, voxels.size, _PIECE):
            piece = voxels[start : start + _PIECE]
            _add_to_digest(digest, piece)
            if real:
                finite = np.isfinite(piece)
                not_finite += int(piece.size - np.count_nonzero(finite))
                piece = piece[finite]
            if piece.size:
                low, high = min(low, float(piece.min())), max(high, float(piece.max()))
        if place not in findings.case.missing_channels:
            lowest, highest = min(lowest, low), max(highest, high)
        if np.float32(low) == np.float32(high):
            constant.append(place)
        digests.append(digest.hexdigest())
        whole.update(digest.digest())
    findings.image_digest, findings.channel_digests = whole.hexdigest(), tuple(digests)
    findings.constant_channels = tuple(constant) if len(digests) > 1 else ()
    if not_finite:
        findings.add(NOT_FINITE.about(file, count=not_finite))
    elif (largest := max(-lowest, highest)) > LARGEST_VALUE:
        findings.add(TOO_LARGE.about(file, value=largest, most=LARGEST_VALUE))
    elif np.float32(lowest) == np.float32(highest):  # in the network's numbers
        findings.add(CONSTANT.about(file, value=lowest))
    elif (
        is_picture(findings.case.image)
        and len(findings.case.images) == 1
        and len(digests) == 3
        and len(set(digests)) == 1
    ):
        findings.add(GREY_AS_COLOURS.about(file))
    _compare_spacing(findings, image)


def digest_channels(image: MedicalImage) -> tuple[str, ...]:
    """A hash of each channel's size and values, whatever the type and the format of its file; none of a constant channel."""
    digests = []
    for channel in image.array:
        if channel.min() == channel.max():
            continue
        digest, voxels = _begin_digest(image), flatten_in_memory_order(channel)
        for start in range(0, voxels.size, _PIECE):
            _add_to_digest(digest, voxels[start : start + _PIECE])
        digests.append(digest.hexdigest())
    return tuple(digests)


def _begin_digest(image: MedicalImage) -> hashlib.blake2b:
    return hashlib.blake2b(str(image.spatial_shape).encode(), digest_size=16)


def _add_to_digest(digest: hashlib.blake2b, voxels: np.ndarray) -> None:
    digest.update(np.ascontiguousarray(voxels, dtype=np.float32).data)


def _compare_spacing(findings: CaseFindings, image: MedicalImage) -> None:
    listed_mm = findings.case.spacing_mm
    is_picture = np.array_equal(image.affine, np.eye(4)) and len(image.spacing_mm) == 2
    if listed_mm is None or is_picture:
        return
    listed_mm = listed_mm * len(image.spacing_mm) if len(listed_mm) == 1 else listed_mm
    if len(listed_mm) != len(image.spacing_mm) or not np.allclose(listed_mm, image.spacing_mm, rtol=0.01):
        shown = ["x".join(f"{size:.4g}" for size in sizes) for sizes in (image.spacing_mm, listed_mm)]
        findings.add(SPACING_DISAGREES.about(findings.case.image.as_posix(), found=shown[0], given=shown[1]))


def _count_values(findings: CaseFindings, label: MedicalImage, path: Path) -> None:
    voxels = flatten_in_memory_order(label.array[0])
    counts: dict[int, int] = {}
    for start in range(0, voxels.size, _PIECE):
        for value, count in zip(*np.unique(voxels[start : start + _PIECE], return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(count)
    numbers = sorted(counts.keys() - {0})
    findings.num_objects = len(numbers) if numbers and (numbers[0], numbers[-1]) == (1, len(numbers)) else 0
    if len(counts) > max(_MAX_LABEL_VALUES, len(findings.case.masks or ()) + 1):
        findings.add(TOO_MANY_VALUES.about(path.as_posix(), count=len(counts)))
        return
    findings.voxels_by_value = dict(sorted(counts.items()))
