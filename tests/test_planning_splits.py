"""Who is trained on: given splits, held-out cases, patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import DatasetError
from unet_pipeline.planning.splits import choose_splits


def check_with(root: Path, options: ReadOptions | None = None, **changes: object) -> CheckReport:
    """Report of a dataset some of whose fields are replaced; `side` is the split of each case in turn."""
    dataset: Dataset = read_dataset(root)
    sides = changes.pop("sides", None)
    if sides is not None:
        cases = tuple(replace(case, split=side) for case, side in zip(dataset.cases, sides, strict=True))
        dataset = replace(dataset, cases=cases)
    return check_dataset(replace(dataset, **changes), options=options)


def test_choose_splits_plain_dataset_validates_every_case_once(nifti_folders: Path) -> None:
    splits = choose_splits(check_with(nifti_folders), 2, seed=0)
    validated = [name for fold in splits.folds for name in fold.validation]
    assert sorted(validated) == ["case_01", "case_02", "case_03", "case_04"]
    assert splits.test == ()
    for fold in splits.folds:
        assert not set(fold.training) & set(fold.validation)


def test_choose_splits_more_folds_than_cases_gives_as_many_as_cases(nifti_folders: Path) -> None:
    assert len(choose_splits(check_with(nifti_folders), 9, seed=0).folds) == 4


def test_choose_splits_test_cases_are_in_no_fold(nifti_folders: Path) -> None:
    report = check_with(nifti_folders, sides=[None, "test", None, None])
    splits = choose_splits(report, 3, seed=0)
    assert splits.test == ("case_02",)
    assert all("case_02" not in (*fold.training, *fold.validation) for fold in splits.folds)
    assert [case.case for case in report.require_no_errors().cases] == ["case_01", "case_03", "case_04"]


def test_choose_splits_given_validation_set_is_the_only_fold(nifti_folders: Path) -> None:
    splits = choose_splits(check_with(nifti_folders, sides=["train", "validation", "train", "test"]), 5, seed=0)
    (fold,) = splits.folds
    assert (fold.training, fold.validation, splits.test) == (("case_01", "case_03"), ("case_02",), ("case_04",))


def test_choose_splits_given_folds_are_taken_over(nifti_folders: Path) -> None:
    folds = ((("case_02", "case_01"), ("case_03", "case_04")), (("case_03", "case_04"), ("case_01", "case_02")))
    splits = choose_splits(check_with(nifti_folders, folds=folds), 5, seed=0)
    assert [fold.validation for fold in splits.folds] == [("case_03", "case_04"), ("case_01", "case_02")]
    assert "given" in splits.method


def test_choose_splits_given_fold_without_validation_is_refused(nifti_folders: Path) -> None:
    report = check_with(nifti_folders, folds=((("case_01", "case_02"), ()),))
    with pytest.raises(DatasetError, match=r"has 2 training and 0 validation case\(s\)"):
        choose_splits(report, 5, seed=0)


def test_choose_splits_only_validation_cases_are_refused(nifti_folders: Path) -> None:
    with pytest.raises(DatasetError, match="declares no case for training"):
        choose_splits(check_with(nifti_folders, sides=["validation"] * 4), 5, seed=0)


def test_choose_splits_patients_of_a_pattern_stay_together(nifti_folders: Path) -> None:
    for folder in ("images", "labels"):
        for number, name in enumerate(("ann_1", "ann_2", "bob_1", "bob_2"), start=1):
            path = nifti_folders / folder / f"case_0{number}.nii.gz"
            path.rename(path.with_name(f"{name}.nii.gz"))
    report = check_with(nifti_folders, ReadOptions(patient_pattern=r"^(\w+)_\d$"))
    splits = choose_splits(report, 5, seed=0)
    assert sorted(fold.validation for fold in splits.folds) == [("ann_1", "ann_2"), ("bob_1", "bob_2")]
    assert splits.patients == {"ann_1": "ann", "ann_2": "ann", "bob_1": "bob", "bob_2": "bob"}


def test_choose_splits_twins_stay_on_one_side(
    nifti_folders: Path, write_nifti: Callable, volume_phantom: Callable
) -> None:
    image, _ = volume_phantom(0)
    write_nifti(nifti_folders / "images" / "case_03.nii.gz", image)  # the voxels of case_01
    report = check_with(nifti_folders)
    assert report.patients["case_01"] == report.patients["case_03"]
    assert any(problem.code == "duplicate-image" for problem in report.problems)
    for seed in range(8):
        for fold in choose_splits(report, 3, seed).folds:
            assert ("case_01" in fold.validation) == ("case_03" in fold.validation)


def test_choose_splits_is_the_same_every_time(nifti_folders: Path) -> None:
    report = check_with(nifti_folders)
    first, second = (choose_splits(report, 2, seed=3) for _ in range(2))
    assert first == second
    others = {choose_splits(report, 2, seed).folds for seed in range(12)}
    assert len(others) > 1


def warn_of_validation(report: CheckReport) -> list[str]:
    return [
        f"{problem.severity}: {problem.cause}" for problem in report.problems if problem.code == "nothing-to-validate"
    ]


def test_check_lone_patient_is_warned_of(nifti_folders: Path) -> None:
    (warning,) = warn_of_validation(check_with(nifti_folders, ReadOptions(patient_pattern="(case)_")))
    assert warning.startswith("warning: has 4 cases of one patient to train on, so nothing can be validated")


@pytest.mark.parametrize("sides", [[None, "test", "test", "test"], ["train", "test", "test", "test"]])
def test_check_lone_case_is_warned_of(nifti_folders: Path, sides: list[str | None]) -> None:
    (warning,) = warn_of_validation(check_with(nifti_folders, sides=sides))
    assert warning.startswith("warning: has one case to train on, so nothing can be validated")


@pytest.mark.parametrize("sides", [[None] * 4, [None, None, "test", "test"], ["train", "validation", "test", "test"]])
def test_check_two_patients_are_enough(nifti_folders: Path, sides: list[str | None]) -> None:
    assert warn_of_validation(check_with(nifti_folders, sides=sides)) == []


def test_choose_splits_lone_patient_is_on_both_sides_and_said(nifti_folders: Path) -> None:
    splits = choose_splits(check_with(nifti_folders, ReadOptions(patient_pattern="(case)_")), 5, seed=0)
    (fold,) = splits.folds
    assert fold.training == fold.validation == ("case_01", "case_02", "case_03", "case_04")
    assert "no result" in splits.method


def check_with_sites(root: Path, column: str, *sites: str, **changes: object) -> CheckReport:
    cases = tuple(
        replace(case, columns={"hospital": site}) for case, site in zip(read_dataset(root).cases, sites, strict=True)
    )
    return check_with(root, ReadOptions(site_column=column), cases=cases, **changes)


def test_choose_splits_sites_are_left_out_one_by_one(nifti_folders: Path) -> None:
    splits = choose_splits(check_with_sites(nifti_folders, "Hospital", "B", "A", "B", "C"), 5, seed=0)
    assert [fold.validation for fold in splits.folds] == [("case_02",), ("case_01", "case_03"), ("case_04",)]
    assert "A, B, C" in splits.method


def test_choose_splits_sites_beside_the_dataset_s_own_split_are_refused(nifti_folders: Path) -> None:
    folds = ((("case_01",), ("case_02",)),)
    report = check_with_sites(nifti_folders, "hospital", "B", "A", "B", "C", folds=folds)
    with pytest.raises(DatasetError, match="Leave out --site"):
        choose_splits(report, 5, seed=0)
