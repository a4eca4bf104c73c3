"""Series with SEG and RTSTRUCT, in the folders of archives: matched by reference, named, joined, and refused with a reason."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset as Header

from unet_pipeline.dataset.case_reading import read_case_grid, read_case_label
from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.planning.planner import plan_from_fingerprint

from . import dicom_label_phantoms as phantoms
from .dicom_phantoms import SECRETS

AFFINE = np.array([[-0.8, 0, 0, 10], [0, -0.7, 0, 5], [0, 0, 3, -4], [0, 0, 0, 1.0]])
SHAPE = 16, 15, 8
OPTIONS = ReadOptions()


def _draw() -> dict[str, np.ndarray]:
    liver, tumour = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    liver[3:9, 2:12, 1:6] = True
    liver[5:7, 5:8, 3] = False
    tumour[10:13, 4:9, 2:7] = True
    return {"liver": liver, "tumour": tumour}


def _write_series(folder: Path, seed: int = 0, patient: str = "", name: str = "") -> list[Header]:
    volume = np.random.default_rng(seed).integers(-200, 400, SHAPE)
    return phantoms.write_image_series(folder, volume, AFFINE, patient or f"{SECRETS[1]}-{seed}", name)


def _trace(masks: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    return {name: phantoms.trace(mask, AFFINE) for name, mask in masks.items()}


def _read_labels(dataset: Dataset) -> dict[str, np.ndarray]:
    labels = {}
    for case in dataset.cases:
        grid = read_case_grid(dataset.root, case)
        labels[case.name] = read_case_label(dataset.root, case, grid, OPTIONS)[0].array[0]
    return labels


def _options(**changes: bool) -> ReadOptions:
    return OPTIONS.model_copy(update=changes)


def _codes(report: CheckReport) -> set[str]:
    return {problem.code for problem in report.problems}


def _require_no_secret(report: CheckReport) -> None:
    shown = " ".join(map(str, report.problems)) + str(report.manifest) + str(report.dataset)
    assert not any(secret in shown for secret in SECRETS)


def test_read_dataset_heap_of_files_is_sorted_by_what_refers_to_what(tmp_path: Path) -> None:
    masks = _draw()
    expected = masks["liver"] + 2 * masks["tumour"]
    phantoms.write_seg(tmp_path / "z.dcm", _write_series(tmp_path, 1, name="a"), masks)
    phantoms.write_seg(tmp_path / "b.dcm", _write_series(tmp_path, 2, name="c"), masks, "LABELMAP")
    phantoms.write_rtstruct(tmp_path / "y.dcm", _write_series(tmp_path, 3, name="x"), _trace(masks))
    dataset = read_dataset(tmp_path)
    assert dataset.labels == {"background": 0, "liver": 1, "tumour": 2}
    assert [case.label for case in sorted(dataset.cases, key=lambda case: str(case.label))] == [
        Path("b.dcm"), Path("y.dcm"), Path("z.dcm")
    ]  # fmt: skip
    labels = _read_labels(dataset)
    assert len(labels) == 3
    assert all(np.array_equal(label, expected) for label in labels.values())
    report = check_dataset(dataset)
    assert not [problem for problem in report.problems if problem.severity == "error"]
    assert len(report.manifest) == 3 * (SHAPE[2] + 1)
    _require_no_secret(report)


def test_read_dataset_folders_of_archives_name_cases_and_keep_patients_together(tmp_path: Path) -> None:
    for patient, study in (("A", "1.2.3.4.5"), ("A", "1.2.3.4.6"), ("B", "1.2.3.4.7")):
        headers = _write_series(tmp_path / patient / study / "1.2.3.4.55", int(study[-1]), SECRETS[1] + patient)
        phantoms.write_seg(tmp_path / patient / study / "1.2.3.4.66" / "1-1.dcm", headers, _draw())
    dataset = read_dataset(tmp_path)
    first, second, lone = dataset.cases
    assert lone.name == "B"
    assert lone.patient is None
    assert first.name.startswith("A_")
    assert first.patient == second.patient
    assert first.patient in (first.name, second.name)
    assert lone.image == Path("B/1.2.3.4.7/1.2.3.4.55")
    assert "dicom-patients-together" in _codes(check_dataset(dataset))


def test_read_dataset_images_and_labels_need_no_common_names(tmp_path: Path) -> None:
    for number in range(2):
        headers = _write_series(tmp_path / "images" / f"case_{number}", number)
        phantoms.write_rtstruct(tmp_path / "labels" / f"{9 - number}.dcm", headers, _trace(_draw()))
    dataset = read_dataset(tmp_path)
    assert [(case.name, case.label) for case in dataset.cases] == [
        ("case_0", Path("labels/9.dcm")), ("case_1", Path("labels/8.dcm"))
    ]  # fmt: skip


def test_read_dataset_table_takes_the_object_of_two_that_is_meant(tmp_path: Path) -> None:
    headers, masks = _write_series(tmp_path / "ct"), _draw()
    phantoms.write_seg(tmp_path / "first.dcm", headers, {"liver": masks["liver"]})
    phantoms.write_rtstruct(tmp_path / "second.dcm", headers, _trace({"tumour": masks["tumour"]}))
    (problem,) = [item for item in check_dataset(read_dataset(tmp_path)).problems if item.severity == "error"]
    assert problem.code == "dicom-several-labels"
    assert "first.dcm (SEG), second.dcm (RTSTRUCT)" in problem.cause
    assert "cases.csv" in problem.remedy
    (tmp_path / "cases.csv").write_text("image,label\nct,second.dcm\n")
    dataset = read_dataset(tmp_path)
    assert dataset.labels == {"background": 0, "tumour": 1}
    (label,) = _read_labels(dataset).values()
    assert np.array_equal(label == 1, masks["tumour"])


def test_check_label_without_its_series_and_series_without_label(tmp_path: Path) -> None:
    phantoms.write_seg(tmp_path / "a" / "seg.dcm", _write_series(tmp_path / "a" / "ct", 1), _draw())
    phantoms.write_seg(tmp_path / "b" / "seg.dcm", _write_series(tmp_path / "b" / "ct", 2), _draw())
    shutil.rmtree(tmp_path / "b" / "ct")
    _write_series(tmp_path / "c", 3)
    problems = {problem.code: problem for problem in read_dataset(tmp_path).problems_of_layout}
    assert problems["dicom-label-without-series"].file == "b/seg.dcm"
    assert problems["dicom-label-without-series"].severity == "error"
    assert problems["dicom-series-without-label"].cause.endswith("c")


def test_check_empty_and_missing_structures_and_overlaps_are_said(tmp_path: Path) -> None:
    masks = _draw()
    wide = masks["tumour"].copy()
    wide[8, 4:9, 2:7] = True  # 25 voxels of the liver, less those on no slice of it
    empty = np.zeros(SHAPE, bool)
    phantoms.write_seg(tmp_path / "a.dcm", _write_series(tmp_path / "a", 1), {**masks, "tumour": wide, "cyst": empty})
    phantoms.write_rtstruct(tmp_path / "b.dcm", _write_series(tmp_path / "b", 2), _trace({"Liver": masks["liver"]}))
    report = check_dataset(read_dataset(tmp_path))
    problems = {problem.code: problem for problem in report.problems}
    assert "liver in case a in 20 voxels; they count as tumour" in problems["masks-overlap"].cause
    assert "cyst" in problems["dicom-label-empty"].cause
    missing = [problem.cause for problem in report.problems if problem.code == "structure-without-file"]
    assert len(missing) == 2  # letter case does not make two structures of the liver
    assert all("1 of 2 cases" in cause for cause in missing)


def test_check_spellings_of_one_structure_are_told_with_a_command_that_joins_them(tmp_path: Path) -> None:
    masks = _draw()
    for number, name in enumerate(["GTV-1", "GTV-1", "gtv 1"]):
        headers = _write_series(tmp_path / f"p{number}", number)
        drawn = _trace({name: masks["tumour"], "liver": masks["liver"]})
        phantoms.write_rtstruct(tmp_path / f"p{number}.dcm", headers, drawn)
    dataset = read_dataset(tmp_path)
    (problem,) = [item for item in check_dataset(dataset).problems if item.severity == "error"]
    assert problem.code == "structure-spellings"
    assert "GTV-1 (2 case(s)), gtv 1 (1 case(s))" in problem.cause
    assert "--label background=0 --label GTV-1=1 --label liver=2" in problem.remedy
    report = check_dataset(dataset, {"background": 0, "GTV-1": 1, "liver": 2})
    assert not [item for item in report.problems if item.severity == "error"]
    assert all(len(case.masks or ()) == 2 for case in report.dataset.cases)


def test_check_seg_on_another_grid_is_resampled_only_when_asked_for(tmp_path: Path) -> None:
    headers = _write_series(tmp_path / "a" / "ct")
    coarse = AFFINE @ np.diag([2, 1, 1, 1.0])
    coarse[:3, 3] += AFFINE[:3, 0] / 2
    others = phantoms.write_image_series(tmp_path / "other", np.zeros((8, 15, 8)), coarse, "P")
    mask = np.ones((8, 15, 8), bool)
    path = phantoms.write_seg(tmp_path / "a" / "seg.dcm", others, {"liver": mask})
    shutil.rmtree(tmp_path / "other")
    header = dcmread(path)
    header.ReferencedSeriesSequence[0].SeriesInstanceUID = headers[0].SeriesInstanceUID
    header.save_as(path)
    dataset = read_dataset(tmp_path)
    assert "grid-differs" in _codes(check_dataset(dataset))
    asked = check_dataset(dataset, options=_options(resample_labels=True))
    assert "label-resampled" in _codes(asked)
    (case,) = dataset.cases
    grid = read_case_grid(tmp_path, case)
    label, _ = read_case_label(tmp_path, case, grid, _options(resample_labels=True))
    assert label.spatial_shape == SHAPE
    assert label.array.all()


def test_check_contours_that_are_none_or_leave_their_slice(tmp_path: Path) -> None:
    headers = _write_series(tmp_path / "a", 1)
    contours = _trace({"liver": _draw()["liver"]})["liver"]
    path = tmp_path / "a.dcm"
    phantoms.write_rtstruct(
        path, headers, {"liver": [contours[0] + np.linspace(0, 4, len(contours[0]))[:, None] * (0, 0, 1)]}
    )
    assert "contours-oblique" in _codes(check_dataset(read_dataset(tmp_path)))
    phantoms.write_rtstruct(path, headers, {"liver": [contour + np.array([0, 0, 1]) for contour in contours]})
    assert "contours-between-slices" in _codes(check_dataset(read_dataset(tmp_path)))
    phantoms.write_rtstruct(path, headers, {"liver": [contour - np.array([9, 0, 0]) for contour in contours]})
    assert "contours-outside" in _codes(check_dataset(read_dataset(tmp_path)))
    phantoms.write_rtstruct(path, headers, {"liver": [contours[0], contours[-1]]})
    assert "contours-with-gaps" in _codes(check_dataset(read_dataset(tmp_path)))
    phantoms.write_rtstruct(path, headers, {"liver": contours}, kind="OPEN_PLANAR")
    assert {"contours-not-closed", "dicom-label-empty"} <= _codes(check_dataset(read_dataset(tmp_path)))


def _plan(report: CheckReport) -> dict[str, object]:
    plan = plan_from_fingerprint(report.require_no_errors(), "data", "quick").plan.model_dump(mode="json")
    return {key: value for key, value in plan.items() if key not in ("dataset_name", "channel_names", "modalities")}


def test_check_damaged_objects_are_errors_and_show_no_field(tmp_path: Path) -> None:
    headers, masks = _write_series(tmp_path / "a", 1), _draw()
    path = phantoms.write_rtstruct(tmp_path / "a.dcm", headers, _trace(masks))
    header = dcmread(path)
    header.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"]
    header.save_as(path)
    report = check_dataset(read_dataset(tmp_path))
    assert "contours-damaged" in _codes(report)
    _require_no_secret(report)
    content = phantoms.write_seg(path, headers, masks).read_bytes()
    path.write_bytes(content[: len(content) - 150])
    report = check_dataset(read_dataset(tmp_path))
    assert {problem.code for problem in report.problems if problem.severity == "error"} & {
        "dicom-corrupt",
        "dicom-not-decoded",
    }
    _require_no_secret(report)


@pytest.mark.real_data
def test_plan_of_dicom_labels_is_that_of_nifti(tmp_path: Path, pipeline_data: Path) -> None:
    roots, plans, labels = phantoms.write_three_ways(pipeline_data / "Task04_Hippocampus", tmp_path, 3), {}, {}
    for kind, root in roots.items():
        report = check_dataset(read_dataset(root), {"background": 0, "Anterior": 1, "Posterior": 2})
        prepared, _ = prepare_dataset(report, tmp_path / f"{kind}_data")
        plans[kind], labels[kind] = _plan(report), _read_labels(prepared)
    for kind in ("seg", "rtstruct"):
        assert plans[kind] == plans["nifti"]
        for case, expected in labels["nifti"].items():
            assert np.array_equal(labels[kind][case], expected)
