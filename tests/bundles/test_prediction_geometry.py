"""Predictions lie on the input's own grid, however the image is stored."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
from PIL import Image as PillowImage
from scipy import ndimage

import unet_pipeline
from unet_pipeline.evaluation.metrics import compute_dice

from .conftest import TrainedBundle

SEED = 99  # a phantom that no training saw
AFFINE = np.diag([*phantoms.SPACING_MM, 1.0])


def predict_volume(bundle: TrainedBundle, folder: Path, array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Label map of one image; its shape and affine must be the image's to the last bit."""
    image = phantoms.write_volume(folder / "in" / "image.nii.gz", array, affine)
    phantoms.silently(unet_pipeline.predict, bundle.root, image, folder / "out")
    result = nib.load(folder / "out" / "image.nii.gz")
    stored = nib.load(image)
    assert result.shape == stored.shape
    np.testing.assert_array_equal(result.affine, stored.affine)
    assert result.header["sform_code"] == stored.header["sform_code"]
    assert result.header["qform_code"] == stored.header["qform_code"]
    assert result.get_data_dtype() == np.uint8
    return np.asarray(result.dataobj)


def score(first: np.ndarray, second: np.ndarray) -> float:
    return min(compute_dice(first == value, second == value) for value in (1, 2))


@pytest.fixture
def upright(bundle_3d: TrainedBundle, tmp_path: Path) -> np.ndarray:
    image, label = phantoms.draw_organ(SEED)
    prediction = predict_volume(bundle_3d, tmp_path / "upright", image, AFFINE)
    assert score(prediction, label) > 0.85, "the phantom network must work before its geometry can be judged"
    return prediction


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_predict_flipped_copy_gives_the_same_voxels_in_the_world(
    bundle_3d: TrainedBundle, upright: np.ndarray, tmp_path: Path, axes: tuple[int, ...]
) -> None:
    image, _ = phantoms.draw_organ(SEED)
    affine = AFFINE.copy()
    for axis in axes:  # voxel 0 is now at the other end, and the step goes back
        affine[:3, 3] += affine[:3, axis] * (image.shape[axis] - 1)
        affine[:3, axis] *= -1
    flipped = predict_volume(bundle_3d, tmp_path, np.flip(image, axes).copy(), affine)
    np.testing.assert_array_equal(np.flip(flipped, axes), upright)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_predict_permuted_copy_gives_the_same_voxels_in_the_world(
    bundle_3d: TrainedBundle, upright: np.ndarray, tmp_path: Path, order: tuple[int, ...]
) -> None:
    image, _ = phantoms.draw_organ(SEED)
    affine = AFFINE[:, [*order, 3]]
    permuted = predict_volume(bundle_3d, tmp_path, image.transpose(order).copy(), affine)
    np.testing.assert_array_equal(permuted.transpose(np.argsort(order)), upright)


def rotate(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def test_predict_oblique_header_gives_the_same_voxels(
    bundle_3d: TrainedBundle, upright: np.ndarray, tmp_path: Path
) -> None:
    image, _ = phantoms.draw_organ(SEED)
    oblique = predict_volume(bundle_3d, tmp_path, image, rotate(17) @ AFFINE)
    assert score(oblique, upright) > 0.99


def resample(
    volume: np.ndarray, source: np.ndarray, target: np.ndarray, shape: tuple[int, ...], order: int
) -> np.ndarray:
    to_source = np.linalg.inv(source) @ target
    return ndimage.affine_transform(
        volume, to_source[:3, :3], to_source[:3, 3], output_shape=shape, order=order, mode="nearest"
    )


def test_predict_oblique_copy_gives_the_same_segmentation_in_the_world(
    bundle_3d: TrainedBundle, upright: np.ndarray, tmp_path: Path
) -> None:
    image, _ = phantoms.draw_organ(SEED)
    centre = AFFINE @ [*((np.array(image.shape) - 1) / 2), 1]
    turned = np.eye(4)
    turned[:3, 3] = centre[:3]
    target = turned @ rotate(20) @ np.linalg.inv(turned) @ AFFINE
    copy = resample(image, AFFINE, target, image.shape, order=1)
    oblique = predict_volume(bundle_3d, tmp_path, copy, target)
    assert score(oblique, resample(upright, AFFINE, target, image.shape, order=0)) > 0.85


def test_predict_anisotropic_copy_gives_the_same_segmentation_in_the_world(
    bundle_3d: TrainedBundle, upright: np.ndarray, tmp_path: Path
) -> None:
    image, _ = phantoms.draw_organ(SEED)
    target = AFFINE @ np.diag([0.6, 0.6, 1.8, 1.0])
    shape = tuple(round(size / factor) for size, factor in zip(image.shape, (0.6, 0.6, 1.8), strict=True))
    copy = resample(image, AFFINE, target, shape, order=1)
    anisotropic = predict_volume(bundle_3d, tmp_path, copy, target)
    assert score(anisotropic, resample(upright, AFFINE, target, shape, order=0)) > 0.85


def predict_picture(bundle: TrainedBundle, folder: Path, rows: np.ndarray) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(rows).save(folder / "cell.png")
    phantoms.silently(unet_pipeline.predict, bundle.root, folder / "cell.png", folder / "out")
    return np.asarray(PillowImage.open(folder / "out" / "cell.png"))


@pytest.mark.parametrize("size", [(72, 52), (41, 97), (48, 48)])
def test_predict_picture_of_any_shape_lies_where_the_cell_is(
    bundle_2d: TrainedBundle, tmp_path: Path, size: tuple[int, int]
) -> None:
    picture, mask = phantoms.draw_cell(SEED, size)
    prediction = predict_picture(bundle_2d, tmp_path, picture)
    assert prediction.shape == picture.shape == size[::-1]
    assert prediction.dtype == np.uint8
    assert set(np.unique(prediction)) == {0, 255}
    assert compute_dice(prediction == 255, mask == 255) > 0.85


def test_predict_flipped_picture_gives_the_flipped_segmentation(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    picture, _ = phantoms.draw_cell(SEED)
    upright = predict_picture(bundle_2d, tmp_path / "upright", picture)
    flipped = predict_picture(bundle_2d, tmp_path / "flipped", np.ascontiguousarray(picture[:, ::-1]))
    assert compute_dice(flipped[:, ::-1] == 255, upright == 255) > 0.9


def test_predict_mirrored_flip_commutes_exactly(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    """With mirroring, flip-predict-flip equals predict: the average runs over the same copies (48x48 is one window)."""
    picture, _ = phantoms.draw_cell(SEED, (48, 48))
    results = []
    for name, rows in (("a", picture), ("b", np.ascontiguousarray(picture[::-1]))):
        folder = tmp_path / name
        folder.mkdir()
        PillowImage.fromarray(rows).save(folder / "cell.png")
        phantoms.silently(unet_pipeline.predict, bundle_2d.root, folder / "cell.png", folder / "out", mirror=True)
        results.append(np.asarray(PillowImage.open(folder / "out" / "cell.png")))
    assert (results[1][::-1] == results[0]).mean() > 0.999
