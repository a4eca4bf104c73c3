"""One-sided decisions about the mean over patients: is it above a boundary that was fixed before?

Patients are the units: the cases of one patient are averaged first. Two analyses, of which a protocol names one beforehand:

- "bounded", for values between known ends such as Dice: the posterior of the mean under a Bayesian bootstrap that has one more
patient, with the worst value there is (Gaffke 2005, Three test statistics for a nonparametric one-sided hypothesis on the mean, Math.
Methods of Statistics 14; Learned-Miller and Thomas 2019, arXiv:1905.06208). It takes account of rare failures that no patient of the
sample shows.
- "t", for values without such ends: Student's t, and the same corrected for skewness (Hall 1992, JRSS B 54); the one that says less
counts, at an alpha that is smaller by 3.5 in n, because in small samples of skewed values such as Dice both err that much too often. It
needs fewer patients, and errs where failures are rare and gross.

`benchmarks/validation_protocol.py` measures how often each errs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import special

BOUNDED, SKEWED_T = "bounded", "t"
ANALYSES = (BOUNDED, SKEWED_T)
NUM_DRAWS = 20_000
_SEED = 20_26  # fixed, so that anybody gets the same decision from the same values
_NUM_HALVINGS, _NUM_NEWTON = 10, 4
_SMALL_SAMPLE = 3.5  # simulated: beta values of SD 0.03 to 0.07 and 10 to 150 patients, 120,000 samples each
_BLOCK = 500  # samples at a time, which bounds the memory


def exceeds(
    values: np.ndarray,
    boundary: np.ndarray | float,
    analysis: str,
    alpha: float,
    least: float,
    num_draws: int = NUM_DRAWS,
) -> np.ndarray:
    """Whether the mean is shown to be above the boundary, for many samples at once.

    Args:
        values: one per patient, larger is better, shape (samples, patients); two patients or more, finite.
        boundary: of each sample, or of all.
        analysis: of `ANALYSES`.
        alpha: probability of a wrong yes, at most.
        least: the smallest value there is; -inf is possible for "t" only.
        num_draws: of the posterior.

    Returns:
        Shape (samples,), bool.
    """
    if analysis == SKEWED_T:
        return _compute_low_t(values, alpha) > boundary
    boundaries = np.broadcast_to(boundary, len(values))
    most_below = _find_rank(alpha, num_draws)
    return np.concatenate(
        [
            np.count_nonzero(means <= boundaries[start : start + len(means), None], axis=1) <= most_below
            for start, means in _iterate_means(values, least, num_draws)
        ]
    )


def foresee(values: np.ndarray, boundary: np.ndarray | float, analysis: str, alpha: float, least: float) -> np.ndarray:
    """As `exceeds`, for planning: the posterior is not drawn but approximated, in a hundredth of the time.

    A mean under the Bayesian bootstrap is at most b where a sum of exponential variables, each times its value minus b, is at most 0; its
    probability is Lugannani and Rice's (1980, Advances in Applied Probability 12) at the saddlepoint.
    """
    if analysis == SKEWED_T:
        return _compute_low_t(values, alpha) > boundary
    boundaries = np.broadcast_to(boundary, len(values))[:, None]
    steps = np.column_stack([np.full(len(values), least), values]) - boundaries
    may_be = (steps.sum(axis=1) > 0) & (steps.min(axis=1) < 0)  # the others' mean is not above, or nothing is below
    is_above = steps.min(axis=1) >= 0
    is_above[may_be] = _approximate_tail(steps[may_be]) <= alpha
    return is_above


def _approximate_tail(steps: np.ndarray) -> np.ndarray:
    """Probability that a sum of standard exponential variables times `steps`, shape (sums, variables), is at most 0; its mean is above."""
    low, high = 1 / steps.min(axis=1), np.zeros(len(steps))
    for _ in range(_NUM_HALVINGS):  # of the bracket of the saddlepoint, where the derivative of the cumulants vanishes
        middle = (low + high) / 2
        is_below = (steps / (1 - middle[:, None] * steps)).sum(axis=1) < 0
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    point = high
    for _ in range(_NUM_NEWTON):
        ratios = steps / (1 - point[:, None] * steps)
        step = ratios.sum(axis=1) / (ratios**2).sum(axis=1)
        point = np.clip(point - step, low, high)
    factors = 1 - point[:, None] * steps
    root = -np.sqrt(np.maximum(2 * np.log(factors).sum(axis=1), 1e-12))
    slope = np.minimum(point * np.sqrt(((steps / factors) ** 2).sum(axis=1)), -1e-6)
    density = np.exp(-(root**2) / 2) / np.sqrt(2 * np.pi)
    return special.ndtr(root) + density * (1 / root - 1 / slope)


def compute_low(
    values: np.ndarray, analysis: str, alpha: float, least: float, num_draws: int = NUM_DRAWS
) -> np.ndarray:
    """Lower end of the one-sided interval of the mean; see `exceeds` for the arguments. Shape (samples,)."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    if analysis == SKEWED_T:
        return _compute_low_t(values, alpha)
    rank = _find_rank(alpha, num_draws)
    parts = [np.partition(means, rank, axis=1)[:, rank] for _, means in _iterate_means(values, least, num_draws)]
    return np.concatenate(parts)


def _find_rank(alpha: float, num_draws: int) -> int:
    """Place of the lower end among the sorted draws, from 0."""
    return max(0, int(np.floor(alpha * num_draws)) - 1)


def _iterate_means(values: np.ndarray, least: float, num_draws: int) -> Iterator[tuple[int, np.ndarray]]:
    """Draws of the mean, with the worst value beside the others, shape (samples, draws), in blocks with the place of the first."""
    if not np.isfinite(least):
        raise ValueError(f"the analysis {BOUNDED!r} needs a smallest value; got {least}")
    padded = np.column_stack([np.full(len(values), least), values])
    weights = _draw_weights(padded.shape[1], num_draws)
    for start in range(0, len(padded), _BLOCK):
        yield start, padded[start : start + _BLOCK] @ weights


def compute_interval(values: np.ndarray, analysis: str, alpha: float, least: float, most: float) -> tuple[float, float]:
    """Both one-sided ends of the mean over patients, each wrong with probability alpha at most: a two-sided 1 - 2 alpha interval.

    Returns:
        Lower and upper end; `least` and `most` for a single patient, since nothing is known then.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return least, most
    low = float(compute_low(values, analysis, alpha, least)[0])
    return low, -float(compute_low(-values, analysis, alpha, -most)[0])


@lru_cache(maxsize=4)
def _draw_weights(num_values: int, num_draws: int) -> np.ndarray:
    """Weights of the Bayesian bootstrap, uniform on the simplex; shape (values, draws)."""
    weights = np.random.default_rng(_SEED).standard_exponential((num_values, num_draws))
    return weights / weights.sum(axis=0)


def _compute_low_t(values: np.ndarray, alpha: float) -> np.ndarray:
    num = values.shape[1]
    mean, sd = values.mean(axis=1), values.std(axis=1, ddof=1)
    quantile = special.stdtrit(num - 1, 1 - alpha * max(1 - _SMALL_SAMPLE / num, 1 / 4))
    moments = ((values - mean[:, None]) ** 3).mean(axis=1)
    spread = values.std(axis=1)
    skewness = np.divide(moments, spread**3, out=np.zeros(len(values)), where=spread > 1e-12)
    # the inverse of Hall's cubic, which is monotone; its limit for no skewness is the quantile itself
    slope = np.where(np.abs(skewness) < 1e-6, 1e-6, skewness)
    cubic = 1 + slope * (quantile / np.sqrt(num) - slope / (6 * num))
    corrected = 3 * np.sqrt(num) / slope * (np.cbrt(cubic) - 1)
    return mean - np.maximum(quantile, corrected) * sd / np.sqrt(num)
