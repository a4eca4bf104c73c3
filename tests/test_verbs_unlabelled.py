"""`train --unlabelled`: two folds whose networks call everything a cell; a useless pool, and one with which they are trained better.

Images of the dataset, copies and damaged files are left out; what is cut off goes on; a rejected pool leaves models/ as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.unlabelled import PoolRecord, find_trained_pool, read_pool
from unet_pipeline.errors import BundleError, TrainingError
from unet_pipeline.evaluation.groups import hash_training_images
from unet_pipeline.files import compute_sha256
from unet_pipeline.verbs import unlabelled
from unet_pipeline.verbs.unlabelled_work import locate_work

from .phantom_bundles import PICTURE_SIZE, SMALL_2D, draw_cell, plan_small, silently, write_pictures

NUMBERS = {**SMALL_2D, "num_epochs": 1, "iterations_per_epoch": 16, "val_interval": 1}
FOLDS = (0, 1)


def write_simple_weights(folder: BundleFolder) -> None:
    """Weights of both folds that call every pixel a cell: Dice about a third, and no two networks ever disagree."""
    parser = ConfigParser()
    parser.read_config(folder.read_config("inference"))
    state = {
        name: torch.zeros_like(tensor) for name, tensor in parser.get_parsed_content("network_def").state_dict().items()
    }
    for name, tensor in state.items():
        if name.endswith("bias") and tensor.shape == (2,):
            tensor[1] = 5.0
    for path in (*map(folder.fold_weights, FOLDS), folder.weights):
        torch.save(state, path)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, a pool of cells with three that are left out, and a pool of noise."""
    root = tmp_path_factory.mktemp("unlabelled")
    folder = BundleFolder(plan_small(write_pictures(root / "cells"), root / "bundle", **NUMBERS))
    write_simple_weights(folder)
    for name in ("pool", "noise"):
        (root / name).mkdir()
    for seed in (100, 101):
        PillowImage.fromarray(draw_cell(seed)[0]).save(root / "pool" / f"new_{seed}.png")
    shutil.copy(root / "cells" / "images" / "cell_00.png", root / "pool" / "known.png")
    shutil.copy(root / "pool" / "new_100.png", root / "pool" / "twice.png")
    (root / "pool" / "damaged.png").write_bytes(b"no picture")
    for seed in range(3):
        rows = np.random.default_rng(seed).integers(0, 255, PICTURE_SIZE[::-1], dtype=np.uint8)
        PillowImage.fromarray(rows).save(root / "noise" / f"noise_{seed}.png")
    return root


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of all files but the hidden ones, which belong to a machine."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): compute_sha256(path) for path in paths}


def try_pool(bundle: Path, pool: Path) -> unlabelled.PoolTrial:
    return silently(unet_pipeline.train_with_unlabelled, bundle, pool)


def test_noise_is_rejected_before_any_training_and_nothing_but_the_record_is_new(
    work: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    bundle = work / "bundle"
    before = hash_files(bundle)
    status, out, err = call_main("train", bundle, "--unlabelled", work / "noise", "--json", "trial.json")
    assert status == 0, err
    assert "pool noise rejected: 0 of 3 images are left" in out
    assert "models/ is as it was" in out
    after = hash_files(bundle)
    (path,) = after.keys() - before.keys()
    assert {name: after[name] for name in before} == before
    record = read_pool(bundle / path, "bundle")
    assert path == f"evidence/unlabelled/{record.key}.json"
    assert not record.accepted
    assert record.gain is None
    assert [image.left_out.partition(":")[0] for image in record.images] == ["outside of the input contract"] * 3
    assert record.images[0].files_sha256 == {"noise_0.png": compute_sha256(work / "noise" / "noise_0.png")}
    assert record.teachers_sha256 == {fold: [before[f"models/model_fold_{fold}.pt"]] for fold in FOLDS}
    assert PoolRecord.model_validate_json(Path("trial.json").read_text(encoding="utf-8")) == record
    assert not list(locate_work(BundleFolder(bundle), record.key).copy.models.glob("model*.pt")), "nothing was trained"


def test_pool_that_helps_is_kept_after_it_was_cut_off(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, folder = work / "bundle", BundleFolder(work / "bundle")
    before = hash_files(bundle)

    def stop_second_fold(*arguments: object) -> tuple[unet_pipeline.TrainingRun, ...]:
        copy, trainings, workers, _, *others = arguments
        (run,) = train_all(copy, trainings[:1], workers, False, *others)
        return run, replace(run, fold=1, stopped_by="SIGTERM")

    train_all = unlabelled.train_all
    with monkeypatch.context() as patched:
        patched.setattr(unlabelled, "train_all", stop_second_fold)
        stopped = try_pool(bundle, work / "pool")
    assert (stopped.record, stopped.stopped_by) == (None, "SIGTERM")
    assert hash_files(bundle) == before
    made = {path: path.stat().st_mtime_ns for path in stopped.work.rglob("*.png")}
    assert len([path for path in made if path.parent.name.startswith("labels_fold_")]) == 4

    trial = try_pool(bundle, work / "pool")
    assert trial.work == stopped.work
    assert {path: path.stat().st_mtime_ns for path in made} == made, "no image was labelled again"
    record = read_pool(trial.path, "bundle")
    assert record == trial.record
    assert record.accepted, record.reason
    assert record.gain is not None
    assert record.gain.low is not None
    assert record.gain.low > 0
    assert record.gain.difference == pytest.approx(record.gain.after - record.gain.before)
    assert (record.gain.num_cases, record.num_kept) == (4, 2)
    left_out = {image.name: image.left_out.partition(":")[0] for image in record.images if image.left_out}
    assert left_out == {"known": "a file of the dataset", "twice": "there twice", "damaged": "cannot be predicted"}
    assert str(work) not in trial.path.read_text(encoding="utf-8")
    for fold in FOLDS:
        assert (
            compute_sha256(folder.fold_weights(fold)) == record.students_sha256[fold] != record.teachers_sha256[fold][0]
        )
        run = json.loads((folder.runs / f"fold_{fold}-001" / "run.json").read_text(encoding="utf-8"))
        assert run["result"]["weights_sha256"] == record.students_sha256[fold]
        assert run["split"]["training"].count("unlabelled_new_100") == 1
        assert str(work) not in json.dumps(run)
    assert compute_sha256(folder.weights) == record.students_sha256[0]


@pytest.fixture
def kept(work: Path) -> Path:
    """The folder once the pool that helps was kept, also where another process runs the test that shows it."""
    try_pool(work / "bundle", work / "pool")
    return work


def test_label_maps_of_a_training_are_made_by_its_own_fold_alone(kept: Path) -> None:
    folder = BundleFolder(kept / "bundle")
    record = find_trained_pool(folder, 0)
    assert record is not None
    trial = locate_work(folder, record.key)
    for fold in FOLDS:
        pool = [case for case in trial.copy.read_split(fold).training if case.case.startswith("unlabelled_")]
        assert {Path(case.label).parent.name for case in pool} == {f"labels_fold_{fold}"}
        entries = json.loads((trial.label_maps(fold) / "predictions_run.json").read_text(encoding="utf-8"))["images"]
        assert {tuple(entry["weights_sha256"]) for entry in entries.values()} == {tuple(record.teachers_sha256[fold])}
        validation = {case.case for case in trial.copy.read_split(fold).validation}
        assert validation == {case.case for case in folder.read_split(fold).validation}


def test_work_is_an_ordinary_bundle(kept: Path, tmp_path: Path) -> None:
    record = find_trained_pool(BundleFolder(kept / "bundle"), 0)
    assert record is not None
    copy = locate_work(BundleFolder(kept / "bundle"), record.key).copy
    assert unet_pipeline.audit(copy.root).dangers == ()
    measured = silently(unet_pipeline.evaluate, copy.root, out=tmp_path / "measured", check_data=False)
    trained = hash_training_images(copy, 0)
    assert compute_sha256(kept / "pool" / "new_101.png") in trained
    assert hash_training_images(BundleFolder(kept / "bundle"), 0) == trained
    assert record.gain is not None
    dice = measured.rows.loc[measured.rows["label"] != "background", "dice"]
    assert dice.mean() == pytest.approx(record.gain.after, abs=1e-6)


def test_same_pool_again_tells_what_was_decided(kept: Path) -> None:
    before = hash_files(kept)
    record = try_pool(kept / "bundle", kept / "pool").record
    assert record is not None
    assert record.accepted
    assert hash_files(kept) == before


def test_images_that_were_trained_on_count_as_trained_on(kept: Path) -> None:
    trained = hash_training_images(BundleFolder(kept / "bundle"), 0)
    assert compute_sha256(kept / "pool" / "new_101.png") in trained
    assert compute_sha256(kept / "noise" / "noise_0.png") not in trained


def test_handing_over_that_was_cut_off_is_finished(kept: Path) -> None:
    folder = BundleFolder(kept / "bundle")
    record = find_trained_pool(folder, 0)
    assert record is not None
    complete = hash_files(folder.root)
    trial = locate_work(folder, record.key)
    shutil.copyfile(trial.list_teachers(1)[0], folder.fold_weights(1))
    shutil.copyfile(trial.list_teachers(0)[0], folder.weights)
    (folder.evidence / "unlabelled" / f"{record.key}.json").unlink()
    again = try_pool(folder.root, kept / "pool")
    assert again.record == record
    assert hash_files(folder.root) == complete


def test_one_trained_fold_is_refused(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "bundle", tmp_path / "bundle")
    BundleFolder(tmp_path / "bundle").fold_weights(1).unlink()
    with pytest.raises(BundleError, match=r"weights of 1 fold\(s\); expected two or more, because with --unlabelled"):
        try_pool(tmp_path / "bundle", work / "pool")


def test_ids_that_change_what_comes_out_are_refused(work: Path) -> None:
    with pytest.raises(TrainingError, match="num_epochs changes what comes out of a training"):
        unet_pipeline.train_with_unlabelled(work / "bundle", work / "noise", {"num_epochs": 9})


def test_options_that_do_not_go_with_it_are_refused(work: Path, call_main: Callable[..., tuple[int, str, str]]) -> None:
    for options in (("--fold", "0"), ("--seeds", "2"), ("--from", "bundle"), ("--deterministic",)):
        status, _, err = call_main("train", work / "bundle", "--unlabelled", work / "pool", *options)
        assert status == 2
        assert f"{options[0]} does not go with" in " ".join(err.replace("│", " ").split())
