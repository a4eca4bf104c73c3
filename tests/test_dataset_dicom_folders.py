"""Series below a folder at any depth, single pictures, and their names."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.case_reading import read_case_label
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.dicom_folders import find_series, list_dicom_files, name_by_first_folder, name_series
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import ImageFileError
from unet_pipeline.prediction.inputs import list_inputs

from . import dicom_phantoms as phantoms

VOLUME = np.random.default_rng(0).integers(0, 1000, (6, 4, 5)).astype(np.int16)


def write_x_ray(path: Path, seed: int = 0, series: str | None = None) -> Path:
    rows = np.random.default_rng(seed).integers(0, 4000, (9, 7)).astype(np.uint16)
    header = phantoms.build_header(rows, None, uid=series or f"1.2.{seed + 10}")
    header.Modality = "DX"
    return phantoms.save(header, path)


def write_label(path: Path, shape: tuple[int, ...]) -> None:
    label = np.zeros(shape, np.uint8)
    label[1:3, 1:3] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    spacing = (-0.5, -0.75, 2.0) if len(shape) == 3 else (0.5, 0.75, 1.0)
    affine = np.diag([*spacing, 1.0])
    if len(shape) == 3:
        affine[:3, 3] = (-10, 20, 30)
    nib.save(nib.Nifti1Image(label, affine), path)


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["p1", "p2"], ["p1", "p2"]),
        (["p1/T1", "p2/T1"], ["p1_T1", "p2_T1"]),
        (["p1/s1/T1", "p2/s1/T1"], ["p1_s1_T1", "p2_s1_T1"]),
        (["p1/s1/T1", "p1/s1/T2", "p1/s2/deep/er/T1"], ["p1_s1_T1", "p1_s1_T2", "p1_s2_deep_er_T1"]),
        (["p1", "p1/more"], ["p1", "p1_more"]),
    ],
)
def test_list_inputs_series_at_any_depth_are_named_by_their_path(
    tmp_path: Path, folders: list[str], names: list[str]
) -> None:
    for folder in folders:
        phantoms.write_series(tmp_path / folder, VOLUME)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 20)
    (tmp_path / ".git").mkdir()
    inputs = list_inputs(tmp_path)
    assert [item.name for item in inputs] == names
    for item in inputs:
        assert all(file.is_file() for file in item.list_files())
        assert item.read().spatial_shape == VOLUME.shape
    assert [case.name for case in read_dataset(tmp_path).cases] == names


def test_list_inputs_directory_file_stands_for_its_folder(tmp_path: Path) -> None:
    phantoms.write_series(tmp_path / "IMG" / "a", VOLUME)
    directory = tmp_path / "DICOMDIR"
    directory.write_bytes(b"\0" * 128 + b"DICM")
    assert [item.name for item in list_inputs(directory)] == ["IMG_a"]


def test_list_inputs_x_rays_in_one_folder_are_images_of_their_own(tmp_path: Path) -> None:
    for seed, name in enumerate(("b.dcm", "a.dcm", "1.2.840.5")):
        write_x_ray(tmp_path / name, seed)
    inputs = list_inputs(tmp_path)
    assert [item.name for item in inputs] == ["1.2.840.5", "a", "b"]
    assert [item.read().spatial_shape for item in inputs] == [(7, 9)] * 3


def test_read_image_two_pictures_of_one_series_are_not_taken_for_one(tmp_path: Path) -> None:
    for seed in range(2):
        write_x_ray(tmp_path / "a" / f"view{seed}.dcm", seed, series="1.2.3")
    with pytest.raises(ImageFileError, match=r"holds 2 pictures without position.*view0\.dcm, view1\.dcm"):
        read_image(tmp_path / "a")
    assert [path.name for path in find_series(tmp_path / "a")] == ["view0.dcm", "view1.dcm"]


def test_read_image_volume_whose_first_slice_lacks_its_position_is_refused(tmp_path: Path) -> None:
    folder = phantoms.write_series(tmp_path / "a", VOLUME)
    for path in folder.iterdir():
        phantoms.edit(path, Modality="OT")
    phantoms.edit(folder / "0000.dcm", ImagePositionPatient=None)
    with pytest.raises(ImageFileError, match=r"0000\.dcm lacks ImagePositionPatient"):
        read_image(folder, "a")


@pytest.mark.parametrize("below", ["", "T1", "study/T1"])
@pytest.mark.parametrize("named", ["patient", "path"])
def test_read_dataset_series_below_images_pair_with_their_labels(tmp_path: Path, below: str, named: str) -> None:
    for number in range(3):
        phantoms.write_series(tmp_path / "images" / f"p{number}" / below, VOLUME + number, uid=f"1.{number}")
        name = "_".join([f"p{number}", *below.split("/")]).rstrip("_") if named == "path" else f"p{number}"
        write_label(tmp_path / "labels" / f"{name}.nii.gz", VOLUME.shape)
    report = check_dataset(read_dataset(tmp_path))
    assert report.errors == ()
    assert len(report.require_no_errors().cases) == 3
    assert report.needs_preparation == "has DICOM files"


def test_read_dataset_x_rays_as_files_in_images_are_a_case_each(tmp_path: Path) -> None:
    for seed in range(3):
        write_x_ray(tmp_path / "images" / f"chest{seed}.dcm", seed)
        write_label(tmp_path / "labels" / f"chest{seed}.nii.gz", (7, 9))
    report = check_dataset(read_dataset(tmp_path))
    assert report.errors == ()
    assert [case.name for case in report.dataset.cases] == ["chest0", "chest1", "chest2"]
    assert report.require_no_errors().modalities == ("DX",)


def test_read_dataset_x_rays_take_masks_that_are_plain_pictures(tmp_path: Path) -> None:
    for seed in range(3):
        write_x_ray(tmp_path / "images" / f"chest{seed}.dcm", seed)
        rows = np.zeros((9, 7), np.uint8)
        rows[2:5, 1:3] = 1
        (tmp_path / "labels").mkdir(exist_ok=True)
        PillowImage.fromarray(rows).save(tmp_path / "labels" / f"chest{seed}.png")
    report = check_dataset(read_dataset(tmp_path))
    assert report.errors == ()
    notes = [problem for problem in report.problems if problem.code == "label-without-pixel-size"]
    assert len(notes) == 3
    assert "states no pixel size; its image's is used" in str(notes[0])
    case = report.dataset.cases[0]
    label, changed = read_case_label(tmp_path, case, read_image(tmp_path / case.image), ReadOptions())
    assert changed
    assert label.spacing_mm == (0.5, 0.75)


def test_name_by_first_folder_two_series_of_a_patient_keep_their_paths() -> None:
    root = Path("images")
    series = [root / "p1" / "T1", root / "p1" / "T2", root / "p2" / "s" / "T1"]
    assert list(name_by_first_folder(root, series).values()) == ["p1_T1", "p1_T2", "p2"]
    assert name_series(root, root / "p1" / "T1") == "p1_T1"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_find_series_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    phantoms.write_series(tmp_path / "a", VOLUME)
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert find_series(tmp_path) == [tmp_path / "a"]
    assert len(list_dicom_files(tmp_path / "a")) == 5


@pytest.mark.parametrize(("modality", "channel"), [("CT", "CT"), ("MR", "channel_0")])
def test_check_channel_of_ct_is_named_by_its_headers(tmp_path: Path, modality: str, channel: str) -> None:
    volume = np.arange(16 * 16 * 8, dtype=np.int16).reshape(16, 16, 8)
    for number in range(2):
        folder = phantoms.write_series(tmp_path / "images" / f"p{number}", volume + number)
        for path in folder.iterdir():
            phantoms.edit(path, Modality=modality)
        image = read_image(folder)
        label = nib.Nifti1Image((volume > 1000).astype(np.uint8), image.affine)
        (tmp_path / "labels").mkdir(exist_ok=True)
        nib.save(label, tmp_path / "labels" / f"p{number}.nii.gz")
    assert check_dataset(read_dataset(tmp_path)).require_no_errors().channels == (channel,)
