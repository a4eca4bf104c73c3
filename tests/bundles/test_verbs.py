"""The verbs on phantom bundles: results, records, and what goes wrong without leaving anything half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import phantom_bundles as phantoms
import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer

import unet_pipeline
from unet_pipeline.bundle.configs import find_differences
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.device.memory_format import OrderChoice
from unet_pipeline.errors import BundleError, DatasetError, EvaluationError, PlanError, PredictionError, TrainingError
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.training.step import TrainingStep
from unet_pipeline.verbs import predict as forecasting

from .conftest import TrainedBundle


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) if folder.exists() else []


# plan


def test_plan_new_bundle_is_complete_before_training(tmp_path: Path) -> None:
    dataset = phantoms.write_volumes(tmp_path / "organs")
    planned = phantoms.silently(unet_pipeline.plan, dataset, tmp_path / "bundle", preset="quick")
    for name in (
        "LICENSE",
        "configs/plan.yaml",
        "configs/metadata.json",
        "configs/train.json",
        "configs/inference.json",
        "configs/evaluate.json",
        "configs/multi_gpu_train.json",
        "configs/logging.conf",
        "docs/data_license.txt",
        "evidence/dataset_manifest.json",
        "evidence/fingerprint.json",
        "evidence/splits/fold_4.json",
    ):
        assert (planned.bundle.root / name).is_file(), name
    assert not [name for name in list_files(tmp_path) if ".partial" in name]


def test_plan_dataset_with_error_writes_nothing(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells")
    (dataset / "labels" / "cell_03.png").unlink()
    with pytest.raises(DatasetError, match=r"images/cell_03\.png has no label"):
        phantoms.silently(unet_pipeline.plan, dataset, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_plan_existing_bundle_is_left_alone(bundle_2d: TrainedBundle) -> None:
    before = list_files(bundle_2d.root)
    with pytest.raises(BundleError, match="exists already"):
        phantoms.silently(unet_pipeline.plan, bundle_2d.dataset, bundle_2d.root)
    assert list_files(bundle_2d.root) == before


def test_plan_numbers_keep_their_names_in_the_configs(bundle: TrainedBundle) -> None:
    plan = json.loads(json.dumps(read_plan(bundle.root / "configs" / "plan.yaml").model_dump(mode="json")))
    plan["dataset_location"] = plan.pop("dataset_dir")
    used: set[str] = set()
    for stem in ("train", "inference"):
        config = json.loads((bundle.root / "configs" / f"{stem}.json").read_text())
        for name in plan.keys() & config.keys():
            assert config[name] == plan[name], (stem, name)
        used |= plan.keys() & config.keys()
    # these describe the plan, or are numbers of other networks and losses; or the configs have what follows from them
    assert plan.keys() - used == {
        "initial_weights_sha256",
        "other_sites",
        "missing_labels",
        "missing_channels",
        "channel_dropout",
        "instance_targets",
        "instance_depths_voxel",
        "instance_seed_threshold",
        "instance_smallest",
        "transposed_bias",
        "tolerance_mm",
        "lesion_labels",
        "thin_labels",
        "separated_labels",
        "border_threshold",
        "label_codes",
        "dataset_name",
        "channel_names",
        "label_table",
        "ignore_value",
        "num_folds",
        "image_suffix",
        "network_name",
        "padded",
        "normalisation",
        "num_blocks",
        "dropout",
        "pruned_to",
        "loss",
        "class_weights",
        "border_weight",
        "border_sigma_voxel",
        "temperature",
        "fill_holes",
        "keep_largest_component",
        "regions",
        "preset",
    }


def test_refresh_edited_plan_reaches_the_configs(copy_of_2d: TrainedBundle) -> None:
    path = copy_of_2d.root / "configs" / "plan.yaml"
    path.write_text(path.read_text().replace("num_epochs: 4", "num_epochs: 7"))
    unet_pipeline.refresh(copy_of_2d.root)
    assert json.loads((copy_of_2d.root / "configs" / "train.json").read_text())["num_epochs"] == 7


def test_refresh_config_edited_by_hand_is_kept_without_force(copy_of_2d: TrainedBundle) -> None:
    path = copy_of_2d.root / "configs" / "inference.json"
    path.write_text(path.read_text().replace('"window_overlap": 0.5', '"window_overlap": 0.7'))
    with pytest.raises(BundleError, match=r"configs/inference\.json"):
        unet_pipeline.refresh(copy_of_2d.root)
    assert '"window_overlap": 0.7' in path.read_text()
    folder = BundleFolder(copy_of_2d.root)
    assert find_differences(folder, read_plan(folder.plan)) == ("inference: window_overlap",)
    unet_pipeline.refresh(copy_of_2d.root, force=True)
    assert '"window_overlap": 0.5' in path.read_text()


# train


def test_train_phantoms_learns_and_leaves_a_record(bundle: TrainedBundle) -> None:
    (run_dir,) = (bundle.root / "evidence" / "runs").iterdir()
    record = json.loads((run_dir / "run.json").read_text())
    assert record["state"] == "finished"
    assert record["result"]["best_dice_resampled_grid"] > 0.8
    assert record["result"]["weights_sha256"] == compute_sha256(bundle.root / "models" / "model.pt")
    assert record["plan_sha256"] == compute_sha256(bundle.root / "configs" / "plan.yaml")
    assert str(bundle.root) not in json.dumps(record), "a record that travels names no folder of this machine"
    assert list(run_dir.glob("events.out.tfevents.*"))


def test_train_unknown_id_names_the_nearest(bundle_2d: TrainedBundle) -> None:
    before = list_files(bundle_2d.root)
    with pytest.raises(PlanError, match=r"no id 'epochs'; did you mean 'num_epochs'"):
        unet_pipeline.train(bundle_2d.root, overrides={"epochs": 1})
    with pytest.raises(PlanError, match="no id 'train#optimiser'; did you mean 'optimizer'"):
        unet_pipeline.train(bundle_2d.root, overrides={"train#optimiser#lr": 1})
    assert list_files(bundle_2d.root) == before


def test_train_unknown_fold_is_named(bundle_2d: TrainedBundle) -> None:
    with pytest.raises(BundleError, match="Fold 9 does not exist"):
        unet_pipeline.train(bundle_2d.root, fold=9)


def test_train_image_gone_names_the_case_and_records_the_failure(copy_of_2d: TrainedBundle) -> None:
    split = BundleFolder(copy_of_2d.root).read_split(0)
    case = split.training[0]
    (copy_of_2d.dataset / case.image).unlink()
    with pytest.raises(TrainingError, match=f"image of case {case.case} is gone"):
        unet_pipeline.train(copy_of_2d.root)
    record = json.loads((copy_of_2d.root / "evidence" / "runs" / "fold_0-002" / "run.json").read_text())
    assert record["state"] == "failed"


@pytest.mark.parametrize(("deterministic", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_train_resumed_keeps_its_precision_where_it_must_give_the_same_bits(
    copy_of_2d: TrainedBundle, monkeypatch: pytest.MonkeyPatch, deterministic: bool, expected: str
) -> None:
    """The processor is measured for it, and may be another one after an interruption."""
    overrides = {"samples_per_epoch": 4, "num_epochs": 1, "val_interval": 1, "deterministic": deterministic}
    monkeypatch.setattr("unet_pipeline.training.step.supports_fast_bfloat16", lambda device: True)
    phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=overrides)
    record = copy_of_2d.root / "evidence" / "runs" / "fold_0-002" / "run.json"
    assert json.loads(record.read_text())["precision"] == "bfloat16"
    monkeypatch.setattr("unet_pipeline.training.step.supports_fast_bfloat16", lambda device: False)
    phantoms.silently(unet_pipeline.train, copy_of_2d.root, resume=True, overrides={**overrides, "num_epochs": 2})
    assert json.loads(record.read_text())["precision"] == expected


@pytest.mark.parametrize(("deterministic", "expected"), [(False, "channels_last"), (True, "contiguous")])
def test_train_resumed_keeps_the_order_in_memory_that_was_tried_out(
    copy_of_2d: TrainedBundle, monkeypatch: pytest.MonkeyPatch, deterministic: bool, expected: str
) -> None:
    """What a second try would say counts no more."""
    overrides = {"samples_per_epoch": 4, "num_epochs": 1, "val_interval": 1, "deterministic": deterministic}
    monkeypatch.setattr("unet_pipeline.training.acceleration.STEPS_WORTH_A_PROBE", 1)
    name = "unet_pipeline.training.acceleration.choose_memory_format"
    monkeypatch.setattr(name, lambda *_: OrderChoice(torch.channels_last, "it was faster"))
    phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=overrides)
    path = copy_of_2d.root / "evidence" / "runs" / "fold_0-002" / "run.json"
    record = json.loads(path.read_text())
    assert record["memory_format"] == expected
    assert ("it was faster" in record["device_choices"][0]) == (expected == "channels_last")
    monkeypatch.setattr(name, lambda *_: pytest.fail("asked again"))
    phantoms.silently(unet_pipeline.train, copy_of_2d.root, resume=True, overrides={**overrides, "num_epochs": 2})
    record = json.loads(path.read_text())
    assert record["memory_format"] == expected
    assert "as before the interruption" in record["device_choices"][0]


SHORT = {"samples_per_epoch": 4, "num_epochs": 1, "val_interval": 1, "window_batch_size": 4}


def test_train_validation_out_of_memory_takes_fewer_windows_and_records_it(
    copy_of_2d: TrainedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=SHORT)
    slide = SlidingWindowInferer.__call__

    def slide_with_little(self: SlidingWindowInferer, *arguments: object, **options: object) -> object:
        if self.sw_batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return slide(self, *arguments, **options)

    monkeypatch.setattr(SlidingWindowInferer, "__call__", slide_with_little)
    (tight,) = phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=SHORT)
    assert tight.best_dice == pytest.approx(whole.best_dice, abs=1e-5)
    record = json.loads((tight.run_dir / "run.json").read_text())
    assert record["device_choices"][-2:] == [
        f"validation: memory ran out, so {count} window(s) at once" for count in (2, 1)
    ]


def test_train_out_of_memory_between_steps_is_a_message_and_a_record(
    copy_of_2d: TrainedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 3.00 TiB for an array")

    monkeypatch.setattr("unet_pipeline.training.annotation.LeaveOutIgnoredd.__call__", fail)
    with pytest.raises(TrainingError, match=r"between the steps.*3\.00 TiB.*cache_rate.*--resume"):
        phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=SHORT)
    (*_, latest) = sorted((copy_of_2d.root / "evidence" / "runs").glob("fold_0-*/run.json"))
    assert json.loads(latest.read_text())["state"] == "failed"


@pytest.mark.parametrize(
    ("overrides", "num_samples", "num_iterations"),
    [
        ({}, None, None),
        ({"iterations_per_epoch": 7}, 14, 7),
        ({"samples_per_epoch": 7}, 7, 4),
        ({"batch_size": 5, "iterations_per_epoch": 3}, 15, 3),
    ],
)
def test_train_config_one_override_sets_epoch_and_schedule(
    bundle_2d: TrainedBundle, overrides: dict[str, int], num_samples: int | None, num_iterations: int | None
) -> None:
    """The rate would not reach zero, or too early, if the schedule counted other iterations than the loader gives."""
    folder = BundleFolder(bundle_2d.root)
    plan = read_plan(folder.plan)
    parser = ConfigParser(json.loads(folder.config("train").read_text()))
    parser.update({"bundle_root": str(bundle_2d.root), **({"batch_size": 2, **overrides} if overrides else {})})
    found = [
        parser.get_parsed_content(f"train#{key}")
        for key in ("sampler#num_samples", "lr_scheduler#iterations_per_epoch")
    ]
    planned = [plan.iterations_per_epoch * plan.batch_size, plan.iterations_per_epoch]
    assert found == ([num_samples, num_iterations] if overrides else planned)


def test_train_interrupted_and_resumed_gives_the_weights_of_an_uninterrupted_training(
    copy_of_2d: TrainedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"samples_per_epoch": 6, "num_epochs": 3, "val_interval": 1}
    phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=overrides)
    weights = copy_of_2d.root / "models" / "model_fold_0.pt"
    expected = torch.load(weights, weights_only=True)
    last = "checkpoint_last.pt"
    runs = copy_of_2d.root / "evidence" / "runs"
    expected_last = torch.load(runs / "fold_0-002" / last, weights_only=True)

    step = TrainingStep.__call__

    def stop_in_the_second_epoch(self, engine, batch):  # type: ignore[no-untyped-def]
        if engine.state.iteration == 5:
            raise KeyboardInterrupt
        return step(self, engine, batch)

    monkeypatch.setattr(TrainingStep, "__call__", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        phantoms.silently(unet_pipeline.train, copy_of_2d.root, overrides=overrides)
    assert json.loads((runs / "fold_0-003" / "run.json").read_text())["state"] == "interrupted"
    monkeypatch.setattr(TrainingStep, "__call__", step)
    (run,) = phantoms.silently(unet_pipeline.train, copy_of_2d.root, resume=True, overrides=overrides)
    assert run.run_dir.name == "fold_0-003"
    resumed_last = torch.load(runs / "fold_0-003" / last, weights_only=True)
    for name, tensor in expected_last["network"].items():
        torch.testing.assert_close(resumed_last["network"][name], tensor, rtol=0, atol=0)
    assert resumed_last["best_metric"] == expected_last["best_metric"]
    resumed = torch.load(weights, weights_only=True)
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_train_nothing_to_resume_is_said(copy_of_2d: TrainedBundle) -> None:
    with pytest.raises(TrainingError, match="Nothing to resume for fold 1"):
        unet_pipeline.train(copy_of_2d.root, fold=1, resume=True)


# predict


def test_predict_bundle_without_weights_writes_nothing(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    (copy_of_2d.root / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match=r"has no weights: models/model\.pt is missing"):
        unet_pipeline.predict(copy_of_2d.root, copy_of_2d.dataset / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predict_damaged_weights_writes_nothing(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    weights = copy_of_2d.root / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"models/model\.pt cannot be read as weights"):
        unet_pipeline.predict(copy_of_2d.root, copy_of_2d.dataset / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predict_finished_outputs_are_kept_and_named(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(bundle_2d.dataset / "images" / "cell_00.png", source)
    phantoms.silently(unet_pipeline.predict, bundle_2d.root, source, out)
    before = (out / "cell_00.png").stat()
    shutil.copy(bundle_2d.dataset / "images" / "cell_01.png", source)
    result = phantoms.silently(unet_pipeline.predict, bundle_2d.root, source, out)
    assert [path.name for path in result.kept] == ["cell_00.png"]
    assert [path.name for path in result.written] == ["cell_01.png"]
    assert result.again == {}
    assert (out / "cell_00.png").stat() == before


def test_predict_another_image_of_the_same_name_is_predicted(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"p{number}").mkdir()
        shutil.copy(bundle_2d.dataset / "images" / f"cell_0{number}.png", tmp_path / f"p{number}" / "scan.png")
        phantoms.silently(unet_pipeline.predict, bundle_2d.root, tmp_path / f"p{number}", tmp_path / f"alone_{number}")
    lines: list[str] = []
    for number in (0, 1):
        result = phantoms.silently(
            unet_pipeline.predict, bundle_2d.root, tmp_path / f"p{number}", tmp_path / "out", announce=lines.append
        )
        found = (tmp_path / "out" / "scan.png").read_bytes()
        assert found == (tmp_path / f"alone_{number}" / "scan.png").read_bytes()
    assert result.again == {"scan": "it was made of another image"}
    assert "again    scan: it was made of another image" in lines
    # one that fails leaves nothing of the other patient
    (tmp_path / "p1" / "scan.png").write_bytes(b"damaged")
    with pytest.raises(PredictionError, match=r"scan\.png is truncated or damaged"):
        phantoms.silently(unet_pipeline.predict, bundle_2d.root, tmp_path / "p1", tmp_path / "out")
    assert not (tmp_path / "out" / "scan.png").exists()


def test_predict_and_evaluate_of_other_weights_and_images_are_made_again(copy_of_2d: TrainedBundle) -> None:
    folder, lines = BundleFolder(copy_of_2d.root), list[str]()
    first = phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root, announce=lines.append)
    (made,) = first.predictions
    times = {path.name: path.stat().st_mtime_ns for path in made.glob("*.png")}
    assert phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root, announce=lines.append).predictions == (made,)
    assert {path.name: path.stat().st_mtime_ns for path in made.glob("*.png")} == times
    assert lines == []
    edited = sorted(made.glob("*.png"))[0]
    edited.write_bytes(edited.read_bytes() + b" ")
    phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root, announce=lines.append)
    assert lines == [f"again    {edited.stem}: it is another file than was recorded"]
    out = folder.root.parent / "out"
    images = copy_of_2d.dataset / "images"
    phantoms.silently(unet_pipeline.predict, copy_of_2d.root, images, out)
    state = torch.load(folder.weights, weights_only=True)
    torch.save({name: value * 0.5 for name, value in state.items()}, folder.weights)
    result = phantoms.silently(unet_pipeline.predict, copy_of_2d.root, images, out)
    assert result.kept == ()
    assert set(result.again.values()) == {"it was made with other weights"}


def test_predict_one_unreadable_image_does_not_stop_the_others(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    images = sorted((bundle_3d.dataset / "imagesTr").iterdir())
    shutil.copy(images[0], source / "good.nii.gz")
    (source / "bad.nii.gz").write_bytes(images[1].read_bytes()[:2000])
    with pytest.raises(PredictionError, match=r"1 of 2 images(.|\n)*bad\.nii\.gz cannot be read"):
        phantoms.silently(unet_pipeline.predict, bundle_3d.root, source, out)
    assert list_files(out) == ["good.nii.gz", "predictions.csv", "predictions_run.json"]
    record = json.loads((out / "predictions_run.json").read_text(encoding="utf-8"))
    assert (record["state"], list(record["images"])) == ("failed", ["good"])


def test_predict_image_of_another_kind_is_refused(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    image = phantoms.write_volume(tmp_path / "in" / "volume.nii.gz", phantoms.draw_organ(0)[0])
    with pytest.raises(PredictionError, match=r"3 dimensions and 1 channel.*expects 2 and 1"):
        phantoms.silently(unet_pipeline.predict, bundle_2d.root, image, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "does not exist"), ("empty", "has no image"), ("notes.txt", "is not in a known format")],
)
def test_predict_input_without_image_is_refused(
    bundle_2d: TrainedBundle, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(PredictionError, match=message):
        unet_pipeline.predict(bundle_2d.root, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predict_into_the_folder_of_the_images_is_refused(copy_of_2d: TrainedBundle) -> None:
    before = {path: path.read_bytes() for path in (copy_of_2d.dataset / "images").iterdir()}
    with pytest.raises(PredictionError, match="output folder holds the image"):
        unet_pipeline.predict(copy_of_2d.root, copy_of_2d.dataset / "images", copy_of_2d.dataset / "images")
    assert {path: path.read_bytes() for path in (copy_of_2d.dataset / "images").iterdir()} == before


def test_predict_unknown_device_is_said(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="Device 'gpu' cannot be used here"):
        unet_pipeline.predict(bundle_2d.root, bundle_2d.dataset / "images", tmp_path / "out", device="gpu")


# evaluate


def test_evaluate_validation_cases_are_scored_from_files(bundle: TrainedBundle, tmp_path: Path) -> None:
    result = phantoms.silently(unet_pipeline.evaluate, bundle.root, out=tmp_path / "out")
    validation = [case.case for case in BundleFolder(bundle.root).read_split(0).validation]
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert sorted(table["case"].unique()) == validation
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    overall = summary["rows"][0]
    assert overall["n"] == len(validation)
    scored = table[table["label"] != "background"]
    assert overall["mean"] == pytest.approx(scored.groupby("case")["dice"].mean().mean(), abs=1e-5)
    assert overall["low"] <= overall["mean"] <= overall["high"]
    assert overall["mean"] > 0.8
    assert result.title == f"{bundle.dataset.name}, validation of fold 0 of 4"


def test_evaluate_dataset_leaves_out_what_the_network_was_trained_on(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    result = phantoms.silently(unet_pipeline.evaluate, bundle_2d.root, bundle_2d.dataset, out=tmp_path / "out")
    split = BundleFolder(bundle_2d.root).read_split(0)
    assert sorted(result.excluded) == [case.case for case in split.training]
    assert sorted(result.rows["case"].unique()) == [case.case for case in split.validation]


def test_evaluate_given_perfect_predictions_scores_one(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    result = phantoms.silently(
        unet_pipeline.evaluate, bundle_3d.root, out=tmp_path / "out", predictions=bundle_3d.dataset / "labelsTr"
    )
    assert set(result.rows["dice"]) == {1.0}


def test_evaluate_missing_prediction_is_not_left_out(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    with pytest.raises(EvaluationError, match=r"2 of 2 predictions are missing"):
        phantoms.silently(
            unet_pipeline.evaluate, bundle_3d.root, out=tmp_path / "out", predictions=tmp_path / "predictions"
        )


def test_evaluate_prediction_on_another_grid_is_refused(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    for path in (bundle_3d.dataset / "labelsTr").iterdir():
        label = nib.load(path)
        affine = label.affine.copy()
        affine[0, 3] += 2.0
        phantoms.write_volume(tmp_path / "shifted" / path.name, np.asarray(label.dataobj), affine)
    with pytest.raises(EvaluationError, match=r"lies up to 2 mm beside its reference .*origin shifted"):
        phantoms.silently(
            unet_pipeline.evaluate, bundle_3d.root, out=tmp_path / "out", predictions=tmp_path / "shifted"
        )


def test_evaluate_by_column_gives_subgroups_and_an_unknown_one_is_refused_first(
    copy_of_2d: TrainedBundle, tmp_path: Path
) -> None:
    table = copy_of_2d.root / "evidence" / "case_table.csv"
    table.write_text("case,Site\n" + "".join(f"cell_{number:02d},{'ab'[number % 2]}\n" for number in range(8)))
    with pytest.raises(EvaluationError, match="did you mean 'site'"):
        unet_pipeline.evaluate(copy_of_2d.root, out=tmp_path / "none", by=["sites"])
    assert not (tmp_path / "none").exists()
    result = phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root, out=tmp_path / "out", by=["site"])
    groups = {row.group: row.n for row in result.record.subgroups if (row.label, row.metric) == ("cell", "dice")}
    assert sum(groups.values()) == len(BundleFolder(copy_of_2d.root).read_split(0).validation)
    assert set(groups) <= {"a", "b"}
    assert "by_site" in pd.read_csv(tmp_path / "out" / "metrics.csv").columns


def test_evaluate_cases_of_a_patient_of_the_split_share_it(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    folder = BundleFolder(copy_of_2d.root)
    cases = [case.case for case in folder.read_split(0).validation]
    record = json.loads(folder.split_record.read_text())
    folder.split_record.write_text(json.dumps(record | {"patients": dict.fromkeys(cases, "p1")}))
    result = phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root, out=tmp_path / "out")
    assert set(result.rows["patient"]) == {"p1"}
    assert {row.num_patients for row in result.summary} == {1}


def test_compare_bundle_with_perfect_label_maps(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    phantoms.silently(unet_pipeline.evaluate, bundle_3d.root)
    labels = bundle_3d.dataset / "labelsTr"
    phantoms.silently(unet_pipeline.evaluate, bundle_3d.root, out=tmp_path / "perfect", predictions=labels)
    record = unet_pipeline.compare(bundle_3d.root, tmp_path / "perfect", ["dice"], tmp_path / "out")
    assert {row.metric for row in record.rows} == {"dice"}
    assert all(row.mean_b == 1.0 and row.difference == pytest.approx(1.0 - row.mean_a) for row in record.rows)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.csv", "comparison.json"]


def test_compare_folder_without_evaluation_is_named(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no metrics\.csv and is no bundle with an evaluation"):
        unet_pipeline.compare(bundle_3d.root, tmp_path)


# package


def test_package_trained_bundle_is_verified_and_sealed(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root)
    sealed = phantoms.silently(unet_pipeline.package, copy_of_2d.root, tmp_path / "cells.zip")
    assert {verification.check for verification in sealed.verifications} == {
        "configs follow the plan",
        "no absolute path",
        "evidence",
        "metadata",
        "workflow properties",
        "network input and output",
        "strict weights",
        "one prediction",
    }
    with zipfile.ZipFile(sealed.zip_file) as archive:
        archive.extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / "cell_bundle"
    subprocess.run(["sha256sum", "-c", "--quiet", "evidence/manifest.sha256"], cwd=unpacked, check=True)
    names = list_files(unpacked)
    assert "models/model.pt" in names
    assert not [name for name in names if "predictions" in name or "model_fold" in name or "checkpoint" in name]
    # what was unpacked elsewhere works there
    image = copy_of_2d.dataset / "images" / "cell_00.png"
    for name, root in (("here", copy_of_2d.root), ("there", unpacked)):
        phantoms.silently(unet_pipeline.predict, root, image, tmp_path / name)
    assert (tmp_path / "here" / "cell_00.png").read_bytes() == (tmp_path / "there" / "cell_00.png").read_bytes()


def test_package_metrics_of_the_metadata_are_those_of_the_evaluation(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    result = phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root)
    phantoms.silently(unet_pipeline.package, copy_of_2d.root, tmp_path / "cells.zip")
    metadata = json.loads((copy_of_2d.root / "configs" / "metadata.json").read_text())
    dice = next(row for row in result.summary if row.label == "cell" and row.metric == "dice")
    assert metadata["eval_metrics"]["cell_dice"] == pytest.approx(dice.mean, abs=1e-6)
    assert f"{dice.mean:.4f}" in (copy_of_2d.root / "docs" / "README.md").read_text()


def test_package_twice_gives_the_same_archive(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    first = phantoms.silently(unet_pipeline.package, copy_of_2d.root, tmp_path / "first.zip")
    second = phantoms.silently(unet_pipeline.package, copy_of_2d.root, tmp_path / "second.zip")
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    ("config", "old", "new", "message"),
    [
        ("inference", '"out_channels": "@num_classes"', '"out_channels": 5', "strict weights|output channel"),
        ("inference", '"evaluator"', '"evalvator"', "lacks evaluator"),
        ("metadata", '"version"', '"verzion"', "metadata"),
        ("train", "\"$os.path.join(@bundle_root, 'models', 'model.pt')\"", '"/home/me/model.pt"', "absolute path"),
    ],
)
def test_package_bundle_that_is_wrong_is_refused_without_an_archive(
    copy_of_2d: TrainedBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    old: str,
    new: str,
    message: str,
) -> None:
    path = copy_of_2d.root / "configs" / f"{config}.json"
    text = path.read_text()
    assert old in text
    if config == "metadata":  # it is generated anew by package, so the fault is planted after that
        monkeypatch.setattr(
            "unet_pipeline.handover.package.build_metadata", lambda *_: json.loads(text.replace(old, new))
        )
    else:
        path.write_text(text.replace(old, new, 1))
    with pytest.raises(BundleError, match=message):
        phantoms.silently(unet_pipeline.package, copy_of_2d.root, tmp_path / "cells.zip", trust=True)
    assert not (tmp_path / "cells.zip").exists()


def test_package_bundle_without_weights_is_refused(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    (copy_of_2d.root / "models" / "model.pt").unlink()
    with pytest.raises(BundleError, match="has no weights"):
        unet_pipeline.package(copy_of_2d.root, tmp_path / "cells.zip")


def test_draw_worst_case_gives_a_picture_in_colour(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    from PIL import Image as PillowImage

    result = phantoms.silently(unet_pipeline.evaluate, bundle_3d.root, out=tmp_path / "out")
    picture = unet_pipeline.draw(bundle_3d.root, bundle_3d.dataset, result, tmp_path / "overlay.png")
    pixels = np.asarray(PillowImage.open(picture).convert("RGB")).astype(int)
    assert pixels.shape[0] > 300
    coloured = (pixels.max(axis=2) - pixels.min(axis=2)) > 60
    assert coloured.sum() > 500, "the outlines of the labels are missing"


# fine-tuning


def test_train_from_another_bundle_starts_with_its_weights(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    """After no more than a step at a tiny rate, the weights are still those of the other bundle."""
    labels = {"background": 0, "cell": 255}
    small = {**phantoms.SMALL_2D, "learning_rate": 1e-9}
    root = phantoms.plan_small(copy_of_2d.dataset, tmp_path / "fine", labels=labels, **small)
    short = {"num_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1}
    phantoms.silently(unet_pipeline.train, root, overrides=short, initial=copy_of_2d.root)
    before = torch.load(copy_of_2d.root / "models" / "model.pt", weights_only=True)
    after = torch.load(root / "models" / "model.pt", weights_only=True)
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    record = json.loads(next(root.glob("evidence/runs/*/run.json")).read_text())
    assert record["initial_weights_sha256"] == compute_sha256(copy_of_2d.root / "models" / "model.pt")


def test_train_from_a_bundle_without_weights_is_refused(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    labels = {"background": 0, "cell": 255}
    other = phantoms.plan_small(copy_of_2d.dataset, tmp_path / "other", labels=labels, **phantoms.SMALL_2D)
    with pytest.raises(BundleError, match="other has no weights"):
        unet_pipeline.train(copy_of_2d.root, initial=other)


@pytest.mark.parametrize(("is_fast", "used"), [(False, "float32"), (True, "bfloat16")])
def test_evaluate_precision_auto_records_the_one_that_was_used(
    bundle_2d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_fast: bool, used: str
) -> None:
    monkeypatch.setattr("unet_pipeline.prediction.device_choice.supports_fast_bfloat16", lambda device: is_fast)
    result = phantoms.silently(unet_pipeline.evaluate, bundle_2d.root, out=tmp_path, device="cpu", precision="auto")
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["precision"] == used
    assert [path.name.endswith("_bfloat16") for path in result.predictions] == [is_fast]


@pytest.mark.parametrize("verb", [unet_pipeline.predict, unet_pipeline.forecast])
@pytest.mark.parametrize(
    ("alone", "change", "expected"),
    [(True, "", 1), (False, "", 0), (True, "edited by hand", 0), (True, "of another program", 0)],
)
def test_predict_alone_leaves_parts_of_monai_out_only_where_the_config_is_as_planned(
    copy_of_2d: TrainedBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: Callable[..., object],
    alone: bool,
    change: str,
    expected: int,
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(forecasting, "arrange_lean_import", lambda **_: calls.append(True))
    folder = BundleFolder(copy_of_2d.root)
    if change == "edited by hand":
        config = folder.config("inference")
        config.write_text(config.read_text(encoding="utf-8") + " ", encoding="utf-8")
    elif change:
        folder.generated_configs.unlink()
    image = next((copy_of_2d.dataset / "images").iterdir())
    phantoms.silently(verb, copy_of_2d.root, image, tmp_path / "out", alone=alone, trust=True)
    assert len(calls) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "postprocesses"), [(2, False), (3, False), (3, True)])
@pytest.mark.usefixtures("full_start")
def test_predict_in_a_process_of_its_own_is_predict_with_all_libraries(
    bundle_2d: TrainedBundle, bundle_3d: TrainedBundle, tmp_path: Path, dims: int, postprocesses: bool
) -> None:
    """The command line hides from MONAI what a prediction does not need; with post-processing that is less."""
    bundle = (bundle_2d if dims == 2 else bundle_3d).copy_to(tmp_path)
    plan = bundle.root / "configs" / "plan.yaml"
    if postprocesses:
        largest = list(read_plan(plan).label_table)[1]
        text = plan.read_text(encoding="utf-8")
        for name in ("keep_largest_component", "fill_holes"):
            assert f"{name}: []" in text
            text = text.replace(f"{name}: []", f"{name}: [{json.dumps(largest)}]")
        plan.write_text(text, encoding="utf-8")
        unet_pipeline.refresh(bundle.root)
    images = bundle.dataset / ("images" if dims == 2 else "imagesTr")
    phantoms.silently(unet_pipeline.predict, bundle.root, images, tmp_path / "here")
    command = [sys.executable, "-m", "unet_pipeline", "predict", bundle.root, images, tmp_path / "alone"]
    subprocess.run(command, check=True, capture_output=True)
    here, alone = (phantoms.list_label_maps(tmp_path / name) for name in ("here", "alone"))
    assert [path.name for path in here] == [path.name for path in alone] != []
    assert [compute_sha256(path) for path in here] == [compute_sha256(path) for path in alone]
