"""The numbers of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.dataset.fingerprint import Fingerprint, compute_coarsest_factor, read_fingerprint
from unet_pipeline.files import write_json


def test_compute_coarsest_factor_large_smooth_objects_need_few_pixels() -> None:
    row, column = np.indices((300, 400))
    disc = ((row - 150) ** 2 + (column - 200) ** 2 < 100**2).astype(np.uint8) * 255
    assert compute_coarsest_factor(disc) == 4
    assert compute_coarsest_factor(np.zeros((300, 400), np.uint8)) == 4


def test_compute_coarsest_factor_thin_structures_need_all() -> None:
    lines = np.zeros((300, 400), np.uint8)
    lines[::20] = 1
    assert compute_coarsest_factor(lines) == 1
    assert compute_coarsest_factor(1 - lines) == 1  # also when the lines are the first value


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 5)])
def test_compute_coarsest_factor_tiny_pictures_do_not_fail(shape: tuple[int, int]) -> None:
    assert 1 <= compute_coarsest_factor(np.ones(shape, np.uint8)) <= 4


def test_median_shape_native_grids_give_the_middle_per_axis(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(shapes=[(10, 50, 7), (20, 40, 7), (30, 30, 9)])
    assert fingerprint.median_shape() == (20, 40, 7)


def test_median_shape_halved_spacing_doubles_it(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(shapes=[(10, 20, 30)] * 3, spacings_mm=[(1, 2, 3)] * 3)
    assert fingerprint.median_shape((1, 2, 3)) == (10, 20, 30)
    assert fingerprint.median_shape((0.5, 1, 1.5)) == (20, 40, 60)


def test_median_shape_different_spacings_compare_lengths_in_mm(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(shapes=[(10, 40), (20, 20)], spacings_mm=[(2.0, 1.0), (1.0, 2.0)])
    assert fingerprint.median_shape((1, 1)) == (20, 40)


def test_median_shape_coarse_target_keeps_one_voxel(make_fingerprint: Callable) -> None:
    assert make_fingerprint(shapes=[(4, 4)]).median_shape((100, 100)) == (1, 1)


def test_num_voxels_all_cases_are_summed(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(shapes=[(2, 3, 4), (5, 6, 7)], channels=("T1", "T2"))
    assert fingerprint.num_voxels() == 24 + 210
    assert fingerprint.num_cases == 2


def test_read_fingerprint_written_one_is_equal(tmp_path: Path, make_fingerprint: Callable) -> None:
    fingerprint: Fingerprint = make_fingerprint(channels=("T1", "T2"), labels={"background": 0, "Leber": 1})
    write_json(tmp_path / "fingerprint.json", fingerprint.model_dump(mode="json"))
    assert read_fingerprint(tmp_path / "fingerprint.json") == fingerprint
