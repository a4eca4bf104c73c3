"""What of an input folder is not predicted is said, and nothing is said of what is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from unet_pipeline.prediction.inputs import list_inputs
from unet_pipeline.prediction.passed_over import list_passed_over

from . import dicom_phantoms as dicom

VOLUME = np.zeros((3, 3, 3), np.int16)


def look(folder: Path) -> list[str]:
    return list_passed_over(folder, list_inputs(folder))


def test_list_passed_over_files_beside_the_images_are_no_news(tmp_path: Path, write_nifti: Callable) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    write_nifti(tmp_path / "b.img", VOLUME)
    for name in ("readme.txt", "cases.csv", "dataset.json", ".DS_Store", "a.bval"):
        (tmp_path / name).touch()
    assert look(tmp_path) == []
    assert list_passed_over(tmp_path / "a.nii.gz", list_inputs(tmp_path / "a.nii.gz")) == []


def test_list_passed_over_other_formats_and_folders_are_named(tmp_path: Path, write_nifti: Callable) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    for name in ("c.bmp", "d.webp"):
        (tmp_path / name).touch()
    write_nifti(tmp_path / "second" / "b.nii.gz", VOLUME)
    assert look(tmp_path) == [
        "left out 2 file(s) in no known format: c.bmp, d.webp",
        "left out 1 folder(s) with images, which are to be given one by one: second",
    ]


def test_list_passed_over_many_are_counted(tmp_path: Path, write_nifti: Callable) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME)
    for number in range(8):
        (tmp_path / f"{number}.bmp").touch()
    assert look(tmp_path) == ["left out 8 file(s) in no known format: 0.bmp, 1.bmp, 2.bmp, 3.bmp, 4.bmp and 3 more"]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_list_passed_over_slices_that_a_dicomdir_names_and_that_are_gone(tmp_path: Path, lost: int) -> None:
    series = dicom.write_series(tmp_path / "series", np.zeros((5, 4, 4), np.int16))
    medium = FileSet()
    for path in sorted(series.iterdir()):
        header = pydicom.dcmread(path)
        header.StudyID, header.SeriesNumber, header.InstanceNumber = "1", 1, header.InstanceNumber + 1
        header.StudyDate, header.StudyTime = "20200101", "000000"
        medium.add(header)
    medium.write(tmp_path / "medium")
    files = sorted(path for path in (tmp_path / "medium").rglob("*") if path.is_file() and path.name != "DICOMDIR")
    for path in files[:lost]:
        path.unlink()
    for place in (tmp_path / "medium", tmp_path / "medium" / "DICOMDIR"):
        lines = look(place)
        assert len(lines) == (lost > 0)
        if lost:
            assert f"warning: DICOMDIR names {lost} file(s) that are not there: PT000000/" in lines[0]
