"""How far a vector of properties lies from those of the training, and how far is unusual: by leaving out each training case once.

A vector is judged by its largest single deviation and by its distance within each group of properties, each in units of what the cases
themselves reach when they are left out. The threshold is a rank among those scores, as in conformal prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_WINSOR = 4.0  # spreads beyond which a case says nothing about how properties go together
_LEAST_SHRINKAGE = 0.05
_UNIT_SHARE = 0.95
_LEAST_UNITS = 2.5, 1.2  # of a single deviation and of a distance: below them nothing is unusual


@dataclass(frozen=True)
class Distribution:
    """Means, spreads and correlations of properties.

    Attributes:
        names: of the properties.
        groups: name -> indices of properties that are judged together.
        centre, spread: of each property.
        correlation: of the properties, those beyond four spreads moved there.
        shrinkage: of each group's correlations towards none, 0 to 1.
        units: what a single property's deviation, and behind them each group's distance, is divided by.
    """

    names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]
    centre: np.ndarray
    spread: np.ndarray
    correlation: np.ndarray
    shrinkage: tuple[float, ...]
    units: np.ndarray

    def measure(self, values: np.ndarray) -> np.ndarray:
        """Deviations of the single properties, then distances of the groups, before they are divided by the units."""
        deviations = (values - self.centre) / self.spread
        distances = [
            _measure_distance(deviations[list(places)], self._invert(places, shrinkage))
            for places, shrinkage in zip(self.groups.values(), self.shrinkage, strict=True)
        ]
        return np.concatenate([np.abs(deviations), distances])

    def score(self, values: np.ndarray) -> tuple[float, int]:
        """The largest of all in units, and the property that says the most about it."""
        scores = self.measure(values) / self.units
        largest = int(np.argmax(scores))
        if largest < len(self.names):
            return float(scores[largest]), largest
        places = list(self.groups.values())[largest - len(self.names)]
        return float(scores[largest]), places[int(np.argmax(scores[list(places)]))]

    def _invert(self, places: Sequence[int], shrinkage: float) -> np.ndarray:
        part = self.correlation[np.ix_(list(places), list(places))]
        return np.linalg.inv((1 - shrinkage) * part + shrinkage * np.eye(len(places)))


def fit_distribution(
    values: np.ndarray, names: Sequence[str], groups: Mapping[str, Sequence[int]], floors: np.ndarray
) -> Distribution:
    """The distribution of cases, with units of 1.

    Args:
        values: shape (cases, properties).
        names: of the properties.
        groups: name -> indices.
        floors: of the spreads, which may be 0 among few cases.
    """
    num_cases = len(values)
    centre = values.mean(axis=0)
    spread = np.sqrt(values.var(axis=0) * (1 + 1 / num_cases) + floors**2)
    deviations = np.clip((values - centre) / spread, -_WINSOR, _WINSOR)
    correlation = deviations.T @ deviations / num_cases
    shrinkage = tuple(
        _choose_shrinkage(deviations[:, list(p)], correlation[np.ix_(list(p), list(p))]) for p in groups.values()
    )
    units = np.ones(len(names) + len(groups))
    settled = {name: tuple(places) for name, places in groups.items()}
    return Distribution(tuple(names), settled, centre, spread, correlation, shrinkage, units)


def _choose_shrinkage(deviations: np.ndarray, correlation: np.ndarray) -> float:
    """Ledoit and Wolf's (2004) towards the identity."""
    to_target = float(((correlation - np.eye(len(correlation))) ** 2).sum()) + 1e-12
    of_estimate = float(((deviations**2).sum(axis=1) ** 2).mean() - (correlation**2).sum()) / len(deviations)
    return float(np.clip(of_estimate / to_target, _LEAST_SHRINKAGE, 1.0))


def _measure_distance(deviations: np.ndarray, inverse: np.ndarray) -> float:
    """Root mean square of uncorrelated deviations."""
    return float(np.sqrt(max(deviations @ inverse @ deviations, 0.0) / len(deviations)))


def find_rank(num_cases: int, false_alarm_rate: float) -> int:
    """Index, among ascending scores of cases, of the threshold that a further case exceeds with at most that probability.

    The largest where the cases are too few for the rate.
    """
    return min(num_cases - 1, int(np.ceil((num_cases + 1) * (1 - false_alarm_rate))) - 1)


def find_rate(num_cases: int, false_alarm_rate: float) -> float:
    """The probability that a further case exceeds the threshold of `find_rank`: no less than one in cases and one."""
    return 1 - (find_rank(num_cases, false_alarm_rate) + 1) / (num_cases + 1)


def choose_units(left_out: np.ndarray, num_properties: int) -> np.ndarray:
    """What deviations and distances are divided by: what nearly all cases stay below when they are left out, and two at least do not.

    Args:
        left_out: shape (cases, properties and groups), of each case by the distribution of the others.
        num_properties: those before the groups.
    """
    least = np.full(left_out.shape[1], _LEAST_UNITS[1])
    least[:num_properties] = _LEAST_UNITS[0]
    rank = max(0, min(find_rank(len(left_out), 1 - _UNIT_SHARE), len(left_out) - 3))
    return np.maximum(np.sort(left_out, axis=0)[rank], least)
