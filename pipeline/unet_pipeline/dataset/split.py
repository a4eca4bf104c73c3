"""Folds of cross-validation that keep a patient on one side and do not depend on a library's generator."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unet_pipeline.errors import DatasetError


@dataclass(frozen=True)
class Fold:
    """Case names of one fold, each tuple sorted."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


Group = tuple[str, bool]  # name, and whether the caller named it
Stratum = tuple[tuple[str, ...], int]  # labels that are present, and their size


def split_cases(
    cases: Sequence[str],
    num_folds: int,
    seed: int,
    groups: Mapping[str, str] | None = None,
    strata: Mapping[str, Stratum] | None = None,
) -> tuple[Fold, ...]:
    """Folds in which every case is validated exactly once.

    Groups are ordered by the SHA-256 of seed and name and dealt out in turn, so that the same names give the same
    folds everywhere, and the sizes of the folds differ by one group at most. With strata, groups with the same labels are
    taken in order of size, as many at a time as there are folds, and one goes to each fold in the order of the hash; so every
    fold gets its share of each kind of case, and of small and large ones.

    Args:
        cases: distinct case names, without those that are held out.
        num_folds: 2 or more, and not more than there are groups.
        seed: another seed, another split.
        groups: group (patient) of each case; a case that is missing is a group of its own.
        strata: from `presence_strata`; a case that is missing has no labels.

    Raises:
        DatasetError: too few groups for the folds.
    """
    patients = groups or {}
    # the flag keeps a lone case apart from a group of the same name
    group_of = {case: (patients.get(case, case), case in patients) for case in cases}
    names = sorted(
        set(group_of.values()),
        key=lambda group: (hashlib.sha256(f"{seed}:{group[0]}".encode()).hexdigest(), group[1]),
    )
    if num_folds < 2 or len(names) < num_folds:
        raise DatasetError(
            f"{len(names)} case(s) cannot make {num_folds} folds; expected 2 folds or more and at least one case in each. "
            f"Add cases, or choose `--folds` between 2 and {max(len(names), 2)}."
        )
    if strata:
        fold_of_group = _deal_by_strata(names, group_of, strata, num_folds)
    else:
        fold_of_group = {name: position % num_folds for position, name in enumerate(names)}
    ordered = sorted(cases)
    return tuple(
        Fold(
            training=tuple(case for case in ordered if fold_of_group[group_of[case]] != fold),
            validation=tuple(case for case in ordered if fold_of_group[group_of[case]] == fold),
        )
        for fold in range(num_folds)
    )


def _deal_by_strata(
    names: Sequence[Group], group_of: Mapping[str, Group], strata: Mapping[str, Stratum], num_folds: int
) -> dict[Group, int]:
    """Fold of each group; `names` are in the order of the hash, which settles what labels and size leave open."""
    labels_of: dict[Group, set[str]] = {name: set() for name in names}
    size_of = dict.fromkeys(names, 0)
    for case, group in group_of.items():
        present, size = strata.get(case, ((), 0))
        labels_of[group] |= set(present)
        size_of[group] += size
    by_hash = {name: position for position, name in enumerate(names)}
    fold_of_group: dict[Group, int] = {}
    num_dealt = [0] * num_folds
    for labels in sorted({tuple(sorted(present)) for present in labels_of.values()}):
        alike = [name for name in names if tuple(sorted(labels_of[name])) == labels]
        alike.sort(key=lambda name: (size_of[name], by_hash[name]))
        for start in range(0, len(alike), num_folds):
            dealt = sorted(alike[start : start + num_folds], key=by_hash.__getitem__)
            emptiest = sorted(range(num_folds), key=lambda fold: (num_dealt[fold], fold))
            for name, fold in zip(dealt, emptiest, strict=False):  # the last round of a kind may be shorter
                fold_of_group[name] = fold
                num_dealt[fold] += 1
    return fold_of_group


def presence_strata(num_voxels: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Stratum of each case: which labels it has, and its size.

    Args:
        num_voxels: by case, then by label, the first label first.

    Returns:
        By case, the labels after the first that are present, and how many voxels they have together.
    """
    strata = {}
    for case, counts in num_voxels.items():
        present = {label: count for label, count in list(counts.items())[1:] if count > 0}
        strata[case] = (tuple(present), sum(present.values()))
    return strata


def choose_groups(cases: Sequence[str], pattern: str) -> dict[str, str]:
    """Patient of each case, from a regular expression.

    Args:
        pattern: searched in each name; its group `patient`, or else its first group, is the patient.

    Raises:
        DatasetError: no valid expression, no group in it, or a name that it does not fit.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(
            f"--patient is {pattern!r}, which is no regular expression: {error}. Expected one such as '(.+)_visit'."
        ) from error
    if not compiled.groups:
        raise DatasetError(
            f"--patient is {pattern!r}, which has no group. Put the patient's part in brackets, such as '(.+)_visit'."
        )
    group = "patient" if "patient" in compiled.groupindex else 1
    patients = {}
    for case in cases:
        match = compiled.search(case)
        if match is None or match[group] is None:
            raise DatasetError(
                f"--patient {pattern!r} does not fit the case name {case!r}. Expected a part of every name that says whose it is."
            )
        patients[case] = match[group]
    return patients
