"""Which unlabelled images are left out, and when a gain counts: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from unet_pipeline.bundle.run_record import ContractVerdict
from unet_pipeline.bundle.unlabelled import PoolGain, PoolImage
from unet_pipeline.evaluation.comparison import ComparisonRow
from unet_pipeline.studies.pool import (
    choose_least_agreement,
    decide,
    describe_gain,
    describe_left_out,
    find_reason,
    measure_agreement,
    reject_before_training,
)

INSIDE = ContractVerdict(verdict="inside")
OUTSIDE = ContractVerdict(verdict="outside", property="size_mm_1", value="300", seen="40 to 60")


def build_row(difference: float, low: float, high: float, num_patients: int = 8) -> ComparisonRow:
    facts = ("mean of labels", "dice", "", 8, num_patients, 0)
    return ComparisonRow(*facts, 0.8, 0.8 + difference, difference, low, high, np.nan, 0.5, 0.5, 1.0, "")


def test_agreement_is_the_mean_dice_of_every_two_maps() -> None:
    first, second, third = (np.array(rows) for rows in ([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]))
    assert measure_agreement([first, first], [1]) == 1
    assert measure_agreement([first, second], [1]) == pytest.approx(2 / 3)
    assert measure_agreement([first, second, third], [1]) == pytest.approx(2 / 9)


def test_agreement_leaves_out_labels_that_neither_map_has() -> None:
    first, second = np.array([[7, 7], [0, 9]]), np.array([[7, 7], [0, 0]])
    assert measure_agreement([first, second], [7, 8]) == 1, "8 is in neither, and 9 is no label"
    assert measure_agreement([first, second], [7, 8, 9]) == pytest.approx(0.5)


def test_agreement_of_maps_without_a_structure_is_none() -> None:
    empty = np.zeros((3, 3), np.uint8)
    assert measure_agreement([empty, empty, empty], [1, 2]) is None
    assert measure_agreement([empty, empty, empty + 1], [1, 2]) == 0


def test_least_agreement_is_a_low_dice_of_new_cases() -> None:
    assert choose_least_agreement(np.array([0.5, 0.6, 0.7, 0.8, 0.9, np.nan, 0.9, 0.9, 0.9, 0.9, 0.9])) == 0.5
    assert choose_least_agreement(np.linspace(0, 1, 21)) == pytest.approx(0.1)
    assert choose_least_agreement(np.array([np.nan])) == 0


def test_half_of_the_folds_can_call_an_image_outside() -> None:
    assert find_reason(0.9, [INSIDE, OUTSIDE, INSIDE], 0.5, False) == ""
    reason = find_reason(0.9, [INSIDE, OUTSIDE], 0.5, False)
    assert reason == "outside of the input contract: size mm 1 is 300, in training 40 to 60"
    assert find_reason(0.9, [ContractVerdict(), ContractVerdict()], 0.5, False) == "", "not compared"


def test_folds_that_disagree_or_find_nothing_leave_an_image_out() -> None:
    assert find_reason(0.5, [INSIDE], 0.5, False) == ""
    assert find_reason(0.499, [INSIDE], 0.5, False).startswith("the folds disagree: agreement 0.499, at least 0.500")
    assert find_reason(None, [INSIDE], 0.5, may_be_empty=False).startswith("no structure: ")
    assert find_reason(None, [INSIDE], 0.5, may_be_empty=True) == ""


def build_images(num_kept: int, num_left_out: int) -> list[PoolImage]:
    reasons = [""] * num_kept + ["the folds disagree: agreement 0.1, at least 0.5 expected"] * num_left_out
    return [PoolImage(name=str(index), files_sha256={}, left_out=reason) for index, reason in enumerate(reasons)]


def test_pool_of_which_less_than_a_tenth_is_left_is_rejected_before_training() -> None:
    assert reject_before_training(build_images(1, 9)) == ""
    assert reject_before_training(build_images(0, 1)).startswith("0 of 1 images are left, and at least 10 % of a pool")
    reason = reject_before_training(build_images(9, 91))
    assert "9 of 100 images are left" in reason
    assert "(91 the folds disagree)" in reason
    assert describe_left_out(build_images(3, 0)) == ""


@pytest.mark.parametrize(
    ("row", "accepted", "said"),
    [
        (
            build_row(0.02, 0.001, 0.03),
            True,
            "the gain is above 0: +0.0200 Dice, +0.0010 to +0.0300 (95 %), 8 patients",
        ),
        (build_row(0.02, 0.0, 0.03), False, "not shown to be above 0"),
        (build_row(0.02, -0.001, 0.03), False, "not shown to be above 0"),
        (build_row(-0.02, -0.03, -0.01), False, "-0.0200 Dice"),
        (build_row(0.02, np.nan, np.nan, 1), False, "no interval, because 1 patient(s) were measured"),
    ],
)
def test_weights_are_kept_only_if_the_whole_interval_lies_above_0(
    row: ComparisonRow, accepted: bool, said: str
) -> None:
    gain = describe_gain(row)
    verdict, reason = decide(gain)
    assert verdict is accepted
    assert said in reason
    assert PoolGain.model_validate_json(gain.model_dump_json()) == gain
