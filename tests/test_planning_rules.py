"""One test section per planning rule: known answers, then properties of any dataset."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.fingerprint import IntensityStatistics
from pipeline.planning import rules
from pipeline.planning.network_cost import compute_forward_flop
from pipeline.planning.planner import plan_from_fingerprint

TOLERATED_EXCESS = 1.5  # sizes are rounded to the nearest multiple, by an eighth at most along each of three axes
MOST_LEVELS = 6


@st.composite
def draw_grid(draw: Callable, smallest: int = 8, largest: int = 600) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing of a 2D or 3D image; the coarsest axis is six times as coarse as the finest at most."""
    dims = draw(st.integers(2, 3))
    shape = draw(st.tuples(*[st.integers(smallest, largest)] * dims))
    spacing_mm = draw(st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.5, 3.0])] * dims))
    return shape, spacing_mm


def total_stride(topology: rules.Topology) -> tuple[int, ...]:
    return tuple(math.prod(level[axis] for level in topology.strides) for axis in range(len(topology.patch_size)))


# orientation and spacing


@pytest.mark.parametrize(("dims", "codes"), [(2, "RA"), (3, "RAS")])
def test_choose_axcodes_every_dimension_has_one_letter(dims: int, codes: str) -> None:
    assert rules.choose_axcodes(dims).value == codes


def test_choose_spacing_isotropic_cases_give_the_median(make_fingerprint: Callable) -> None:
    spacings = [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.2, 0.9, 1.5)]
    choice = rules.choose_spacing(make_fingerprint(shapes=[(40, 40, 40)] * 3, spacings_mm=spacings), 64**3)
    assert choice.value == (1.2, 1.0, 1.0)
    assert "median of 3 cases" in choice.reason


def test_choose_spacing_coarse_axis_gives_its_tenth_percentile(make_fingerprint: Callable) -> None:
    spacings = [(0.8, 0.8, thickness) for thickness in (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0)]
    choice = rules.choose_spacing(make_fingerprint(shapes=[(40, 40, 20)] * 11, spacings_mm=spacings), 64**3)
    assert choice.value == (0.8, 0.8, 3.0)
    assert "axis 2" in choice.reason


def test_choose_spacing_coarse_axis_is_never_finer_than_the_others(make_fingerprint: Callable) -> None:
    spacings = [(1.0, 1.0, 0.5)] * 4 + [(1.0, 1.0, 5.0)] * 6
    choice = rules.choose_spacing(make_fingerprint(shapes=[(40, 40, 20)] * 10, spacings_mm=spacings), 64**3)
    assert choice.value == (1.0, 1.0, 1.0)


def test_choose_spacing_three_times_as_coarse_is_not_yet_anisotropic(make_fingerprint: Callable) -> None:
    spacings = [(1.0, 1.0, 1.0)] + [(1.0, 1.0, 3.0)] * 9
    choice = rules.choose_spacing(make_fingerprint(shapes=[(40, 40, 20)] * 10, spacings_mm=spacings), 64**3)
    assert choice.value == (1.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("shape", "coarsest_factor", "expected", "words"),
    [
        ((100, 80), 4, 1, "in pixels"),
        ((512, 512), 4, 2, "every 2 pixels are one, so that a patch sees 100% of a picture"),
        ((512, 512), 1, 1, "structures that fewer would lose"),
        ((800, 540), 4, 3, "every 3 pixels are one"),
        ((800, 540), 2, 2, "a patch sees 61% of a picture"),
        ((5000, 5000), 4, 4, "a patch sees 4% of a picture"),
    ],
)
def test_choose_spacing_pictures_are_in_pixels_or_every_nth(
    make_fingerprint: Callable, shape: tuple[int, int], coarsest_factor: int, expected: int, words: str
) -> None:
    fingerprint = make_fingerprint(shapes=[shape] * 3, suffix=".png")
    cases = tuple(case.model_copy(update={"coarsest_factor": coarsest_factor}) for case in fingerprint.cases)
    choice = rules.choose_spacing(fingerprint.model_copy(update={"cases": cases}), 256**2)
    assert choice.value == (expected, expected)
    assert words in choice.reason


def test_choose_spacing_doubled_spacing_doubles_the_target(make_fingerprint: Callable) -> None:
    spacings = [(0.5, 0.6, 2.5), (0.7, 0.7, 4.0), (0.6, 0.5, 3.0)]
    doubled = [tuple(2 * size for size in spacing) for spacing in spacings]
    shapes = [(40, 40, 20)] * 3
    once = rules.choose_spacing(make_fingerprint(shapes=shapes, spacings_mm=spacings), 64**3).value
    twice = rules.choose_spacing(make_fingerprint(shapes=shapes, spacings_mm=doubled), 64**3).value
    assert twice == pytest.approx([2 * size for size in once])


# intensities


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("CT", True), (" ct ", True), ("HU", True), ("Computed Tomography", True), ("MRI", False), ("octane", False)],
)
def test_is_ct_known_channel_names_are_told_apart(channel: str, expected: bool) -> None:
    assert rules.is_ct(channel) is expected


def test_choose_normalisation_ct_uses_the_datasets_statistics(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(channels=("CT",)).model_copy(
        update={"intensities": (IntensityStatistics(mean=80, std=30, percentile_00_5=-50, percentile_99_5=200),)}
    )
    assert rules.choose_normalisation(fingerprint).value == rules.Normalisation(
        clip=True, lower=-50, upper=200, subtrahend=(80,), divisor=(30,)
    )


def test_choose_normalisation_constant_ct_has_a_positive_divisor(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(channels=("CT",)).model_copy(
        update={"intensities": (IntensityStatistics(mean=80, std=0, percentile_00_5=80, percentile_99_5=80),)}
    )
    divisor = rules.choose_normalisation(fingerprint).value.divisor
    assert divisor is not None
    assert divisor[0] > 0


@pytest.mark.parametrize("channels", [("MRI",), ("T1", "T2"), ("CT", "PET"), ("channel_0",)])
def test_choose_normalisation_other_channels_use_each_image(make_fingerprint: Callable, channels: tuple) -> None:
    choice = rules.choose_normalisation(make_fingerprint(channels=channels))
    assert (choice.value.clip, choice.value.subtrahend, choice.value.divisor) == (False, None, None)
    assert channels[0] in choice.reason


# patch and network


def test_choose_topology_small_cube_is_taken_whole() -> None:
    topology = rules.choose_topology((40, 56, 40), (1, 1, 1), 128**3).value
    assert topology.patch_size == (40, 56, 40)
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.kernel_size == ((3, 3, 3),) * 4


def test_choose_topology_large_picture_is_halved_five_times() -> None:
    topology = rules.choose_topology((512, 512), (1, 1), 512**2).value
    assert topology.patch_size == (512, 512)
    assert topology.strides == ((1, 1), *[(2, 2)] * 5)


def test_choose_topology_thick_slices_are_halved_and_blurred_in_plane_first() -> None:
    topology = rules.choose_topology((256, 256, 20), (1, 1, 5), 128**3).value
    assert topology.strides[:3] == ((1, 1, 1), (2, 2, 1), (2, 2, 1))
    assert topology.strides[3] == (2, 2, 2)
    assert topology.kernel_size[:2] == ((3, 3, 1), (3, 3, 1))
    assert topology.kernel_size[3:] == ((3, 3, 3),) * len(topology.kernel_size[3:])


def test_choose_topology_tiny_image_has_the_least_depth() -> None:
    topology = rules.choose_topology((5, 6), (1, 1), 512**2).value
    assert topology.strides == ((1, 1),) * 3
    assert topology.patch_size == (5, 6)


def test_choose_topology_reason_names_image_budget_and_patch() -> None:
    reason = rules.choose_topology((40, 56, 40), (1, 1, 1), 128**3).reason
    for part in ("40x56x40", str(128**3), "(8, 8, 8)"):
        assert part in reason


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 48**3, 64**3, 512**2, 128**3]))
def test_choose_topology_any_image_gives_a_patch_within_the_budget(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    topology = rules.choose_topology(shape, spacing_mm, max_voxels).value
    factors = total_stride(topology)
    assert all(size % factor == 0 for size, factor in zip(topology.patch_size, factors, strict=True))
    assert math.prod(topology.patch_size) <= TOLERATED_EXCESS * max_voxels
    for size, voxels in zip(topology.patch_size, shape, strict=True):
        assert size <= 1.13 * voxels
    if math.prod(shape) <= max_voxels:
        for size, voxels in zip(topology.patch_size, shape, strict=True):
            assert size >= 0.87 * voxels


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 64**3, 128**3]))
def test_choose_topology_any_image_gives_levels_that_a_network_can_have(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    topology = rules.choose_topology(shape, spacing_mm, max_voxels).value
    levels = len(topology.strides)
    assert len(topology.kernel_size) == levels
    assert 3 <= levels <= MOST_LEVELS
    assert set(topology.strides[0]) == {1}
    assert {step for level in topology.strides for step in level} <= {1, 2}
    assert {taps for level in topology.kernel_size for taps in level} <= {1, 3}
    for size, factor in zip(topology.patch_size, total_stride(topology), strict=True):
        assert factor == 1 or size // factor >= rules.MIN_BOTTLENECK_VOXELS


@given(grid=draw_grid(), preset=st.sampled_from(sorted(rules.PRESETS)))
def test_choose_topology_any_image_gives_a_plan_that_validates(
    make_fingerprint: Callable, grid: tuple, preset: str
) -> None:
    shape, spacing_mm = grid
    plan = plan_from_fingerprint(make_fingerprint(shapes=[shape], spacings_mm=[spacing_mm]), "data", preset).plan
    assert plan.total_stride == total_stride(rules.Topology(plan.patch_size, plan.kernel_size, plan.strides))


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 64**3, 128**3]))
def test_choose_topology_scaled_spacing_changes_nothing(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    doubled = [2 * size for size in spacing_mm]
    assert rules.choose_topology(shape, doubled, max_voxels) == rules.choose_topology(shape, spacing_mm, max_voxels)


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 64**3, 128**3]))
def test_choose_topology_kernel_is_never_shortened_on_the_way_down(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    kernels = rules.choose_topology(shape, spacing_mm, max_voxels).value.kernel_size
    for axis in range(len(shape)):
        taps = [level[axis] for level in kernels]
        assert taps == sorted(taps), (shape, spacing_mm, kernels)


@given(size=st.integers(8, 600), dims=st.integers(2, 3), max_voxels=st.sampled_from([128**2, 256**2, 48**3, 128**3]))
def test_choose_topology_equal_axes_are_treated_alike(size: int, dims: int, max_voxels: int) -> None:
    topology = rules.choose_topology((size,) * dims, (1.0,) * dims, max_voxels).value
    assert len(set(topology.patch_size)) == 1
    assert all(len(set(level)) == 1 for level in (*topology.strides, *topology.kernel_size))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((200, 300, 90), (1.0, 1.0, 3.0)), ((640, 400, 30), (0.4, 0.5, 5.0))]
)
def test_choose_topology_permuted_axes_permute_the_result(shape: tuple, spacing_mm: tuple) -> None:
    straight = rules.choose_topology(shape, spacing_mm, 64**3).value
    turned = rules.choose_topology(shape[::-1], spacing_mm[::-1], 64**3).value
    assert turned.patch_size == straight.patch_size[::-1]
    assert turned.strides == tuple(level[::-1] for level in straight.strides)
    assert turned.kernel_size == tuple(level[::-1] for level in straight.kernel_size)


# window, filters, supervision, crops


def test_choose_window_without_growth_is_the_patch() -> None:
    assert rules.choose_window((35, 50, 36), (32, 48, 32), (8, 8, 8), 1.0).value == (32, 48, 32)
    assert rules.choose_window((512, 512, 300), (128, 128, 96), (32, 32, 32), 1.0).value == (128, 128, 96)


def test_choose_window_large_image_grows_the_patch_to_the_limit() -> None:
    assert rules.choose_window((98, 116, 94), (48, 48, 48), (8, 8, 8), 4 / 3).value == (64, 64, 64)


def test_choose_window_image_little_above_the_patch_is_rounded_up() -> None:
    assert rules.choose_window((35, 50, 36), (32, 48, 32), (8, 8, 8), 1.5).value == (40, 56, 40)


def test_choose_window_is_never_smaller_than_the_patch() -> None:
    assert rules.choose_window((30, 100), (48, 96), (16, 16), 2.0).value == (48, 112)


def test_choose_filters_levels_double_up_to_the_limit() -> None:
    assert rules.choose_filters(6, rules.PRESETS["standard"]).value == (32, 64, 128, 256, 320, 320)
    assert rules.choose_filters(4, rules.PRESETS["quick"]).value == (16, 32, 64, 128)


@pytest.mark.parametrize(("levels", "heads"), [(3, 2), (4, 3), (5, 3), (6, 3)])
def test_choose_supervision_weights_are_halved_and_sum_to_one(levels: int, heads: int) -> None:
    weights = rules.choose_supervision(levels).value
    assert len(weights) == heads
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    for upper, lower in itertools.pairwise(weights):
        assert lower == pytest.approx(upper / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("num_labels", "expected"), [(2, (0.5, 0.5)), (3, (0.5, 0.25, 0.25)), (5, (0.5, 0.125, 0.125, 0.125, 0.125))]
)
def test_choose_crop_ratios_foreground_shares_one_half(num_labels: int, expected: tuple) -> None:
    assert rules.choose_crop_ratios(num_labels, 0.5).value == expected


def test_choose_crop_ratios_given_share_is_kept() -> None:
    choice = rules.choose_crop_ratios(3, foreground_share=1 / 3)
    assert choice.value == pytest.approx((2 / 3, 1 / 6, 1 / 6), abs=1e-6)
    assert choice.reason.startswith("33%")


@given(num_labels=st.integers(2, 256))
def test_choose_crop_ratios_any_number_of_labels_sums_to_one(num_labels: int) -> None:
    ratios = rules.choose_crop_ratios(num_labels, 0.5).value
    assert len(ratios) == num_labels
    assert sum(ratios) == pytest.approx(1, abs=1e-3)
    assert min(ratios) > 0


# schedule


def build_preset(**changes: Any) -> rules.Preset:
    """A preset of 30 TFLOP with two patches a batch and four validations, or with `changes`."""
    values = {
        "name": "phantom",
        "budget_tflop": 30.0,
        "base_filters": 16,
        "max_filters": 256,
        "batch_size": 2,
        "patch_voxels": {2: 256**2, 3: 64**3},
        "window_growth": 1.0,
        "num_validations": 4,
        "learning_rate": 1e-3,
        "foreground_share": 0.5,
        "augmentation_share": 1.0,
    }
    return rules.Preset(**{**values, **changes})


def test_choose_schedule_known_budget_buys_known_iterations() -> None:
    # 30e12 / (3 passes x 1e9 x 2 patches) = 5000 iterations
    choice = rules.choose_schedule(build_preset(), forward_flop=1e9)
    assert choice.value.iterations_per_epoch * choice.value.num_epochs == 5000
    assert choice.value.iterations_per_epoch == 250
    assert choice.value.val_interval == 5
    assert choice.value.warmup_iterations == 200
    assert "5000 iterations" in choice.reason


def test_choose_schedule_doubled_cost_halves_the_training() -> None:
    cheap = rules.choose_schedule(build_preset(), 1e9).value
    dear = rules.choose_schedule(build_preset(batch_size=4), 1e9).value
    assert dear.num_epochs * dear.iterations_per_epoch * 2 == cheap.num_epochs * cheap.iterations_per_epoch


def test_choose_schedule_without_budget_has_nnunets_length() -> None:
    schedule = rules.choose_schedule(build_preset(budget_tflop=0), 1e9).value
    assert schedule.num_epochs * schedule.iterations_per_epoch == 250_000


def test_choose_schedule_network_beyond_the_budget_still_trains() -> None:
    schedule = rules.choose_schedule(build_preset(), 1e15).value
    assert schedule.num_epochs * schedule.iterations_per_epoch == 40
    assert schedule.warmup_iterations == 10


@given(forward_flop=st.floats(1e6, 1e13), num_validations=st.integers(1, 50))
def test_choose_schedule_any_cost_keeps_the_budget(forward_flop: float, num_validations: int) -> None:
    schedule = rules.choose_schedule(build_preset(num_validations=num_validations), forward_flop).value
    iterations = schedule.num_epochs * schedule.iterations_per_epoch
    affordable = max(40, int(30e12 / (6 * forward_flop)))
    assert abs(iterations - affordable) <= schedule.val_interval * schedule.iterations_per_epoch
    assert 1 <= schedule.val_interval <= schedule.num_epochs
    assert schedule.num_epochs // schedule.val_interval <= 1.5 * num_validations + 1
    assert schedule.warmup_iterations < iterations


@given(forward_flop=st.floats(1e6, 1e13), num_validations=st.integers(1, 50))
def test_choose_schedule_last_epoch_is_validated(forward_flop: float, num_validations: int) -> None:
    """The learning rate ends at its least there, so the last weights are the likely best ones."""
    schedule = rules.choose_schedule(build_preset(num_validations=num_validations), forward_flop).value
    assert schedule.num_epochs % schedule.val_interval == 0


def test_estimate_forward_flop_is_the_count_of_the_topology() -> None:
    topology = rules.choose_topology((40, 56, 40), (1, 1, 1), 128**3).value
    expected = compute_forward_flop((40, 56, 40), (32, 64, 128, 256), topology.kernel_size, topology.strides, 1, 3)
    assert rules.estimate_forward_flop(topology, (32, 64, 128, 256), 1, 3) == expected


# memory


def test_choose_cache_rate_small_dataset_is_kept_whole(make_fingerprint: Callable) -> None:
    assert rules.choose_cache_rate(make_fingerprint(), (1.0, 1.0, 1.0)).value == 1.0


def test_choose_cache_rate_large_dataset_is_kept_in_part(make_fingerprint: Callable) -> None:
    # 16 cases of 2^28 voxels, 4 bytes of image and 1 of label each: 20 GiB
    fingerprint = make_fingerprint(shapes=[(1024, 1024, 256)] * 16)
    choice = rules.choose_cache_rate(fingerprint, (1.0, 1.0, 1.0), budget_gib=5)
    assert choice.value == pytest.approx(0.25)
    assert "20 GiB" in choice.reason


def test_choose_cache_rate_halved_spacing_keeps_an_eighth(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint(shapes=[(1024, 1024, 256)] * 16)
    assert rules.choose_cache_rate(fingerprint, (0.5, 0.5, 0.5), budget_gib=8).value == pytest.approx(0.05, abs=1e-3)
