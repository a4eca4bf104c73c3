"""DICOM series with SEG and RTSTRUCT on them, for the tests: SEG by highdicom, contours by scikit-image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import highdicom
import nibabel
import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid
from skimage.measure import find_contours

from . import dicom_phantoms as phantoms

CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": phantoms.MR_IMAGE}
RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Masks = Mapping[str, np.ndarray]  # structure -> booleans of shape (i, j, k)


def write_image_series(
    folder: Path, volume: np.ndarray, affine: np.ndarray, patient: str, name: str = "", modality: str = "CT"
) -> list[Dataset]:
    """A series of int16 slices of `volume`, shape (i, j, k), with its affine in RAS+; the headers in the order of k."""
    lps, uid, frame = LPS @ affine, generate_uid(), generate_uid()
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = (lps[:3, :3] / spacing).T
    headers = []
    for level in range(volume.shape[2]):
        position = _shorten(lps[:3, 3] + level * lps[:3, 2])
        header = phantoms.build_header(
            volume[:, :, level].T.astype(np.int16), position, _shorten(directions[:2].ravel()), uid, level + 1
        )
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = CLASSES[modality]
        header.Modality, header.StudyInstanceUID, header.FrameOfReferenceUID = modality, frame, frame
        header.PatientID, header.PatientSex, header.StudyDate, header.StudyTime = patient, "F", "20200102", "030405"
        header.StudyID, header.AccessionNumber, header.PositionReferenceIndicator = "7", "A1", ""
        header.PixelSpacing, header.SliceThickness = _shorten(spacing[[1, 0]]), _shorten(spacing[2:])[0]
        phantoms.save(header, folder / f"{name}{level:03d}.dcm")
        headers.append(header)
    return headers


def write_seg(
    path: Path,
    headers: Sequence[Dataset],
    masks: Masks,
    kind: str = "BINARY",
    syntax: str = ExplicitVRLittleEndian,
    omit_empty_frames: bool = True,
) -> Path:
    """A SEG of masks, or of fractions, on a series."""
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(masks, 1)
    ]
    pixels = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1)
    if kind == "LABELMAP":
        pixels = (pixels * np.arange(1, len(masks) + 1)).max(axis=-1).astype(np.uint8)
    segmentation = highdicom.seg.Segmentation(
        source_images=list(headers),
        pixel_array=pixels if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="M",
        manufacturer_model_name="M",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian if syntax == ExplicitVRBigEndian else syntax,
        omit_empty_frames=omit_empty_frames,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    if syntax == ExplicitVRBigEndian:  # highdicom writes little endian only; the pixels are single bytes
        header = dcmread(path)
        header.file_meta.TransferSyntaxUID = syntax
        list(header.iterall())  # decodes every number
        dcmwrite(path, header, implicit_vr=False, little_endian=False, force_encoding=True)
    return path


def trace(mask: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
    """Contours of a mask half-way between the voxels inside and outside, in LPS+ mm, holes as contours of their own."""
    contours = []
    for level in range(mask.shape[2]):
        for points in find_contours(np.pad(mask[:, :, level], 1).astype(float), 0.5):
            voxels = np.column_stack([points[:-1] - 1, np.full(len(points) - 1, level)])
            contours.append(voxels @ (LPS @ affine)[:3, :3].T + (LPS @ affine)[:3, 3])
    return contours


def write_rtstruct(
    path: Path,
    headers: Sequence[Dataset],
    contours: Mapping[str, Sequence[np.ndarray]],
    kind: str = "CLOSED_PLANAR",
    syntax: str = ExplicitVRLittleEndian,
) -> Path:
    """An RTSTRUCT with contours in LPS+ mm by name of the region, each of shape (points, 3)."""
    header, first = Dataset(), headers[0]
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = RT_STRUCTURE_SET
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.Modality, header.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    header.StudyInstanceUID, header.PatientID, header.PatientName = first.StudyInstanceUID, first.PatientID, "Doe^Jane"
    frame, study, series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    series.SeriesInstanceUID = first.SeriesInstanceUID
    images = []
    for image in headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        images.append(reference)
    series.ContourImageSequence, study.RTReferencedSeriesSequence = Items(images), Items([series])
    frame.RTReferencedStudySequence = Items([study])
    header.ReferencedFrameOfReferenceSequence = Items([frame])
    regions, drawn = [], []
    for number, (name, shapes) in enumerate(contours.items(), 1):
        region, roi = Dataset(), Dataset()
        region.ROINumber, region.ROIName, roi.ReferencedROINumber = number, name, number
        region.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        roi.ContourSequence = Items([_describe_contour(points, kind) for points in shapes])
        regions.append(region)
        drawn.append(roi)
    header.StructureSetROISequence, header.ROIContourSequence = Items(regions), Items(drawn)
    return phantoms.save(header, path)


def write_three_ways(source: Path, target: Path, num_cases: int) -> dict[str, Path]:
    """The first cases of a Decathlon folder, with whole numbers as voxels: as they are, and as series with SEG and with RTSTRUCT."""
    facts = json.loads((source / "dataset.json").read_text())
    names = {int(value): name for value, name in facts["labels"].items() if int(value)}
    roots = {kind: target / kind for kind in ("nifti", "seg", "rtstruct")}
    for folder in ("imagesTr", "labelsTr"):
        (roots["nifti"] / folder).mkdir(parents=True)
    paths = sorted((source / "labelsTr").glob("[!.]*.nii.gz"))[:num_cases]
    for path in paths:
        case, label, image = (
            path.name.removesuffix(".nii.gz"),
            nibabel.load(path),
            nibabel.load(source / "imagesTr" / path.name),
        )
        values, voxels = np.asarray(label.dataobj).astype(np.uint8), np.rint(np.asarray(image.dataobj)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine), roots["nifti"] / "imagesTr" / path.name)
        nibabel.save(nibabel.Nifti1Image(values, label.affine), roots["nifti"] / "labelsTr" / path.name)
        masks = {name: values == value for value, name in names.items()}
        for kind in ("seg", "rtstruct"):
            headers = write_image_series(roots[kind] / "images" / case, voxels, image.affine, case, modality="MR")
            final = roots[kind] / "labels" / f"{case}.dcm"
            if kind == "seg":
                write_seg(final, headers, masks)
            else:
                write_rtstruct(final, headers, {name: trace(mask, label.affine) for name, mask in masks.items()})
    listed = [{"image": f"./imagesTr/{path.name}", "label": f"./labelsTr/{path.name}"} for path in paths]
    facts |= {"training": listed, "numTraining": len(listed), "test": [], "numTest": 0}
    (roots["nifti"] / "dataset.json").write_text(json.dumps(facts))
    return roots


def _describe_contour(points: np.ndarray, kind: str) -> Dataset:
    contour = Dataset()
    contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
    contour.ContourData = [f"{value:.4f}" for value in np.ravel(points)]
    return contour


def _shorten(numbers: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{float(number):.9g}" for number in numbers]
