"""`quality/expected_dice.py` and `quality/claim.py`: simulated cases whose Dice is known to depend on what the network says."""

from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.prediction.confidence import LabelConfidence
from unet_pipeline.prediction.shape_facts import ShapeFacts
from unet_pipeline.quality.claim import (
    ClaimRecord,
    judge_by_others,
    measure_aurc,
    measure_auroc,
    measure_claim,
    write_claim,
)
from unet_pipeline.quality.expected_dice import (
    NOTHING,
    ExpectedDiceRecord,
    LabelCase,
    expect_dice,
    fit_label,
    fit_labels,
)
from unet_pipeline.text_files import read_json

from .quality_cases import simulate_cases
from .scripts import require_schema


def test_expected_dice_covers_cases_that_were_not_fitted_on() -> None:
    covered = []
    for seed in range(15):
        record = fit_label("organ", simulate_cases(40, seed), "ml")
        for case in simulate_cases(40, 100 + seed):
            one = expect_dice(record, case)
            assert 0 <= one.low <= one.mean <= one.high <= 1
            covered.append(one.low <= case.dice <= one.high)
    assert 0.86 <= np.mean(covered) <= 0.96


def test_claim_ranks_better_than_a_number_that_says_nothing() -> None:
    (row,) = measure_claim({"organ": simulate_cases(120, 1)})
    assert 0.84 <= row.coverage <= 0.97
    assert row.coverage_low <= row.coverage <= row.coverage_high
    assert row.aurc_best <= row.aurc < 0.7 * row.aurc_random
    assert row.aurc < row.aurc_entropy
    assert row.num_failures > 5
    assert row.auroc > 0.9
    assert row.auroc_low <= row.auroc <= row.auroc_high


def test_claim_of_few_cases_is_not_made() -> None:
    record = fit_label("organ", simulate_cases(8, 0), "ml")
    assert record.line is None
    assert "8 of 8 patients" in record.reason
    case = simulate_cases(1, 5)[0]
    said = expect_dice(record, case)
    assert np.isnan(said.mean)
    assert said.reason == record.reason
    assert measure_claim({"organ": simulate_cases(8, 0)}) == ()


def test_expected_dice_of_an_empty_prediction_is_not_said() -> None:
    record = fit_label("organ", simulate_cases(40, 0), "ml")
    nan = float("nan")
    empty = LabelCase("c", "p", LabelConfidence(0, 3.0, nan, nan, nan), ShapeFacts(0, 0, nan, nan, nan), 0.001, 0.1)
    said = expect_dice(record, empty)
    assert np.isnan([said.mean, said.low, said.high]).all()
    assert said.reason == NOTHING


def test_claim_judges_a_patient_by_others_only() -> None:
    cases = simulate_cases(60, 2)
    twins = [LabelCase(**{**vars(case), "patient": f"p{number // 2}"}) for number, case in enumerate(cases)]
    first = judge_by_others("organ", twins)
    changed = [LabelCase(**{**vars(case), "dice": 0.01}) if case.patient == "p0" else case for case in twins]
    again = judge_by_others("organ", changed)
    assert first[0] == again[0]
    assert first[1] == again[1]
    assert any(one != other for one, other in zip(first[2:], again[2:], strict=True))


def test_expected_dice_survives_its_file() -> None:
    record = fit_labels({"organ": simulate_cases(40, 3)}, "ml", "simulated")
    again = ExpectedDiceRecord.model_validate_json(record.model_dump_json())
    case = simulate_cases(1, 9)[0]
    said = [expect_dice(one.labels[0], case) for one in (record, again)]
    assert said[0] == said[1]


def test_aurc_known_answer() -> None:
    risk = np.array([0.0, 0.5, 1.0])
    assert measure_aurc(risk, np.array([3.0, 2.0, 1.0])) == pytest.approx((0 + 0.25 + 0.5) / 3)
    assert measure_aurc(risk, np.array([1.0, 2.0, 3.0])) == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert measure_aurc(risk, np.zeros(3)) == pytest.approx(0.5)  # of no order, the mean risk


def test_risk_curve_known_answer() -> None:
    (row,) = measure_claim({"organ": simulate_cases(120, 1)})
    curve = row.curve
    assert curve.coverage[0] == pytest.approx(1 / row.n, abs=1e-6)
    assert len(curve.coverage) == len(curve.best) == 51
    assert {
        curve.coverage[-1],
        *(line[-1] == pytest.approx(row.aurc_random, abs=1e-5) for line in (curve.expected, curve.entropy, curve.best)),
    } == {1.0}
    assert curve.best == sorted(curve.best)  # from the best case to all
    assert all(best <= expected + 1e-6 for best, expected in zip(curve.best, curve.expected, strict=True))


def test_claim_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("case\n")
    alike = [LabelCase(**{**vars(case), "dice": 0.9}) for case in simulate_cases(30, 4)]
    rows = write_claim(tmp_path, measure_claim({"organ": alike}), False)
    record = ClaimRecord.model_validate_json((tmp_path / "quality.json").read_text())
    require_schema(read_json(tmp_path / "quality.json"), "quality")
    assert record.judged.startswith("by the fit on")
    assert record.rows[0].n == rows[0].n == 30
    assert np.isnan([record.rows[0].auroc, record.rows[0].auroc_low]).all()  # of no failure
    assert '"auroc": null' in (tmp_path / "quality.json").read_text()


def test_auroc_known_answer() -> None:
    failed = np.array([True, True, False, False])
    assert measure_auroc(np.array([0.1, 0.2, 0.8, 0.9]), failed) == 1.0
    assert measure_auroc(np.array([0.5, 0.5, 0.5, 0.5]), failed) == 0.5
    assert measure_auroc(np.array([0.9, 0.2, 0.8, 0.1]), failed) == 0.25  # one pair of four
    assert np.isnan(measure_auroc(np.ones(4), np.zeros(4, bool)))
