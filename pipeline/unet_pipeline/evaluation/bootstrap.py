"""Intervals of means over cases: BCa bootstrap with patients as clusters.

`scipy.stats.bootstrap` gives the same interval for one list of values (a test compares). Here the resamples of so many patients are
drawn once and serve every label and metric, cases of one patient stay together, and cases without a spread have an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
INTERVAL = f"{CONFIDENCE:.0%} BCa bootstrap over patients, {NUM_RESAMPLES} resamples".replace("%", " %")
_SEED = 20_15  # fixed, so that a summary can be recomputed from its CSV
_BLOCK = 1000  # resamples multiplied at a time, which bounds the memory
_ROUNDING = 1e-12  # of a mean, relative to the largest value: resamples this near to the estimate are equal to it


def compute_interval(values: np.ndarray, patients: Sequence[str] | None = None) -> tuple[float, float]:
    """95 % BCa interval of the mean over cases, from 10,000 resamples of the patients.

    A resample draws as many patients as there are, each with all its cases, and takes the mean over those cases. Bias comes
    from the share of resampled means below the mean, acceleration from leaving out one patient at a time.

    Args:
        values: one per case, without NaN.
        patients: of each case; every case is a patient of its own, if None.

    Returns:
        Lower and upper end, both in the unit of the values. All values equal: that value twice. Fewer than two patients, or an
        infinite value: NaN twice.

    Raises:
        ValueError: a value is NaN, or there is not one patient per value.

    Reference: Efron 1987, Better Bootstrap Confidence Intervals, JASA 82(397); resampling of whole clusters as in Davison
    and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    values = np.asarray(values, dtype=float)
    if np.isnan(values).any():
        raise ValueError(f"{np.isnan(values).sum()} of {len(values)} values are NaN; expected numbers only")
    sums, sizes = _sum_by_patient(values, patients)
    if len(sums) < 2 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    low, high = compute_intervals(sums[:, None], sizes)[0]
    return float(low), float(high)


def compute_intervals(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Intervals of several columns with the same patients, as in `compute_interval`.

    Args:
        sums: of the values of each patient, shape (patients, columns), finite; two patients or more.
        sizes: cases of each patient, shape (patients,).

    Returns:
        Lower and upper end of every column, shape (columns, 2).
    """
    estimates = sums.sum(axis=0) / sizes.sum()
    means = _resample(sums, sizes)
    tolerance = _ROUNDING * np.abs(sums).max(axis=0)
    # a resample that equals the estimate counts half on either side
    below = (means < estimates - tolerance).mean(axis=0)
    bias = ndtri(0.5 * (below + (means <= estimates + tolerance).mean(axis=0)))
    acceleration = _accelerate(sums, sizes)
    tails = ndtri(np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    shifted = bias[:, None] + tails
    levels = ndtr(bias[:, None] + shifted / (1 - acceleration[:, None] * shifted))
    means.sort(axis=0)
    ranks = levels * (len(means) - 1)
    return np.stack(
        [np.interp(rank, np.arange(len(means)), column) for rank, column in zip(ranks, means.T, strict=True)]
    )


def _sum_by_patient(values: np.ndarray, patients: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of cases of each patient, in the order of the patients' names."""
    if patients is None:
        return values, np.ones(len(values))
    if len(patients) != len(values):
        raise ValueError(f"{len(patients)} patients for {len(values)} values; expected one each")
    _, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    return np.bincount(index, values), np.bincount(index).astype(float)


def _resample(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean over cases of every resample, shape (resamples, columns)."""
    counts = _draw_counts(len(sums))
    columns = np.column_stack([sums, sizes])
    blocks = [counts[start : start + _BLOCK].astype(float) @ columns for start in range(0, NUM_RESAMPLES, _BLOCK)]
    totals = np.concatenate(blocks)
    return totals[:, :-1] / totals[:, -1:]


@lru_cache(maxsize=4)
def _draw_counts(num_patients: int) -> np.ndarray:
    """How often each patient is in each resample, shape (resamples, patients); the same in every run."""
    generator = np.random.default_rng(_SEED)
    counts = np.empty((NUM_RESAMPLES, num_patients), np.uint16)
    for start in range(0, NUM_RESAMPLES, _BLOCK):
        drawn = generator.integers(num_patients, size=(_BLOCK, num_patients))
        places = (drawn + num_patients * np.arange(_BLOCK)[:, None]).reshape(-1)
        counts[start : start + _BLOCK] = np.bincount(places, minlength=drawn.size).reshape(drawn.shape)
    return counts


def _accelerate(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Acceleration of every column: skewness of the means with one patient left out, by 6; 0 where these are all equal."""
    left_out = (sums.sum(axis=0) - sums) / (sizes.sum() - sizes)[:, None]
    deviations = left_out.mean(axis=0) - left_out
    spread = (deviations**2).sum(axis=0) ** 1.5
    return np.divide((deviations**3).sum(axis=0), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
