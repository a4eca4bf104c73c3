"""What TensorBoard gets of a training: every tag at its steps, names of labels, little data, and nothing when it is turned off."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import TensorBoardStatsHandler
from PIL import Image as PillowImage
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.seal import list_sealed_files
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.training.events import read_pictures
from unet_pipeline.training.schedule import build_schedule
from unet_pipeline.training.tensorboard_log import find_event_writer, find_plan, read_label_dice

from . import phantom_bundles as phantoms

SETTINGS = {"num_epochs": 2, "val_interval": 1, "samples_per_epoch": 12, "num_workers": 0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> BundleFolder:
    """A bundle of volumes with two labels after two epochs of six steps."""
    folder = tmp_path_factory.mktemp("log")
    dataset = phantoms.write_volumes(folder / "organs", 6)
    phantoms.plan_small(dataset, folder / "bundle", **{**phantoms.SMALL_3D, "filters": [4, 4, 4], "batch_size": 2})
    phantoms.silently(unet_pipeline.train, folder / "bundle", overrides=SETTINGS)
    return BundleFolder(folder / "bundle")


@pytest.fixture
def run_dir(bundle: BundleFolder) -> Path:
    return bundle.runs / "fold_0-001"


def read_scalars(run_dir: Path) -> dict[str, dict[int, float]]:
    scalars: dict[str, dict[int, float]] = {}
    for path in sorted(run_dir.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    points = scalars.setdefault(value.tag, {})
                    assert event.step not in points
                    points[event.step] = value.tensor.float_val[0]
    return scalars


def test_train_writes_each_curve_at_its_steps(run_dir: Path) -> None:
    scalars = read_scalars(run_dir)
    shares = {f"time_share/{name}" for name in ("data", "augmentation", "network", "validation", "writing", "other")}
    by_iteration = {"train_loss", "learning_rate"}
    assert scalars.keys() == by_iteration | {"val_mean_dice", "val_dice/organ", "val_dice/tumour"} | shares
    assert all(list(scalars[tag]) == list(range(1, 13)) for tag in by_iteration)
    assert all(list(points) == [1, 2] for tag, points in scalars.items() if tag not in by_iteration)
    for epoch in (1, 2):
        assert sum(scalars[tag][epoch] for tag in shares) == pytest.approx(1)
        labels = [scalars[f"val_dice/{name}"][epoch] for name in ("organ", "tumour")]
        assert sum(labels) / 2 == pytest.approx(scalars["val_mean_dice"][epoch], abs=1e-5)


def test_train_learning_rate_is_that_of_the_step(bundle: BundleFolder, run_dir: Path) -> None:
    rates = read_scalars(run_dir)["learning_rate"]
    plan = read_plan(bundle.plan)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=plan.learning_rate)
    (factor,) = build_schedule(optimizer, 2, 6, plan.warmup_iterations).lr_lambdas
    for iteration in range(1, 13):
        assert rates[iteration] == pytest.approx(plan.learning_rate * factor(iteration - 1), rel=1e-5)
    assert rates[12] < rates[6] > rates[1]


def test_train_record_has_the_same_numbers(run_dir: Path) -> None:
    scalars = read_scalars(run_dir)
    for entry in json.loads((run_dir / "run.json").read_text())["epochs"]:
        epoch = entry["epoch"]
        assert entry["learning_rate"] == pytest.approx(scalars["learning_rate"][6 * epoch], rel=1e-5)
        for group, key in (("val_dice", "label_dice_resampled_grid"), ("time_share", "time_shares")):
            for name, value in entry[key].items():
                assert value == pytest.approx(scalars[f"{group}/{name}"][epoch], abs=1e-4)


def test_train_pictures_are_of_each_validation_and_the_first_patches(run_dir: Path) -> None:
    kept = read_pictures(run_dir)
    assert kept.keys() == {
        ("pictures/augmented_patches", 5),
        *(("pictures/validation_cases", epoch) for epoch in (1, 2)),
    }
    assert all(PillowImage.open(io.BytesIO(content)).format == "JPEG" for content in kept.values())
    (path,) = run_dir.glob("events.*.pictures")
    # noise, which is the worst case
    assert path.stat().st_size < 60_000


def test_pictures_stay_out_of_a_sealed_bundle(bundle: BundleFolder) -> None:
    sealed = [path.name for path in list_sealed_files(bundle) if path.name.startswith("events.")]
    assert len(sealed) == 2
    assert not any(name.endswith(".pictures") for name in sealed)


def test_train_with_tensorboard_turned_off_writes_no_events(bundle: BundleFolder, tmp_path: Path) -> None:
    documented = (Path(__file__).parents[1] / "docs/howto/watch_a_training.md").read_text(encoding="utf-8")
    off = re.findall(r"(\S+#_disabled_)=true", documented)
    assert len(off) == 2
    copy = tmp_path / "bundle"
    shutil.copytree(bundle.root, copy)
    shutil.copytree(bundle.root.with_name("organs"), tmp_path / "organs")
    overrides = {**SETTINGS, "num_epochs": 1, **dict.fromkeys(off, True)}
    phantoms.silently(unet_pipeline.train, copy, overrides=overrides)
    (run,) = (copy / "evidence" / "runs").glob("fold_0-002")
    assert (run / "run.json").is_file()
    assert list(run.glob("events.*")) == []


def test_find_event_writer_only_of_a_handler_that_is_attached(tmp_path: Path) -> None:
    engine = Engine(lambda _engine, _batch: None)
    assert find_event_writer(engine) is None
    TensorBoardStatsHandler(log_dir=str(tmp_path)).attach(engine)
    assert Path(find_event_writer(engine).log_dir) == tmp_path


def evaluator_with(details: Any) -> Any:
    return SimpleNamespace(state=SimpleNamespace(metric_details={} if details is None else {"val_mean_dice": details}))


def test_read_label_dice_is_over_the_cases_that_have_the_label(bundle: BundleFolder) -> None:
    plan = read_plan(bundle.plan)
    details = torch.tensor([[0.8, math.nan], [0.6, math.nan]])
    assert read_label_dice(evaluator_with(details), plan) == {"organ": pytest.approx(0.7)}
    assert read_label_dice(evaluator_with(None), plan) == {}
    named = plan.model_copy(update={"label_table": {"background": 0, "left kidney": 1, "cyst (both)": 2}})
    assert list(read_label_dice(evaluator_with(torch.ones(1, 2)), named)) == ["left_kidney", "cyst__both_"]
    assert list(read_label_dice(evaluator_with(torch.ones(1, 2)), None)) == ["label_1", "label_2"]


def test_find_plan_outside_a_bundle_is_none(bundle: BundleFolder, run_dir: Path, tmp_path: Path) -> None:
    assert find_plan(run_dir) == read_plan(bundle.plan)
    assert find_plan(tmp_path / "run") is None
