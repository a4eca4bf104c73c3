"""RTSTRUCT: its contours, filled by an independent program, are the label map; linked to its source."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from unet_pipeline.clinical.segments import Segment
from unet_pipeline.errors import PredictionError

from . import dicom_geometries as geometries
from . import dicom_phantoms as phantoms

PLASTIMATCH = shutil.which("plastimatch", path=str(Path(sys.executable).parent)) or shutil.which("plastimatch")


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=10, deadline=None)
def test_contours_of_any_geometry_filled_are_the_label_map(seed: int) -> None:
    geometry = geometries.draw_geometry(seed)
    labels = geometries.draw_labels(seed, geometry.volume.shape)
    with TemporaryDirectory() as folder:
        source, final = geometries.write_geometry(Path(folder) / "a", geometry), Path(folder) / "rt.dcm"
        empty = geometries.write_result(source, final, geometry.as_read(labels), "RTSTRUCT")
        structures = pydicom.dcmread(final)
    assert empty == [segment.name for segment in geometries.SEGMENTS if segment.value not in labels]
    for number, segment in enumerate(geometries.SEGMENTS):
        np.testing.assert_array_equal(geometries.fill_contours(structures, number, geometry), labels == segment.value)


@pytest.mark.dicom_tools
@pytest.mark.skipif(PLASTIMATCH is None, reason="plastimatch is not installed")
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_plastimatch_fills_shapes_with_holes_as_they_were(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    noise = gaussian_filter(random.normal(size=(60, 50, 14)), 2.0)
    labels = np.digitize(noise / noise.std(), [0.3, 1.0, 1.5]).astype(np.uint8) % 3  # 2 in 1, and background in it
    turned = geometries.draw_geometry(seed)
    step = 2.5 * np.cross(*np.reshape(turned.orientation, (2, 3)))
    volume = np.zeros(labels.shape, np.int16)
    order = tuple(random.permutation(14).tolist())
    geometry = geometries.Geometry(
        volume, turned.orientation, tuple(step), (-40.0, 30.0, 12.0), (0.8, 1.1), False, order, 0
    )
    source, final = geometries.write_geometry(tmp_path / "a", geometry), tmp_path / "rt.dcm"
    geometries.write_result(source, final, labels, "RTSTRUCT")
    command = [PLASTIMATCH, "convert", "--input", final, "--referenced-ct", source]
    command += ["--output-prefix", tmp_path / "out", "--prefix-format", "nrrd"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-500:]
    for segment in geometries.SEGMENTS[:2]:
        filled = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "out" / f"{segment.name}.nrrd")).T > 0
        expected = labels == segment.value
        assert expected.sum() > 500
        assert 2 * (filled & expected).sum() / (filled.sum() + expected.sum()) >= 0.98


@pytest.fixture
def series(tmp_path: Path) -> Path:
    volume = np.zeros((5, 5, 3), np.int16)
    geometry = geometries.Geometry(volume, phantoms.AXIAL, (0, 0, 2.0), (10, -20, 30), (0.5, 0.75), False, (2, 0, 1), 2)
    return geometries.write_geometry(tmp_path / "series", geometry)


def test_structures_are_named_coloured_numbered_and_refer_to_their_slices(series: Path) -> None:
    labels, final = np.zeros((5, 5, 3), np.uint8), series.with_name("rt.dcm")
    labels[1, 2, 1] = 2
    empty = geometries.write_result(series, final, labels, "RTSTRUCT")
    structures = pydicom.dcmread(final)
    names = [segment.name for segment in geometries.SEGMENTS]
    assert empty == [name for name in names if name != "left kidney"]
    assert [(roi.ROINumber, roi.ROIName) for roi in structures.StructureSetROISequence] == list(enumerate(names, 1))
    assert {roi.ROIGenerationAlgorithm for roi in structures.StructureSetROISequence} == {"AUTOMATIC"}
    assert structures.StructureSetName == structures.SeriesDescription == "abdomen: research use only"
    contours = structures.ROIContourSequence
    assert [item.ReferencedROINumber for item in contours] == [1, 2, 3, 4]
    assert len({tuple(item.ROIDisplayColor) for item in contours}) == 4
    assert ["ContourSequence" in item for item in contours] == [False, True, False, False]
    (contour,) = contours[1].ContourSequence
    expected = {(10.25, -18.5), (10.5, -18.125), (10.75, -18.5), (10.5, -18.875)}
    points = np.reshape(np.array(contour.ContourData, float), (-1, 3))
    assert {tuple(point) for point in points[:, :2].tolist()} == expected
    assert set(points[:, 2]) == {32}
    headers = [pydicom.dcmread(path) for path in series.iterdir()]
    (referenced,) = contour.ContourImageSequence
    middle = next(header for header in headers if header.ImagePositionPatient[2] == 32)
    assert referenced.ReferencedSOPInstanceUID == middle.SOPInstanceUID
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == middle.FrameOfReferenceUID
    listed = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert listed.SeriesInstanceUID == middle.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in listed.ContourImageSequence} == {
        header.SOPInstanceUID for header in headers
    }
    code = structures.RTROIObservationsSequence[1].RTROIIdentificationCodeSequence[0]
    assert code.CodeMeaning == "Kidney"
    assert code.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert str(structures.PatientName) == phantoms.SECRETS[0]


def test_structures_that_overlap_have_contours_each(series: Path) -> None:
    places, final = np.zeros((5, 5, 3, 5), np.uint8), series.with_name("rt.dcm")
    places[1, 1, 0, 1] = places[1, 1, 0, 3] = 1
    geometries.write_result(series, final, places, "RTSTRUCT")
    first, _, third, _ = pydicom.dcmread(final).ROIContourSequence
    assert first.ContourSequence[0].ContourData == third.ContourSequence[0].ContourData


def test_picture_without_a_place_is_refused(tmp_path: Path) -> None:
    header = phantoms.build_header(np.zeros((4, 3), np.uint16), None)
    header.Modality = "DX"
    source = phantoms.save(header, tmp_path / "chest.dcm")
    segments = (Segment(1, "lung", None, 1),)
    with pytest.raises(PredictionError, match=r"picture without a place in the world.*Choose the format dicomseg"):
        geometries.write_result(source, tmp_path / "rt.dcm", np.zeros((3, 4), np.uint8), "RTSTRUCT", segments)
