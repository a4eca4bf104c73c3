"""Formats that stock MONAI reads otherwise or not at all go the whole way: checked, planned with copies, trained, predicted, evaluated."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile

sys.path.insert(0, str(Path(__file__).parents[1]))

import phantom_bundles as phantoms

import unet_pipeline
from unet_pipeline.dataset.image import read_label_map

SHORT = {"num_epochs": 1, "val_interval": 1, "iterations_per_epoch": 4, "warmup_iterations": 1}
AFFINE = np.diag([*phantoms.SPACING_MM, 1.0])
Writer = Callable[[Path, np.ndarray], Path]


def write_channels_tiff(path: Path, image: np.ndarray) -> Path:
    tifffile.imwrite(f"{path}.tif", np.stack([image, 255 - image]), imagej=True, metadata={"axes": "CYX"})
    return Path(f"{path}.tif")


def write_deep_colours(path: Path, image: np.ndarray) -> Path:
    colours = np.stack([image, 255 - image, image // 2], axis=-1).astype(np.uint16) * 200
    tifffile.imwrite(f"{path}.tif", colours, photometric="rgb", compression="lzw")
    return Path(f"{path}.tif")


def write_itk_vector(path: Path, image: np.ndarray) -> Path:
    made = SimpleITK.GetImageFromArray(np.stack([image, 255 - image], axis=-1), isVector=True)
    made.SetDirection((-1, 0, 0, -1))
    SimpleITK.WriteImage(made, f"{path}.nii.gz")
    return Path(f"{path}.nii.gz")


def write_flat(path: Path, image: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(image.T, AFFINE), f"{path}.nii.gz")
    return Path(f"{path}.nii.gz")


@pytest.mark.parametrize("write", [write_flat, write_channels_tiff, write_deep_colours, write_itk_vector])
def test_whole_way_2d_images_with_channels(tmp_path: Path, write: Writer) -> None:
    root = tmp_path / "cells"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for seed in range(5):
        picture, label = phantoms.draw_cell(seed)
        image = write(root / "images" / f"cell_{seed}", picture)
        if image.suffix == ".gz":
            affine = nib.load(image).affine
            nib.save(nib.Nifti1Image((label // 255).T, affine), root / "labels" / image.name)
        else:
            tifffile.imwrite(root / "labels" / image.name, label // 255)
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **phantoms.SMALL_2D)
    assert (tmp_path / "bundle_data").exists() == (write is not write_flat)
    phantoms.silently(unet_pipeline.train, bundle, overrides=SHORT)
    validation = phantoms.silently(unet_pipeline.evaluate, bundle)
    predicted = phantoms.silently(unet_pipeline.predict, bundle, root / "images", tmp_path / "out")
    case = validation.rows["case"][0]
    of_copies = read_label_map(validation.predictions[0] / f"{case}.nii.gz").array
    assert of_copies.shape[1:] == phantoms.PICTURE_SIZE
    np.testing.assert_array_equal(read_label_map(tmp_path / "out" / f"{case}.nii.gz").array, of_copies)
    assert len(predicted.written) == 5


def write_misnamed(path: Path, image: np.ndarray) -> Path:
    path = Path(f"{path}.nii")
    path.write_bytes(gzip.compress(nib.Nifti1Image(image, AFFINE).to_bytes()))
    return path


def write_pair(path: Path, image: np.ndarray) -> Path:
    nib.save(nib.Nifti1Pair(image, AFFINE), f"{path}.img")
    return Path(f"{path}.hdr")


def write_second(path: Path, image: np.ndarray) -> Path:
    nib.save(nib.Nifti2Image(image, AFFINE), f"{path}.nii.gz")
    return Path(f"{path}.nii.gz")


def write_fifth(path: Path, image: np.ndarray) -> Path:
    made = nib.Nifti1Image(np.stack([image, 100 - image], axis=-1)[:, :, :, None], AFFINE)
    made.header["intent_code"] = 1007
    nib.save(made, f"{path}.nii.gz")
    return Path(f"{path}.nii.gz")


def write_rgb(path: Path, image: np.ndarray) -> Path:
    grey = np.clip(image, 0, 255).astype(np.uint8)
    colours = np.stack([grey, 255 - grey, grey // 2], axis=-1).copy()
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours.view(kind)[..., 0], AFFINE), f"{path}.nii.gz")
    return Path(f"{path}.nii.gz")


@pytest.mark.parametrize("write", [write_misnamed, write_pair, write_second, write_fifth, write_rgb])
def test_whole_way_volumes_with_cropped_labels_beside_whole_numbers(tmp_path: Path, write: Writer) -> None:
    """The label maps are cropped by whole voxels and stored with values a little beside whole numbers."""
    root = tmp_path / "organs"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    moved = AFFINE.copy()
    moved[:3, 3] = moved[:3, :3] @ [1, 1, 0]
    for seed in range(5):
        image, label = phantoms.draw_organ(seed)
        write(root / "images" / f"organ_{seed}", image)
        phantoms.write_volume(
            root / "labels" / f"organ_{seed}.nii.gz", (label[1:, 1:-1] * 0.99).astype(np.float32), moved
        )
    bundle = phantoms.plan_small(root, tmp_path / "bundle", **phantoms.SMALL_3D)
    copies = sorted((tmp_path / "bundle_data" / "labels").iterdir())
    stored = np.asarray(nib.load(copies[0]).dataobj)
    _, label = phantoms.draw_organ(0)
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, label)
    phantoms.silently(unet_pipeline.train, bundle, overrides=SHORT)
    validation = phantoms.silently(unet_pipeline.evaluate, bundle)
    assert validation.rows["num_voxels_reference"].min() > 0
    phantoms.silently(unet_pipeline.predict, bundle, root / "images", tmp_path / "out")
    evaluation = phantoms.silently(
        unet_pipeline.evaluate, bundle, root, predictions=tmp_path / "out", out=tmp_path / "measured"
    )
    assert any("rounded to 0, 1, 2" in note for note in evaluation.record.notes)
    assert any("padded to the image's grid" in note for note in evaluation.record.notes)
    case = str(evaluation.rows["case"][0])
    measured = evaluation.rows[evaluation.rows["case"] == case]
    assert measured["dice"].tolist() == validation.rows[validation.rows["case"] == case]["dice"].tolist()
