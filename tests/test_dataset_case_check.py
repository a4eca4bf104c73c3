"""What one case tells, in pieces and as a whole."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.dataset import case_check
from unet_pipeline.dataset.case_check import examine_case
from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.options import ReadOptions

CASE = Case("a", Path("a.nii.gz"), Path("b.nii.gz"))


@pytest.fixture
def root(tmp_path: Path, write_nifti: Callable, volume_phantom: Callable) -> Path:
    image, label = volume_phantom()
    write_nifti(tmp_path / "a.nii.gz", image)
    write_nifti(tmp_path / "b.nii.gz", label)
    return tmp_path


@pytest.mark.parametrize("piece", [7, 100, 1 << 20])
def test_examine_case_does_not_depend_on_the_piece(
    root: Path, piece: int, monkeypatch: pytest.MonkeyPatch, volume_phantom: Callable
) -> None:
    expected = examine_case(root, CASE, ReadOptions())
    monkeypatch.setattr(case_check, "_PIECE", piece)
    found = examine_case(root, CASE, ReadOptions())
    _, label = volume_phantom()
    assert found.voxels_by_value == {value: int((label == value).sum()) for value in (0, 1, 2)}
    assert found.image_digest == expected.image_digest
    assert found.records == expected.records


def test_examine_case_digest_is_of_the_voxels_and_not_of_the_file(root: Path) -> None:
    before = examine_case(root, CASE, ReadOptions())
    content = (root / "a.nii.gz").read_bytes()
    (root / "a.nii.gz").write_bytes(gzip.compress(gzip.decompress(content), compresslevel=1, mtime=5))
    after = examine_case(root, CASE, ReadOptions())
    assert (root / "a.nii.gz").read_bytes() != content
    assert after.image_digest == before.image_digest
    assert after.records[0].sha256 != before.records[0].sha256


def test_examine_case_other_shape_of_the_same_bytes_is_another_image(root: Path, write_nifti: Callable) -> None:
    before = examine_case(root, CASE, ReadOptions())
    array = np.zeros((6, 8, 10), np.int16)
    array[0, 0, 0] = 1
    write_nifti(root / "a.nii.gz", array)
    first = examine_case(root, CASE, ReadOptions()).image_digest
    write_nifti(root / "a.nii.gz", array.reshape((8, 6, 10), order="F"))
    second = examine_case(root, CASE, ReadOptions()).image_digest
    assert len({before.image_digest, first, second}) == 3


def test_examine_case_broken_image_still_tells_the_values_of_its_label(root: Path) -> None:
    (root / "a.nii.gz").write_bytes(b"")
    found = examine_case(root, CASE, ReadOptions())
    assert [problem.file for problem in found.problems] == ["a.nii.gz"]
    assert set(found.voxels_by_value) == {0, 1, 2}
    assert found.shape == ()
