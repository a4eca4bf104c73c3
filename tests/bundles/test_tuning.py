"""Probabilities, ensembles of folds, and post-processing and temperature chosen on out-of-fold predictions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.configs import find_differences
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import TunedCase
from unet_pipeline.cohort.items import State
from unet_pipeline.cohort.record import Row
from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import BundleError
from unet_pipeline.evaluation.groups import group_by_fold
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.tuning.calibration import Calibration
from unet_pipeline.tuning.choose import CaseSample, Tuning
from unet_pipeline.tuning.postprocessing import FILL_HOLES, KEEP_LARGEST, REMOVE_SMALL, Decision
from unet_pipeline.verbs import tune_jobs

from ..cohort_phantoms import stay_in_own_process
from .conftest import TrainedBundle
from .stock_environment import ENVIRONMENT, make_stock_environment


@pytest.fixture(scope="module")
def trained_folds(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """The 2D bundle with another fold, trained for two steps."""
    copy = bundle_2d.copy_to(tmp_path_factory.mktemp("folds"))
    short = {"num_epochs": 1, "iterations_per_epoch": 2, "val_interval": 1}
    phantoms.silently(unet_pipeline.train, copy.root, fold=1, overrides=short)
    return copy


@pytest.fixture
def two_folds(trained_folds: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    """A copy of it, to be changed."""
    return trained_folds.copy_to(tmp_path)


def read_probabilities(path: Path) -> np.ndarray:
    """Shape (classes, *spatial)."""
    if path.suffix == ".npz":
        return np.swapaxes(np.load(path)["probabilities"], 1, 2)
    return np.moveaxis(np.asarray(nib.load(path).dataobj), -1, 0)


# probabilities and ensembles


def test_predict_probabilities_belong_to_the_label_map(bundle: TrainedBundle, tmp_path: Path) -> None:
    image = next((bundle.dataset / ("imagesTr" if "organ" in bundle.root.name else "images")).iterdir())
    phantoms.silently(unet_pipeline.predict, bundle.root, image, tmp_path, probabilities=True)
    stem = image.name.partition(".")[0]
    (written,) = tmp_path.glob(f"{stem}_probabilities.*")
    (label_map,) = set(tmp_path.glob(f"{stem}.*")) - {written}
    probabilities = read_probabilities(written)
    values = list(read_plan(bundle.root / "configs" / "plan.yaml").label_table.values())
    assert probabilities.shape == (len(values), *read_image(image).spatial_shape)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-4)
    assert np.array_equal(np.take(values, probabilities.argmax(axis=0)), read_image(label_map).array[0])


def test_predict_probabilities_of_finished_images_are_added(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    image = next((bundle_2d.dataset / "images").iterdir())
    phantoms.silently(unet_pipeline.predict, bundle_2d.root, image, tmp_path)
    again = phantoms.silently(unet_pipeline.predict, bundle_2d.root, image, tmp_path, probabilities=True)
    assert len(again.written) == 1
    assert (tmp_path / f"{image.stem}_probabilities.npz").is_file()
    kept = phantoms.silently(unet_pipeline.predict, bundle_2d.root, image, tmp_path, probabilities=True)
    assert (len(kept.written), len(kept.kept)) == (0, 1)


def test_predict_ensemble_is_the_mean_of_the_folds_probabilities(two_folds: TrainedBundle, tmp_path: Path) -> None:
    image = next((two_folds.dataset / "images").iterdir())
    folder = BundleFolder(two_folds.root)
    found = []
    for fold in (0, 1):
        shutil.copyfile(folder.fold_weights(fold), folder.weights)
        phantoms.silently(unet_pipeline.predict, two_folds.root, image, tmp_path / str(fold), probabilities=True)
        found.append(read_probabilities(tmp_path / str(fold) / f"{image.stem}_probabilities.npz"))
    phantoms.silently(
        unet_pipeline.predict, two_folds.root, image, tmp_path / "both", ensemble=True, probabilities=True
    )
    both = read_probabilities(tmp_path / "both" / f"{image.stem}_probabilities.npz")
    np.testing.assert_allclose(both, np.mean(found, axis=0), atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=1e-2)


def test_predict_ensemble_of_one_fold_is_refused(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has weights of 1 fold\(s\); expected two or more for an ensemble"):
        unet_pipeline.predict(bundle_2d.root, bundle_2d.dataset / "images", tmp_path / "out", ensemble=True)
    assert not (tmp_path / "out").exists()


def test_evaluate_ensemble_leaves_out_what_any_fold_was_trained_on(two_folds: TrainedBundle, tmp_path: Path) -> None:
    other = phantoms.write_pictures(tmp_path / "other", num_cases=10)  # eight of them are the training's
    result = phantoms.silently(unet_pipeline.evaluate, two_folds.root, other, out=tmp_path / "out", ensemble=True)
    assert set(result.rows["case"]) == {"cell_08", "cell_09"}
    assert len(result.excluded) == 8
    assert "ensemble of folds 0, 1" in result.title


# tuning


def test_tune_writes_plan_configs_and_evidence(copy_of_2d: TrainedBundle) -> None:
    folder = BundleFolder(copy_of_2d.root)
    before = read_plan(folder.plan)
    tuning = phantoms.silently(unet_pipeline.tune, copy_of_2d.root)
    assert (tuning.num_cases, tuning.folds) == (2, (0,))
    assert {decision.candidate for decision in tuning.decisions} >= {FILL_HOLES, KEEP_LARGEST}
    plan = read_plan(folder.plan)
    assert plan.temperature == round(tuning.calibration.temperature, 4)
    unchanged = {"temperature", "fill_holes", "keep_largest_component", "remove_small_objects"}
    assert plan.model_dump(exclude=unchanged) == before.model_dump(exclude=unchanged)
    assert find_differences(folder, plan) == ()
    record = json.loads(folder.tuning.read_text())
    assert record["title"].startswith("cells, validation of fold 0")
    assert "chosen on 2 out-of-fold predictions" in folder.plan.read_text()
    run = json.loads((folder.evidence / "tuning_run.json").read_text())
    assert (run["kind"], run["state"], len(run["cases"])) == ("tune", "finished", 2)
    assert run["weights"] == [{"fold": 0, "file": "models/model_fold_0.pt", "sha256": record["weights_sha256"][0]}]
    assert run["plan"]["temperature"] == before.temperature
    assert run["result"]["tuning_sha256"] == compute_sha256(folder.tuning)
    assert run["result"]["plan_sha256"] == compute_sha256(folder.plan) != run["plan_sha256"]


def test_tune_again_gives_the_same(copy_of_2d: TrainedBundle) -> None:
    """What was chosen before must not change what is measured now."""
    first = phantoms.silently(unet_pipeline.tune, copy_of_2d.root)
    assert phantoms.silently(unet_pipeline.tune, copy_of_2d.root) == first


def test_tune_without_a_temperature_leaves_the_plans_own_and_says_why(
    copy_of_2d: TrainedBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unet_pipeline.commands.tune import print_tuning
    from unet_pipeline.tuning import choose as stage

    fit = stage.fit_temperature
    monkeypatch.setattr(stage, "fit_temperature", lambda probabilities, classes, _: fit(probabilities, classes, 1))
    folder = BundleFolder(copy_of_2d.root)
    edit_plan(folder.plan, {"temperature": (1.3, "chosen on many cases")})
    unet_pipeline.refresh(copy_of_2d.root)
    tuning = phantoms.silently(unet_pipeline.tune, copy_of_2d.root)
    assert read_plan(folder.plan).temperature == 1.3
    assert "chosen on many cases" in folder.plan.read_text()
    assert json.loads(folder.tuning.read_text())["calibration"]["reason"] == tuning.calibration.reason != ""
    print_tuning(tuning)
    assert "temperature not changed: one case alone" in capsys.readouterr().out
    from unet_pipeline.evidence.report import answers
    from unet_pipeline.evidence.report.history import read_history

    assert "no temperature was taken, because one case alone" in (
        answers.tell("calibration", read_history(folder)) or ""
    )


def test_tune_config_edited_by_hand_is_not_overwritten(copy_of_2d: TrainedBundle) -> None:
    folder = BundleFolder(copy_of_2d.root)
    config = json.loads(folder.config("inference").read_text())
    folder.config("inference").write_text(json.dumps({**config, "window_batch_size": 3}))
    before = folder.plan.read_bytes()
    with pytest.raises(BundleError, match=r"Edited by hand since generated: configs/inference\.json"):
        unet_pipeline.tune(copy_of_2d.root)
    assert folder.plan.read_bytes() == before
    assert not (folder.evidence / "tuning_run.json").exists()


@pytest.mark.usefixtures("warm_processes")
def test_tune_jobs_chooses_what_one_process_chooses_and_goes_on(
    two_folds: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, folder = two_folds.copy_to(tmp_path / "alone"), BundleFolder(two_folds.root)
    torch.set_num_threads(1)
    expected = phantoms.silently(unet_pipeline.tune, alone.root)
    read_sample, attempts, cases = tune_jobs._read_sample, dict[str, int](), folder.evidence / tune_jobs.CASES

    def interrupt(out: Path, row: Row) -> CaseSample:
        raise KeyboardInterrupt

    def note(out: Path, row: Row) -> CaseSample:
        attempts[row.name] = row.attempts
        return read_sample(out, row)

    monkeypatch.setattr(tune_jobs, "_read_sample", interrupt)
    with pytest.raises(KeyboardInterrupt):
        phantoms.silently(unet_pipeline.tune, folder.root, jobs=2, threads=1)
    assert unet_pipeline.jobs(cases).counts == {State.FINISHED: expected.num_cases}
    next(cases.glob("*.npz")).unlink()
    monkeypatch.setattr(tune_jobs, "_read_sample", note)
    stay_in_own_process(monkeypatch)
    tuning = phantoms.silently(unet_pipeline.tune, folder.root, threads=1)
    assert sorted(attempts.values()) == [1] * (expected.num_cases - 1) + [2]
    assert tuning == expected
    assert folder.tuning.read_bytes() == BundleFolder(alone.root).tuning.read_bytes()
    assert folder.plan.read_bytes() == BundleFolder(alone.root).plan.read_bytes()
    assert not cases.exists()


def test_tune_jobs_case_of_several_folds_is_an_item_for_each(two_folds: TrainedBundle, tmp_path: Path) -> None:
    folder = BundleFolder(two_folds.root)
    (first, *_), _, _ = group_by_fold(folder, read_plan(folder.plan))
    hashes = {case.source.name: TunedCase(files_sha256={}, label_sha256="0") for case in first.cases}
    groups = [first, replace(first, fold=7, weights=(folder.weights, folder.weights))]
    work = tune_jobs.TuningWork(
        bundle=folder.root, weights=(first.weights, first.weights), out=tmp_path, device=None, mirror=False, sizes=()
    )
    items = tune_jobs._build_items(groups, hashes, work)
    names = [case.source.name for case in first.cases]
    assert [item.name for item in items] == [f"{name}, fold {fold}" for fold in (first.fold, 7) for name in names]
    assert [item.arguments["group"] for item in items] == [0] * len(names) + [1] * len(names)
    assert len({item.key for item in items}) == len(items), "another network gives another result"
    assert [item.name for item in tune_jobs._build_items([first], hashes, work)] == names


def test_tuning_takes_the_size_of_the_highest_dice() -> None:
    def decision(size: float, after: float, taken: bool) -> Decision:
        return Decision("all labels", REMOVE_SMALL.format(size), 5, 0.8, after, 0.0, 0.1, taken)

    nothing = Calibration(1.0, 1, 0, 0, 0, 0)
    tuning = Tuning(5, (0,), (decision(10, 0.81, True), decision(40, 0.83, True), decision(160, 0.9, False)), nothing)
    assert tuning.remove_small_objects == 40
    assert Tuning(5, (0,), (decision(160, 0.9, False),), nothing).remove_small_objects == 0


def test_temperature_changes_probabilities_and_no_label(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    folder = BundleFolder(copy_of_2d.root)
    image = next((copy_of_2d.dataset / "images").iterdir())
    maps, probabilities = [], []
    for temperature in (1.0, 3.0):
        edit_plan(folder.plan, {"temperature": (temperature, "a test")})
        unet_pipeline.refresh(copy_of_2d.root)
        out = tmp_path / str(temperature)
        phantoms.silently(unet_pipeline.predict, copy_of_2d.root, image, out, probabilities=True)
        maps.append(read_image(out / image.name).array)
        probabilities.append(read_probabilities(out / f"{image.stem}_probabilities.npz"))
    assert np.array_equal(*maps)
    softened = probabilities[0] ** (1 / 3)
    np.testing.assert_allclose(probabilities[1], softened / softened.sum(axis=0), atol=2e-3)


@pytest.mark.slow
def test_postprocessing_of_the_plan_runs_in_stock_monai(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    """One part, no holes, no small parts: in our predictions, and the same without this package."""
    folder = BundleFolder(copy_of_2d.root)
    image = tmp_path / "images" / "two.png"
    rows, _ = phantoms.draw_cell(3)
    rows[2:9, 3:10] = 170  # a second, small cell
    image.parent.mkdir()
    phantoms.PillowImage.fromarray(rows).save(image)
    phantoms.silently(unet_pipeline.predict, copy_of_2d.root, image, tmp_path / "plain")
    edit_plan(
        folder.plan,
        {name: (["cell"], "a test") for name in ("fill_holes", "keep_largest_component")}
        | {"remove_small_objects": (60.0, "a test")},
    )
    unet_pipeline.refresh(copy_of_2d.root)
    phantoms.silently(unet_pipeline.predict, copy_of_2d.root, image, tmp_path / "ours")
    python = make_stock_environment(tmp_path / "env", further=("scikit-image", "scipy"))
    command = [python, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", image.parent, "--output_dir", tmp_path / "stock"]
    subprocess.run(
        command,
        cwd=copy_of_2d.root,
        check=True,
        capture_output=True,
        env=ENVIRONMENT,
    )
    command = [sys.executable, "-m", "unet_pipeline", "predict", copy_of_2d.root, image, tmp_path / "lean"]
    subprocess.run(command, check=True, capture_output=True)  # MONAI without what this does not need
    names = ("plain", "ours", "stock", "lean")
    plain, ours, stock, lean = (read_image(tmp_path / name / "two.png").array[0] for name in names)
    from scipy import ndimage

    assert ndimage.label(plain)[1] > 1
    assert ndimage.label(ours)[1] == 1
    assert np.array_equal(ours, stock)
    assert np.array_equal(ours, lean)
