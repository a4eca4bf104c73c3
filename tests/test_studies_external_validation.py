"""Verdicts from values: shown, not shown, not powered, void; patients as units; paired gains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from unet_pipeline.errors import EvaluationError
from unet_pipeline.studies.external_validation import (
    NOT_POWERED,
    NOT_SHOWN,
    SHOWN,
    VOID,
    PatientValues,
    decide,
    describe_verdict,
    find_breaches,
    gather_patients,
)
from unet_pipeline.studies.look_log import OPENED, PLANNED, LookLog, name_log

from .test_studies_protocol import build_protocol


def make_rows(dice: list[float], patients: list[str] | None = None) -> pd.DataFrame:
    cases = [f"c{index}" for index in range(len(dice))]
    return pd.DataFrame(
        {
            "case": cases,
            "patient": patients or cases,
            "label": "x",
            "dice": dice,
            "num_voxels_reference": 1.0,
            "num_voxels_prediction": 1.0,
        }
    )


def values(mean: float, num: int) -> PatientValues:
    spread = np.tile([0.01, -0.01], num // 2)
    return PatientValues(mean + spread, None, num, 0)


def test_cases_of_a_patient_are_averaged_and_undefined_ones_counted() -> None:
    patients = gather_patients(make_rows([0.8, 0.6, 0.9, np.nan], ["p", "p", "q", "r"]), ["x"], "dice", "x")
    assert patients.values.tolist() == [pytest.approx(0.7), 0.9]
    assert (patients.num_cases, patients.num_undefined) == (3, 1)
    with pytest.raises(EvaluationError, match="has no hd95 of x"):
        gather_patients(make_rows([0.8]), ["x"], "hd95", "x")


def test_pairs_count_silence_about_an_absent_structure_as_right() -> None:
    own, other = make_rows([0.8, np.nan]), make_rows([0.7, 0.0])
    own.loc[1, ["num_voxels_reference", "num_voxels_prediction"]] = 0.0
    other.loc[1, "num_voxels_reference"] = 0.0
    patients = gather_patients(own, ["x"], "dice", "x", other)
    assert patients.values.tolist() == [0.8, 1.0]
    assert patients.others is not None
    assert patients.others.tolist() == [0.7, 0.0]


@pytest.mark.parametrize(
    ("mean", "num", "breaches", "verdict"),
    [
        (0.9, 20, [], SHOWN),
        (0.88, 20, [], NOT_SHOWN),  # on the boundary
        (0.9, 18, [], NOT_POWERED),
        (0.9, 20, ["edited"], VOID),
    ],
)
def test_verdicts(mean: float, num: int, breaches: list[str], verdict: str) -> None:
    protocol = build_protocol()
    found, numbers = decide(protocol, values(mean, num), breaches)
    assert found == verdict
    assert numbers["gain"] == pytest.approx(mean - 0.9)
    assert numbers["is_above"] == (mean == 0.9)
    assert f"{num} patients of 20 planned" in describe_verdict(protocol, found, numbers)


def test_of_a_distance_the_smaller_mean_is_better() -> None:
    protocol = build_protocol(metric="hd95", against=3.0, margin=0.5, hypothesis="superiority")
    verdict, numbers = decide(protocol, values(2.0, 20), [])
    assert (verdict, numbers["gain"], numbers["boundary"]) == (SHOWN, pytest.approx(1.0), 0.5)
    assert decide(protocol, values(2.6, 20), [])[0] == NOT_SHOWN


def test_a_cut_off_look_is_noted_and_other_data_are_a_breach(tmp_path: Path) -> None:
    protocol = build_protocol()
    log = LookLog(name_log(tmp_path / "p.yaml"), ()).add(PLANNED, protocol.sha256)
    assert find_breaches(protocol, log, "d" * 64, protocol.sha256, []) == ([], [])
    log = log.add(OPENED, protocol.sha256, data_sha256="d" * 64)
    breaches, notes = find_breaches(protocol, log, "d" * 64, None, [])
    assert (breaches, len(notes)) == ([], 1)
    breaches, _ = find_breaches(protocol, log, "e" * 64, None, ["first"])
    assert [line.split()[0] for line in breaches] == ["Bundle", "Other"]
