"""The error of a network over the number of cases that it was trained on: error = a + b * n^-c, with its uncertainty.

For a fixed exponent the best a and b follow in closed form, so the exponent is searched on a grid: the minimum is found for sure, and
thousands of resamples are fitted at once. What is resampled: the held-out patients, and the residuals of the trainings, which stand
for the choice of cases and the randomness of a training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
EXPONENTS = np.linspace(0.1, 2.0, 77)  # learning curves of networks are reported between 0.1 and 1
NUM_PARAMETERS = 3
_SEED = 11


@dataclass(frozen=True)
class PowerLaw:
    """a + b * n^-c: errors of many fits, shape (fits,) each; floor a and scale b are 0 or larger."""

    floor: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray

    def predict(self, sizes: np.ndarray | float) -> np.ndarray:
        """Errors at some sizes, shape (fits, sizes)."""
        sizes = np.atleast_1d(np.asarray(sizes, dtype=float))
        return self.floor[:, None] + self.scale[:, None] * sizes ** -self.exponent[:, None]


@dataclass(frozen=True)
class FittedCurve:
    """A fit with its resamples.

    Attributes:
        best: one fit, to the mean over all patients.
        resamples: `NUM_RESAMPLES` fits.
        noise: what a single training may differ from its expectation, one for each resample.
    """

    best: PowerLaw
    resamples: PowerLaw
    noise: np.ndarray

    def interval(self, num_cases: float, is_measured: bool = False) -> tuple[float, float, float]:
        """Error at a number of cases with its 95 % interval.

        Args:
            is_measured: of one training, rather than of the mean of many.
        """
        errors = self.resamples.predict(num_cases)[:, 0] + (self.noise if is_measured else 0.0)
        return float(self.best.predict(num_cases)[0, 0]), *_find_ends(errors)

    def gain(self, now: float, then: float) -> tuple[float, float, float]:
        """By how much the error is smaller with `then` cases than with `now`, and its 95 % interval."""
        differences = [fit.predict(now)[:, 0] - fit.predict(then)[:, 0] for fit in (self.best, self.resamples)]
        return float(differences[0][0]), *_find_ends(differences[1])


def _find_ends(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def fit_curve(sizes: np.ndarray, errors: np.ndarray) -> FittedCurve:
    """Fit the errors of trainings.

    Args:
        sizes: training cases, shape (trainings,); three distinct ones or more.
        errors: of each training in each held-out patient, shape (trainings, patients).

    Raises:
        ValueError: fewer than three distinct sizes, or a value is not finite.
    """
    sizes, errors = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    if len(set(sizes)) < NUM_PARAMETERS or not np.isfinite(errors).all():
        raise ValueError(f"{len(set(sizes))} sizes; expected {NUM_PARAMETERS} or more, and finite errors")
    generator = np.random.default_rng(_SEED)
    means = errors.mean(axis=1)
    best = fit_power_laws(sizes, means[None])
    # of so few trainings the residuals are smaller than the noise: one degree of freedom is lost per parameter
    freedom = max(1, len(sizes) - NUM_PARAMETERS)
    residuals = (means - best.predict(sizes)[0]) * np.sqrt(len(sizes) / freedom)
    weights = generator.multinomial(errors.shape[1], np.full(errors.shape[1], 1 / errors.shape[1]), NUM_RESAMPLES)
    centres = fit_power_laws(sizes, weights @ errors.T / errors.shape[1]).predict(sizes)
    # the size of the noise is an estimate too, as in Student's t
    inflation = np.sqrt(freedom / generator.chisquare(freedom, NUM_RESAMPLES))
    drawn = centres + inflation[:, None] * generator.choice(residuals, (NUM_RESAMPLES, len(sizes)))
    noise = inflation * generator.choice(residuals, NUM_RESAMPLES)
    return FittedCurve(best, fit_power_laws(sizes, drawn), noise)


def fit_power_laws(sizes: np.ndarray, errors: np.ndarray) -> PowerLaw:
    """Least squares with a and b not below 0, of many curves at once.

    Args:
        sizes: shape (trainings,).
        errors: shape (curves, trainings).
    """
    best = np.full((4, len(errors)), np.inf)  # squared error, floor, scale, exponent
    for exponent in EXPONENTS:
        powers = (sizes / sizes.min()) ** -exponent
        for floor, scale in _solve(powers, errors):
            squared = ((errors - floor[:, None] - scale[:, None] * powers) ** 2).sum(axis=1)
            fit = np.stack([squared, floor, scale * sizes.min() ** exponent, np.full(len(errors), exponent)])
            is_better = (squared < best[0]) & (floor >= 0) & (scale >= 0)
            best = np.where(is_better, fit, best)
    return PowerLaw(best[1], best[2], best[3])


def _solve(powers: np.ndarray, errors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Candidates for floor and scale: unbounded, without floor, flat."""
    mean, centred = errors.mean(axis=1), powers - powers.mean()
    scale = errors @ centred / (centred @ centred)
    without_floor = errors @ powers / (powers @ powers)
    zeros = np.zeros(len(errors))
    return [(mean - scale * powers.mean(), scale), (zeros, without_floor), (np.maximum(mean, 0), zeros)]
