"""Subsets for a learning curve: nested, of whole patients, the same everywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest

from unet_pipeline.errors import DatasetError
from unet_pipeline.studies.subsets import choose_sizes, nest_subsets

CASES = [f"case_{index:02d}" for index in range(16)]
PATIENTS = {case: f"p{index // 2}" for index, case in enumerate(CASES)}


def test_subsets_of_one_order_are_nested_and_equal_ones_are_there_once() -> None:
    subsets = nest_subsets(CASES, {}, (2, 4, 8, 16), 3, 0)
    assert [len(one.cases) for one in subsets] == [2, 2, 2, 4, 4, 4, 8, 8, 8, 16]
    for repeat in range(3):
        chain = [set(one.cases) for one in subsets if one.repeat == repeat]
        assert all(smaller < larger for smaller, larger in pairwise(chain))
    assert subsets == nest_subsets(CASES[::-1], {}, (2, 4, 8, 16), 3, 0)
    assert subsets != nest_subsets(CASES, {}, (2, 4, 8, 16), 3, 1)


def test_patients_are_whole() -> None:
    for one in nest_subsets(CASES, PATIENTS, (3, 7, 12), 2, 0):
        counts = [sum(PATIENTS[case] == patient for case in one.cases) for patient in set(PATIENTS.values())]
        assert set(counts) <= {0, 2}
        assert len(one.cases) == one.size - one.size % 2


def test_sizes() -> None:
    assert choose_sizes(166) == (20, 41, 83, 166)
    assert choose_sizes(166, (80, 20, 40, 20)) == (20, 40, 80)
    for sizes, words in (((0, 5, 9), "has 0"), ((5, 9, 200), "has 200; expected 1 to 166"), ((5, 9), "2 size")):
        with pytest.raises(DatasetError, match=words):
            choose_sizes(166, sizes)
    with pytest.raises(DatasetError, match="fewer than 3 sizes"):
        nest_subsets(CASES, PATIENTS, (2, 3, 4), 1, 0)
