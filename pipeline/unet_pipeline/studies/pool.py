"""Which unlabelled images are worth training on, and whether training on them has helped: the rules, without files or networks.

An image is left out where the input contract calls it `outside`, where the networks of the folds disagree about it more than they err on
labelled cases that they have not seen, or where none of them finds anything. A pool of which hardly anything is left is rejected before any
training; another one stands or falls with the paired gain on the validation cases.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.bundle.run_record import ContractVerdict
from unet_pipeline.bundle.unlabelled import PoolGain, PoolImage
from unet_pipeline.evaluation.bootstrap import INTERVAL
from unet_pipeline.quality.contract import OUTSIDE

if TYPE_CHECKING:
    from unet_pipeline.evaluation.comparison import ComparisonRow

LEAST_SHARE = 0.1  # of a pool; a network's luck lets single images of anything through (a heuristic)
_QUANTILE = 0.1  # of Dice on labelled cases that the folds have not seen (a heuristic)
OUTSIDE_CONTRACT, DISAGREE, NOTHING_THERE = "outside of the input contract", "the folds disagree", "no structure"
NOT_PREDICTED, LABELLED, TWICE = "cannot be predicted", "a file of the dataset", "there twice"


def measure_agreement(label_maps: Sequence[np.ndarray], values: Sequence[int]) -> float | None:
    """Mean Dice between every two label maps, over the labels that at least one of the two has.

    Args:
        label_maps: of one image by several networks, of one shape, integers from 0 to 255.
        values: of the labels but the background.

    Returns:
        0 (nothing in common) to 1 (equal); None where no label map has any of the labels.
    """
    codes = np.zeros(256, np.int64)
    codes[list(values)] = np.arange(1, len(values) + 1)
    coded = [codes[label_map.reshape(-1).astype(np.uint8)] for label_map in label_maps]
    size = len(values) + 1
    means = []
    for first, second in itertools.combinations(coded, 2):
        joint = np.bincount(first * size + second, minlength=size * size).reshape(size, size)
        total = (joint.sum(axis=0) + joint.sum(axis=1))[1:]
        if total.any():
            means.append(float((2 * joint.diagonal()[1:][total > 0] / total[total > 0]).mean()))
    return float(np.mean(means)) if means else None


def choose_least_agreement(dice: np.ndarray) -> float:
    """The agreement below which an image is left out: Dice that a tenth of the labelled cases stays below when they are new.

    Args:
        dice: of each labelled case, by the network that has not seen it, mean of the labels; NaN where undefined.

    Returns:
        0 to 1; 0 where no case has a value.
    """
    known = dice[~np.isnan(dice)]
    return float(np.quantile(known, _QUANTILE, method="lower")) if len(known) else 0.0


def find_reason(
    agreement: float | None, judgements: Sequence[ContractVerdict], least_agreement: float, may_be_empty: bool
) -> str:
    """Why an image is left out; empty for one that is trained on.

    Args:
        agreement: of its label maps.
        judgements: by the input contract, one for each fold's network; half of them decide.
        least_agreement: from `choose_least_agreement`.
        may_be_empty: there are labelled cases without any structure.
    """
    outside = [one for one in judgements if one.verdict == OUTSIDE]
    if outside and 2 * len(outside) >= len(judgements):
        first = outside[0]
        return f"{OUTSIDE_CONTRACT}: {first.property.replace('_', ' ')} is {first.value}, in training {first.seen}"
    if agreement is None:
        return "" if may_be_empty else f"{NOTHING_THERE}: no network finds one, and every labelled case has one"
    if agreement < least_agreement:
        return f"{DISAGREE}: agreement {agreement:.3f}, at least {least_agreement:.3f} expected"
    return ""


def describe_left_out(images: Sequence[PoolImage]) -> str:
    """Numbers of images by the kind of reason, such as "40 the folds disagree, 2 there twice"; empty where all are kept."""
    kinds = Counter(image.left_out.partition(":")[0] for image in images if image.left_out)
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def reject_before_training(images: Sequence[PoolImage]) -> str:
    """Why a pool is not trained on at all; empty for one that is."""
    num_kept = sum(not image.left_out for image in images)
    if num_kept >= max(1.0, LEAST_SHARE * len(images)):
        return ""
    return (
        f"{num_kept} of {len(images)} images are left, and at least {LEAST_SHARE:.0%} of a pool like the training are expected "
        f"({describe_left_out(images)})"
    ).replace("%", " %")


def describe_gain(row: ComparisonRow) -> PoolGain:
    """The gain in the words of the record; `row` compares the trainings without and with the pool."""
    low, high = (None if np.isnan(end) else float(end) for end in (row.low, row.high))
    numbers = (float(number) for number in (row.mean_a, row.mean_b, row.difference))
    before, after, difference = numbers
    return PoolGain(
        metric=row.metric,
        label=row.label,
        num_cases=row.n,
        num_patients=row.num_patients,
        before=before,
        after=after,
        difference=difference,
        low=low,
        high=high,
        interval=INTERVAL,
    )


def decide(gain: PoolGain) -> tuple[bool, str]:
    """Whether the weights that were trained with the pool are kept, and why: only if the whole interval lies above 0."""
    if gain.low is None or gain.high is None:
        return False, f"the gain has no interval, because {gain.num_patients} patient(s) were measured; two are needed"
    shown = f"{gain.difference:+.4f} Dice, {gain.low:+.4f} to {gain.high:+.4f} (95 %), {gain.num_patients} patients"
    if gain.low > 0:
        return True, f"the gain is above 0: {shown}"
    return False, f"the gain is not shown to be above 0: {shown}"
