"""One case of a corrected copy: values before and after for each kind of fault, in pictures and volumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy import ndimage

from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.files import compute_sha256, write_json

from .fixed_copies import (
    AFFINE,
    SECOND,
    codes_of,
    edit_label,
    fix,
    only_change,
    read_rows,
    smooth_bilinear,
    smooth_jpeg,
    smooth_jpeg_in_png,
)

# masks


@pytest.mark.parametrize("smooth", [smooth_jpeg, smooth_jpeg_in_png, smooth_bilinear])
def test_fix_dataset_smoothed_mask_of_a_picture_gets_its_two_values_back(
    png_folders: Path, picture_phantom: Callable, smooth: Callable[[Path], Path]
) -> None:
    path = smooth(png_folders / "labels" / f"{SECOND}.png")
    assert codes_of(png_folders) & {"label-lossy", "label-smoothed", "label-many-colours"}
    fixed = fix(png_folders)
    change = only_change(fixed)
    assert (change.kind, change.file) == ("mask-thresholded", f"labels/{path.name}")
    assert change.result == f"labels/{SECOND}.png"
    assert change.before["num_values"] > 2
    assert change.after == {
        "num_values": 2,
        "values": [0, 255],
        "least": 0,
        "greatest": 255,
    }
    rows = read_rows(fixed.out / change.result)
    assert rows.dtype == np.uint8
    assert rows.ndim == 2
    drawn = picture_phantom(1)[1]
    assert np.mean(rows != drawn) < 0.01
    assert codes_of(fixed.out) == set()
    assert not (fixed.out / "labels" / f"{SECOND}.jpg").exists()


def test_fix_dataset_exact_jpeg_of_a_mask_is_the_drawn_mask(png_folders: Path, picture_phantom: Callable) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    fixed = fix(png_folders)
    np.testing.assert_array_equal(read_rows(fixed.out / "labels" / f"{SECOND}.png"), picture_phantom(1)[1])


def test_fix_dataset_red_mask_saved_as_jpeg_becomes_value_1(tmp_path: Path) -> None:
    root = tmp_path / "red"
    generator = np.random.default_rng(0)
    disc = np.hypot(*(np.indices((64, 80)) - np.array([30, 40])[:, None, None])) < 18
    for name in ("a", "b"):
        for kind, rows in (("images", generator.integers(0, 255, (64, 80))), ("labels", disc * 1)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            drawn = rows.astype(np.uint8)
            if kind == "labels":
                drawn = np.array([[0, 0, 0], [220, 10, 10]], np.uint8)[rows]
            PillowImage.fromarray(drawn).save(root / kind / (f"{name}.jpg" if kind == "labels" else f"{name}.png"))
    fixed = fix(root)
    assert [change.kind for change in fixed.record.changes] == ["mask-thresholded"] * 2
    rows = read_rows(fixed.out / "labels/a.png")
    assert np.unique(rows).tolist() == [0, 1]
    assert np.mean(rows != disc) < 0.02
    assert fixed.copy.errors == ()


def test_fix_dataset_mask_of_another_scale_gets_the_declared_value(decathlon_folder: Path) -> None:
    content = json.loads((decathlon_folder / "dataset.json").read_text())
    write_json(decathlon_folder / "dataset.json", {**content, "labels": {"0": "background", "1": "organ"}})
    for path in sorted((decathlon_folder / "labelsTr").iterdir()):
        image = nib.load(path)
        inside = (np.asarray(image.dataobj) > 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(inside * (255 if SECOND in path.name else 1), image.affine), path)
    assert codes_of(decathlon_folder) == {"undeclared-value"}
    fixed = fix(decathlon_folder)
    change = only_change(fixed)
    assert change.kind == "mask-thresholded"
    assert change.before["values"] == [0, 255]
    assert change.after["values"] == [0, 1]
    label = np.asarray(nib.load(fixed.out / f"labelsTr/{SECOND}.nii.gz").dataobj)
    np.testing.assert_array_equal(label, inside_of(decathlon_folder / f"labelsTr/{SECOND}.nii.gz"))
    assert fixed.copy.errors == ()
    assert fixed.copy.dataset.labels == {"background": 0, "organ": 1}


def inside_of(path: Path) -> np.ndarray:
    return (np.asarray(nib.load(path).dataobj) > 0).astype(np.uint8)


def test_fix_dataset_interpolated_volume_of_a_mask_is_thresholded_at_half(
    tmp_path: Path, write_nifti: Callable
) -> None:
    root = tmp_path / "organ"
    generator = np.random.default_rng(3)
    for index, name in enumerate("ab"):
        field = ndimage.gaussian_filter(generator.normal(size=(24, 20, 16)), 3)
        mask = (field > np.quantile(field, 0.75)).astype(np.float32)
        stored = ndimage.zoom(ndimage.zoom(mask, 0.5, order=1), 2, order=1) if index else mask.astype(np.uint8)
        write_nifti(root / f"images/{name}.nii.gz", generator.normal(size=mask.shape).astype(np.float32))
        write_nifti(root / f"labels/{name}.nii.gz", stored.astype(np.float32) if index else stored)
    assert codes_of(root) == {"label-not-whole"}
    fixed = fix(root)
    change = only_change(fixed)
    assert change.file == "labels/b.nii.gz"
    assert change.after["values"] == [0, 1]
    written = nib.load(fixed.out / "labels/b.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), stored > 0.5)
    np.testing.assert_array_equal(written.affine, nib.load(root / "labels/b.nii.gz").affine)
    assert written.get_data_dtype() == np.uint8
    assert codes_of(fixed.out) == set()


def test_fix_dataset_smoothed_map_of_three_labels_is_left_with_the_reason(png_folders: Path) -> None:
    generator = np.random.default_rng(0)
    field = ndimage.gaussian_filter(generator.normal(size=(32, 48)), 4)
    rows = np.array([0, 128, 255], np.uint8)[np.digitize(field, np.quantile(field, [0.4, 0.7]))]
    path = png_folders / "labels" / f"{SECOND}.png"
    PillowImage.fromarray(rows).save(path)
    smooth_jpeg_in_png(path)
    fixed = fix(png_folders)
    assert fixed.record.changes == []
    (left,) = fixed.record.not_fixed
    assert (left.code, left.file) == ("label-many-colours", f"labels/{SECOND}.png") or left.code == "label-smoothed"
    assert "third value" in left.reason
    assert left.remedy
    assert compute_sha256(fixed.out / left.file) == compute_sha256(path)


def test_fix_dataset_threshold_is_refused_where_the_table_has_three_labels(png_folders: Path) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    fixed = fix(png_folders, labels={"background": 0, "shell": 128, "core": 255})
    (left,) = (one for one in fixed.record.not_fixed if one.code == "label-lossy")
    assert "the label table has 3" in left.reason


# values and headers


def test_fix_dataset_values_beside_whole_numbers_are_stored_as_whole_numbers(nifti_folders: Path) -> None:
    drawn = read_label_map(nifti_folders / f"labels/{SECOND}.nii.gz").array
    edit_label(nifti_folders, lambda array, affine: ((array * 0.988).astype(np.float32), affine))
    assert codes_of(nifti_folders) == {"label-rounded"}
    fixed = fix(nifti_folders)
    change = only_change(fixed)
    assert change.kind == "values-rounded"
    assert change.before["values"] == [0, 0.988, 1.976]
    assert change.after["values"] == [0, 1, 2]
    written = nib.load(fixed.out / change.result)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), drawn[0])
    assert codes_of(fixed.out) == set()


def shift(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[:3, 3] += 12
    return array, affine


def forget(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array, np.eye(4)


def mirror_header(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array, affine @ np.diag([-1.0, 1, 1, 1])


def round_header(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[:3, 3] += 0.01
    return array, affine


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (shift, "header-differs"),
        (forget, "label-without-geometry"),
        (mirror_header, "header-differs"),
        (round_header, "header-rounded"),
    ],
)
def test_fix_dataset_label_gets_the_header_of_its_image(nifti_folders: Path, spoil: Callable, code: str) -> None:
    path = edit_label(nifti_folders, spoil)
    spoiled, image = nib.load(path), nib.load(nifti_folders / f"images/{SECOND}.nii.gz")
    assert codes_of(nifti_folders) == {code}
    fixed = fix(nifti_folders)
    change = only_change(fixed)
    assert change.kind == "header-copied"
    np.testing.assert_allclose(change.before["affine"], spoiled.affine, atol=1e-6)
    np.testing.assert_allclose(change.after["affine"], image.affine, atol=1e-6)
    written = nib.load(fixed.out / change.result)
    np.testing.assert_array_equal(written.affine, image.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(spoiled.dataobj))
    assert codes_of(fixed.out) == set()


def flip(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same label map with its first axis the other way round: nothing moves in the world."""
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = array.shape[0] - 1
    return array[::-1], affine @ turn


def off_centre(nifti_folders: Path) -> np.ndarray:
    """Make the label map of the second case one that a flip changes."""

    def mark(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array[:3, 8, 5] = 1
        return array, affine

    return np.asarray(nib.load(edit_label(nifti_folders, mark)).dataobj)


def test_fix_dataset_flipped_label_is_left_to_the_user(nifti_folders: Path) -> None:
    off_centre(nifti_folders)
    edit_label(nifti_folders, flip)
    fixed = fix(nifti_folders)
    assert fixed.record.changes == []
    (left,) = fixed.record.not_fixed
    assert left.code == "header-differs"
    assert "--resample-labels" in left.reason
    assert "--copy-header" in left.reason


def test_fix_dataset_flipped_label_goes_where_its_header_says_or_keeps_its_order(nifti_folders: Path) -> None:
    drawn = off_centre(nifti_folders)
    edit_label(nifti_folders, flip)
    fixed = fix(nifti_folders, options=ReadOptions(resample_labels=True))
    assert only_change(fixed).kind == "label-resampled"
    np.testing.assert_array_equal(np.asarray(nib.load(fixed.out / f"labels/{SECOND}.nii.gz").dataobj), drawn)
    shutil.rmtree(fixed.out)
    fixed = fix(nifti_folders, options=ReadOptions(copy_header=True))
    assert only_change(fixed).kind == "header-copied"
    np.testing.assert_array_equal(np.asarray(nib.load(fixed.out / f"labels/{SECOND}.nii.gz").dataobj), drawn[::-1])
    assert codes_of(fixed.out) == set()


def crop(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = affine.copy()
    moved[:3, 3] = (affine @ [2, 1, 1, 1])[:3]
    return array[2:-1, 1:-2, 1:], moved


def test_fix_dataset_cropped_label_is_padded_to_its_image(nifti_folders: Path) -> None:
    drawn = read_label_map(nifti_folders / f"labels/{SECOND}.nii.gz").array[0]
    edit_label(nifti_folders, crop)
    fixed = fix(nifti_folders)
    change = only_change(fixed)
    assert change.kind == "label-placed"
    assert (change.before["shape"], change.after["shape"]) == ([9, 13, 9], [12, 16, 10])
    np.testing.assert_array_equal(np.asarray(nib.load(fixed.out / change.result).dataobj), drawn)
    assert codes_of(fixed.out) == set()


def coarsen(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    half = affine @ np.diag([2.0, 2, 2, 1])
    half[:3, 3] = (affine @ [0.5, 0.5, 0.5, 1])[:3]
    return array[::2, ::2, ::2], half


def test_fix_dataset_label_on_another_grid_is_resampled_only_when_asked_for(nifti_folders: Path) -> None:
    edit_label(nifti_folders, coarsen)
    fixed = fix(nifti_folders)
    assert [one.code for one in fixed.record.not_fixed] == ["grid-differs"]
    assert not fixed.record.changes
    shutil.rmtree(fixed.out)
    fixed = fix(nifti_folders, options=ReadOptions(resample_labels=True))
    assert only_change(fixed).kind == "label-resampled"
    assert nib.load(fixed.out / f"labels/{SECOND}.nii.gz").shape == (12, 16, 10)
    assert codes_of(fixed.out) == set()


def test_fix_dataset_two_faults_of_one_file_are_two_changes_with_one_result(nifti_folders: Path) -> None:
    edit_label(nifti_folders, lambda array, affine: ((array * 0.99).astype(np.float32), affine + np.eye(4, k=3) * 20))
    fixed = fix(nifti_folders)
    assert [change.kind for change in fixed.record.changes] == ["values-rounded", "header-copied"]
    assert len({change.result_sha256 for change in fixed.record.changes}) == 1
    assert codes_of(fixed.out) == set()


# images


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_fix_dataset_grey_saved_as_colours_becomes_one_channel(
    png_folders: Path, picture_phantom: Callable, suffix: str
) -> None:
    for path in sorted((png_folders / "images").iterdir()):
        with PillowImage.open(path) as picture:
            colours = picture.convert("RGB")
        path.unlink()
        colours.save(path.with_suffix(suffix), **({"quality": 95} if suffix == ".jpg" else {}))
    fixed = fix(png_folders)
    assert [change.kind for change in fixed.record.changes] == ["image-grey"] * 4
    assert fixed.record.changes[0].before["channels"] == 3
    assert fixed.record.changes[0].after == {"channels": 1}
    rows = read_rows(fixed.out / "images/case_01.png")
    assert rows.ndim == 2
    if suffix == ".png":
        np.testing.assert_array_equal(rows, picture_phantom(0)[0])
    assert fixed.copy.fingerprint is not None
    assert len(fixed.copy.fingerprint.channels) == 1
    assert fixed.copy.problems == ()


def test_fix_dataset_one_colour_image_among_grey_ones_is_mended(png_folders: Path, picture_phantom: Callable) -> None:
    path = png_folders / "images" / f"{SECOND}.png"
    PillowImage.fromarray(read_rows(path)).convert("RGB").save(path)
    assert "other-dimensions" in codes_of(png_folders)
    fixed = fix(png_folders)
    assert only_change(fixed).file == f"images/{SECOND}.png"
    np.testing.assert_array_equal(read_rows(fixed.out / f"images/{SECOND}.png"), picture_phantom(1)[0])
    assert codes_of(fixed.out) == set()


def test_fix_dataset_true_colours_stay_and_keep_their_grey_neighbours(png_folders: Path) -> None:
    for index, path in enumerate(sorted((png_folders / "images").iterdir())):
        rows = np.stack([read_rows(path)] * 3, axis=-1)
        rows[:8, :8, 0] += 40 * (index == 2)
        PillowImage.fromarray(rows).save(path)
    assert fix(png_folders).record.changes == []


def test_fix_dataset_grey_nifti_in_colours_becomes_one_channel(tmp_path: Path, volume_phantom: Callable) -> None:
    root = tmp_path / "rgb"
    for seed, name in enumerate("ab"):
        image, label = volume_phantom(seed)
        colours = np.zeros(image.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        for channel in "RGB":
            colours[channel] = image
        for kind, array in (("images", colours), ("labels", label)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, AFFINE), root / kind / f"{name}.nii.gz")
    assert "nifti-colours" in codes_of(root)
    fixed = fix(root)
    assert [change.kind for change in fixed.record.changes] == ["image-grey"] * 2
    written = nib.load(fixed.out / "images/b.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), volume_phantom(1)[0])
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
    assert codes_of(fixed.out) == set()
