"""One test section per planning rule: known answers, then properties of any dataset."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.dataset.fingerprint import Fingerprint, IntensityStatistics
from unet_pipeline.planning import rules
from unet_pipeline.planning.presets import Preset

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


# rotation and mirroring


def describe_pictures(make_fingerprint: Callable, mirroring: tuple, turning: bool) -> Fingerprint:
    fingerprint = make_fingerprint(shapes=[(256, 200)] * 3, suffix=".png")
    return fingerprint.model_copy(update={"mirroring_matters": mirroring, "turning_matters": turning})


def test_choose_mirroring_pictures_that_lie_any_way_round_are_mirrored_and_turned(make_fingerprint: Callable) -> None:
    fingerprint = describe_pictures(make_fingerprint, (False, False), False)
    assert rules.choose_mirroring(fingerprint).value == (0.5, 0.5)
    assert rules.choose_rotation(fingerprint, (1, 1)).value == pytest.approx((math.pi,), abs=1e-5)


def test_choose_mirroring_pictures_that_lie_one_way_round_are_kept_so(make_fingerprint: Callable) -> None:
    fingerprint = describe_pictures(make_fingerprint, (False, True), True)
    mirroring, rotation = rules.choose_mirroring(fingerprint), rules.choose_rotation(fingerprint, (1, 1))
    assert mirroring.value == (0.5, 0.0)
    assert "not along the height" in mirroring.reason
    assert rotation.value == (0.35,)


def test_choose_mirroring_volumes_are_not_mirrored(make_fingerprint: Callable) -> None:
    assert rules.choose_mirroring(make_fingerprint()).value == (0, 0, 0)


# crops


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


# loss and learning rate


def test_choose_class_weights_rare_label_weighs_more(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint()
    cases = tuple(
        case.model_copy(update={"num_voxels": {"background": 900, "organ": 100}}) for case in fingerprint.cases
    )
    choice = rules.choose_class_weights(fingerprint.model_copy(update={"cases": cases}))
    assert choice.value == pytest.approx((0.5 / 0.9, 5.0), abs=1e-6)


def test_choose_class_weights_mean_over_the_voxels_is_one(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint()
    cases = tuple(
        case.model_copy(update={"num_voxels": {"background": 600, "organ": 400}}) for case in fingerprint.cases
    )
    background, organ = rules.choose_class_weights(fingerprint.model_copy(update={"cases": cases})).value
    assert 0.6 * background + 0.4 * organ == pytest.approx(1, abs=1e-5)


def test_choose_class_weights_absent_label_is_limited(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint()
    cases = tuple(
        case.model_copy(update={"num_voxels": {"background": 1000, "organ": 0}}) for case in fingerprint.cases
    )
    assert rules.choose_class_weights(fingerprint.model_copy(update={"cases": cases})).value == (0.5, 10.0)


def test_choose_learning_rate_without_normalisation_is_a_tenth() -> None:
    assert rules.choose_learning_rate(build_preset(), "instance").value == 1e-3
    assert rules.choose_learning_rate(build_preset(), "none").value == pytest.approx(1e-4)


# schedule


def build_preset(**changes: Any) -> Preset:
    """A preset of 30 TFLOP with two patches a batch and four validations, or with `changes`."""
    values = {
        "name": "phantom",
        "budget_tflop": 30.0,
        "max_iterations": 250_000,
        "promised_minutes": 30.0,
        "base_filters": 16,
        "max_filters": 256,
        "batch_size": 2,
        "patch_voxels": {2: 256**2, 3: 64**3},
        "window_growth": 1.0,
        "num_validations": 4,
        "learning_rate": 1e-3,
        "foreground_share": 0.5,
        "augmentation_share": 1.0,
        "published_width": False,
        "memory_gib": 8.0,
    }
    return Preset(**{**values, **changes})


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


def test_choose_schedule_small_patch_has_the_ceiling_of_steps_and_says_so() -> None:
    # 30e12 / (3 passes x 1e6 x 2 patches) = 5 million iterations, a day of them without the ceiling
    choice = rules.choose_schedule(build_preset(max_iterations=6000), forward_flop=1e6)
    assert choice.value.num_epochs * choice.value.iterations_per_epoch == 6000
    assert choice.value.warmup_iterations == 240
    assert "0.0010 GFLOP a patch" in choice.reason
    assert "5000000 iterations; at most 6000" in choice.reason


def test_choose_schedule_below_the_ceiling_is_as_without_one() -> None:
    assert rules.choose_schedule(build_preset(max_iterations=5000), 1e9) == rules.choose_schedule(build_preset(), 1e9)


@given(forward_flop=st.floats(1e3, 1e13), num_validations=st.integers(1, 50), ceiling=st.integers(100, 10_000))
def test_choose_schedule_any_cost_keeps_the_ceiling(forward_flop: float, num_validations: int, ceiling: int) -> None:
    preset = build_preset(num_validations=num_validations, max_iterations=ceiling)
    schedule = rules.choose_schedule(preset, forward_flop).value
    # whole epochs, and whole intervals between validations
    rounding = schedule.val_interval * schedule.iterations_per_epoch
    assert schedule.num_epochs * schedule.iterations_per_epoch <= ceiling + rounding


@given(forward_flop=st.floats(1e8, 1e13), num_validations=st.integers(1, 50))
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
