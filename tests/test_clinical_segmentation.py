"""DICOM SEG: the label map's voxels at the same places, by independent readers; linked to its source, coded, and nothing else of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.clinical.objects import hash_origin
from unet_pipeline.clinical.segmentation import BINARY, FRACTIONAL, LABELMAP, is_misread_as_bits
from unet_pipeline.clinical.segments import Segment, find_uncoded
from unet_pipeline.clinical.source import read_source
from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import ImageFileError, PredictionError

from . import dicom_geometries as geometries
from . import dicom_phantoms as phantoms
from .dicom_phantoms import edit

NUMBERS = {number: segment.value for number, segment in enumerate(geometries.SEGMENTS, 1)}
needs_dcmqi = pytest.mark.skipif(geometries.find_dcmqi() is None, reason="dcmqi's segimage2itkimage is not installed")


def check_geometry(seed: int, kind: str, folder: Path, with_dcmqi: bool = False) -> None:
    """Write a random series and the SEG of a label map on it, and hold what is decoded against the label map."""
    geometry = geometries.draw_geometry(seed)
    labels = geometries.draw_labels(seed, geometry.volume.shape)
    source, final = geometries.write_geometry(folder / "a", geometry), folder / "seg.dcm"
    np.testing.assert_array_equal(read_image(source).array[0], geometry.as_read(geometry.volume))
    empty = geometries.write_result(source, final, geometry.as_read(labels), kind)
    assert empty == [segment.name for segment in geometries.SEGMENTS if segment.value not in labels]
    numbers = {value: value for value in NUMBERS.values()} if kind == LABELMAP else NUMBERS
    readers = [geometries.read_by_highdicom(final, numbers)]
    if with_dcmqi:
        readers.append(geometries.read_by_dcmqi(final, numbers, folder / "dcmqi"))
    for decoded in readers:
        np.testing.assert_array_equal(geometries.place_voxels(decoded, labels.shape, geometry.affine), labels)


@given(seed=st.integers(0, 1 << 30), kind=st.sampled_from([BINARY, LABELMAP]))
@settings(max_examples=24, deadline=None)
def test_segments_of_any_geometry_have_every_voxel_in_its_place(seed: int, kind: str) -> None:
    with TemporaryDirectory() as folder:
        check_geometry(seed, kind, Path(folder))


@needs_dcmqi
@pytest.mark.parametrize("seed", range(12))
def test_dcmqi_has_every_voxel_in_its_place(tmp_path: Path, seed: int) -> None:
    check_geometry(seed, BINARY, tmp_path, with_dcmqi=True)


# one series, looked at closely


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Three slices of 4 x 3 pixels, shuffled."""
    volume = np.arange(36, dtype=np.int16).reshape(4, 3, 3)
    geometry = geometries.Geometry(volume, phantoms.AXIAL, (0, 0, 2.0), (10, -20, 30), (0.5, 0.75), False, (2, 0, 1), 2)
    return geometries.write_geometry(tmp_path / "series", geometry)


def write_result(series: Path, values: np.ndarray, kind: str = BINARY) -> pydicom.Dataset:
    final = series.with_name(f"{kind}.dcm")
    geometries.write_result(series, final, values, kind)
    return pydicom.dcmread(final)


def draw_labels() -> np.ndarray:
    """Liver in the first slice, left kidney in the last one; the other two segments are empty."""
    labels = np.zeros((4, 3, 3), np.uint8)
    labels[1:3, 1, 0], labels[0, 0, 2] = 1, 2
    return labels


def find_slice(series: Path, z_mm: float) -> pydicom.Dataset:
    headers = map(pydicom.dcmread, series.iterdir())
    return next(header for header in headers if header.ImagePositionPatient[2] == z_mm)


def test_frames_refer_to_their_own_slices_and_lie_where_those_do(series: Path) -> None:
    segmentation = write_result(series, draw_labels())
    frames = segmentation.PerFrameFunctionalGroupsSequence
    assert segmentation.NumberOfFrames == 2
    for frame, number, z_mm in zip(frames, (1, 2), (30, 34), strict=True):
        source = find_slice(series, z_mm)
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
        assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        (derived,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert derived.ReferencedSOPInstanceUID == source.SOPInstanceUID
    (referenced,) = segmentation.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == {
        pydicom.dcmread(path).SOPInstanceUID for path in series.iterdir()
    }
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == list(phantoms.AXIAL)
    measures = shared.PixelMeasuresSequence[0]
    assert measures.PixelSpacing == [0.75, 0.5]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (2.5, 2.0)
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_frames_of_a_multi_frame_object_refer_to_their_own_frames(tmp_path: Path) -> None:
    volume = np.zeros((4, 3, 4), np.int16)
    geometry = geometries.Geometry(
        volume, phantoms.AXIAL, (0, 0, 2.0), (10, -20, 30), (0.5, 0.75), True, (2, 0, 3, 1), 0
    )
    source = geometries.write_geometry(tmp_path / "frames", geometry)
    segmentation = write_result(source, np.ones((4, 3, 4), np.uint8), LABELMAP)
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        (derived,) = frame.DerivationImageSequence[0].SourceImageSequence
        level = geometry.order[derived.ReferencedFrameNumber - 1]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == [10, -20, 30 + 2 * level]


def test_segments_are_described_with_codes_and_with_what_made_them(series: Path) -> None:
    segmentation = write_result(series, draw_labels())
    liver, kidney, tumour, unknown = segmentation.SegmentSequence
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == [s.name for s in geometries.SEGMENTS]
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert side.CodeMeaning == "Left"
    assert tumour.AnatomicRegionSequence[0].CodeMeaning == "Liver"
    assert tumour.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert unknown.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    (algorithm,) = liver.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("abdomen", "0.1.0")
    assert algorithm.AlgorithmParameters == f"bundle_sha256={hash_origin(geometries.ORIGIN)}"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert segmentation.SeriesDescription == "abdomen: research use only"


def list_uids(segmentation: pydicom.Dataset) -> tuple[str, ...]:
    dimensions = segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID
    return segmentation.SOPInstanceUID, segmentation.SeriesInstanceUID, dimensions


def test_uids_follow_from_images_voxels_and_kind(series: Path) -> None:
    labels = draw_labels()
    first, again = list_uids(write_result(series, labels)), list_uids(write_result(series, labels))
    assert first == again
    assert all(uid.startswith("2.25.") and len(uid) <= 44 for uid in first)
    labels[0, 0, 0] = 1
    others = [list_uids(write_result(series, labels)), list_uids(write_result(series, labels, LABELMAP))]
    edit(series / "0000.dcm", SOPInstanceUID="1.2.3.4")
    others.append(list_uids(write_result(series, labels)))
    assert len({uid for uids in (first, *others) for uid in uids}) == 12


def test_labelmap_holds_the_values_of_the_labels(series: Path) -> None:
    labels = draw_labels()
    labels[3, 2, 1] = 9
    segmentation = write_result(series, labels, LABELMAP)
    np.testing.assert_array_equal(segmentation.pixel_array, labels.T[::-1])  # highdicom's order, against the normal
    assert [item.SegmentNumber for item in segmentation.SegmentSequence] == [0, 1, 2, 7, 9]


def test_label_zero_that_is_no_background_is_a_segment(series: Path) -> None:
    segments = Segment(0, "membrane", None, 0), Segment(255, "cell", None, 1)
    labels = np.full((4, 3, 3), 255, np.uint8)
    labels[0] = 0
    for kind in (BINARY, LABELMAP):
        final = series.with_name(f"{kind}.dcm")
        assert geometries.write_result(series, final, labels, kind, segments) == []
        (decoded,) = geometries.read_by_highdicom(final, {1: 1, 2: 255})
        assert np.bincount(decoded[0].ravel())[[1, 255]].tolist() == [9, 27]


def test_probabilities_are_fractional_without_the_background(series: Path) -> None:
    shares = np.random.default_rng(0).dirichlet([1.0] * 5, (4, 3, 3)).astype(np.float32)
    segmentation = write_result(series, np.moveaxis(shares, -1, 0), FRACTIONAL)
    assert (segmentation.SegmentationType, segmentation.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    frames = segmentation.pixel_array.reshape(4, 3, 3, 4)  # segment, plane, row, column
    np.testing.assert_allclose(frames / segmentation.MaximumFractionalValue, shares[..., 1:].T[:, ::-1], atol=0.5 / 255)


def test_structures_that_overlap_are_segments_of_their_own(series: Path) -> None:
    places = np.zeros((4, 3, 3, 5), np.uint8)
    places[1, 1, :, 1] = places[1, 1, :, 3] = 1
    segmentation = write_result(series, places)
    assert (segmentation.SegmentsOverlap, segmentation.NumberOfFrames) == ("YES", 6)


@pytest.mark.parametrize(
    ("frames", "misread"),
    [
        ((3, 5, 6), True),  # 90 bits end where six frames of whole bytes would
        ((17, 6, 2), True),
        ((8, 9, 3), True),  # 27 bytes and one of padding
        ((130, 130, 10), True),
        ((3, 5, 32), False),
        ((16, 8, 5), False),
        ((512, 512, 33), False),
    ],
)
def test_bits_that_cornerstone_misreads_are_told(frames: tuple[int, int, int], misread: bool) -> None:
    assert is_misread_as_bits(*frames) == misread


def test_label_map_without_a_voxel_is_described(series: Path) -> None:
    final = series.with_name("empty.dcm")
    empty = geometries.write_result(series, final, np.zeros((4, 3, 3), np.uint8))
    assert empty == [segment.name for segment in geometries.SEGMENTS]
    assert not pydicom.dcmread(final).pixel_array.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 3, 3), 5, np.uint8), "has the value 5; the bundle names liver, left kidney"),
        (np.zeros((4, 3, 3), np.float32), "has values of float32; DICOM SEG holds labels"),
        (np.zeros((4, 3, 3, 2), np.uint8), "has 2 structures"),
    ],
)
def test_results_that_the_segments_do_not_name_are_refused(series: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        write_result(series, values)


# the patient's module, and headers that are not as they should be


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "山田^太郎"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_patient_is_copied_in_any_character_set(series: Path, charset: str, name: str) -> None:
    for path in series.iterdir():
        edit(path, SpecificCharacterSet=charset, PatientName=name)
    segmentation = write_result(series, draw_labels())
    assert str(segmentation.PatientName) == name
    assert segmentation.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"PatientSex": "female"}, ("PatientSex", "")),
        ({"PatientBirthDate": None}, ("PatientBirthDate", "")),
        ({"StudyDate": None, "AccessionNumber": None}, ("AccessionNumber", "")),
        ({"PatientName": "DoeJane"}, ("PatientName", "DoeJane")),
        ({"PatientName": "Doe\nJane"}, ("PatientID", phantoms.SECRETS[1])),
        ({"StudyDate": "2020-1-2"}, ("StudyDate", "")),
        ({"SpecificCharacterSet": "NONSENSE"}, ("PatientID", phantoms.SECRETS[1])),
    ],
)
def test_headers_that_are_not_valid_are_no_reason_to_fail_or_to_tell_the_patient(
    series: Path,
    changes: dict[str, object],
    kept: tuple[str, object],
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in series.iterdir():
            edit(path, **changes)
    capfd.readouterr()  # what changing the files said
    recwarn.clear()
    caplog.clear()
    segmentation = write_result(series, draw_labels())
    assert segmentation[kept[0]].value == kept[1]
    shown = "".join(capfd.readouterr()) + caplog.text + "".join(str(item.message) for item in recwarn)
    assert not [secret for secret in (*phantoms.SECRETS, "DoeJane", "female") if secret in shown]


def test_series_without_frame_of_reference_gets_one_of_its_own(series: Path) -> None:
    for path in series.iterdir():
        edit(path, FrameOfReferenceUID=None)
    (note,) = read_source(series, "series").notes
    assert note.code == "dicom-no-frame-of-reference"
    first, second = write_result(series, draw_labels()), write_result(series, draw_labels(), LABELMAP)
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.FrameOfReferenceUID.startswith("2.25.")


def test_series_that_nothing_can_refer_to_is_refused(series: Path) -> None:
    for path in series.iterdir():
        edit(path, StudyInstanceUID=None)
    with pytest.raises(PredictionError, match="series lacks StudyInstanceUID, by which"):
        read_source(series, "series")


def test_gap_is_refused(series: Path) -> None:
    edit(series / "0002.dcm", ImagePositionPatient=[10, -20, 40])
    with pytest.raises(ImageFileError, match="gap of"):
        read_source(series, "series")


def test_codes_that_nobody_said_are_a_warning() -> None:
    (note,) = find_uncoded(geometries.SEGMENTS)
    assert (note.severity, "unheard of" in note.cause) == ("warning", True)
    assert find_uncoded(geometries.SEGMENTS[:3]) == ()
