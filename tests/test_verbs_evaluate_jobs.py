"""Cases measured by workers against threads of one process, on label maps that need every kind of value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.cohort.items import State
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.cohort.record import Row, open_record
from unet_pipeline.errors import CohortError, PredictionError
from unet_pipeline.evaluation.cases import evaluate_pairs
from unet_pipeline.evaluation.mask_pair import Request
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.messages import Problem
from unet_pipeline.verbs.evaluate import _settle_precision
from unet_pipeline.verbs.evaluate_jobs import choose_measuring

from .cohort_phantoms import stay_in_own_process
from .phantom_bundles import SPACING_MM, write_volume

LABELS = {"background": 0, "liver": 1, "tumour": 2}
NUM_CASES = 5


def write_pairs(folder: Path) -> list[Pair]:
    """Cubes, predicted a voxel too far; case 1 lacks a label, case 2 is cropped by its prediction, case 3 has instances."""
    pairs = []
    for number in range(NUM_CASES):
        name = f"case_{number}"
        reference, prediction = np.zeros((2, 14, 14, 14), np.uint8)
        reference[2:9, 2:9, 2:9], prediction[3:10, 2:9, 2:9] = 1, 1
        reference[4:7, 4:7, 4:7], prediction[4:7, 4:8, 4:7] = 2, 2
        if number == 1:
            prediction[prediction == 2] = 0
        write_volume(folder / "labels" / f"{name}.nii.gz", reference)
        write_volume(folder / "maps" / f"{name}.nii.gz", prediction)
        if number == 2:
            affine = np.diag([*SPACING_MM, 1.0])
            affine[:3, 3] = SPACING_MM
            write_volume(folder / "maps" / f"{name}.nii.gz", prediction[1:13, 1:13, 1:13], affine)
        if number == 3:
            write_volume(folder / "instances" / f"{name}.nii.gz", np.where(reference, 7, 0).astype(np.uint8))
        paths = [folder / kind / f"{name}.nii.gz" for kind in ("labels", "maps")]
        pairs.append(Pair(name, *paths, fold=number % 2, patient=f"patient {number % 3}", spatial_dims=3))
    return pairs


def read_rows(folder: Path) -> dict[str, Row]:
    """What the record has, by case."""
    with open_record(folder) as record:
        return {row.name: row for state in State for row in record.list_in(state)}


def test_workers_measure_the_same_to_the_bit_and_only_what_changed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, out, notes = write_pairs(tmp_path / "data"), tmp_path / "out", dict[str, list[Problem]](alone=[], jobs=[])
    settings = (LABELS, 0, {"organ": (1, 2)}, {"tumour": Request(2.0, lesions=True, thin=True, separated=True)})
    measure_all, measure_alone = (choose_measuring(JobOptions(jobs, num_threads=1), out) for jobs in (2, 1))
    alone = evaluate_pairs(pairs, *settings, notes["alone"])
    by_jobs = evaluate_pairs(pairs, *settings, notes["jobs"], measure_all)
    assert by_jobs.equals(alone)
    assert by_jobs.dtypes.equals(alone.dtypes)
    assert notes["jobs"] == notes["alone"]
    assert [note.file for note in notes["alone"]] == ["case_2.nii.gz"]
    assert {name: row.attempts for name, row in read_rows(out).items()} == {pair.case: 1 for pair in pairs}

    stay_in_own_process(monkeypatch)
    write_volume(pairs[4].prediction, np.full((14, 14, 14), 9, np.uint8))
    with pytest.raises(CohortError, match=r"1 of 5 cases failed:\n  case_4 \(bad input\): .*has the value 9"):
        evaluate_pairs(pairs, *settings, [], measure_alone)
    assert [row.attempts for row in read_rows(out).values()] == [1] * NUM_CASES, "one that is another begins anew"
    moved = tmp_path / "data" / "labels" / "case_0.nii.gz"
    write_volume(moved, np.ones((14, 14, 14), np.uint8))
    with pytest.raises(CohortError):
        evaluate_pairs(pairs, *settings, [], measure_alone)
    started = {name: row.started for name, row in read_rows(out).items()}
    assert max(started, key=lambda name: started[name]) == "case_0", "case_4 is set aside until its files change"


def test_workers_measure_a_case_once_for_each_fold_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_in_own_process(monkeypatch)
    first, second, *_ = write_pairs(tmp_path / "data")
    pairs = [first, replace(first, fold=1, prediction=second.prediction), replace(second, fold=1)]
    settings = (LABELS, 0, {}, {})
    by_jobs = evaluate_pairs(pairs, *settings, [], choose_measuring(JobOptions(num_threads=1), tmp_path / "out"))
    assert by_jobs.equals(evaluate_pairs(pairs, *settings, []))
    assert read_rows(tmp_path / "out").keys() == {"case_0, fold 0", "case_0, fold 1", "case_1"}


def test_settle_precision_of_a_device_that_only_the_workers_have() -> None:
    away, absent = JobOptions(4, "ray"), "cuda:99"
    assert _settle_precision("bfloat16", absent, away) == "bfloat16"
    assert _settle_precision("float32", None, None) == "float32"
    with pytest.raises(PredictionError, match="did you mean 'float32'"):
        _settle_precision("flaot32", absent, away)
    for workers in (None, JobOptions(4)):
        with pytest.raises(PredictionError, match="cannot be used here"):
            _settle_precision("float32", absent, workers)
