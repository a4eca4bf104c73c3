"""Copies for stock MONAI: the same voxels at the same places, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image as PillowImage

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.image import read_image
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.prepare import prepare_dataset, write_split_instances
from unet_pipeline.errors import DatasetError


def build_dataset(root: Path, images: list[str], labels: list[str]) -> Dataset:
    cases = tuple(
        Case(f"case_{number}", Path(image), Path(label))
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    return Dataset(root=root, layout="test", cases=cases)


def check(dataset: Dataset, **options: bool) -> CheckReport:
    report = check_dataset(dataset, options=ReadOptions(**options))
    report.require_no_errors()
    return report


def test_prepare_dataset_tiff_becomes_png_with_the_same_pixels(tmp_path: Path, picture_phantom: Callable) -> None:
    root = tmp_path / "tiffs"
    root.mkdir()
    for seed in range(2):
        image, label = picture_phantom(seed)
        PillowImage.fromarray(image).save(root / f"image_{seed}.tif")
        PillowImage.fromarray(label).save(root / f"label_{seed}.tif")
    report = check(build_dataset(root, ["image_0.tif", "image_1.tif"], ["label_0.tif", "label_1.tif"]))
    assert report.needs_preparation == "has .tif files"
    dataset, prepared = prepare_dataset(report, tmp_path / "copies")
    assert [case.image.as_posix() for case in dataset.cases] == ["images/case_0.png", "images/case_1.png"]
    assert [copy.case for copy in prepared] == ["case_0", "case_1"]
    image, label = picture_phantom(1)
    np.testing.assert_array_equal(read_image(tmp_path / "copies/images/case_1.png").array[0], image.T)
    np.testing.assert_array_equal(read_image(tmp_path / "copies/labels/case_1.png").array[0], label.T)


def test_prepare_dataset_instance_map_goes_along(tmp_path: Path, picture_phantom: Callable) -> None:
    root = tmp_path / "tiffs"
    for folder in ("images", "labels", "instances"):
        (root / folder).mkdir(parents=True)
    for number in range(2):
        image, label = picture_phantom(number)
        PillowImage.fromarray(image).save(root / "images" / f"cell_{number}.tif")
        PillowImage.fromarray(label).save(root / "labels" / f"cell_{number}.tif")
    instances = (label > 0).astype(np.uint16) * 700
    instances[:, instances.shape[1] // 2 :] //= 7
    PillowImage.fromarray(instances).save(root / "instances" / "cell_1.tif")  # the first case has none
    images, labels = ([f"{folder}/cell_{number}.tif" for number in range(2)] for folder in ("images", "labels"))
    dataset, _ = prepare_dataset(check(build_dataset(root, images, labels)), tmp_path / "copies")
    found = [find_instances(tmp_path / "copies" / case.require_label()) for case in dataset.cases]
    assert found == [None, tmp_path / "copies" / "instances" / "case_1.png"]
    copy = read_image(tmp_path / "copies" / "instances" / "case_1.png")
    np.testing.assert_array_equal(copy.array[0], instances.T)
    assert set(np.unique(copy.array)) == {0, 100, 700}


def test_prepare_dataset_instance_map_on_another_grid_is_refused(png_folders: Path, tmp_path: Path) -> None:
    (png_folders / "instances").mkdir()
    PillowImage.fromarray(np.zeros((5, 4), np.uint8)).save(png_folders / "instances" / "case_01.png")
    dataset = build_dataset(png_folders, ["images/case_01.png"], ["labels/case_01.png"])
    with pytest.raises(DatasetError, match=r"instances/case_01\.png"):
        prepare_dataset(check(dataset), tmp_path / "copies")


def test_prepare_dataset_mha_becomes_nifti_at_the_same_place(tmp_path: Path, volume_phantom: Callable) -> None:
    root = tmp_path / "volumes"
    root.mkdir()
    image, label = volume_phantom()
    for name, array in (("image.mha", image), ("label.nrrd", label)):
        volume = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
        volume.SetSpacing((0.5, 1.0, 2.0))
        volume.SetOrigin((10, -20, 30))
        volume.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        SimpleITK.WriteImage(volume, str(root / name))
    report = check(build_dataset(root, ["image.mha"], ["label.nrrd"]))
    prepare_dataset(report, tmp_path / "copies")
    original = read_image(root / "image.mha")
    for folder, expected in (("images", image), ("labels", label)):
        copy = read_image(tmp_path / "copies" / folder / "case_0.nii.gz")
        np.testing.assert_array_equal(copy.array[0], expected)
        np.testing.assert_allclose(copy.affine, original.affine, atol=1e-5)
        assert copy.notes == ()


def test_prepare_dataset_files_per_channel_become_one(
    nifti_folders: Path, write_nifti: Callable, tmp_path: Path
) -> None:
    second = write_nifti(nifti_folders / "images" / "case_01_t2.nii.gz", np.full((12, 16, 10), 3, np.int16))
    second_array = np.asarray(nib.load(second).dataobj).copy()
    second_array[0, 0, 0] = 4  # not constant
    write_nifti(second, second_array)
    dataset = build_dataset(nifti_folders, ["images/case_01.nii.gz"], ["labels/case_01.nii.gz"])
    case = replace(dataset.cases[0], further_channels=(Path("images/case_01_t2.nii.gz"),))
    prepare_dataset(check(replace(dataset, cases=(case,))), tmp_path / "copies")
    copy = read_image(tmp_path / "copies/images/case_0.nii.gz")
    assert copy.array.shape == (2, 12, 16, 10)
    np.testing.assert_array_equal(copy.array[1], second_array)


def test_prepare_dataset_copied_header_puts_the_label_on_the_image(nifti_folders: Path, tmp_path: Path) -> None:
    path = nifti_folders / "labels" / "case_01.nii.gz"
    label = nib.load(path)
    moved = label.affine.copy()
    moved[:3, 3] += 25
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), moved), path)
    dataset = build_dataset(nifti_folders, ["images/case_01.nii.gz"], ["labels/case_01.nii.gz"])
    assert check_dataset(dataset).errors
    report = check(dataset, copy_header=True)
    assert "grid" in report.needs_preparation
    prepare_dataset(report, tmp_path / "copies")
    copy = read_image(tmp_path / "copies/labels/case_0.nii.gz")
    np.testing.assert_allclose(copy.affine, read_image(nifti_folders / "images/case_01.nii.gz").affine, atol=1e-5)
    np.testing.assert_array_equal(copy.array[0], np.asarray(label.dataobj))


def test_prepare_dataset_resampled_label_has_the_shape_of_the_image(
    nifti_folders: Path, tmp_path: Path, volume_phantom: Callable
) -> None:
    path = nifti_folders / "labels" / "case_01.nii.gz"
    _, label = volume_phantom()
    label = label.repeat(2, axis=0)
    affine = nib.load(nifti_folders / "images/case_01.nii.gz").affine @ np.diag([0.5, 1, 1, 1])
    affine[0, 3] -= 0.25 * 0.8  # half a new voxel, so that the world box is the same
    nib.save(nib.Nifti1Image(label, affine), path)
    dataset = build_dataset(nifti_folders, ["images/case_01.nii.gz"], ["labels/case_01.nii.gz"])
    assert check_dataset(dataset).errors
    prepare_dataset(check(dataset, resample_labels=True), tmp_path / "copies")
    copy = read_image(tmp_path / "copies/labels/case_0.nii.gz")
    np.testing.assert_array_equal(copy.array[0], label[::2])


def test_prepare_dataset_folder_in_use_is_left_alone(png_folders: Path, tmp_path: Path) -> None:
    target = tmp_path / "copies"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    dataset = build_dataset(png_folders, ["images/case_01.png"], ["labels/case_01.png"])
    with pytest.raises(DatasetError, match="copies exists already"):
        prepare_dataset(check(dataset), target)
    assert [path.name for path in target.iterdir()] == ["mine.txt"]


def test_prepare_dataset_failure_leaves_nothing(png_folders: Path, tmp_path: Path) -> None:
    dataset = build_dataset(
        png_folders, ["images/case_01.png", "images/case_02.png"], ["labels/case_01.png", "labels/case_02.png"]
    )
    report = check(dataset)
    (png_folders / "images/case_02.png").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="case_02"):
        prepare_dataset(report, tmp_path / "copies")
    assert sorted(tmp_path.iterdir()) == before


def test_write_split_instances_mask_and_map_of_a_volume_lie_where_they_lay(tmp_path: Path) -> None:
    array = np.zeros((1, 4, 5, 3), np.int32)
    array[0, 0], array[0, 2, 1:3] = 7, 70_000
    instances = MedicalImage(array, np.diag([2.0, 3.0, 4.0, 1.0]), (2.0, 3.0, 4.0))
    path = write_split_instances(Case("c", Path("c.nrrd"), Path("c.png")), instances, tmp_path, 9)
    assert path == tmp_path / "labels" / "c.nii.gz"
    mask, kept = read_image(path), read_image(find_instances(path))
    np.testing.assert_array_equal(mask.array, 9 * (array > 0))
    np.testing.assert_array_equal(kept.array, array)
    assert np.allclose(kept.affine, instances.affine)
    assert np.allclose(mask.affine, instances.affine)
