"""Intensities under the labels of a dataset."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.dataset.fingerprint import IntensityStatistics
from unet_pipeline.dataset.intensities import PooledIntensities, count_samples, sample_foreground
from unet_pipeline.dataset.medical_image import MedicalImage

MAX_SAMPLES = 10_000


def build_image(array: np.ndarray) -> MedicalImage:
    """`array` of shape (channels, *spatial) on a grid of 1 mm."""
    return MedicalImage(array, np.eye(4), (1.0,) * (array.ndim - 1))


def describe(samples: Sequence[np.ndarray], num_missing: int = 0) -> tuple[IntensityStatistics, ...]:
    """Statistics of the samples of all cases, pooled in their order, where `num_missing` more were announced."""
    pooled = PooledIntensities(sum(of_case.shape[1] for of_case in samples) + num_missing)
    for of_case in samples:
        pooled.add(of_case)
    return pooled.describe()


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
    monkeypatch.setattr("unet_pipeline.dataset.intensities._PIECE", 1000)
    num_voxels = 25_000
    image = build_image(np.arange(num_voxels, dtype=np.float32).reshape(1, 50, 500, order="F"))
    label = np.where(np.arange(num_voxels).reshape(50, 500, order="F") < 4999, 0, 1).astype(np.uint8)
    samples = np.sort(sample_foreground(image, label)[0])
    np.testing.assert_array_equal(samples, np.arange(4999, num_voxels, 3))


def test_pooled_intensities_known_samples_give_known_numbers() -> None:
    samples = np.stack([np.arange(1001), np.full(1001, 7)]).astype(np.float32)
    ramp, flat = describe([samples])
    assert (ramp.mean, ramp.percentile_00_5, ramp.percentile_99_5) == pytest.approx((500, 5, 995))
    assert ramp.std == pytest.approx(np.sqrt((1001**2 - 1) / 12))
    assert (flat.mean, flat.std, flat.percentile_00_5, flat.percentile_99_5) == (7, 0, 7, 7)


def test_pooled_intensities_shift_and_scale_carry_over() -> None:
    samples = np.random.default_rng(0).normal(size=(1, 5000)).astype(np.float32)
    (before,) = describe([samples])
    (after,) = describe([3 * samples + 100])
    assert after.mean == pytest.approx(3 * before.mean + 100, rel=1e-5)
    assert after.std == pytest.approx(3 * before.std, rel=1e-5)
    assert after.percentile_99_5 == pytest.approx(3 * before.percentile_99_5 + 100, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_pooled_intensities_by_cases_are_those_of_all_values(dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 200, (2, 3_000)).astype(dtype)
    parts = np.split(values, [700, 701, 2_000], axis=1)
    for found, channel in zip(describe(parts), values.astype(np.float64), strict=True):
        expected = (channel.mean(), channel.std(), *np.percentile(channel, [0.5, 99.5]))
        assert (found.mean, found.std, found.percentile_00_5, found.percentile_99_5) == pytest.approx(
            expected, rel=1e-6
        )


@given(
    dtype=st.sampled_from([np.uint8, np.int8, np.int16, np.uint16, np.float32]),
    sizes=st.lists(st.integers(1, 900), min_size=1, max_size=4),
    num_bits=st.integers(1, 16),
    num_missing=st.integers(0, 5_000),
    seed=st.integers(0, 2**32 - 1),
)
def test_pooled_intensities_case_by_case_give_numpys_numbers(
    dtype: type, sizes: list[int], num_bits: int, num_missing: int, seed: int
) -> None:
    rng, limits = np.random.default_rng(seed), np.iinfo(np.int16 if dtype is np.float32 else dtype)
    lowest = rng.integers(limits.min, limits.max, endpoint=True)
    highest = min(limits.max, lowest + 2**num_bits)
    parts = [rng.integers(lowest, highest, (1, size), endpoint=True).astype(dtype) for size in sizes]
    (found,) = describe(parts, num_missing)
    values = np.concatenate(parts, axis=1).astype(np.float64)
    expected = (values.mean(), values.std(), *np.percentile(values, [0.5, 99.5]))
    assert (found.mean, found.std, found.percentile_00_5, found.percentile_99_5) == pytest.approx(
        expected, rel=1e-12, abs=1e-9
    )


def test_pooled_intensities_of_many_cases_keep_only_the_tails() -> None:
    rng, pooled = np.random.default_rng(0), PooledIntensities(100_000)
    for _ in range(100):
        pooled.add(rng.normal(size=(1, 1_000)).astype(np.float32))
    num_bytes = len(pickle.dumps(pooled))
    assert num_bytes < 1.1 * 2 * 0.005 * 100_000 * np.dtype(np.float64).itemsize


def test_pooled_intensities_another_number_of_channels_is_left_out() -> None:
    pooled = PooledIntensities(30)
    pooled.add(np.full((1, 10), 3, np.uint8))
    pooled.add(np.full((2, 10), 9, np.uint8))
    (found,) = pooled.describe()
    assert (found.mean, found.percentile_99_5) == (3, 3)


def test_pooled_intensities_no_case_gives_no_statistics() -> None:
    assert PooledIntensities(0).describe() == ()


def test_pooled_intensities_leave_the_samples_as_they_are() -> None:
    samples = np.random.default_rng(0).permutation(5_000)[None].astype(np.float32)
    before = samples.copy()
    describe([samples])
    np.testing.assert_array_equal(samples, before)


def test_count_samples_of_all_cases_together_are_bounded() -> None:
    """Memory must not grow with the cases, and data sets of the usual size give as many as ever."""
    assert {count_samples(number) for number in (1, 20, 200)} == {MAX_SAMPLES}
    assert all(number * count_samples(number) <= 2_000_000 for number in (201, 1_000, 20_000))
    assert count_samples(10_000_000) == 1


def test_pooled_intensities_large_offset_keeps_precision() -> None:
    samples = np.full((1, 100_000), 40_000, dtype=np.float32)
    samples[0, ::2] += 1
    (statistics,) = describe([samples])
    assert statistics.mean == pytest.approx(40_000.5, abs=1e-6)
    assert statistics.std == pytest.approx(0.5, abs=1e-6)
