"""Masks that overlap: a value for each combination, a region for each structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.phantom_bundles import draw_organ, write_volume
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.verbs.references import join_references

OVERLAPS = ReadOptions(overlaps=True)


def write_nested(root: Path, num_cases: int = 3) -> Path:
    """A folder per case: the organ with its tumour inside, and a stripe beside and over the organ; a last structure overlaps none."""
    for seed in range(num_cases):
        image, label = draw_organ(seed)
        masks = {
            "organ": label > 0,
            "tumour": label == 2,
            "stripe": np.zeros(label.shape, bool),
            "spot": np.zeros(label.shape, bool),
        }
        masks["stripe"][:, 14:18] = True
        masks["spot"][:3, :3, :3] = True
        for name, mask in masks.items():
            write_volume(root / f"case_{seed}" / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8))
        write_volume(root / f"case_{seed}" / "ct.nii.gz", image)
    return root


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nested(tmp_path_factory.mktemp("overlaps") / "nested")


def test_overlaps_every_structure_can_be_read_back_from_the_joined_map(nested: Path, tmp_path: Path) -> None:
    report = check_dataset(read_dataset(nested), options=OVERLAPS)
    fingerprint = report.require_no_errors()
    assert set(fingerprint.regions) == {"organ", "tumour", "stripe"}
    assert "spot" in fingerprint.labels
    assert "masks-overlap" not in {problem.code for problem in report.problems}
    assert [problem.code for problem in report.problems].count("overlaps-are-regions") == 1
    copies, prepared = prepare_dataset(report, tmp_path / "copies")
    values_of = {**fingerprint.regions, "spot": (fingerprint.labels["spot"],)}
    for copy in prepared:
        joined = read_label_map(copies.root / copy.label).array[0]
        for name, values in values_of.items():
            mask = read_label_map(nested / copy.case / "segmentations" / f"{name}.nii.gz").array[0]
            assert np.array_equal(np.isin(joined, values), mask != 0), name
    plan = plan_from_fingerprint(fingerprint, "../data", "quick").plan
    assert plan.loss == "region_dice_ce"
    assert set(plan.scored_labels) == {"organ", "tumour", "stripe", "spot"}
    again = join_references(read_dataset(nested), plan.label_table, tmp_path, 3, plan.regions)
    for case, copy in zip(again.cases, prepared, strict=True):
        assert np.array_equal(
            read_label_map(case.require_label()).array, read_label_map(copies.root / copy.label).array
        )


def test_overlaps_without_option_higher_value_wins_with_the_option_named(nested: Path) -> None:
    report = check_dataset(read_dataset(nested))
    assert any("--overlaps" in problem.remedy for problem in report.problems if problem.code == "masks-overlap")
    assert report.require_no_errors().regions == {}


def test_overlaps_combination_that_the_plan_has_not_is_an_error(nested: Path, tmp_path: Path) -> None:
    table, regions = {"background": 0, "organ 1": 1, "organ and tumour 2": 2}, {"organ": (1, 2), "tumour": (2,)}
    alone = read_dataset(nested)
    cases = [case for case in alone.cases if case.name == "case_0"]
    joined = join_references(replace(alone, cases=tuple(cases)), table, tmp_path / "fits", 3, regions)
    assert set(np.unique(read_label_map(joined.cases[0].require_label()).array)) == {0, 1, 2}
    disjoint = {"organ": (1,), "tumour": (2,)}
    with pytest.raises(Exception, match="organ and tumour at once"):
        join_references(alone, {"background": 0, "organ 1": 1, "tumour 2": 2}, tmp_path / "no", 3, disjoint)


def test_overlaps_of_label_maps_is_refused(nifti_folders: Path) -> None:
    with pytest.raises(DatasetError, match="has a label map; --overlaps expects a mask per structure"):
        check_dataset(read_dataset(nifti_folders), options=OVERLAPS)
