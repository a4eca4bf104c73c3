"""The numbers of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.fingerprint import (
    Fingerprint,
    compute_coarsest_factor,
    compute_intensity_statistics,
    count_samples,
    read_fingerprint,
    sample_foreground,
)
from pipeline.dataset.image import MedicalImage
from pipeline.files import write_json

MAX_SAMPLES = 10_000


def build_image(array: np.ndarray) -> MedicalImage:
    """`array` of shape (channels, *spatial) on a grid of 1 mm."""
    return MedicalImage(array, np.eye(4), (1.0,) * (array.ndim - 1))


def test_sample_foreground_small_mask_gives_exactly_its_voxels() -> None:
    image = build_image(np.arange(12, dtype=np.int16).reshape(1, 3, 4))
    label = np.zeros((3, 4), dtype=np.uint8)
    label[1, 2], label[2, 0] = 1, 255
    samples = sample_foreground(image, label)
    assert samples.dtype == np.int16
    assert sorted(samples[0].tolist()) == [6, 8]


def test_sample_foreground_several_channels_are_sampled_at_the_same_voxels() -> None:
    first = np.arange(12, dtype=np.float32).reshape(3, 4)
    label = (first > 8).astype(np.uint8)
    samples = sample_foreground(build_image(np.stack([first, 100 + first])), label)
    assert sorted(samples[0].tolist()) == [9, 10, 11]
    np.testing.assert_array_equal(samples[1], samples[0] + 100)


def test_sample_foreground_empty_mask_samples_the_whole_image() -> None:
    image = build_image(np.arange(12, dtype=np.int16).reshape(1, 3, 4))
    assert sorted(sample_foreground(image, np.zeros((3, 4), np.uint8))[0].tolist()) == list(range(12))


@pytest.mark.parametrize("num_voxels", [9_999, 10_000, 10_001, 19_999, 20_000, 123_457])
def test_sample_foreground_large_mask_is_thinned_evenly(num_voxels: int) -> None:
    image = build_image(np.arange(num_voxels, dtype=np.float32).reshape(1, -1, 1))
    samples = sample_foreground(image, np.ones((num_voxels, 1), np.uint8))
    assert MAX_SAMPLES / 2 < samples.shape[1] <= MAX_SAMPLES
    assert len(set(np.diff(samples[0]).tolist())) == 1
    assert samples.mean() == pytest.approx((num_voxels - 1) / 2, rel=0.01)


def test_sample_foreground_volume_larger_than_a_piece_keeps_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.fingerprint._PIECE", 1000)
    num_voxels = 25_000
    image = build_image(np.arange(num_voxels, dtype=np.float32).reshape(1, 50, 500, order="F"))
    label = np.where(np.arange(num_voxels).reshape(50, 500, order="F") < 4999, 0, 1).astype(np.uint8)
    samples = np.sort(sample_foreground(image, label)[0])
    np.testing.assert_array_equal(samples, np.arange(4999, num_voxels, 3))


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


def test_compute_intensity_statistics_known_samples_give_known_numbers() -> None:
    samples = np.stack([np.arange(1001), np.full(1001, 7)]).astype(np.float32)
    ramp, flat = compute_intensity_statistics([samples])
    assert (ramp.mean, ramp.percentile_00_5, ramp.percentile_99_5) == pytest.approx((500, 5, 995))
    assert ramp.std == pytest.approx(np.sqrt((1001**2 - 1) / 12))
    assert (flat.mean, flat.std, flat.percentile_00_5, flat.percentile_99_5) == (7, 0, 7, 7)


def test_compute_intensity_statistics_shift_and_scale_carry_over() -> None:
    samples = np.random.default_rng(0).normal(size=(1, 5000)).astype(np.float32)
    (before,) = compute_intensity_statistics([samples])
    (after,) = compute_intensity_statistics([3 * samples + 100])
    assert after.mean == pytest.approx(3 * before.mean + 100, rel=1e-5)
    assert after.std == pytest.approx(3 * before.std, rel=1e-5)
    assert after.percentile_99_5 == pytest.approx(3 * before.percentile_99_5 + 100, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_compute_intensity_statistics_by_cases_are_those_of_all_values(dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 200, (2, 3_000)).astype(dtype)
    parts = np.split(values, [700, 701, 2_000], axis=1)
    for found, channel in zip(compute_intensity_statistics(parts), values.astype(np.float64), strict=True):
        expected = (channel.mean(), channel.std(), *np.percentile(channel, [0.5, 99.5]))
        assert (found.mean, found.std, found.percentile_00_5, found.percentile_99_5) == pytest.approx(
            expected, rel=1e-6
        )


def test_compute_intensity_statistics_leave_the_samples_as_they_are() -> None:
    samples = np.random.default_rng(0).permutation(5_000)[None].astype(np.float32)
    before = samples.copy()
    compute_intensity_statistics([samples])
    np.testing.assert_array_equal(samples, before)


def test_count_samples_of_all_cases_together_are_bounded() -> None:
    """Memory must not grow with the cases, and data sets of the usual size give as many as ever."""
    assert {count_samples(number) for number in (1, 20, 200)} == {MAX_SAMPLES}
    assert all(number * count_samples(number) <= 2_000_000 for number in (201, 1_000, 20_000))
    assert count_samples(10_000_000) == 1


def test_compute_intensity_statistics_large_offset_keeps_precision() -> None:
    samples = np.full((1, 100_000), 40_000, dtype=np.float32)
    samples[0, ::2] += 1
    (statistics,) = compute_intensity_statistics([samples])
    assert statistics.mean == pytest.approx(40_000.5, abs=1e-6)
    assert statistics.std == pytest.approx(0.5, abs=1e-6)


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
