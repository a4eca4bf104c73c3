"""A learning curve on phantoms: nested trainings, the same call again, another design, and what is written."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import phantom_bundles as phantoms
import pytest

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import DatasetError, PlanError
from unet_pipeline.text_files import read_json
from unet_pipeline.verbs.learning_curve import CurveDesign

from ..scripts import require_schema

LABELS = {"background": 0, "cell": 255}
DESIGN = CurveDesign(sizes=(2, 4, 8), repeats=1, steps=3, more=4)


def test_trainings_are_nested_measured_alike_and_kept(tmp_path: Path) -> None:
    dataset, out, said = phantoms.write_pictures(tmp_path / "cells", 10), tmp_path / "curve", []
    quietly = {"labels": LABELS, "device": "cpu", "announce": said.append}
    assert phantoms.silently(unet_pipeline.learning_curve, dataset, out, DESIGN, is_dry_run=True, **quietly) is None
    assert any("3 (1 x 2 cases, 1 x 4 cases, 1 x 8 cases), 3 steps each" in line for line in said)
    assert any(line.startswith("time") and " h)" in line for line in said)
    curve = phantoms.silently(unet_pipeline.learning_curve, dataset, out, DESIGN, **quietly)
    folder = BundleFolder(out / "bundle")
    splits = [folder.read_split(fold) for fold in range(3)]
    trained = [{case.case for case in split.training} for split in splits]
    assert trained[0] < trained[1] < trained[2]
    held_out = {case.case for case in splits[0].validation}
    assert all({case.case for case in split.validation} == held_out for split in splits)
    assert not held_out & trained[2]
    assert [point.num_cases for point in curve.points] == [2, 4, 8]
    assert (curve.num_cases, curve.num_held_out, curve.num_steps) == (8, 2, 3)
    assert curve.sentence.startswith("4 more cases: ")
    weights = folder.fold_weights(2).stat().st_mtime_ns
    again = phantoms.silently(unet_pipeline.learning_curve, dataset, out, DESIGN, **quietly)
    assert folder.fold_weights(2).stat().st_mtime_ns == weights
    assert [point.score for point in again.points] == [point.score for point in curve.points]
    written = read_json(out / "learning_curve.json")
    assert written["sentence"] == curve.sentence
    require_schema(written, "learning_curve")
    assert all((out / f"learning_curve.{suffix}").stat().st_size > 50 for suffix in ("svg", "png", "csv"))
    with pytest.raises(PlanError, match="has a learning curve with steps 3, and 4 is asked for"):
        unet_pipeline.learning_curve(dataset, out, CurveDesign((2, 4, 8), 1, steps=4), LABELS)


def test_sizes_that_the_cases_do_not_allow_are_refused(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells", 5)
    with pytest.raises(DatasetError, match="--sizes has 20; expected 1 to 4"):
        phantoms.silently(unet_pipeline.learning_curve, dataset, tmp_path / "curve", CurveDesign((2, 4, 20)), LABELS)
    assert not (tmp_path / "curve" / "bundle").exists()


def test_cases_are_measured_by_the_workers_that_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class MeasuredError(Exception):
        """The call came as far as its measurement."""

    def evaluate(bundle: Path, **options: Any) -> None:
        asked.update(options)
        raise MeasuredError

    asked: dict[str, Any] = {}
    verb = importlib.import_module("unet_pipeline.verbs.learning_curve")
    monkeypatch.setattr(verb, "train", lambda *words, **options: ())
    monkeypatch.setattr(verb, "evaluate", evaluate)
    dataset, workers = phantoms.write_pictures(tmp_path / "cells", 10), {"jobs": 2, "threads": 3}
    with pytest.raises(MeasuredError):
        phantoms.silently(unet_pipeline.learning_curve, dataset, tmp_path / "curve", DESIGN, LABELS, **workers)
    assert {name: asked[name] for name in ("jobs", "engine", "threads", "address", "sbatch")} == {
        **workers,
        "engine": "local",
        "address": None,
        "sbatch": None,
    }
