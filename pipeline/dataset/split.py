"""Folds of cross-validation that keep a patient on one side and do not depend on a library's generator."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import DatasetError


@dataclass(frozen=True)
class Fold:
    """Case names of one fold, each tuple sorted."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def split_cases(
    cases: Sequence[str], num_folds: int, seed: int, groups: Mapping[str, str] | None = None
) -> tuple[Fold, ...]:
    """Folds in which every case is validated exactly once.

    Groups are ordered by the SHA-256 of seed and name and dealt out in turn, so that the same names give the same
    folds everywhere, and the sizes of the folds differ by one group at most.

    Args:
        cases: distinct case names.
        num_folds: 2 or more, and not more than there are groups.
        seed: another seed, another split.
        groups: group (patient) of each case; a case that is missing is a group of its own.

    Raises:
        DatasetError: too few groups for the folds.
    """
    given = groups or {}
    # the flag keeps a lone case apart from a group of the same name
    group_of = {case: (given.get(case, case), case in given) for case in cases}
    names = sorted(
        set(group_of.values()),
        key=lambda group: (hashlib.sha256(f"{seed}:{group[0]}".encode()).hexdigest(), group[1]),
    )
    if num_folds < 2 or len(names) < num_folds:
        raise DatasetError(
            f"{len(names)} case(s) cannot make {num_folds} folds; expected 2 folds or more and at least one case in each. "
            f"Add cases, or choose `--folds` between 2 and {max(len(names), 2)}."
        )
    fold_of_group = {name: position % num_folds for position, name in enumerate(names)}
    ordered = sorted(cases)
    return tuple(
        Fold(
            training=tuple(case for case in ordered if fold_of_group[group_of[case]] != fold),
            validation=tuple(case for case in ordered if fold_of_group[group_of[case]] == fold),
        )
        for fold in range(num_folds)
    )
