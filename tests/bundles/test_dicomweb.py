"""`predict dicomweb://... --store`: the label map of the same files, once in the study; by a server of the tests, and by Orthanc."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests

from unet_pipeline.verbs import predict_remote

from .. import dicom_geometries as geometries
from .. import dicom_phantoms, orthanc
from ..dicomweb_server import Archive, serve
from .conftest import TrainedBundle
from .test_dicom_out import NUMBERS, decode, list_secrets, predict, write_series

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(call_main: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """The command line, with a folder of its own for what is temporary, which is empty after each call; no field of the patient is said."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status, shown, said = call_main(*arguments)
        assert not list((tmp_path / "temporary").iterdir())
        assert not [secret for secret in (*dicom_phantoms.SECRETS, "knee", "hunter2") if secret in shown + said]
        return status, shown, said

    return run


def test_predict_of_a_study_stores_the_label_map_once(bundle_3d: TrainedBundle, tmp_path: Path, call: Call) -> None:
    series, out = write_series(tmp_path / "plain"), tmp_path / "out"
    header = pydicom.dcmread(series / "0000.dcm")
    archive = Archive()
    archive.add(series)
    for item in archive.instances.values():
        item.Modality = "MR"
    with serve(archive) as served:
        arguments = "predict", bundle_3d.root, f"{served.address}/studies/{header.StudyInstanceUID}", out, "--store"
        status, shown, said = call(*arguments, "--json", tmp_path / "said.json")
        assert status == 0, said
        (path,) = out.glob("series_*.dcm")
        assert f"stored   {path.relative_to(tmp_path)}\n" in shown.replace(f"{tmp_path}/", "")
        assert list(json.loads((tmp_path / "said.json").read_text())["stored"].values()) == ["stored"]
        assert "fetched  series" in shown + said
        assert list_secrets(out) == [path.name]
        status, shown, _ = call(*arguments)
        assert (status, "kept " in shown, "(the server had it)" in shown) == (0, True, True)
        path.unlink()  # made again, it is the same object
        status, shown, _ = call(*arguments)
        assert (status, "written " in shown, "(the server had it)" in shown) == (0, True, True)
        assert [method for method, _ in archive.seen].count("POST") == 1
        status, shown, _ = call(*arguments[:-1], "--dry-run")
        assert (status, "case " in shown) == (0, True)
    segmentations = [item for item in archive.instances.values() if item.Modality == "SEG"]
    assert [item.StudyInstanceUID for item in segmentations] == [header.StudyInstanceUID]
    predict(bundle_3d, series, tmp_path / "local")
    expected = nib.load(tmp_path / "local" / "plain.nii.gz")
    segmentations[0].save_as(tmp_path / "stored.dcm")
    decoded = decode(tmp_path / "stored.dcm", expected.shape, expected.affine)
    np.testing.assert_array_equal(decoded, np.asarray(expected.dataobj))


def test_predict_of_a_study_stores_the_volume_report_too_and_both_once(
    bundle_3d: TrainedBundle, tmp_path: Path, call: Call
) -> None:
    archive = Archive()
    archive.add(write_series(tmp_path / "plain"))
    for item in archive.instances.values():
        item.Modality = "MR"
    study = next(iter(archive.instances.values())).StudyInstanceUID
    with serve(archive) as served:
        arguments = "predict", bundle_3d.root, f"{served.address}/studies/{study}", tmp_path / "out", "--store"
        for number_had in (0, 2):
            status, shown, said = call(*arguments, "--format", "dicomseg-sr")
            assert (status, shown.count("stored "), shown.count("(the server had it)")) == (0, 2, number_had), said
    assert sorted(item.Modality for item in archive.instances.values() if item.Modality != "MR") == ["SEG", "SR"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--store", "--format", "nrrd"),
            "--store sends DICOM objects, and --format is 'nrrd'; expected one of dicomseg",
        ),
        (("--engine", "slurm"), "--engine is slurm"),
        (("--series", "x"), "--series 'x' is no rule"),
        (("--series", "SeriesNumber=77"), "No series fits: the bundle takes"),
    ],
)
def test_predict_of_a_study_with_options_that_cannot_be_says_why(
    bundle_3d: TrainedBundle, tmp_path: Path, call: Call, options: tuple[str, ...], message: str
) -> None:
    archive = Archive()
    archive.add(write_series(tmp_path / "plain"))
    with serve(archive) as served:
        study = next(iter(archive.instances.values())).StudyInstanceUID
        status, _, said = call(
            "predict", bundle_3d.root, f"{served.address}/studies/{study}", tmp_path / "out", *options
        )
    assert status == 1
    assert message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--store",), ("--series", "SeriesNumber=3")])
def test_predict_of_files_with_options_of_servers_says_so(
    bundle_3d: TrainedBundle, tmp_path: Path, call: Call, option: tuple[str, ...]
) -> None:
    status, _, said = call("predict", bundle_3d.root, write_series(tmp_path / "a"), tmp_path / "out", *option)
    assert (status, f"{option[0]} is for a study on a DICOMweb server, and the input is a path" in said) == (1, True)


def test_predict_of_a_study_by_a_bundle_of_two_channels_says_so(
    bundle_3d: TrainedBundle, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_remote, "_read_expected", lambda folder: (2, ("MR",)))
    status, _, said = call("predict", bundle_3d.root, "dicomweb://127.0.0.1:1/studies/1.2", tmp_path / "out")
    assert (status, "takes 2 channels, and of a study one series is fetched" in said) == (1, True)


@pytest.mark.dicom_tools
@pytest.mark.skipif(not orthanc.is_installed(), reason="Debian's orthanc and orthanc-dicomweb are not installed")
def test_round_trip_through_orthanc_has_every_voxel(
    bundle_3d: TrainedBundle, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    series, out = write_series(tmp_path / "plain"), tmp_path / "out"
    other = dicom_phantoms.write_series(tmp_path / "scout", np.zeros((8, 9, 1), np.int16), uid="1.2.99")
    for path in series.iterdir():
        dicom_phantoms.edit(path, SeriesNumber=2, Modality="MR")
    study = pydicom.dcmread(series / "0000.dcm").StudyInstanceUID
    dicom_phantoms.edit(next(other.iterdir()), StudyInstanceUID=study, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    login = ("jane", "hunter2")
    with orthanc.start_orthanc(tmp_path / "orthanc", dict([login])) as host:
        service = f"http://{host}/dicom-web"
        for path in (*series.iterdir(), *other.iterdir()):
            requests.post(f"http://{host}/instances", data=path.read_bytes(), auth=login, timeout=30).raise_for_status()
        arguments = "predict", bundle_3d.root, f"dicomweb://{host}/dicom-web/studies/{study}", out, "--store"
        status, _, said = call(*arguments)
        assert (status, "answers 401" in said) == (1, True)
        monkeypatch.setenv("DICOMWEB_USERNAME", login[0])
        monkeypatch.setenv("DICOMWEB_PASSWORD", login[1])
        status, shown, said = call(*arguments, "--probabilities")
        assert (status, shown.count("stored ")) == (0, 2), said
        status, shown, _ = call(*arguments, "--probabilities")
        assert (status, shown.count("(the server had it)")) == (0, 2)
        address = f"{service}/studies/{study}/instances?Modality=SEG&includefield=SegmentationType"
        listed = requests.get(address, auth=login, timeout=30, headers={"Accept": "application/dicom+json"}).json()
        stored = fetch_objects(service, study, listed, login, tmp_path / "stored")
    assert sorted(header.SegmentationType for header in stored.values()) == ["BINARY", "FRACTIONAL"]
    predict(bundle_3d, series, tmp_path / "local")
    expected = nib.load(tmp_path / "local" / "plain.nii.gz")
    (path,) = (path for path, header in stored.items() if header.SegmentationType == "BINARY")
    np.testing.assert_array_equal(decode(path, expected.shape, expected.affine), np.asarray(expected.dataobj))
    if geometries.find_dcmqi():
        decoded = geometries.read_by_dcmqi(path, NUMBERS, tmp_path / "dcmqi")
        placed = geometries.place_voxels(decoded, expected.shape, np.diag([-1, -1, 1, 1]) @ expected.affine)
        np.testing.assert_array_equal(placed, np.asarray(expected.dataobj))
    if shutil.which("dciodvfy"):
        assert geometries.list_violations(path) == []


def fetch_objects(
    service: str, study: str, listed: list[dict[str, dict[str, list[str]]]], login: tuple[str, str], folder: Path
) -> dict[Path, pydicom.Dataset]:
    """Instances of the list through WADO-RS, by code that is none of ours: the files and their headers."""
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.auth = login
    client, objects = DICOMwebClient(service, session), {}
    folder.mkdir()
    for item in listed:
        uids = (item["0020000E"]["Value"][0], item["00080018"]["Value"][0])
        header = client.retrieve_instance(study, *uids)
        header.save_as(folder / f"{len(objects)}.dcm")
        objects[folder / f"{len(objects)}.dcm"] = header
    return objects
