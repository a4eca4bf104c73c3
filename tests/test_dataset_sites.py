"""Sites of the cases, and folds that leave one out."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.sites import leave_sites_out, read_sites
from unet_pipeline.errors import DatasetError


def build_dataset(*sites: str | None) -> Dataset:
    cases = tuple(
        Case(f"case_{number}", Path(f"{number}.png"), None, columns={} if site is None else {"hospital": site})
        for number, site in enumerate(sites)
    )
    return Dataset(root=Path("cells"), layout="list of cases", cases=cases)


def test_read_sites_column_in_any_case_of_letters() -> None:
    assert read_sites(build_dataset("A", "b "), "Hospital") == {"case_0": "A", "case_1": "b"}
    assert read_sites(build_dataset("A", "A"), None) == {}


@pytest.mark.parametrize(
    ("sites", "column", "part"),
    [
        (("A", "B"), "hospitl", "did you mean 'hospital'"),
        ((None, None), "hospital", "does not have"),
        (("A", ""), "hospital", "case_1 has no value.*1 of 2"),
        (("A", None), "hospital", "case_1 has no value"),
        (("A", "A"), "hospital", "All cases have the site 'A'"),
    ],
)
def test_read_sites_what_cannot_be_is_refused(sites: tuple[str | None, ...], column: str, part: str) -> None:
    with pytest.raises(DatasetError, match=part):
        read_sites(build_dataset(*sites), column)


SITES = {"a": "X", "b": "Y", "c": "X", "d": "Z"}


def test_leave_sites_out_validates_each_site_once() -> None:
    folds, names = leave_sites_out(list("abcd"), SITES, {})
    assert names == ("X", "Y", "Z")
    assert [fold.validation for fold in folds] == [("a", "c"), ("b",), ("d",)]
    assert [fold.training for fold in folds] == [("b", "d"), ("a", "c", "d"), ("a", "b", "c")]


def test_leave_sites_out_patient_of_two_sites_is_never_on_both_sides() -> None:
    folds, _ = leave_sites_out(list("abcd"), SITES, {"a": "p", "b": "p"})
    assert [fold.training for fold in folds] == [("d",), ("c", "d"), ("a", "b", "c")]


def test_leave_sites_out_without_a_case_to_train_on_is_refused() -> None:
    with pytest.raises(DatasetError, match="no case is left"):
        leave_sites_out(["a", "b"], SITES, {"a": "p", "b": "p"})
    with pytest.raises(DatasetError, match=r"1 site\(s\)"):
        leave_sites_out(["a", "c"], SITES, {})
