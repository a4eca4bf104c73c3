"""What a new bundle keeps of the dataset's list of cases, and what is not handed over."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.seal import list_sealed_files

from . import phantom_bundles as phantoms


@pytest.fixture
def planned(tmp_path: Path) -> BundleFolder:
    """A bundle of pictures with a list of cases that has a column of its own."""
    root = phantoms.write_pictures(tmp_path / "cells", num_cases=4)
    lines = [
        f"cell_{number:02d},images/cell_{number:02d}.png,labels/cell_{number:02d}.png,p{number // 2},{60 + number}"
        for number in range(4)
    ]
    (root / "cases.csv").write_text("case,image,label,patient,Age\n" + "\n".join(lines) + "\n")
    labels = {"background": 0, "cell": 255}
    return phantoms.silently(
        unet_pipeline.plan, root, tmp_path / "bundle", preset="quick", folds=2, labels=labels
    ).bundle


def test_plan_keeps_further_columns_of_the_list_of_cases(planned: BundleFolder) -> None:
    with planned.case_table.open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["case", "age"],
            *[[f"cell_{number:02d}", str(60 + number)] for number in range(4)],
        ]
    assert planned.read_case_table()["cell_03"] == {"age": "63"}
    assert planned.read_patients() == {"cell_00": "p0", "cell_01": "p0", "cell_02": "p1", "cell_03": "p1"}


def test_list_sealed_files_leave_the_columns_of_the_list_of_cases_out(planned: BundleFolder) -> None:
    names = {path.as_posix() for path in list_sealed_files(planned)}
    assert "evidence/dataset_manifest.json" in names
    assert "evidence/case_table.csv" not in names
