"""Random DICOM series with a label map on each, and what independent readers make of the SEG that is written for it.

For the tests, and for `benchmarks/dicom_geometries.py`, which tries a thousand.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import SimpleITK
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds
from scipy.spatial.transform import Rotation

from unet_pipeline.clinical.objects import Algorithm
from unet_pipeline.clinical.overlay import build_overlay
from unet_pipeline.clinical.segmentation import BINARY, build_segmentation
from unet_pipeline.clinical.segments import Segment
from unet_pipeline.clinical.source import SourceSeries, read_source
from unet_pipeline.clinical.structure_set import build_structure_set
from unet_pipeline.clinical.volume_report import build_report
from unet_pipeline.dataset.image import read_image
from unet_pipeline.planning.label_codes import propose_code
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.outputs import CaseResult
from unet_pipeline.prediction.reuse import Origin

from . import dicom_phantoms as phantoms

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
CT_IMAGE, STUDY_UID, FRAME_UID = "1.2.840.10008.5.1.4.1.1.2", "1.2.826.0.1.11", "1.2.826.0.1.12"
SEGMENTS = tuple(
    Segment(value, name, propose_code(name), channel)
    for channel, (name, value) in enumerate(
        {"liver": 1, "left kidney": 2, "liver tumour": 7, "unheard of": 9}.items(), 1
    )
)
ORIGIN = Origin(("w",), {"configs/plan.yaml": "p"}, {"device": "cpu"})
ALGORITHM = Algorithm("abdomen", "0.1.0")
_OFF_VOXELS = 0.02  # positions are texts of 16 characters


@dataclass(frozen=True)
class Geometry:
    """A series: voxels, where they lie, and how they are stored.

    Attributes:
        volume: shape (i, j, k).
        orientation: LPS, along the rows and along the columns.
        step: from one plane to the next in mm, LPS.
        origin: of the first voxel, LPS.
        spacing_mm: along i and j.
        in_frames: one multi-frame object instead of files.
        order: of the files, or of the frames.
        syntax: index of SYNTAXES.
    """

    volume: np.ndarray
    orientation: tuple[float, ...]
    step: tuple[float, ...]
    origin: tuple[float, ...]
    spacing_mm: tuple[float, float]
    in_frames: bool
    order: tuple[int, ...]
    syntax: int

    @property
    def affine(self) -> np.ndarray:
        """Indices of `volume` to LPS."""
        along_rows, along_columns = np.reshape(self.orientation, (2, 3))
        columns = along_rows * self.spacing_mm[0], along_columns * self.spacing_mm[1], self.step, self.origin
        return np.vstack([np.column_stack(columns), [0, 0, 0, 1]])

    def as_read(self, array: np.ndarray) -> np.ndarray:
        """An array on the grid of `volume` as the reader has it, whose planes go along the normal."""
        normal = np.cross(*np.reshape(self.orientation, (2, 3)))
        return array[:, :, ::-1] if normal @ self.step < 0 else array


def draw_geometry(seed: int) -> Geometry:
    """Any orientation, slices along the normal or against it, shuffled, anisotropic, a single one; signed and unsigned; each byte order."""
    random = np.random.default_rng(seed)
    shape = *random.integers(3, 19, 2), int(random.choice([1, 2, 5, 9]))
    kind = np.int16 if random.integers(2) else np.uint16
    volume = random.integers(-900 if kind == np.int16 else 0, 3000, shape).astype(kind)
    turn = Rotation.random(random_state=int(random.integers(1 << 30))).as_matrix()
    if random.integers(3) == 0:  # axes that are swapped or negated only
        turn = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)[:, None]
        turn[:, 2] = np.cross(turn[:, 0], turn[:, 1])
    step = turn[:, 2] * random.choice([-1, 1]) * random.choice([0.4, 1.0, 3.3, 10.0])
    return Geometry(
        volume,
        (*turn[:, 0], *turn[:, 1]),
        tuple(step),
        tuple(random.uniform(-400, 400, 3)),
        (float(random.uniform(0.2, 3)), float(random.uniform(0.2, 3))),
        bool(random.integers(4) == 0),
        tuple(int(index) for index in random.permutation(shape[2])),
        int(random.integers(len(SYNTAXES))),
    )


def draw_labels(seed: int, shape: Sequence[int], values: Sequence[int] = (0, 1, 2, 7, 9)) -> np.ndarray:
    """A label map of mostly background, of which some planes, and sometimes labels, are empty."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet([4.0, *[0.5] * (len(values) - 1)])
    labels = random.choice(np.array(values, np.uint8), tuple(shape), p=shares)
    labels[..., random.random(shape[-1]) < 0.3] = 0
    if random.integers(12) == 0:
        labels[labels == values[1]] = 0
    return labels


def write_geometry(path: Path, geometry: Geometry) -> Path:
    """The series as a folder of files, or as one file."""
    headers = [_build_plane(geometry, level) for level in geometry.order]
    if geometry.in_frames:
        return _save(_join_frames(headers, geometry), path.with_suffix(".dcm"), geometry)
    for number, header in enumerate(headers):
        _save(header, path / f"{number:04d}.dcm", geometry)
    return path


def _build_plane(geometry: Geometry, level: int) -> Dataset:
    position = np.array(geometry.origin) + level * np.array(geometry.step)
    rows = geometry.volume[:, :, level].T
    header = phantoms.build_header(rows, _texts(position), _texts(geometry.orientation), "1.2.826.0.1.13", level)
    if SYNTAXES[geometry.syntax] == ExplicitVRBigEndian:
        header.PixelData = np.ascontiguousarray(rows).byteswap().tobytes()
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = CT_IMAGE
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.StudyInstanceUID, header.FrameOfReferenceUID, header.Modality = STUDY_UID, FRAME_UID, "CT"
    header.PixelSpacing = _texts(geometry.spacing_mm[::-1])
    header.SliceThickness = 2.5
    header.PatientSex, header.StudyDate, header.StudyTime = "F", "20200102", "030405"
    header.StudyID, header.AccessionNumber, header.PositionReferenceIndicator = "7", "A1", ""
    return header


def _join_frames(headers: Sequence[Dataset], geometry: Geometry) -> Dataset:
    joined, shared, measures = headers[0], Dataset(), Dataset()
    joined.SOPClassUID = joined.file_meta.MediaStorageSOPClassUID = phantoms.ENHANCED_MR
    joined.Modality, joined.NumberOfFrames = "MR", len(headers)
    joined.PixelData = b"".join(header.PixelData for header in headers)
    measures.PixelSpacing, measures.SliceThickness = headers[0].PixelSpacing, 2.5
    shared.PixelMeasuresSequence = Items([measures])
    groups = []
    for header in headers:
        group, plane, turned = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = header.ImagePositionPatient
        turned.ImageOrientationPatient = header.ImageOrientationPatient
        group.PlanePositionSequence, group.PlaneOrientationSequence = Items([plane]), Items([turned])
        groups.append(group)
    joined.SharedFunctionalGroupsSequence, joined.PerFrameFunctionalGroupsSequence = Items([shared]), Items(groups)
    for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(joined, name)
    return joined


def _save(header: Dataset, path: Path, geometry: Geometry) -> Path:
    header.file_meta.TransferSyntaxUID = SYNTAXES[geometry.syntax]
    return phantoms.save(header, path)


def _texts(numbers: Sequence[float] | np.ndarray) -> list[str]:
    return [format_number_as_ds(float(number)) for number in numbers]


def open_result(path: Path, values: np.ndarray) -> tuple[SourceSeries, CaseResult]:
    """A series and a result on its grid."""
    image = read_image(path)
    return read_source(path, path.name), CaseResult(PredictionInput("a", (path,)), image.affine, values, ORIGIN)


def write_result(
    path: Path,
    final: Path,
    values: np.ndarray,
    kind: str = BINARY,
    segments: Sequence[Segment] = SEGMENTS,
) -> list[str]:
    """Write an object of a label map, or of probabilities; the names of its empty segments.

    Args:
        kind: of a SEG, or RTSTRUCT, overlay or SR.
    """
    source, result = open_result(path, values)
    if kind == "RTSTRUCT":
        dataset, empty = build_structure_set(source, result, ALGORITHM, segments)
    elif kind == "overlay":
        dataset, empty, _ = build_overlay(source, read_image(path).array[0], result, ALGORITHM, segments)
    elif kind == "SR":
        dataset, empty = build_report(source, result, ALGORITHM, segments)
    else:
        dataset, empty = build_segmentation(source, result, ALGORITHM, segments, kind)
    dataset.save_as(final, enforce_file_format=True)
    return empty


def read_by_highdicom(path: Path, numbers: Mapping[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label values with their affine in LPS, once.

    Args:
        numbers: label value of each segment number.
    """
    segmentation = highdicom.seg.segread(path)
    volume = segmentation.get_volume(combine_segments=True, allow_missing_positions=True)
    table = np.zeros(256, np.uint8)
    table[list(numbers)] = list(numbers.values())
    return [(table[volume.array], volume.affine)]


def find_dcmqi() -> str | None:
    """The program segimage2itkimage, as the package dcmqi installs it."""
    return shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def read_by_dcmqi(path: Path, numbers: Mapping[int, int], folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """As `read_by_highdicom`, but a volume for each segment that has voxels."""
    program = find_dcmqi()
    assert program is not None
    folder.mkdir()
    command = [program, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "s"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-500:]
    described = json.loads((folder / "s-meta.json").read_text())["segmentAttributes"]
    decoded = []
    for (attributes,) in described:
        file = folder / f"s-{attributes['labelID']}.nrrd"
        if not file.is_file():
            continue
        image = SimpleITK.ReadImage(file)
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        values = SimpleITK.GetArrayFromImage(image).T
        decoded.append(((values > 0) * np.uint8(numbers[attributes["labelID"]]), affine))
    return decoded


def fill_contours(structures: Dataset, number: int, geometry: Geometry) -> np.ndarray:
    """The voxels of the series whose centres a structure's contours enclose, by matplotlib; their planes are those of the series.

    Raises:
        AssertionError: a contour leaves its plane.
    """
    shape, to_indices = geometry.volume.shape, np.linalg.inv(geometry.affine)
    filled, centres = np.zeros(shape, bool), np.argwhere(np.ones(shape[:2]))
    for contour in structures.ROIContourSequence[number].get("ContourSequence", []):
        points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
        indices = (to_indices @ np.c_[points, np.ones(len(points))].T)[:3].T
        level = round(indices[0, 2])
        np.testing.assert_allclose(indices[:, 2], level, atol=0.03)
        filled[:, :, level] ^= Polygon(indices[:, :2]).contains_points(centres).reshape(shape[:2])
    return filled


def list_violations(path: Path) -> list[str]:
    """Errors that dciodvfy, of Debian's dicom3tools, sees in an object."""
    run = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    known = "Segmentation", "RTStructureSet", "MultiframeTrueColorSCImage", "EnhancedSR"
    assert any(name in line for line in lines for name in known), lines[:3]  # it knew what the object is
    return [line for line in lines if line.startswith(("Error", "(Error"))]


def place_voxels(
    decoded: Sequence[tuple[np.ndarray, np.ndarray]], shape: Sequence[int], affine: np.ndarray
) -> np.ndarray:
    """Decoded voxels at their places in the world, on a grid.

    Args:
        decoded: values and affine of each part.
        shape: of the grid.
        affine: of the grid, in LPS.

    Raises:
        AssertionError: one lies between the voxels of the grid, or outside of it, or where another one is.
    """
    to_grid = np.linalg.inv(affine)
    placed = np.zeros(tuple(shape), np.uint8)
    for values, own_affine in decoded:
        voxels = np.argwhere(values)
        indices = (to_grid @ own_affine @ np.c_[voxels, np.ones(len(voxels))].T)[:3].T
        whole = np.rint(indices).astype(int)
        assert np.abs(indices - whole).max(initial=0) < _OFF_VOXELS
        assert (whole >= 0).all()
        assert (whole < shape).all()
        assert not placed[tuple(whole.T)].any()
        placed[tuple(whole.T)] = values[tuple(voxels.T)]
    return placed
