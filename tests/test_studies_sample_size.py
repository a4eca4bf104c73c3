"""Sizes of samples: the textbook's, more for less effect, and what cannot be shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unet_pipeline.errors import EvaluationError
from unet_pipeline.studies.decision import BOUNDED, SKEWED_T
from unet_pipeline.studies.sample_size import Claim, _weigh_patients, find_sample_size, imagine_values, simulate_power

INF = float("inf")


def claim(effect: float, analysis: str = SKEWED_T) -> Claim:
    least, most = (0.0, 1.0) if analysis == BOUNDED else (-INF, INF)
    return Claim(effect, analysis, 0.05, least, most)


def find_by_noncentral_t(effect: float, spread: float, power: float) -> int:
    sizes = range(5, 500)
    return next(
        n for n in sizes if stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, effect / spread * np.sqrt(n)) >= power
    )


@pytest.mark.parametrize(("effect", "power"), [(0.4, 0.8), (0.6, 0.8), (0.5, 0.9)])
def test_normal_values_need_the_textbooks_number(effect: float, power: float) -> None:
    size = find_sample_size(imagine_values(0.0, 1.0, -INF, INF), claim(effect), power, 0)
    assert size.num_patients == pytest.approx(find_by_noncentral_t(effect, 1.0, power), rel=0.1)
    assert power <= size.power <= power + 0.03
    assert all((other > size.num_patients) == (value > size.power) for other, value in size.others.items())


def test_an_estimated_spread_needs_more_patients_than_a_known_one() -> None:
    values = np.random.default_rng(0).normal(0, 1, 12)
    known, estimated = (find_sample_size(values, claim(0.25), 0.9, num).num_patients for num in (0, 12))
    assert estimated >= known + 5


def test_gross_failures_that_are_seen_count_half_a_patient_more() -> None:
    bulk = np.random.default_rng(1).beta(60, 6, 98)
    shapes = _weigh_patients(np.append(bulk, [0.1, 0.3]))
    assert shapes.tolist() == [1.0] * 98 + [1.25] * 2
    assert _weigh_patients(bulk).tolist() == [1.0] * 98
    assert _weigh_patients(np.array([1.0] * 9 + [0.2])).tolist() == [1.0] * 9 + [1.5]


def test_bounded_needs_enough_patients_to_exclude_failures_that_nobody_saw() -> None:
    size = find_sample_size(imagine_values(0.9, 0.03, 0.0, 1.0), claim(0.2, BOUNDED), 0.8, 0)
    assert size.num_patients >= np.log(0.05) / np.log(1 - 0.2 / 0.9)  # so many all-good patients at the least
    assert simulate_power(imagine_values(0.9, 0.03, 0.0, 1.0), claim(0.2, BOUNDED), 10, False) == 0


def test_imagined_values_have_the_mean_and_spread_that_were_asked_for() -> None:
    for ends in ((0.0, 1.0), (-INF, INF)):
        values = imagine_values(0.8, 0.1, *ends)
        assert (values.mean(), values.std()) == (pytest.approx(0.8, abs=1e-4), pytest.approx(0.1, rel=5e-3))


def test_what_cannot_be_shown_is_said() -> None:
    values = imagine_values(0.0, 1.0, -INF, INF)
    with pytest.raises(EvaluationError, match="no number of patients shows"):
        find_sample_size(values, claim(0.0), 0.8, 0)
    with pytest.raises(EvaluationError, match="More than 5,000 patients"):
        find_sample_size(values, claim(0.001), 0.8, 0)
    with pytest.raises(EvaluationError, match=r"cannot have a standard deviation of 0\.6"):
        imagine_values(0.5, 0.6, 0.0, 1.0)
