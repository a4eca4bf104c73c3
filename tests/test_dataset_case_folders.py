"""A folder per case, masks per structure, and the label maps that are joined from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset, StructureMask
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.dataset.report import build_manifest
from unet_pipeline.errors import DatasetError

SHAPE = (12, 12, 8)


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def box(start: int, stop: int, value: int = 1) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[start:stop, 2:8, 2:6] = value
    return array


@pytest.fixture
def organs(tmp_path: Path, write_nifti: Callable) -> Path:
    """Three patients as in the TotalSegmentator data set; the third has no spleen."""
    for number in range(3):
        folder = tmp_path / "total" / f"s{number}"
        (folder / "segmentations").mkdir(parents=True)
        write_nifti(folder / "ct.nii.gz", np.random.default_rng(number).normal(0, 9, SHAPE).astype(np.float32))
        write_nifti(folder / "segmentations" / "liver.nii.gz", box(1, 4))
        if number < 2:
            write_nifti(folder / "segmentations" / "spleen.nii.gz", box(6, 9, 255))
    return tmp_path / "total"


def codes(found: Dataset | CheckReport) -> list[str]:
    problems = found.problems_of_layout if isinstance(found, Dataset) else found.problems
    return [problem.code for problem in problems]


def test_read_case_folders_masks_have_one_value_per_name(organs: Path) -> None:
    dataset = read_dataset(organs)
    assert dataset.layout == "a folder per case"
    assert dataset.labels == {"background": 0, "liver": 1, "spleen": 2}
    assert dataset.channels == ("ct",)
    folder = Path("s0/segmentations")
    assert dataset.cases[0] == Case(
        "s0",
        Path("s0/ct.nii.gz"),
        folder,
        masks=(
            StructureMask("liver", 1, folder / "liver.nii.gz"),
            StructureMask("spleen", 2, folder / "spleen.nii.gz"),
        ),
    )
    (note,) = dataset.problems_of_layout
    assert note.cause == "has the structure spleen, and 1 of 3 cases have no mask of it, for example s2"


def test_check_case_folders_joins_the_masks(organs: Path, tmp_path: Path) -> None:
    report = check_dataset(read_dataset(organs))
    fingerprint = report.require_no_errors()
    assert [case.num_voxels["liver"] for case in fingerprint.cases] == [72, 72, 72]
    assert [case.num_voxels["spleen"] for case in fingerprint.cases] == [72, 72, 0]
    assert codes(report) == ["structure-without-file", "prepared"]
    copies, _ = prepare_dataset(report, tmp_path / "copies")
    joined = np.asarray(nib.load(copies.root / copies.cases[0].require_label()).dataobj)
    np.testing.assert_array_equal(joined, box(1, 4) + box(6, 9, 2))
    assert {case.masks for case in copies.cases} == {None}


def test_manifest_of_case_folders_has_every_mask(organs: Path) -> None:
    manifest = build_manifest(check_dataset(read_dataset(organs)))
    assert manifest["cases"]["s1"]["masks"] == {
        "liver": "s1/segmentations/liver.nii.gz",
        "spleen": "s1/segmentations/spleen.nii.gz",
    }
    assert len(manifest["files"]) == 8


def test_check_masks_that_overlap_are_named_and_the_higher_value_wins(organs: Path, write_nifti: Callable) -> None:
    write_nifti(organs / "s1/segmentations/spleen.nii.gz", box(3, 9))
    report = check_dataset(read_dataset(organs))
    (warning,) = [problem for problem in report.problems if problem.severity == "warning"]
    assert warning.file == "s1/segmentations/spleen.nii.gz"
    assert warning.cause == "overlaps the mask of liver in case s1 in 24 voxels; they count as spleen"
    assert report.require_no_errors().cases[1].num_voxels["liver"] == 48
    turned = check_dataset(read_dataset(organs), {"background": 0, "liver": 9, "spleen": 4})
    assert turned.require_no_errors().cases[1].num_voxels == {"background": 960, "spleen": 120, "liver": 72}
    assert "they count as liver" in next(problem.cause for problem in turned.problems if problem.severity == "warning")


def test_check_masks_named_with_labels_are_chosen(organs: Path) -> None:
    report = check_dataset(read_dataset(organs), {"Spleen": 7})
    assert report.dataset.labels == {"background": 0, "Spleen": 7}
    assert report.require_no_errors().cases[2].num_voxels == {"background": 1152, "Spleen": 0}
    left_out = next(problem for problem in report.problems if problem.code == "structures-left-out")
    assert "(liver)" in left_out.cause


def test_check_masks_label_that_no_structure_has_is_named(organs: Path) -> None:
    report = check_dataset(read_dataset(organs), {"background": 0, "liver": 1, "spleen": 2, "colon": 3})
    assert [problem.code for problem in report.errors] == ["unused-label"]


def test_check_masks_structure_with_the_value_of_the_background_is_refused(organs: Path) -> None:
    with pytest.raises(DatasetError, match="gives the structure liver the value 0"):
        check_dataset(read_dataset(organs), {"liver": 0, "spleen": 1})


def test_check_mask_with_several_values_is_named(organs: Path, write_nifti: Callable) -> None:
    write_nifti(organs / "s0/segmentations/liver.nii.gz", box(1, 4) + box(6, 9, 2))
    (error,) = check_dataset(read_dataset(organs)).errors
    assert error.file == "s0/segmentations/liver.nii.gz"
    assert error.cause == "is the mask of liver and has the values 0, 1, 2; expected 0 and one other value"


def test_check_mask_on_another_grid_is_named(organs: Path, write_nifti: Callable) -> None:
    write_nifti(organs / "s0/segmentations/liver.nii.gz", np.ones((3, 3, 3), np.uint8), (0.7, 0.7, 0.7))
    (error,) = check_dataset(read_dataset(organs)).errors
    assert error.file == "s0/segmentations/liver.nii.gz"


def test_check_mask_cropped_on_the_images_lattice_is_padded(organs: Path) -> None:
    before = check_dataset(read_dataset(organs), {"liver": 1}).require_no_errors().cases[0].num_voxels
    path = organs / "s0/segmentations/liver.nii.gz"
    mask = nib.load(path)
    inside = np.argwhere(np.asarray(mask.dataobj) > 0)
    box = tuple(slice(first, last + 1) for first, last in zip(inside.min(axis=0), inside.max(axis=0), strict=True))
    nib.save(mask.slicer[box], path)
    after = check_dataset(read_dataset(organs), {"liver": 1}).require_no_errors().cases[0].num_voxels
    assert after == before


def test_check_many_structures_are_no_smoothed_mask(organs: Path, write_nifti: Callable) -> None:
    for number in range(3):
        for value in range(80):
            array = np.zeros(SHAPE, np.uint8)
            array.flat[value] = 1
            write_nifti(organs / f"s{number}/segmentations/part_{value:02d}.nii.gz", array)
    report = check_dataset(read_dataset(organs))
    assert len(report.dataset.labels or ()) == 83
    assert report.errors == ()


@pytest.mark.parametrize(
    "files",
    [
        ["{}/ct.nii.gz", "{}/masks/liver.nii.gz", "{}/masks/spleen.nii.gz"],
        ["{}/ct.nii.gz", "{}/liver.nii.gz", "{}/spleen.nii.gz"],
        ["{}/ct.nii.gz", "{}/liver_seg.nii.gz", "{}/mask-spleen.nii.gz"],
        ["{}/image.nrrd", "{}/Segmentation/Segmentation_liver.nrrd", "{}/Segmentation/Segmentation_spleen.nrrd"],
        ["{}/{}.nii.gz", "{}/{}_liver_mask.nii.gz", "{}/{}_spleen_mask.nii.gz"],
        ["{}/{}.nii.gz", "{}/labels/{}_liver.nii.gz", "{}/labels/{}_Spleen.nii.gz"],
        ["images/{}.png", "labels/{}_liver.png", "labels/{}_spleen.png"],
        ["images/{}.png", "labels/{}/liver.png", "labels/{}/spleen.png"],
        ["images/{}.png", "masks/liver/{}.png", "masks/spleen/{}.png"],
        ["{}.nii.gz", "{}_liver_seg.nii.gz", "{}_spleen_seg.nii.gz"],
    ],
)
def test_read_masks_wherever_they_lie(tmp_path: Path, files: list[str]) -> None:
    touch(tmp_path, *(path.format(*[name] * path.count("{}")) for name in ("p1", "p2") for path in files))
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["p1", "p2"]
    assert [name.lower() for name in dataset.labels or ()] == ["background", "liver", "spleen"]
    assert [[mask.value for mask in case.masks or ()] for case in dataset.cases] == [[1, 2], [1, 2]]
    assert dataset.problems_of_layout == ()


def test_read_masks_with_names_of_their_own_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p{n}/images/x{n}.png" for n in range(3)))
    touch(tmp_path, *(f"p{n}/masks/{part}{n}.png" for n in range(3) for part in ("cell", "other")))
    with pytest.raises(DatasetError, match="has 6 mask files with names of their own"):
        read_dataset(tmp_path)


def test_read_masks_background_is_no_structure(tmp_path: Path) -> None:
    names = ("background", "liver", "spleen")
    touch(tmp_path, *(f"p{n}/ct.nii.gz" for n in range(2)))
    touch(tmp_path, *(f"p{n}/masks/{part}.nii.gz" for n in range(2) for part in names))
    assert read_dataset(tmp_path).labels == {"background": 0, "liver": 1, "spleen": 2}


def test_read_masks_beside_a_label_map_are_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "p1/ct.nii.gz", "p1/seg.nii.gz", "p1/masks/liver.nii.gz", "p1/masks/spleen.nii.gz")
    touch(tmp_path, "p2/ct.nii.gz", "p2/masks/liver.nii.gz", "p2/masks/spleen.nii.gz")
    dataset = read_dataset(tmp_path)
    assert "label-map-and-masks" in codes(dataset)
    assert [case.name for case in dataset.cases] == ["p2"]


# channels and label maps in a folder per case


@pytest.mark.parametrize(
    ("files", "channels"),
    [
        (["{}/{}-t1n.nii.gz", "{}/{}-t2w.nii.gz", "{}/{}-seg.nii.gz"], ("t1n", "t2w")),
        (["{}/{}_flair.nii.gz", "{}/{}_t1.nii.gz", "{}/{}_seg.nii.gz"], ("flair", "t1")),
        (["{}/T1.nii.gz", "{}/T2.nii.gz", "{}/label.nii.gz"], ("T1", "T2")),
        (["{}/scan_adc.nii.gz", "{}/scan_dwi.nii.gz", "{}/scan_msk.nii.gz"], ("adc", "dwi")),
        (["{}/image.nii.gz", "{}/label.nii.gz"], None),
        (["{}/{}.nrrd", "{}/{}.seg.nrrd"], None),
        (["{}/ct.nii.gz", "{}/segmentations/seg.nii.gz"], ("ct",)),
    ],
)
def test_read_case_folders_channels_come_from_the_endings(
    tmp_path: Path, files: list[str], channels: tuple[str, ...] | None
) -> None:
    touch(tmp_path, *(path.format(*[name] * path.count("{}")) for name in ("B-1-000", "B-2-000") for path in files))
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["B-1-000", "B-2-000"]
    assert dataset.channels == channels
    assert {case.masks for case in dataset.cases} == {None}
    assert dataset.problems_of_layout == ()


def test_read_case_folders_missing_channel_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        touch(tmp_path, *(f"{name}/{name}_{part}.nii.gz" for part in ("t1", "t2", "seg")))
    (tmp_path / "b/b_t2.nii.gz").unlink()
    (problem,) = read_dataset(tmp_path).problems_of_layout
    assert problem.cause == "is of case b, which has no file of channel t2; other cases have one"
    assert problem.remedy.startswith("Add b/b_t2.nii.gz, or remove the case; ")


def test_read_case_folders_without_partner_are_problems(tmp_path: Path) -> None:
    touch(tmp_path, "a/image.nii.gz", "a/label.nii.gz", "b/image.nii.gz", "c/label.nii.gz")
    problems = {(problem.code, problem.file) for problem in read_dataset(tmp_path).problems_of_layout}
    assert problems == {("case-folder-no-label", "b"), ("case-folder-no-image", "c")}


def test_read_case_folders_visits_are_of_one_patient(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P{n}/{visit}/{part}.nii" for n in (1, 2) for visit in "ab" for part in ("t1", "seg")))
    dataset = read_dataset(tmp_path)
    assert [(case.name, case.patient) for case in dataset.cases] == [
        ("P1_a", "P1"),
        ("P1_b", "P1"),
        ("P2_a", "P2"),
        ("P2_b", "P2"),
    ]
    assert codes(dataset) == ["patient-folders"]


def test_read_case_folders_few_groups_are_no_patients(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{group}/{group}_{n}/{part}.nii" for group in ("HGG", "LGG") for n in "12" for part in ("t1", "seg")),
    )
    dataset = read_dataset(tmp_path)
    assert [(case.name, case.patient) for case in dataset.cases[:2]] == [("HGG_1", None), ("HGG_2", None)]
    assert codes(dataset) == ["group-folders"]


def test_read_case_folders_of_a_split_are_on_its_side(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{side}/{side}{n}/{part}.nii" for side in ("train", "test") for n in "12" for part in ("t1", "seg")),
    )
    assert [case.split for case in read_dataset(tmp_path).cases] == ["test", "test", "train", "train"]


def test_read_case_folders_one_case_may_be_given(organs: Path) -> None:
    (case,) = read_dataset(organs / "s0").cases
    assert (case.name, case.image) == ("s0", Path("ct.nii.gz"))


def test_read_case_folders_a_folder_of_many_pairs_is_no_case(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{side}/{n}.png" for side in ("images", "labels") for n in "abc"))
    with pytest.raises(DatasetError, match=r"has no images of its own\. It lies deeper: give .*train"):
        read_dataset(tmp_path)


def test_read_case_folders_links_that_lead_back_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/image.nii", "a/label.nii", "b/image.nii", "b/label.nii")
    (tmp_path / "a" / "again").symlink_to("..")
    (tmp_path / "up").symlink_to(".")
    assert [case.name for case in read_dataset(tmp_path).cases] == ["a", "b"]
