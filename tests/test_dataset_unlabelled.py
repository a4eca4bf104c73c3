"""Images without labels can be checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset


def test_check_images_without_labels_are_read_and_refused_for_training(png_folders: Path) -> None:
    for path in (png_folders / "images").iterdir():
        path.rename(png_folders / path.name)
    shutil.rmtree(png_folders / "images")
    shutil.rmtree(png_folders / "labels")
    (png_folders / "case_02.png").write_bytes(b"no picture")
    report = check_dataset(read_dataset(png_folders))
    assert report.dataset.layout == "images without labels"
    assert [(problem.file, problem.code) for problem in report.problems][1] == ("dataset", "no-labels")
    assert report.problems[0].file == "case_02.png"
    assert report.fingerprint is None
    assert [record.path for record in report.manifest] == ["case_01.png", "case_03.png", "case_04.png"]


@pytest.mark.real_data
def test_check_real_series_are_read_one_by_one(pipeline_data: Path) -> None:
    report = check_dataset(read_dataset(pipeline_data / "dicom"))
    assert [case.name for case in report.dataset.cases] == ["hippocampus_crop_mr", "t1_post_mr"]
    assert [problem.code for problem in report.errors] == ["no-labels"]
    assert len(report.manifest) == sum(len(list(folder.iterdir())) for folder in (pipeline_data / "dicom").iterdir())


@pytest.mark.real_data
def test_check_one_series_is_a_case(pipeline_data: Path) -> None:
    (case,) = read_dataset(pipeline_data / "dicom" / "t1_post_mr").cases
    assert case.name == "t1_post_mr"
