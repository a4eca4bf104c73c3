"""DICOM files by their content: with and without preamble, in every plain transfer syntax, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from unet_pipeline.dataset.dicom_file import dicom_case_name, is_dicom_file, is_directory_file, read_header
from unet_pipeline.dataset.image import read_image
from unet_pipeline.messages import WARNING

from . import dicom_phantoms as phantoms

VOLUME = np.random.default_rng(0).integers(0, 1000, (6, 4, 5)).astype(np.int16)
SYNTAXES = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian, "big": ExplicitVRBigEndian}


def strip_preamble(path: Path, syntax: str = "explicit") -> None:
    """The same elements as older archives write them: no preamble, no mark, no file meta information."""
    header = pydicom.dcmread(path)
    header.PixelData = (
        header.PixelData if syntax != "big" else np.frombuffer(header.PixelData, "<i2").astype(">i2").tobytes()
    )
    uid = SYNTAXES[syntax]
    with path.open("wb") as stream:
        pydicom.filewriter.write_dataset(_open(stream, uid), header)


def _open(stream: object, uid: str) -> pydicom.filebase.DicomIO:
    opened = pydicom.filebase.DicomIO(stream)
    opened.is_implicit_VR, opened.is_little_endian = uid == ImplicitVRLittleEndian, uid != ExplicitVRBigEndian
    return opened


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("chosen", ["all", "middle", "last", "first"])
def test_read_image_series_without_preamble_has_every_slice(tmp_path: Path, syntax: str, chosen: str) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    files = sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    for path in {"all": files, "middle": files[2:4], "last": files[-2:], "first": files[:1]}[chosen]:
        strip_preamble(path, syntax)
        assert is_dicom_file(path)
    image = read_image(folder)
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.notes == ()
    assert image.modality == "MR"


@pytest.mark.parametrize(("syntax", "uid"), SYNTAXES.items())
def test_read_header_transfer_syntax_is_found_where_no_meta_states_it(tmp_path: Path, syntax: str, uid: str) -> None:
    path = next(phantoms.write_series(tmp_path / "a", VOLUME).iterdir())
    assert read_header(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    strip_preamble(path, syntax)
    assert read_header(path).file_meta.TransferSyntaxUID == uid
    assert int(read_header(path).Rows) == VOLUME.shape[1]


@pytest.mark.parametrize("content", [b"", b"\x00" * 400, b"x" * 400, b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"], ids=len)
def test_read_image_last_slice_damaged_is_a_warning_that_names_it(tmp_path: Path, content: bytes) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    last = max(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    last.write_bytes(content)
    image = read_image(folder)
    assert image.spatial_shape == (6, 4, 4)
    (problem,) = image.notes
    assert problem.severity == WARNING
    assert f"holds 1 file(s) that are no DICOM and are passed over: {last.name}" in problem.cause
    assert "the volume lacks it" in problem.remedy


@pytest.mark.parametrize(
    "change", [{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"ImagePositionPatient": None}]
)
def test_read_image_slice_of_the_series_set_aside_is_a_warning_that_names_it(tmp_path: Path, change: dict) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    last = max(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    phantoms.edit(last, **change)
    (warning,) = [problem for problem in read_image(folder).notes if problem.severity == WARNING]
    assert warning.code == "dicom-slices-left-out"
    assert warning.cause.endswith(f"are not part of the volume: {last.name}")


def test_read_image_many_other_files_are_named_up_to_five(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for number in range(7):
        (folder / f"x{number}.raw").write_bytes(b"1234")
    (problem,) = read_image(folder).notes
    assert problem.cause.endswith(
        "7 file(s) that are no DICOM and are passed over: x0.raw, x1.raw, x2.raw, x3.raw, x4.raw and 2 more"
    )


@given(st.binary(max_size=600))
def test_is_dicom_file_chance_is_none(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "chance.bin"
    path.write_bytes(b"\x08\x00" + content)
    assert not is_dicom_file(path)


@pytest.mark.parametrize(
    ("name", "case"),
    [("a.dcm", "a"), ("1.2.840.dcm", "1.2.840"), ("1.2.840", "1.2.840"), ("x.IMA", "x"), (".dcm", ".dcm")],
)
def test_dicom_case_name_usual_endings_go(name: str, case: str) -> None:
    assert dicom_case_name(Path(name)) == case


@pytest.mark.parametrize(("name", "is_one"), [("DICOMDIR", True), ("dicomdir;1", True), ("DICOMDIRECTORY", False)])
def test_is_directory_file_goes_by_the_name(name: str, is_one: bool) -> None:
    assert is_directory_file(Path(name)) == is_one
