"""`check --fix`: a corrected copy says what the source meant, lists every change, and nothing of the source is touched."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from scipy import ndimage

import pipeline
from pipeline.dataset.check import PREPARED, check_dataset
from pipeline.dataset.fix import FixedDataset, fix_dataset
from pipeline.dataset.fix_record import Change
from pipeline.dataset.image import read_label_map
from pipeline.dataset.layouts import read_dataset
from pipeline.dataset.options import ReadOptions
from pipeline.dataset.problems import ERROR
from pipeline.errors import DatasetError, FileError
from pipeline.files import compute_sha256, write_json

AFFINE = np.array([[0.8, 0, 0, -10], [0, 1, 0, 5], [0, 0, 1.5, 7], [0, 0, 0, 1.0]])
SECOND = "case_02"


def list_files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): compute_sha256(path) for path in sorted(root.rglob("*")) if path.is_file()
    }


def fix(root: Path, **arguments: Any) -> FixedDataset:
    """The copy beside the source, which is the same before and after; every change has the hashes of its files."""
    before = list_files(root)
    out = root.with_name(f"{root.name}_fixed")
    fixed = fix_dataset(root, out, **arguments)
    assert list_files(root) == before
    written = list_files(out)
    assert json.loads((out / "fixes.json").read_text())["changes"] == [
        json.loads(change.model_dump_json()) for change in fixed.record.changes
    ]
    for change in fixed.record.changes:
        if change.file in before:
            assert change.source_sha256 == before[change.file]
        if change.result:
            assert change.result_sha256 == written[change.result]
    assert not list(root.parent.glob(".*"))
    return fixed


def list_changes(fixed: FixedDataset) -> list[Change]:
    """All changes but those of the lists that name the cases, which follow from them."""
    return [change for change in fixed.record.changes if change.kind != "list-written"]


def only_change(fixed: FixedDataset) -> Change:
    (change,) = list_changes(fixed)
    return change


def codes_of(root: Path) -> set[str]:
    """Codes of what `check` says about a folder without any option."""
    return {problem.code for problem in check_dataset(read_dataset(root)).problems} - {PREPARED.code}


def read_rows(path: Path) -> np.ndarray:
    with PillowImage.open(path) as picture:
        return np.asarray(picture)


def edit_label(root: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write the label map of the second case again, with another array or affine."""
    path = root / "labels" / f"{SECOND}.nii.gz"
    image = nib.load(path)
    array, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


# a clean folder


def test_fix_dataset_clean_folder_is_copied_byte_for_byte_without_a_change(nifti_folders: Path) -> None:
    (nifti_folders / "LICENSE").write_text("CC0")
    fixed = fix(nifti_folders)
    assert fixed.record.changes == []
    assert fixed.record.not_fixed == []
    assert fixed.copy.errors == ()
    copied = list_files(fixed.out)
    del copied["fixes.json"]
    assert copied == list_files(nifti_folders)
    assert fixed.copy.dataset.layout == "plain folders"


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(*[st.integers(6, 12)] * 3),
    values=st.sampled_from([(0, 1), (0, 1, 2), (0, 255), (0, 3, 7)]),
    pictures=st.booleans(),
)
def test_fix_dataset_clean_folder_has_no_change_whatever_its_values(
    seed: int, shape: tuple[int, ...], values: tuple[int, ...], pictures: bool
) -> None:
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "clean"
        for name in ("a", "b"):
            label = np.array(values, np.uint8)[generator.integers(0, len(values), shape[: 2 if pictures else 3])]
            label.flat[: len(values)] = values
            image = generator.integers(0, 255, label.shape).astype(np.uint8)
            for kind, array in (("images", image), ("labels", label)):
                (root / kind).mkdir(parents=True, exist_ok=True)
                if pictures:
                    PillowImage.fromarray(array).save(root / kind / f"{name}.png")
                else:
                    nib.save(nib.Nifti1Image(array, AFFINE), root / kind / f"{name}.nii.gz")
        labels = {f"value_{value}": value for value in values}
        fixed = fix(root, labels=labels)
        assert [change.kind for change in fixed.record.changes] == ["labels-named", "list-written"]
        assert {name: digest for name, digest in list_files(fixed.out).items() if "/" in name} == list_files(root)
        assert fixed.copy.dataset.labels == labels


# masks


def smooth_jpeg(path: Path) -> Path:
    target = path.with_suffix(".jpg")
    with PillowImage.open(path) as picture:
        picture.save(target, quality=80)
    path.unlink()
    return target


def smooth_jpeg_in_png(path: Path) -> Path:
    temporary = path.with_name("temporary.jpg")
    with PillowImage.open(path) as picture:
        picture.convert("RGB").save(temporary, quality=70)
    with PillowImage.open(temporary) as picture:
        picture.save(path)
    temporary.unlink()
    return path


def smooth_bilinear(path: Path) -> Path:
    with PillowImage.open(path) as picture:
        size = picture.size
        smoothed = picture.resize((size[0] * 2, size[1] * 2), PillowImage.Resampling.BILINEAR).resize(
            size, PillowImage.Resampling.BILINEAR
        )
    smoothed.save(path)
    return path


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


# names, splits, cases that are left out


def test_fix_dataset_given_names_are_in_the_copy(png_folders: Path) -> None:
    labels = {"background": 0, "cell": 255}
    fixed = fix(png_folders, labels=labels)
    change = only_change(fixed)
    assert (change.kind, change.file, change.after) == ("labels-named", "dataset", labels)
    assert read_dataset(fixed.out).labels == labels
    assert fixed.copy.fingerprint is not None
    assert fixed.copy.fingerprint.labels == labels


def test_fix_dataset_broken_image_is_left_out_only_when_listed(decathlon_folder: Path) -> None:
    (decathlon_folder / f"imagesTr/{SECOND}.nii.gz").write_bytes(b"broken")
    fixed = fix(decathlon_folder)
    assert fixed.record.changes == []
    assert [(one.code, one.file) for one in fixed.record.not_fixed] == [("unreadable", f"imagesTr/{SECOND}.nii.gz")]
    assert (fixed.out / f"imagesTr/{SECOND}.nii.gz").read_bytes() == b"broken"
    shutil.rmtree(fixed.out)
    fixed = fix(decathlon_folder, exclude=[SECOND])
    assert [(change.kind, change.file, change.result) for change in list_changes(fixed)] == [
        ("excluded", f"imagesTr/{SECOND}.nii.gz", ""),
        ("excluded", f"labelsTr/{SECOND}.nii.gz", ""),
    ]
    assert fixed.copy.errors == ()
    assert len(fixed.copy.dataset.cases) == 3
    assert not any(SECOND in name for name in list_files(fixed.out))
    assert fixed.copy.dataset.layout == "Medical Segmentation Decathlon"


def test_fix_dataset_table_keeps_patients_splits_spacing_and_further_columns(tmp_path: Path, png_folders: Path) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    (png_folders / "images/case_04.png").write_bytes(b"broken")
    (png_folders / "cases.csv").write_text(
        "case,image,label,patient,split,spacing_mm,scanner\n"
        "one,images/case_01.png,labels/case_01.png,p1,train,0.5,A\n"
        "two,images/case_02.png,labels/case_02.jpg,p2,train,0.5x0.25,B\n"
        "three,images/case_03.png,labels/case_03.png,p3,test,0.5,\n"
        "four,images/case_04.png,labels/case_04.png,p4,train,0.5,A\n"
    )
    source = {case.name: case for case in read_dataset(png_folders).cases}
    fixed = fix(png_folders, labels={"background": 0, "cell": 255}, exclude=["four"])
    found = read_dataset(fixed.out)
    assert found.labels == {"background": 0, "cell": 255}
    assert [case.name for case in found.cases] == ["one", "two", "three"]
    for case in found.cases:
        for name in ("image", "patient", "split", "spacing_mm", "columns"):
            assert getattr(case, name) == getattr(source[case.name], name), name
    assert found.cases[1].label == Path("labels/case_02.png")
    assert fixed.record.not_fixed == []


def test_fix_dataset_pattern_for_patients_is_kept_as_a_column(nifti_folders: Path) -> None:
    fixed = fix(nifti_folders, options=ReadOptions(patient_pattern=r"case_0(.)"))
    assert only_change(fixed).kind == "patients-named"
    assert {case.name: case.patient for case in read_dataset(fixed.out).cases}[SECOND] == "2"


def test_fix_dataset_nnunet_keeps_regions_ignore_and_splits(tmp_path: Path, volume_phantom: Callable) -> None:
    root = tmp_path / "Dataset001"
    names = [f"c{index}" for index in range(4)]
    for kind in ("imagesTr", "labelsTr"):
        (root / kind).mkdir(parents=True)
    for seed, name in enumerate(names):
        image, label = volume_phantom(seed)
        nib.save(nib.Nifti1Image(image, AFFINE), root / f"imagesTr/{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(image * 2, AFFINE), root / f"imagesTr/{name}_0001.nii.gz")
        label[0, 0, 0] = 3
        nib.save(nib.Nifti1Image(label, AFFINE if seed else np.eye(4)), root / f"labelsTr/{name}.nii.gz")
    write_json(
        root / "dataset.json",
        {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
            "numTraining": 4,
            "file_ending": ".nii.gz",
        },
    )
    write_json(
        root / "splits_final.json",
        [{"train": ["c0", "c1"], "val": ["c2", "c3"]}, {"train": ["c2", "c3"], "val": ["c0", "c1"]}],
    )
    (root / "imagesTr/c3_0001.nii.gz").write_bytes(b"broken")
    source = read_dataset(root)
    fixed = fix(root, exclude=["c3"])
    found = read_dataset(fixed.out)
    assert {change.kind for change in list_changes(fixed)} == {"header-copied", "excluded"}
    assert {change.result for change in fixed.record.changes if change.kind == "list-written"} == {
        "dataset.json",
        "splits_final.json",
    }
    assert (found.layout, found.regions, found.ignore_value, found.labels, found.channels) == (
        source.layout,
        source.regions,
        3,
        source.labels,
        ("T1", "T2"),
    )
    assert found.folds == ((("c0", "c1"), ("c2",)), (("c2",), ("c0", "c1")))
    assert [problem for problem in fixed.copy.problems if problem.severity == ERROR] == []
    assert "case-count" not in codes_of(fixed.out)


def test_fix_dataset_image_without_label_stays_an_error_until_it_is_excluded(png_folders: Path) -> None:
    (png_folders / "labels" / f"{SECOND}.png").unlink()
    fixed = fix(png_folders)
    assert [(one.code, one.file) for one in fixed.record.not_fixed] == [("no-label", f"images/{SECOND}.png")]
    shutil.rmtree(fixed.out)
    fixed = fix(png_folders, exclude=[f"images/{SECOND}.png"])
    assert fixed.record.not_fixed == []
    assert codes_of(fixed.out) == set()
    assert only_change(fixed).file == f"images/{SECOND}.png"


def test_fix_dataset_pages_as_slices_are_a_volume_in_the_copy(tmp_path: Path, volume_phantom: Callable) -> None:
    root = tmp_path / "stacks"
    for seed, name in enumerate("ab"):
        for kind, array in zip(("images", "labels"), volume_phantom(seed), strict=True):
            (root / kind).mkdir(parents=True, exist_ok=True)
            first, *others = (PillowImage.fromarray(page.astype(np.uint8)) for page in array.transpose(2, 1, 0))
            first.save(root / kind / f"{name}.tif", save_all=True, append_images=others)
    fixed = fix(root, options=ReadOptions(pages_as_slices=True))
    assert {change.kind for change in fixed.record.changes} == {"pages-as-slices"}
    np.testing.assert_array_equal(np.asarray(nib.load(fixed.out / "labels/b.nii.gz").dataobj), volume_phantom(1)[1])
    assert fixed.copy.errors == ()
    assert not list(fixed.out.rglob("*.tif"))


def test_fix_dataset_instance_maps_and_test_images_go_along(png_folders: Path, write_picture: Callable) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    instances = read_rows(png_folders / "labels/case_01.png") // 255 * 3
    write_picture(png_folders / "instances/case_01.png", instances)
    write_picture(png_folders / "imagesTs/other.png", instances * 9)
    fixed = fix(png_folders)
    np.testing.assert_array_equal(read_rows(fixed.out / "instances/case_01.png"), instances)
    assert compute_sha256(fixed.out / "imagesTs/other.png") == compute_sha256(png_folders / "imagesTs/other.png")


def test_fix_dataset_plan_reads_the_copy_with_the_original_meaning(png_folders: Path, tmp_path: Path) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    labels = {"background": 0, "cell": 255}
    fixed = pipeline.fix(png_folders, tmp_path / "copy", labels=labels)
    planned = pipeline.plan(fixed.out, tmp_path / "bundle", preset="quick", folds=2)
    assert planned.report.dataset.labels == labels
    assert planned.report.errors == ()
    assert not (tmp_path / "bundle_data").exists()  # stock MONAI reads all of it


# refusals, and what goes wrong


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (".", "is the source"),
        ("inside", "lies within the source"),
        ("..", "contains the source"),
        ("../taken", "exists already"),
        ("../dangling", "exists already"),
    ],
)
def test_fix_dataset_place_that_cannot_be_is_refused(nifti_folders: Path, place: str, said: str) -> None:
    (nifti_folders.parent / "taken").mkdir()
    (nifti_folders.parent / "dangling").symlink_to("nowhere")
    before = list_files(nifti_folders.parent)
    with pytest.raises(DatasetError, match=said):
        fix_dataset(nifti_folders, nifti_folders / place)
    assert list_files(nifti_folders.parent) == before


def test_fix_dataset_link_into_the_source_is_seen_through(nifti_folders: Path) -> None:
    (nifti_folders.parent / "link").symlink_to(nifti_folders)
    with pytest.raises(DatasetError, match="lies within the source"):
        fix_dataset(nifti_folders, nifti_folders.parent / "link" / "copy")


@pytest.mark.parametrize("step", ["fix_copies._copy", "fix_cases.write_image", "fix.write_record"])
def test_fix_dataset_full_disk_leaves_nothing(png_folders: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    before = list_files(png_folders.parent)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "copy")

    monkeypatch.setattr(f"pipeline.dataset.{step}", fail)
    with pytest.raises(FileError, match="the disk is full"):
        pipeline.fix(png_folders, png_folders.parent / "deep" / "copy")
    assert list_files(png_folders.parent) == before
    assert sorted(path.name for path in png_folders.parent.iterdir()) == [png_folders.name]
    monkeypatch.undo()
    assert pipeline.fix(png_folders, png_folders.parent / "deep" / "copy").copy.errors == ()


def test_fix_dataset_all_cases_excluded_is_refused(tmp_path: Path, write_picture: Callable) -> None:
    root = tmp_path / "one"
    write_picture(root / "images/a.png", np.zeros((8, 8), np.uint8))
    write_picture(root / "labels/a.png", np.eye(8, dtype=np.uint8))
    with pytest.raises(DatasetError, match="No case is left"):
        fix_dataset(root, tmp_path / "copy", exclude=["a"])
    assert not (tmp_path / "copy").exists()


# the command line


def test_check_fix_prints_changes_and_ends_with_0_when_all_is_mended(
    png_folders: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    smooth_jpeg(png_folders / "labels" / f"{SECOND}.png")
    status, out, err = call_main(
        "check", png_folders, "--fix", "copy", "--label", "background=0", "--label", "cell=255"
    )
    assert status == 0, err
    assert f"thresholded to two values: labels/{SECOND}.jpg" in out
    assert "label names given: background=0, cell=255" in out
    assert "every change with its values: copy/fixes.json" in out
    status, out, err = call_main("check", "copy")
    assert status == 0
    assert "no problem found" in out
    assert "cell=255" in out


def test_check_fix_ends_with_1_and_the_remedy_of_what_is_left(
    nifti_folders: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    (nifti_folders / f"images/{SECOND}.nii.gz").write_bytes(b"broken")
    edit_label(nifti_folders, shift)
    status, out, err = call_main("check", nifti_folders, "--fix", "copy")
    assert status == 1
    assert "not corrected" in out
    assert "Copy it again from its source, or remove the case." in out
    assert "1 error(s) could not be corrected in copy" in err
    status, out, err = call_main("check", nifti_folders, "--fix", "second", "--exclude", SECOND)
    assert (status, err.count("Error")) == (0, 0)
    assert f"left out as listed with --exclude: images/{SECOND}.nii.gz, labels/{SECOND}.nii.gz" in out


def test_check_exclude_without_fix_is_wrong_usage(
    nifti_folders: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, err = call_main("check", nifti_folders, "--exclude", "case_01")
    assert status == 2
    assert "--fix OUT" in err


def test_fix_masks_per_structure_are_corrected_each_in_its_file(tmp_path: Path) -> None:
    source, spacing = tmp_path / "total", np.eye(4)
    for number in range(3):
        nib.save(
            nib.Nifti1Image(np.arange(512, dtype=np.float32).reshape(8, 8, 8), spacing), make(source, number, "ct")
        )
        for name, first in (("liver", 1), ("spleen", 5)):
            mask = np.zeros((8, 8, 8), np.uint8)
            mask[first : first + 2, 2:5, 2:5] = 1
            nib.save(nib.Nifti1Image(mask, spacing), make(source, number, f"segmentations/{name}"))
    before = check_dataset(read_dataset(source)).require_no_errors()
    path = make(source, 1, "segmentations/spleen")
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj) * np.float32(0.9998), spacing), path)
    path = make(source, 2, "segmentations/liver")
    nib.save(nib.load(path).slicer[1:4, 2:6, 1:7], path)
    fixed = fix_dataset(source, tmp_path / "fixed")
    assert [(change.file, change.kind) for change in fixed.record.changes] == [
        ("s1/segmentations/spleen.nii.gz", "values-rounded"),
        ("s2/segmentations/liver.nii.gz", "label-placed"),
    ]
    assert not fixed.record.not_fixed
    again = check_dataset(read_dataset(tmp_path / "fixed"))
    assert again.require_no_errors().cases == before.cases
    assert not [problem for problem in again.problems if problem.code in ("label-rounded", "label-padded")]
    assert sorted(np.unique(nib.load(make(tmp_path / "fixed", 1, "segmentations/spleen")).dataobj)) == [0, 1]
    with pytest.raises(DatasetError, match="expected no --label with --fix"):
        fix_dataset(source, tmp_path / "named", {"liver": 2})


def make(root: Path, number: int, name: str) -> Path:
    path = root / f"s{number}" / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
