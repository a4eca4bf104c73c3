"""Folds of cross-validation."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unet_pipeline.dataset.split import choose_groups, presence_strata, split_cases
from unet_pipeline.errors import DatasetError

case_lists = st.lists(st.text("abc_012é ", min_size=1, max_size=6), min_size=2, max_size=30, unique=True)
seeds = st.integers(0, 2**32)


@given(cases=case_lists, num_folds=st.integers(2, 6), seed=seeds)
def test_split_cases_any_names_are_each_validated_once(cases: list[str], num_folds: int, seed: int) -> None:
    assume(len(cases) >= num_folds)
    folds = split_cases(cases, num_folds, seed)
    validated = Counter(case for fold in folds for case in fold.validation)
    assert len(folds) == num_folds
    assert validated == Counter(cases)
    for fold in folds:
        assert sorted([*fold.training, *fold.validation]) == sorted(cases)
        assert list(fold.training) == sorted(fold.training)
        assert list(fold.validation) == sorted(fold.validation)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


@given(cases=case_lists, data=st.data(), seed=seeds)
def test_split_cases_groups_stay_on_one_side(cases: list[str], data: st.DataObject, seed: int) -> None:
    groups = {case: data.draw(st.sampled_from(["p1", "p2", "p3", "p4", "p5"])) for case in cases}
    assume(len(set(groups.values())) >= 2)
    folds = split_cases(cases, 2, seed, groups)
    for fold in folds:
        assert not {groups[case] for case in fold.training} & {groups[case] for case in fold.validation}
    per_fold = [len({groups[case] for case in fold.validation}) for fold in folds]
    assert max(per_fold) - min(per_fold) <= 1


@given(cases=case_lists, seed=seeds, shuffle=st.randoms(use_true_random=False))
def test_split_cases_order_of_the_input_does_not_matter(cases: list[str], seed: int, shuffle: random.Random) -> None:
    shuffled = list(cases)
    shuffle.shuffle(shuffled)
    assert split_cases(shuffled, 2, seed) == split_cases(cases, 2, seed)


def test_split_cases_known_seed_gives_known_folds() -> None:
    # order by SHA-256 of "0:a" to "0:f", as `printf 0:a | sha256sum` gives them: f, d, a, c, b, e
    folds = split_cases(["a", "b", "c", "d", "e", "f"], num_folds=3, seed=0)
    assert [fold.validation for fold in folds] == [("c", "f"), ("b", "d"), ("a", "e")]


def test_split_cases_other_seed_gives_other_folds() -> None:
    cases = [f"case_{number:02d}" for number in range(20)]
    assert split_cases(cases, 5, seed=0) != split_cases(cases, 5, seed=1)


def test_split_cases_names_alone_decide_not_their_groups_labels() -> None:
    cases = ["a", "b", "c", "d"]
    assert split_cases(cases, 2, 0, {case: case for case in cases}) == split_cases(cases, 2, 0)


def test_split_cases_missing_group_is_a_group_of_its_own() -> None:
    cases = ["a", "b", "c", "d"]
    folds = split_cases(cases, num_folds=3, seed=0, groups={"a": "patient", "b": "patient"})
    together = [fold for fold in folds if "a" in fold.validation]
    assert len(together) == 1
    assert together[0].validation == ("a", "b")


def test_split_cases_group_named_like_another_case_does_not_merge_them() -> None:
    # "a" belongs to the patient "b"; the case "b" has no group and is one of its own: three groups
    folds = split_cases(["a", "b", "c"], num_folds=3, seed=0, groups={"a": "b"})
    assert sorted(fold.validation for fold in folds) == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize(("num_cases", "num_folds"), [(1, 2), (3, 5), (0, 2), (4, 1), (4, 0), (4, -1)])
def test_split_cases_impossible_number_of_folds_is_refused(num_cases: int, num_folds: int) -> None:
    with pytest.raises(DatasetError) as caught:
        split_cases([f"case_{number}" for number in range(num_cases)], num_folds, seed=0)
    assert f"{num_cases} case(s) cannot make {num_folds} folds" in str(caught.value)
    assert "--folds" in str(caught.value)


def test_split_cases_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(DatasetError, match="cannot make 3 folds"):
        split_cases(["a", "b", "c", "d"], 3, 0, {"a": "p", "b": "p", "c": "q", "d": "q"})


# strata and patients from names


@given(num_groups=st.integers(4, 40), num_folds=st.integers(2, 4), seed=st.integers(0, 5))
def test_split_cases_strata_are_spread_evenly(num_groups: int, num_folds: int, seed: int) -> None:
    cases = [f"case_{number:02d}" for number in range(num_groups)]
    strata = {case: (("tumour",) if number % 2 else (), number) for number, case in enumerate(cases)}
    folds = split_cases(cases, num_folds, seed, strata=strata)
    assert sorted(case for fold in folds for case in fold.validation) == cases
    with_tumour = [sum(bool(strata[case][0]) for case in fold.validation) for fold in folds]
    assert max(with_tumour) - min(with_tumour) <= 1
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_split_cases_sizes_are_balanced() -> None:
    strata = {f"case_{number:02d}": (("organ",), 2**number) for number in range(12)}
    for seed in range(5):
        for fold in split_cases(list(strata), 3, seed, strata=strata):
            ranks = sorted(int(case[-2:]) // 3 for case in fold.validation)
            assert ranks == [0, 1, 2, 3]  # one of each size of three


def test_split_cases_strata_never_part_a_patient() -> None:
    cases = [f"case_{number:02d}" for number in range(20)]
    groups = {case: f"patient_{number // 3}" for number, case in enumerate(cases)}
    strata = {case: (("organ",), number) for number, case in enumerate(cases)}
    for fold in split_cases(cases, 4, 0, groups, strata):
        assert not {groups[case] for case in fold.training} & {groups[case] for case in fold.validation}


def test_presence_strata_first_label_does_not_count() -> None:
    counts = {"a": {"background": 90, "organ": 10, "tumour": 0}, "b": {"background": 100, "organ": 0, "tumour": 0}}
    assert presence_strata(counts) == {"a": (("organ",), 10), "b": ((), 0)}


@pytest.mark.parametrize("pattern", [r"(\w+)_\d", r"(?P<patient>\w+)_(\d)", r"(x)?(?P<patient>[a-z]+)_"])
def test_choose_groups_first_or_named_group_is_the_patient(pattern: str) -> None:
    assert choose_groups(["ann_1", "bob_1"], pattern) == {"ann_1": "ann", "bob_1": "bob"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "is no regular expression"), (r"\w+", "has no group"), (r"(\d+)x", "does not fit the case name 'ann_1'")],
)
def test_choose_groups_pattern_that_cannot_be_used_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        choose_groups(["ann_1"], pattern)
