"""References of an evaluation: one label map per case, whatever form its files have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.errors import DatasetError
from unet_pipeline.verbs.references import join_references, read_references

SHAPE = (6, 6, 4)


@pytest.fixture
def organs(tmp_path: Path, write_nifti: Callable) -> Path:
    for number in range(2):
        for name, start in (("", 0), ("spleen", 1), ("liver", 3)):
            path = tmp_path / "organs" / f"s{number}" / (f"segmentations/{name}.nii.gz" if name else "ct.nii.gz")
            path.parent.mkdir(parents=True, exist_ok=True)
            array = np.zeros(SHAPE, np.uint8)
            array[start : start + 2] = 1
            write_nifti(path, array)
    return tmp_path / "organs"


def test_join_references_have_the_values_of_the_plan(organs: Path, tmp_path: Path) -> None:
    found = join_references(read_references(organs), {"background": 0, "spleen": 5, "colon": 7}, tmp_path / "out")
    assert found.labels == {"background": 0, "spleen": 5, "colon": 7}
    path = found.root / found.cases[1].require_label()
    assert path == tmp_path.resolve() / "out" / "references" / "s1.nii.gz"
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:3] = 5
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), expected)
    assert found.cases[1].masks is None


def test_join_references_without_a_table_take_the_datasets_own(organs: Path, tmp_path: Path) -> None:
    found = join_references(read_references(organs), None, tmp_path / "out")
    values = np.asarray(nib.load(found.cases[0].require_label()).dataobj)
    assert (values[1, 0, 0], values[3, 0, 0]) == (2, 1)


def test_join_references_label_maps_stay_where_they_are(nifti_folders: Path, tmp_path: Path) -> None:
    found = read_references(nifti_folders)
    assert join_references(found, {"background": 0, "shell": 1, "core": 2}, tmp_path / "out") is found
    assert not (tmp_path / "out").exists()


def test_read_references_links_out_are_followed_on_request_only(nifti_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for folder in ("images", "labels"):
        (tmp_path / "linked" / folder).symlink_to(nifti_folders / folder)
    with pytest.raises(DatasetError, match="leads out of the dataset"):
        read_references(tmp_path / "linked")
    assert len(read_references(tmp_path / "linked", follow_links=True).cases) == 4
