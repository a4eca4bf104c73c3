"""Nested subsets of the training cases, patient by patient, for a learning curve; the held-out cases are the same for all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unet_pipeline.errors import DatasetError

LEAST_SIZES = 3  # a power law has three numbers
_SHARES = (8, 4, 2, 1)  # of the cases there are


@dataclass(frozen=True)
class Subset:
    """Cases that one training gets.

    Attributes:
        size: that was asked for; with several cases per patient there may be fewer.
        repeat: number of the order of patients; subsets of one order are nested.
        cases: sorted.
    """

    size: int
    repeat: int
    cases: tuple[str, ...]


def choose_sizes(num_cases: int, sizes: Sequence[int] = ()) -> tuple[int, ...]:
    """Sizes of the subsets, ascending: those that were asked for, or an eighth, a quarter, a half and all.

    Raises:
        DatasetError: fewer than three sizes, or one below 1 or above the number of cases.
    """
    chosen = tuple(sorted(set(sizes or (max(1, num_cases // share) for share in _SHARES))))
    if chosen[0] < 1 or chosen[-1] > num_cases:
        wrong = chosen[0] if chosen[0] < 1 else chosen[-1]
        raise DatasetError(
            f"--sizes has {wrong}; expected 1 to {num_cases}, the cases that are left for training beside the held-out ones. Choose "
            f"other sizes."
        )
    if len(chosen) < LEAST_SIZES:
        raise DatasetError(
            f"--sizes has {len(chosen)} size(s) ({', '.join(map(str, chosen))}); expected {LEAST_SIZES} or more, which a power law "
            f"needs. Add "
            "sizes, or cases."
        )
    return chosen


def nest_subsets(
    cases: Sequence[str], patients: Mapping[str, str], sizes: Sequence[int], repeats: int, seed: int
) -> tuple[Subset, ...]:
    """Subsets of every size in every order; equal ones are there once.

    Patients are ordered by the SHA-256 of seed, repeat and name, the same everywhere, and added with all their cases while these fit.

    Args:
        cases: for training.
        patients: of each case; a case that is missing is a patient of its own.
        sizes: from `choose_sizes`.
        repeats: orders of the patients, 1 or more.
        seed: another seed, other orders.

    Raises:
        DatasetError: fewer than three subsets of different sizes, because patients have too many cases.
    """
    of_patient: dict[tuple[str, bool], list[str]] = {}
    for case in sorted(cases):
        of_patient.setdefault((patients.get(case, case), case in patients), []).append(case)
    subsets: dict[tuple[str, ...], Subset] = {}
    for repeat in range(repeats):
        order = sorted(of_patient, key=lambda patient: _hash(f"{seed}:{repeat}:{patient[0]}:{patient[1]}"))
        for size in sizes:
            chosen: list[str] = []
            for patient in order:
                if chosen and len(chosen) + len(of_patient[patient]) > size:
                    break  # not skipped, so that a larger subset holds all that a smaller one does
                chosen += of_patient[patient]
            names = tuple(sorted(chosen))
            subsets.setdefault(names, Subset(size, repeat, names))
    if len({len(subset.cases) for subset in subsets.values()}) < LEAST_SIZES:
        raise DatasetError(
            f"Subsets of whole patients have fewer than {LEAST_SIZES} sizes; expected {LEAST_SIZES}, which a power law needs. Choose --sizes "
            "that are further apart."
        )
    return tuple(sorted(subsets.values(), key=lambda subset: (len(subset.cases), subset.repeat)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
