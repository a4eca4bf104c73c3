"""Sites (hospitals, scanners) of the cases, from a column of the list of cases."""

from __future__ import annotations

from collections.abc import Mapping

from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.split import Fold
from unet_pipeline.errors import DatasetError, suggest

_LEAST_SITES = 2


def read_sites(dataset: Dataset, column: str | None) -> dict[str, str]:
    """Site of each case; empty where no column was named.

    Raises:
        DatasetError: no case has the column, a case has no value in it, or all have the same one.
    """
    if column is None:
        return {}
    name = column.strip().lower()
    known = sorted({known for case in dataset.cases for known in case.columns})
    if name not in known:
        hint = suggest(name, known) if known else "there is none but those that the list of cases needs"
        raise DatasetError(
            f"--site names the column {column!r}, which dataset {dataset.name} does not have; {hint}. Expected a further column of the list "
            "of cases (cases.csv or cases.json) that says which hospital a case comes from."
        )
    sites = {case.name: case.columns.get(name, "").strip() for case in dataset.cases}
    if lacking := [case for case, site in sites.items() if not site]:
        raise DatasetError(
            f"Case {lacking[0]} has no value in the column {column!r} ({len(lacking)} of {len(sites)} cases have none); expected a site for "
            "every case. Fill it in, or leave out --site."
        )
    if len(set(sites.values())) < _LEAST_SITES:
        raise DatasetError(
            f"All cases have the site {next(iter(sites.values()))!r} in the column {column!r}; expected {_LEAST_SITES} sites or more. "
            "Add cases of another site, or leave out --site."
        )
    return sites


def leave_sites_out(
    cases: list[str], sites: Mapping[str, str], patients: Mapping[str, str]
) -> tuple[tuple[Fold, ...], tuple[str, ...]]:
    """A fold for each site, whose cases validate it, and the sites in their order.

    A case of another site whose patient is validated too is in neither part of that fold.

    Args:
        cases: that are in folds.
        sites: of each of them.
        patients: of those that share one with another case.

    Raises:
        DatasetError: one site, or a fold without a case to train on.
    """
    names = tuple(sorted({sites[case] for case in cases}))
    if len(names) < _LEAST_SITES:
        raise DatasetError(
            f"The cases to train on come from {len(names)} site(s); expected {_LEAST_SITES} or more. Declare fewer of them as test cases, or "
            "leave out --site."
        )
    folds = []
    for name in names:
        validation = tuple(sorted(case for case in cases if sites[case] == name))
        validated = {patients[case] for case in validation if case in patients}
        training = tuple(sorted(case for case in cases if sites[case] != name and patients.get(case) not in validated))
        if not training:
            raise DatasetError(
                f"Without site {name!r} and its patients no case is left to train on; expected at least one. Correct the sites or the "
                "patients, or leave out --site."
            )
        folds.append(Fold(training, validation))
    return tuple(folds), names
