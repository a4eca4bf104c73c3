"""`predict --format`: DICOM SEG of DICOM series as a user gets it, and NRRD, NIfTI and PNG; no field of the patient beside the object."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pydicom
import pytest

import unet_pipeline
from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import PredictionError

from .. import dicom_geometries as geometries
from .. import dicom_phantoms
from .conftest import TrainedBundle

NUMBERS = {1: 1, 2: 2}  # organ and tumour


def write_series(folder: Path, seed: int = 3) -> Path:
    """An organ as a series whose slices go from top to bottom."""
    volume = np.rint(phantoms.draw_organ(seed)[0]).astype(np.int16)
    geometry = geometries.Geometry(
        volume, dicom_phantoms.AXIAL, (0, 0, -2.0), (10, -20, 30), (1.5, 1.5), False, tuple(range(22)), 0
    )
    return geometries.write_geometry(folder, geometry)


def predict(bundle: TrainedBundle, source: Path, out: Path, **options: object) -> unet_pipeline.Predictions:
    return phantoms.silently(unet_pipeline.predict, bundle.root, source, out, **options)


def decode(path: Path, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Label values on a grid in RAS."""
    return geometries.place_voxels(geometries.read_by_highdicom(path, NUMBERS), shape, np.diag([-1, -1, 1, 1]) @ affine)


def list_secrets(folder: Path) -> list[str]:
    """Names of the files below a folder that hold a field of the patient, or are named after one."""
    seen = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if any(secret in path.name or secret.encode() in content for secret in (*dicom_phantoms.SECRETS, "knee")):
            seen.append(path.name)
    return seen


def test_predict_dicomseg_is_the_label_map_and_the_patient_stands_in_it_alone(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    series = write_series(tmp_path / "studies" / "first")
    write_series(tmp_path / "studies" / "second", 4)
    out, plain = tmp_path / "out", tmp_path / "plain"
    arguments = "predict", bundle_3d.root, tmp_path / "studies", out, "--format", "dicomseg", "--probabilities"
    status, shown, said = call_main(*arguments, "--json", tmp_path / "said.json")
    assert status == 0
    assert not [secret for secret in (*dicom_phantoms.SECRETS, "knee") if secret in shown + said]
    objects = ["first.dcm", "first_probabilities.dcm", "second.dcm", "second_probabilities.dcm"]
    assert list_secrets(out) == objects
    assert not any(secret.encode() in (tmp_path / "said.json").read_bytes() for secret in dicom_phantoms.SECRETS)
    predict(bundle_3d, tmp_path / "studies", plain)
    expected = nib.load(plain / "first.nii.gz")
    np.testing.assert_array_equal(
        decode(out / "first.dcm", expected.shape, expected.affine), np.asarray(expected.dataobj)
    )
    segmentation, slice_header = pydicom.dcmread(out / "first.dcm"), pydicom.dcmread(series / "0000.dcm")
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert segmentation[name].value == slice_header[name].value
    status, shown, _ = call_main(*arguments)
    assert (status, shown.count("kept "), shown.count("written ")) == (0, 2, 0)
    record = json.loads((out / "predictions_run.json").read_text())
    assert set(record["images"]) == {"first.dicomseg", "second.dicomseg"}
    assert record["images"]["first.dicomseg"]["options"]["format"] == "dicomseg"


def test_predict_formats_side_by_side_are_each_kept(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    series, out = write_series(tmp_path / "first"), tmp_path / "out"
    for name in (None, "dicomseg", "nrrd"):
        assert len(predict(bundle_3d, series, out, format=name).written) == 1
    for name in (None, "dicomseg", "nrrd", "nifti"):
        assert predict(bundle_3d, series, out, format=name).written == ()
    assert len(predict(bundle_3d, series, out, format="dicomseg-labelmap").written) == 1
    assert len(predict(bundle_3d, series, out, format="dicomseg").written) == 1
    assert not (out / "replaced").exists()
    nifti, nrrd = read_image(out / "first.nii.gz"), read_image(out / "first.nrrd")
    np.testing.assert_array_equal(nrrd.array, nifti.array)
    np.testing.assert_allclose(nrrd.affine, nifti.affine, atol=1e-5)


def test_predict_dicomseg_of_files_that_are_no_dicom_says_which(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    folder = tmp_path / "mixed"
    write_series(folder / "series")
    shutil.copy(bundle_3d.dataset / "imagesTr" / "organ_00.nii.gz", folder / "other.nii.gz")
    status, _, said = call_main("predict", bundle_3d.root, folder, tmp_path / "out", "--format", "dicomseg")
    assert status == 1
    assert "1 of 2 image(s) are no DICOM: other.nii.gz. Give DICOM series, or choose nifti or nrrd." in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("png", "3 axes; a PNG file holds 2"), ("dicom", "did you mean 'dicomseg'"), ("", "Expected one of nifti, nrrd")],
)
def test_predict_format_that_cannot_be_says_why(
    bundle_3d: TrainedBundle, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(PredictionError, match=message):
        predict(bundle_3d, write_series(tmp_path / "a"), tmp_path / "out", format=name)


def test_predict_pictures_as_nifti_and_nrrd_have_the_values_of_png(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    picture, out = bundle_2d.dataset / "images" / "cell_00.png", tmp_path / "out"
    for name in ("png", "nifti", "nrrd"):
        predict(bundle_2d, picture, out, format=name)
    expected = read_image(out / "cell_00.png").array
    for suffix in (".nii.gz", ".nrrd"):
        np.testing.assert_array_equal(read_image(out / f"cell_00{suffix}").array, expected)


def test_predict_radiograph_as_dicomseg_has_the_values_of_png(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    rows = phantoms.draw_cell(5)[0].astype(np.uint16)
    header = dicom_phantoms.build_header(rows, None)
    header.Modality, header.SOPClassUID = "DX", "1.2.840.10008.5.1.4.1.1.1.1"
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    source, out = dicom_phantoms.save(header, tmp_path / "chest.dcm"), tmp_path / "out"
    predict(bundle_2d, source, out)
    predict(bundle_2d, source, out, format="dicomseg", probabilities=True)
    expected = read_image(out / "chest.png").array[0].T
    segmentation = pydicom.dcmread(out / "chest.dcm")
    np.testing.assert_array_equal(segmentation.pixel_array * 255, expected)
    assert "FrameOfReferenceUID" not in segmentation
    referenced = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    assert referenced == header.SOPInstanceUID
    assert pydicom.dcmread(out / "chest_probabilities.dcm").SegmentationType == "FRACTIONAL"


def test_predict_folder_with_results_beside_the_series_takes_the_series_alone(
    bundle_3d: TrainedBundle, tmp_path: Path
) -> None:
    write_series(tmp_path / "study" / "ct")
    out = tmp_path / "study" / "segmentations"
    for _ in range(2):
        result = predict(bundle_3d, tmp_path / "study", out, format="dicomseg")
        assert len(result.written) + len(result.kept) == 1
    assert [path.name for path in out.glob("*.dcm")] == ["ct.dcm"]


def test_predict_segmentation_with_its_report_is_kept_while_both_are_there(
    bundle_3d: TrainedBundle, tmp_path: Path
) -> None:
    series, out = write_series(tmp_path / "ct"), tmp_path / "out"
    assert [path.name for path in predict(bundle_3d, series, out, format="dicomseg-sr").written] == ["ct.dcm"]
    segmentation, report = out / "ct.dcm", out / "ct_sr.dcm"
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (segmentation, report)]
    evidence = pydicom.dcmread(report).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert uids[0] in [one.ReferencedSOPInstanceUID for item in evidence for one in item.ReferencedSOPSequence]
    assert predict(bundle_3d, series, out, format="dicomseg-sr").written == ()
    report.unlink()
    again = predict(bundle_3d, series, out, format="dicomseg-sr")
    assert dict(again.again) == {"ct": "ct_sr.dcm is not there, or is another file than was recorded"}
    assert [pydicom.dcmread(path).SOPInstanceUID for path in (segmentation, report)] == uids
    assert not (out / "replaced").exists()


def test_predict_rtstruct_overlay_and_report_beside_the_segmentation(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    write_series(tmp_path / "study" / "ct")
    out = tmp_path / "study" / "results"
    for name in ("dicomseg", "rtstruct", "overlay", "sr", "rtstruct"):
        status, shown, said = call_main("predict", bundle_3d.root, tmp_path / "study", out, "--format", name)
        assert status == 0
        assert not [secret for secret in (*dicom_phantoms.SECRETS, "knee") if secret in shown + said]
    assert "kept " in shown
    objects = ["ct.dcm", "ct_overlay.dcm", "ct_rtstruct.dcm", "ct_sr.dcm"]
    assert list_secrets(out) == objects
    record = json.loads((out / "predictions_run.json").read_text())["images"]
    assert {name: entry["label_map"] for name, entry in record.items()} == {
        "ct.dicomseg": objects[0], "ct.overlay": objects[1], "ct.rtstruct": objects[2], "ct.sr": objects[3]
    }  # fmt: skip
    segmentation, report = pydicom.dcmread(out / "ct.dcm"), pydicom.dcmread(out / "ct_sr.dcm")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert segmentation.SeriesInstanceUID in {item.SeriesInstanceUID for item in evidence}


def test_evaluate_on_dicom_labels_writes_its_predictions_as_the_objects_of_predict(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    studies, out = tmp_path / "studies", tmp_path / "out"
    write_series(studies / "a" / "ct", 30)
    predict(bundle_3d, studies / "a" / "ct", tmp_path / "predicted", format="dicomseg")
    shutil.copy(tmp_path / "predicted" / "ct.dcm", studies / "a" / "labels.dcm")
    arguments = "evaluate", bundle_3d.root, studies, "--out", out, "--format"
    status, shown, said = call_main(*arguments, "dicomseg")
    assert status == 0, said
    assert not [secret for secret in (*dicom_phantoms.SECRETS, "knee") if secret in shown + said]
    (written,) = out.glob("predictions_*_dicomseg/*.dcm")
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (written, studies / "a" / "labels.dcm")]
    assert uids[0] == uids[1]
    summary = json.loads((out / "summary.json").read_text())
    assert {row["mean"] for row in summary["rows"] if row["metric"] == "dice" and row["n"]} == {1.0}
    for name, message in (("nrrd", "Expected one of"), ("dicomseg", "Leave --format out")):
        status, _, said = call_main(*arguments, name, "--predictions", tmp_path / "predicted")
        assert (status, message in said or "also as one of" in said) == (1, True)
