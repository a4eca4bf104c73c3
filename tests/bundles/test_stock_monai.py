"""A bundle is a MONAI bundle: stock MONAI builds, checks and runs it, with the same result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import phantom_bundles as phantoms
import pytest
from jsonschema import Draft201909Validator
from monai.bundle import create_workflow

import unet_pipeline
from unet_pipeline.dataset.image import read_image
from unet_pipeline.training.events import read_pictures

from ..test_training_events import list_steps
from .conftest import TrainedBundle
from .stock_environment import ENVIRONMENT, make_stock_environment

WORKFLOWS = {"train": ["train"], "inference": ["inference"], "evaluation": ["train", "evaluate"]}


@pytest.fixture(scope="session")
def stock_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stock_environment(tmp_path_factory.mktemp("stock") / "env")


def images_of(bundle: TrainedBundle) -> Path:
    return next(folder for folder in (bundle.dataset / "imagesTr", bundle.dataset / "images") if folder.is_dir())


@pytest.mark.parametrize("workflow_type", list(WORKFLOWS))
def test_check_properties_every_workflow_is_clean(bundle: TrainedBundle, workflow_type: str, tmp_path: Path) -> None:
    workflow = create_workflow(
        config_file=[str(bundle.root / "configs" / f"{name}.json") for name in WORKFLOWS[workflow_type]],
        workflow_type=workflow_type,
        bundle_root=str(bundle.root),
        output_dir=str(tmp_path),
    )
    assert workflow.check_properties() == []


@pytest.mark.parametrize("workflow_type", list(WORKFLOWS))
def test_check_properties_id_taken_away_is_noticed(
    bundle_2d: TrainedBundle, workflow_type: str, tmp_path: Path
) -> None:
    required = {"train": "device", "inference": "evaluator", "evaluation": "dataset"}[workflow_type]
    paths = []
    for name in WORKFLOWS[workflow_type]:
        content = json.loads((bundle_2d.root / "configs" / f"{name}.json").read_text())
        content.pop(required, None)
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(content))
    workflow = create_workflow(
        config_file=[str(path) for path in paths],
        meta_file=str(bundle_2d.root / "configs" / "metadata.json"),
        workflow_type=workflow_type,
        init_id="none",
        bundle_root=str(bundle_2d.root),
    )
    missing = [
        name
        for name, description in workflow.properties.items()
        if description.get("required") and description["id"] not in workflow.parser
    ]
    assert missing == [required]


def test_inference_without_this_package_gives_the_label_maps_of_predict(
    bundle: TrainedBundle, stock_python: Path, tmp_path: Path
) -> None:
    command = [stock_python, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", images_of(bundle), "--output_dir", tmp_path / "stock"]
    # an empty environment: nothing of this one's paths may lead to the package
    subprocess.run(
        command,
        cwd=bundle.root,
        check=True,
        capture_output=True,
        env=ENVIRONMENT,
    )
    unet_pipeline.predict(bundle.root, images_of(bundle), tmp_path / "ours")
    ours, stock = phantoms.list_label_maps(tmp_path / "ours"), sorted((tmp_path / "stock").iterdir())
    assert (
        [path.name for path in ours]
        == [path.name for path in stock]
        == sorted(path.name for path in images_of(bundle).iterdir())
    )
    for our_path, stock_path in zip(ours, stock, strict=True):
        our_map, stock_map = read_image(our_path), read_image(stock_path)
        np.testing.assert_array_equal(our_map.array, stock_map.array)
        np.testing.assert_allclose(our_map.affine, stock_map.affine, atol=1e-4)
        assert len(np.unique(our_map.array)) > 1, "an empty label map would prove nothing"


def test_inference_leaves_the_bundle_unchanged(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle_2d.root.rglob("*") if path.is_file()}
    unet_pipeline.predict(bundle_2d.root, images_of(bundle_2d), tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in bundle_2d.root.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("warm_processes")
def test_evaluate_overlay_gives_the_dice_of_evaluate(bundle_3d: TrainedBundle, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [
        "--config_file",
        "['configs/train.json','configs/evaluate.json']",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    subprocess.run(command, cwd=bundle_3d.root, check=True, capture_output=True)
    stock = (tmp_path / "out" / "metrics.csv").read_text()
    found = float(re.search(r"val_mean_dice[,\s]+([\d.]+)", stock)[1])  # type: ignore[index]
    ours = unet_pipeline.evaluate(bundle_3d.root, out=tmp_path / "ours")
    expected = ours.rows[ours.rows["label"] != "background"]["dice"].mean()
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("full_start")
def test_train_stock_command_gives_the_same_weights_and_events(copy_of_2d: TrainedBundle, tmp_path: Path) -> None:
    settings = ["--num_epochs", "1", "--val_interval", "1", "--samples_per_epoch", "6"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/train.json"]
    command += ["--output_dir", str(tmp_path / "run"), "--weights_path", str(tmp_path / "stock.pt"), *settings]
    subprocess.run(command, cwd=copy_of_2d.root, check=True, capture_output=True)
    overrides = {"num_epochs": 1, "val_interval": 1, "samples_per_epoch": 6}
    # to the side, so that the shared bundle keeps its weights
    overrides |= {"weights_path": str(tmp_path / "ours.pt"), "output_dir": str(tmp_path / "run_ours")}
    unet_pipeline.train(copy_of_2d.root, overrides=overrides)
    import torch

    stock, ours = (torch.load(tmp_path / name, weights_only=True) for name in ("stock.pt", "ours.pt"))
    assert stock.keys() == ours.keys()
    for name in stock:
        torch.testing.assert_close(stock[name], ours[name], rtol=0, atol=0)
    steps = sorted(list_steps(tmp_path / "run"))
    assert steps == sorted(list_steps(tmp_path / "run_ours"))
    assert {"train_loss", "learning_rate", "val_mean_dice", "time_share/data"} < {tag for tag, _ in steps}
    pictures = read_pictures(tmp_path / "run")
    assert {tag for tag, _ in pictures} == {"pictures/augmented_patches", "pictures/validation_cases"}
    assert pictures == read_pictures(tmp_path / "run_ours")


@pytest.mark.slow
@pytest.mark.usefixtures("warm_processes")
def test_multi_gpu_overlay_two_processes_train_and_write_weights(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "monai.bundle",
    ]
    command += ["run", "--config_file", "['configs/train.json','configs/multi_gpu_train.json']", "--num_epochs", "1"]
    command += ["--val_interval", "1", "--samples_per_epoch", "4", "--weights_path", str(tmp_path / "model.pt")]
    command += ["--output_dir", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=bundle_2d.root, check=True, capture_output=True, env=environment)
    import torch

    trained = torch.load(tmp_path / "model.pt", weights_only=True)
    assert trained.keys() == torch.load(bundle_2d.root / "models" / "model.pt", weights_only=True).keys()


@pytest.mark.real_data
def test_metadata_follows_the_official_schema(bundle: TrainedBundle, pipeline_data: Path) -> None:
    schema = json.loads((pipeline_data / "meta_schema_20240725.json").read_text())
    metadata = json.loads((bundle.root / "configs" / "metadata.json").read_text())
    assert [error.message for error in Draft201909Validator(schema).iter_errors(metadata)] == []
