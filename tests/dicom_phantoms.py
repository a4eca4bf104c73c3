"""DICOM series for the tests, written with pydicom; full of names that no message may show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SECRETS = ("Doe^Jane", "PAT-4711", "19700101", "St Nowhere")
MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1, 0, 0, 0, 1, 0)


def build_header(
    rows: np.ndarray,
    position: Sequence[float] | None,
    orientation: Sequence[float] = AXIAL,
    uid: str = "1.2.3",
    number: int = 0,
) -> Dataset:
    """Header and pixels of one slice; `rows` of shape (rows, columns), uint16 or int16."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = MR_IMAGE
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.SeriesInstanceUID, header.StudyInstanceUID = uid, "1.2"
    header.PatientName, header.PatientID, header.PatientBirthDate, header.InstitutionName = SECRETS
    header.SeriesDescription = f"{SECRETS[0]} knee"
    header.Modality, header.InstanceNumber = "MR", number
    header.Rows, header.Columns = rows.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, int(rows.dtype == np.int16)
    if position is not None:
        header.ImagePositionPatient, header.ImageOrientationPatient = list(position), list(orientation)
    header.PixelSpacing = [0.75, 0.5]  # between rows, between columns
    header.SliceThickness = 2.0
    header.PixelData = np.ascontiguousarray(rows).tobytes()
    return header


def save(header: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    step: Sequence[float] = (0, 0, 2.0),
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (10, -20, 30),
    uid: str = "1.2.3",
) -> Path:
    """A series of `volume`, shape (i, j, k); file names are not in the order of the slices."""
    order = np.random.default_rng(0).permutation(volume.shape[2])
    for level in range(volume.shape[2]):
        position = np.array(origin, float) + level * np.array(step, float)
        header = build_header(volume[:, :, level].T, position.tolist(), orientation, uid, level)
        save(header, folder / f"{order[level]:04d}.dcm")
    return folder


def write_frames(path: Path, volume: np.ndarray, step: Sequence[float] = (0, 0, 2.0)) -> Path:
    """One enhanced multi-frame object of `volume`, its frames in reversed order."""
    levels = range(volume.shape[2])[::-1]
    header = build_header(volume[:, :, 0].T, None)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    header.NumberOfFrames = volume.shape[2]
    header.PixelData = np.ascontiguousarray(np.stack([volume[:, :, level].T for level in levels])).tobytes()
    del header.PixelSpacing
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 2.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Items([orientation]), Items([measures])
    header.SharedFunctionalGroupsSequence = Items([shared])
    groups = []
    for level in levels:
        group, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = [10 + level * step[0], -20 + level * step[1], 30 + level * step[2]]
        group.PlanePositionSequence = Items([plane])
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = Items(groups)
    return save(header, path)


def edit(path: Path, **changes: object) -> None:
    """Change attributes of a file; None takes one away."""
    header = pydicom.dcmread(path)
    for name, value in changes.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header.save_as(path)
