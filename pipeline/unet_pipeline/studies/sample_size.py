"""How many patients a decision needs: its power is simulated from the values of the patients that are known.

Each replicate draws a population that the known patients may come from (Bayesian bootstrap: their spread is an estimate too), a sample of
so many patients from it, and decides as the protocol will. A spread alone stands for values of a beta or a normal distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from unet_pipeline.errors import EvaluationError
from unet_pipeline.results import Result
from unet_pipeline.studies.decision import BOUNDED, foresee

LEAST_PATIENTS = 10  # of a sample, and of those that its size is planned from
MOST_PATIENTS = 5_000
_NUM_REPLICATES = 1_500
_BLOCK_VALUES = 4_000_000  # of the samples that are drawn at a time, which bounds the memory
_NUM_QUANTILES = 2_000
_SEED = 7


@dataclass(frozen=True)
class Claim:
    """What is to be shown about the mean of values of which larger ones are better.

    Attributes:
        effect: how far the true mean is expected above the boundary; positive.
        analysis: of `decision.ANALYSES`.
        alpha: probability of a wrong yes.
        least, most: the ends of the values, which may be infinite.
    """

    effect: float
    analysis: str
    alpha: float
    least: float
    most: float


@dataclass(frozen=True, repr=False)
class SampleSize(Result):
    """Patients that a claim needs.

    Attributes:
        num_patients: the smallest sample with the power that was asked for.
        power: of that sample, simulated.
        effect: how far the mean is expected above the boundary.
        spread: standard deviation over the known patients.
        num_known: patients that the spread comes from; 0 where it was given.
        analysis: of the decision.
        alpha: probability of a wrong yes.
        others: power of other numbers of patients.
    """

    num_patients: int
    power: float
    effect: float
    spread: float
    num_known: int
    analysis: str
    alpha: float
    others: dict[int, float]


def find_sample_size(values: np.ndarray, claim: Claim, power: float, num_known: int) -> SampleSize:
    """The smallest number of patients with this power.

    Args:
        values: of the known patients, or from `imagine_values`.
        num_known: how many patients they are; 0 for imagined ones, whose distribution is taken as it is.

    Raises:
        EvaluationError: nothing can be shown, because the mean is not expected above the boundary, or too many patients are needed.
    """
    spread = float(np.std(values, ddof=1))
    if claim.effect <= 0:
        raise EvaluationError(
            f"The mean is expected {-claim.effect:.4g} below the boundary, or on it; no number of patients shows that it is above. Choose a "
            "larger --margin, or an --expected that is better."
        )
    known: dict[int, float] = {}

    def simulate(num: int) -> float:
        if num not in known:
            known[num] = simulate_power(values, claim, num, num_known > 0)
        return known[num]

    low, high = LEAST_PATIENTS, max(LEAST_PATIENTS, _guess(values, claim, power))
    while simulate(high) < power:
        low, high = high, 2 * high
        if high > MOST_PATIENTS:
            raise EvaluationError(
                f"More than {MOST_PATIENTS:,} patients would be needed for a power of {power:g}, with a spread of {spread:.4g} and an effect "
                f"of {claim.effect:.4g}. Choose a larger --margin or a smaller --power."
            )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if simulate(middle) >= power else (middle + 1, high)
    others = {num: simulate(num) for num in sorted({max(LEAST_PATIENTS, high * share // 4) for share in (2, 3, 5, 6)})}
    return SampleSize(high, simulate(high), claim.effect, spread, num_known, claim.analysis, claim.alpha, others)


def simulate_power(values: np.ndarray, claim: Claim, num_patients: int, is_sample: bool) -> float:
    """Share of the replicates in which a sample of so many patients shows the claim.

    Args:
        values: of the known patients.
        is_sample: whether their distribution is known no better than from them.
    """
    generator = np.random.default_rng(_SEED)
    block = max(1, _BLOCK_VALUES // num_patients)
    num_yes = 0
    for start in range(0, _NUM_REPLICATES, block):
        num = min(block, _NUM_REPLICATES - start)
        drawn, means = _draw_samples(generator, values, num, num_patients, is_sample)
        num_yes += int(foresee(drawn, means - claim.effect, claim.analysis, claim.alpha, claim.least).sum())
    return num_yes / _NUM_REPLICATES


def _draw_samples(
    generator: np.random.Generator, values: np.ndarray, num: int, num_patients: int, is_sample: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Samples, shape (num, patients), and the true mean of each one's population."""
    values = np.asarray(values, dtype=float)
    if not is_sample:
        return generator.choice(values, (num, num_patients)), np.full(num, values.mean())
    # the bootstrap's populations have a smaller variance than the sample's estimate, by (n - 1) / (n + 1)
    known, shapes = len(values), _weigh_patients(values)
    values = values.mean() + (values - values.mean()) * np.sqrt((known + 1) / (known - 1))
    weights = generator.standard_gamma(shapes, (num, len(values)))
    weights /= weights.sum(axis=1, keepdims=True)
    edges = np.cumsum(weights, axis=1)
    uniform = generator.random((num, num_patients))
    # one search for all rows: each row's edges lie in a unit interval of their own
    shift = np.arange(num)[:, None]
    places = np.searchsorted((edges + shift).ravel(), (uniform + shift).ravel()).reshape(uniform.shape)
    places = np.clip(places - shift * len(values), 0, len(values) - 1)
    return values[places], weights @ values


def _weigh_patients(values: np.ndarray) -> np.ndarray:
    """Shapes of the bootstrap's weights: 1 for each known patient, and half a patient more for all those far out together.

    What lies beyond Tukey's outer fences, such as a gross failure, is rare, and a pilot tells its share badly: too few of them are shown
    more often than too many, and cost more power than too many gain. Their share has the mean of Jeffreys' prior, (k + 1/2) instead of k.
    """
    first, third = np.quantile(values, [0.25, 0.75])
    is_far = (values < first - 3 * (third - first)) | (values > third + 3 * (third - first))
    return np.where(is_far, 1 + 0.5 / max(1, is_far.sum()), 1.0)


def _guess(values: np.ndarray, claim: Claim, power: float) -> int:
    """Where the search begins: Student's t, and for "bounded" what excludes gross failures that nobody saw."""
    quantiles = special.ndtri(1 - claim.alpha) + special.ndtri(power)
    num = (quantiles * np.std(values) / claim.effect) ** 2
    if claim.analysis == BOUNDED:
        num = max(num, -np.log(claim.alpha) * (np.mean(values) - claim.least) / claim.effect) * 1.25
    return min(MOST_PATIENTS, int(np.ceil(num)))


def imagine_values(mean: float, spread: float, least: float, most: float) -> np.ndarray:
    """Values of a distribution of which mean and standard deviation are given: beta between two ends, else normal.

    Raises:
        EvaluationError: the mean is not between the ends, or values between them cannot have such a spread.
    """
    quantiles = (np.arange(_NUM_QUANTILES) + 0.5) / _NUM_QUANTILES
    if not (np.isfinite(least) and np.isfinite(most)):
        return mean + spread * special.ndtri(quantiles)
    share, variance = (mean - least) / (most - least), (spread / (most - least)) ** 2
    if not 0 < share < 1 or not 0 < variance < share * (1 - share):
        raise EvaluationError(
            f"Values between {least:g} and {most:g} with a mean of {mean:g} cannot have a standard deviation of {spread:g}. Correct --spread "
            "or --expected."
        )
    size = share * (1 - share) / variance - 1
    return least + (most - least) * stats.beta.ppf(quantiles, share * size, (1 - share) * size)
