"""`check --fix`: a corrected copy says what the source meant, lists every change, and nothing of the source is touched."""

from __future__ import annotations

import errno
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

import unet_pipeline
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.fix import fix_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import DatasetError, FileError
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.messages import ERROR

from .fixed_copies import (
    AFFINE,
    SECOND,
    codes_of,
    edit_label,
    fix,
    list_changes,
    list_files,
    only_change,
    read_rows,
    smooth_jpeg,
)

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
    fixed = unet_pipeline.fix(png_folders, tmp_path / "copy", labels=labels)
    planned = unet_pipeline.plan(fixed.out, tmp_path / "bundle", preset="quick", folds=2)
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

    monkeypatch.setattr(f"unet_pipeline.dataset.{step}", fail)
    with pytest.raises(FileError, match="the disk is full"):
        unet_pipeline.fix(png_folders, png_folders.parent / "deep" / "copy")
    assert list_files(png_folders.parent) == before
    assert sorted(path.name for path in png_folders.parent.iterdir()) == [png_folders.name]
    monkeypatch.undo()
    assert unet_pipeline.fix(png_folders, png_folders.parent / "deep" / "copy").copy.errors == ()


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
    edit_label(nifti_folders, lambda array, affine: (array, affine + np.eye(4, k=3) * 20))
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
