"""Who is trained on and who validates: the dataset's own split where it brings one, folds of our own otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.sites import leave_sites_out
from unet_pipeline.dataset.split import Fold, presence_strata, split_cases
from unet_pipeline.errors import DatasetError

TEST, VALIDATION = "test", "validation"


@dataclass(frozen=True)
class Splits:
    """Folds of the cross-validation, and the cases that are held out of all of them.

    Attributes:
        method: in words, for the record.
        patients: patient of each case that shares one with another case.
    """

    folds: tuple[Fold, ...]
    test: tuple[str, ...]
    patients: dict[str, str]
    method: str


def choose_splits(report: CheckReport, num_folds: int, seed: int) -> Splits:
    """The splits of a dataset without errors.

    Cases that the dataset declares as test cases are in no fold. Folds or a validation set that it brings are taken as they
    are. With sites, each one is left out once. Otherwise patients are dealt out to `num_folds` folds, balanced by the presence and the
    size of the labels. A lone patient is on both sides, so that a training can be tried; `evaluate` gives no result for it.

    Raises:
        DatasetError: too few cases, the dataset's own split leaves a side empty or stands beside sites, or see `leave_sites_out`.
    """
    dataset, fingerprint = report.dataset, report.require_no_errors()
    side_of = {case.name: case.split for case in dataset.cases}
    test = tuple(sorted(name for name, side in side_of.items() if side == TEST))
    usable = [case.name for case in dataset.cases if case.name not in set(test)]
    if report.sites and (dataset.folds or VALIDATION in side_of.values()):
        raise DatasetError(
            f"Dataset {dataset.name} brings its own split into training and validation, and --site asks for a fold of each site. Leave out "
            "--site, or take the split out of the dataset."
        )
    if report.sites:
        by_site, sites = leave_sites_out(usable, report.sites, report.patients)
        return Splits(
            by_site, test, report.patients, f"one site left out of each fold, in the order {', '.join(sites)}"
        )
    if dataset.folds:
        return Splits(
            tuple(_keep(fold, usable) for fold in dataset.folds), test, report.patients, "given with the dataset"
        )
    if VALIDATION in side_of.values():
        training = tuple(sorted(name for name in usable if side_of[name] != VALIDATION))
        validation = tuple(sorted(name for name in usable if side_of[name] == VALIDATION))
        if not training:
            raise DatasetError(
                f"Dataset {dataset.name} declares no case for training; expected at least one. Correct the split column."
            )
        return Splits((Fold(training, validation),), test, report.patients, "given with the dataset, case by case")
    groups = {name: patient for name, patient in report.patients.items() if name in set(usable)}
    num_patients = len({groups.get(name, name) for name in usable})
    if num_patients == 1:
        alone = tuple(sorted(usable))
        return Splits(
            (Fold(alone, alone),), test, report.patients, "one patient, trained on and shown again; no result"
        )
    folds = min(num_folds, num_patients)
    strata = presence_strata({case.case: case.num_voxels for case in fingerprint.cases if case.case in set(usable)})
    return Splits(
        split_cases(usable, folds, seed, groups, strata),
        test,
        report.patients,
        "patients dealt out to folds, balanced by presence and size of the labels; order from SHA-256 of seed and name",
    )


def _keep(fold: tuple[tuple[str, ...], tuple[str, ...]], usable: list[str]) -> Fold:
    training, validation = (tuple(sorted(set(side) & set(usable))) for side in fold)
    if not training or not validation:
        raise DatasetError(
            f"A fold of the dataset's own split has {len(training)} training and {len(validation)} validation case(s); expected "
            "at least one of each. Correct the split file."
        )
    return Fold(training, validation)
