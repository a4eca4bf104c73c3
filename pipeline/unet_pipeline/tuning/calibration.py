"""Calibration of probabilities by one number, the temperature (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LEAST_PROBABILITY = 1e-7
_RANGE = (0.05, 20.0)
_FLAT = 1e-4  # of the loss: an end of the range that costs no more than the minimum is where the loss still falls
_NUM_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Voxels of one stretch of confidence.

    Attributes:
        num_voxels: in it.
        confidence: mean probability of the chosen class; the middle of the stretch without voxels.
        right_share: share of them whose chosen class is the true one; 0 without voxels.
    """

    num_voxels: int
    confidence: float
    right_share: float


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it changes.

    Attributes:
        temperature: logits are divided by it; above 1 the network was too sure.
        num_voxels: that it was fitted on.
        loss_before: mean negative log-likelihood at temperature 1, in nats.
        loss_after: at the fitted temperature; never above the one before.
        error_before: expected calibration error, 0 to 1.
        error_after: at the fitted temperature.
        bins_before: 15 equal stretches of confidence, from 0 to 1: the reliability diagram.
        bins_after: at the fitted temperature.
        reason: why no temperature was found, as a clause; the temperature is 1 then. Empty where one was.
    """

    temperature: float
    num_voxels: int
    loss_before: float
    loss_after: float
    error_before: float
    error_after: float
    bins_before: tuple[Bin, ...] = ()
    bins_after: tuple[Bin, ...] = ()
    reason: str = ""


def fit_temperature(probabilities: np.ndarray, classes: np.ndarray, num_cases: int | None = None) -> Calibration:
    """The temperature of the least negative log-likelihood; 1 with a reason where there is none within the range.

    Args:
        probabilities: shape (voxels, classes), rows sum to 1.
        classes: the true class of each voxel, shape (voxels,).
        num_cases: that the voxels are of; a single one is not enough for a temperature. None for unknown.

    Raises:
        ValueError: no voxel, or shapes that do not belong together.
    """
    if len(probabilities) != len(classes) or not len(classes):
        raise ValueError(f"{len(probabilities)} voxels with {len(classes)} classes; expected one class per voxel")
    logits = np.log(np.clip(probabilities.astype(np.float64), _LEAST_PROBABILITY, 1))

    def measure(log_temperature: float) -> float:
        return compute_loss(logits / np.exp(log_temperature), classes)

    fit = minimize_scalar(measure, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-4})
    before = measure(0.0)
    temperature = float(np.exp(fit.x)) if fit.fun < before else 1.0
    ends = {end: measure(float(np.log(end))) for end in _RANGE}
    reached = [end for end, loss in ends.items() if loss <= fit.fun + _FLAT * before and fit.fun < before]
    reason = _find_reason_against_temperature(reached, num_cases)
    temperature = 1.0 if reason else temperature
    return Calibration(
        temperature=temperature,
        num_voxels=len(classes),
        loss_before=before,
        loss_after=before if reason else min(float(fit.fun), before),
        error_before=compute_calibration_error(logits, classes),
        error_after=compute_calibration_error(logits / temperature, classes),
        bins_before=compute_bins(logits, classes),
        bins_after=compute_bins(logits / temperature, classes),
        reason=reason,
    )


def _find_reason_against_temperature(reached: list[float], num_cases: int | None) -> str:
    """Why a temperature must not be taken; empty where it may. `reached` has the ends of the range that fit as well as the best."""
    if num_cases == 1:
        return "one case alone does not show how sure a network may be of others"
    if not reached:
        return ""
    lowest, highest = _RANGE
    known = (
        "is right nearly everywhere" if reached[0] == lowest else "is wrong as often as it is right, however sure it is"
    )
    return f"the loss falls up to the end of the range ({lowest:g} to {highest:g}), because the network {known}"


def compute_loss(logits: np.ndarray, classes: np.ndarray) -> float:
    """Mean negative log-likelihood in nats, for logits of shape (voxels, classes)."""
    chosen = log_softmax(logits, axis=1)[np.arange(len(classes)), classes]
    return float(-chosen.mean())


def compute_calibration_error(logits: np.ndarray, classes: np.ndarray) -> float:
    """Expected calibration error: |share of right voxels - mean confidence|, averaged over 15 equal bins of confidence.

    Args:
        logits: shape (voxels, classes).
        classes: the true class of each voxel.

    Returns:
        0 (confidence is accuracy) to 1.
    """
    bins = compute_bins(logits, classes)
    gaps = sum(one.num_voxels * abs(one.right_share - one.confidence) for one in bins)
    return float(gaps / sum(one.num_voxels for one in bins))


def compute_bins(logits: np.ndarray, classes: np.ndarray) -> tuple[Bin, ...]:
    """The reliability diagram: 15 equal bins of the chosen class's probability, from 0 to 1.

    Arguments as in `compute_calibration_error`.
    """
    probabilities = np.exp(log_softmax(logits, axis=1))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    places = np.minimum((confidence * _NUM_BINS).astype(int), _NUM_BINS - 1)
    counts = np.bincount(places, minlength=_NUM_BINS)
    sums = np.bincount(places, confidence, _NUM_BINS), np.bincount(places, right, _NUM_BINS)
    middles = (np.arange(_NUM_BINS) + 0.5) / _NUM_BINS
    return tuple(
        Bin(int(count), float(sure / count) if count else float(middle), float(hits / count) if count else 0.0)
        for count, sure, hits, middle in zip(counts, *sums, middles, strict=True)
    )
