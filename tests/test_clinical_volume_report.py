"""Structured reports of volumes: millilitres by hand, with codes, referring to the SEG of the same result or to the images."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pytest
from highdicom.sr.utils import find_content_items

from unet_pipeline.clinical.segmentation import BINARY, build_segmentation
from unet_pipeline.clinical.volume_report import build_report, find_segmentation

from . import dicom_geometries as geometries
from . import dicom_phantoms as phantoms


@pytest.fixture
def arguments(tmp_path: Path) -> tuple:
    """Two slices of 10 x 10 pixels of 0.5 x 0.8 mm, 2.5 mm apart: a voxel of 1 microlitre."""
    volume = np.zeros((10, 10, 2), np.int16)
    geometry = geometries.Geometry(volume, phantoms.AXIAL, (0, 0, 2.5), (1, 2, 3), (0.5, 0.8), False, (1, 0), 0)
    labels = np.zeros((10, 10, 2), np.uint8)
    labels[:, :5, 0] = 1
    labels[0, 9] = 2
    source, result = geometries.open_result(geometries.write_geometry(tmp_path / "a", geometry), labels)
    return source, result, geometries.ALGORITHM, geometries.SEGMENTS


def list_groups(report: object) -> list:
    document = highdicom.sr.EnhancedSR.from_dataset(report)
    name = highdicom.sr.CodedConcept("125007", "DCM", "Measurement Group")
    return find_content_items(document, name=name, recursive=True)


def find(group: object, meaning: str) -> list:
    return [item for item in group.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == meaning]


def list_images(group: object) -> list:
    return [item for item in group.ContentSequence if item.ValueType == "IMAGE"]


def test_volumes_are_millilitres_with_codes_and_refer_to_the_images_that_show_them(arguments: tuple) -> None:
    report, empty = build_report(*arguments)
    groups = list_groups(report)
    assert empty == ["liver tumour", "unheard of"]
    measured = [find(group, "Volume")[0].MeasuredValueSequence[0] for group in groups]
    assert [float(value.NumericValue) for value in measured] == [0.05, 0.002, 0, 0]
    assert {value.MeasurementUnitsCodeSequence[0].CodeValue for value in measured} == {"mL"}
    findings = [find(group, "Finding")[0].ConceptCodeSequence[0].CodeMeaning for group in groups]
    assert findings[:2] == ["Liver", "Kidney"]
    assert findings[3] == "Tissue"
    site = find(groups[1], "Finding Site")[0]
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Left"
    said = [[item.ConceptCodeSequence[0].CodeMeaning for item in find(group, "Presence")] for group in groups]
    assert said == [[], [], ["Not detected"], ["Not detected"]]
    assert [len(list_images(group)) for group in groups] == [1, 2, 2, 2]
    referenced = list_images(groups[0])[0].ReferencedSOPSequence[0]
    assert referenced.ReferencedSOPInstanceUID == arguments[0].images[0].SOPInstanceUID
    assert find(groups[0], "Algorithm Name")[0].TextValue == "abdomen"
    assert "research use only" in {item.TextValue for item in find(groups[0], "Algorithm Parameters")}
    assert report.SeriesDescription == "abdomen: research use only"
    assert build_report(*arguments)[0].SOPInstanceUID == report.SOPInstanceUID


def test_report_refers_to_the_segmentation_of_the_same_result_alone(arguments: tuple, tmp_path: Path) -> None:
    segmentation, _ = build_segmentation(*arguments, BINARY)
    path = tmp_path / "a.dcm"
    assert find_segmentation(path, *arguments) is None
    segmentation.save_as(path)
    report, _ = build_report(*arguments, find_segmentation(path, *arguments))
    for number, group in enumerate(list_groups(report), 1):
        (segment,) = find(group, "Referenced Segment")
        referenced = segment.ReferencedSOPSequence[0]
        assert referenced.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert referenced.ReferencedSegmentNumber == number
    arguments[1].values[5, 5, 1] = 1
    assert find_segmentation(path, *arguments) is None
    path.write_bytes(b"no DICOM")
    assert find_segmentation(path, *arguments) is None
