"""2D, 3D, multi-channel and multi-class bundles do all that stock MONAI asks for, where this package cannot be imported.

Training and the evaluation overlay need the package by design; test_stock_monai.py runs them by the stock command.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import phantom_bundles as phantoms
import pytest
from monai.bundle import verify_metadata

import unet_pipeline
from unet_pipeline.files import write_json

from .conftest import TrainedBundle, own_copy
from .stock_environment import ENVIRONMENT, make_stock_environment

SHORT = {"num_epochs": 1, "val_interval": 1, "iterations_per_epoch": 2, "warmup_iterations": 1}
KINDS = ("3d", "2d", "channels")  # the first has three classes, the last two channels and a module of its own


@pytest.fixture(scope="session")
def stock_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stock_environment(tmp_path_factory.mktemp("stock") / "env", ("jsonschema", "onnx"))


@pytest.fixture(scope="session")
def bundle_channels(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """3D, two channels, three classes; its network lies in the bundle as a module."""

    def build(folder: Path) -> None:
        root = folder / "channels"
        for seed in range(4):
            image, label = phantoms.draw_organ(seed)
            for channel, array in enumerate((image, 100 - image)):
                phantoms.write_volume(root / "imagesTr" / f"organ_{seed}_{channel:04d}.nii.gz", array)
            phantoms.write_volume(root / "labelsTr" / f"organ_{seed}.nii.gz", label)
        labels = {"background": 0, "organ": 1, "tumour": 2}
        content = {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": labels,
            "numTraining": 4,
            "file_ending": ".nii.gz",
        }
        write_json(root / "dataset.json", content)
        bundle = phantoms.plan_small(root, folder / "channel_bundle", network="attention_unet", **SHORT)
        plan = bundle / "configs" / "plan.yaml"
        plan.write_text(plan.read_text().replace("filters: [16, 32, 64, 128", "filters: [4, 8, 8, 8"))
        unet_pipeline.refresh(bundle)
        phantoms.silently(unet_pipeline.train, bundle)

    return own_copy(tmp_path_factory, "channel", build)


def images_of(bundle: TrainedBundle) -> Path:
    """A file per image, as stock MONAI reads it: the copies that `plan` made, or the dataset's own."""
    candidates = (
        bundle.root.with_name(f"{bundle.root.name}_data") / "images",
        bundle.dataset / "imagesTr",
        bundle.dataset / "images",
    )
    return next(folder for folder in candidates if folder.is_dir())


@pytest.fixture(scope="session")
def packaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """By kind, where a packaged bundle, its zip, an image for it and a folder to work in lie."""
    folder = tmp_path_factory.mktemp("conformance")
    paths = {}
    for kind in KINDS:
        bundle = request.getfixturevalue(f"bundle_{kind}")
        own = folder / kind
        (own / "images").mkdir(parents=True)
        (own / "work").mkdir()
        root = own / bundle.root.name
        shutil.copytree(bundle.root, root)
        phantoms.silently(unet_pipeline.package, root, own / "bundle.zip")
        first = sorted(images_of(bundle).iterdir())[0]
        shutil.copyfile(first, own / "images" / first.name)
        paths[kind] = {
            "root": str(root),
            "archive": str(own / "bundle.zip"),
            "images": str(own / "images"),
            "folder": str(own / "work"),
        }
    return paths


@pytest.fixture(scope="session")
def results(
    packaged: dict[str, dict[str, str]], stock_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """What stock MONAI says of each packaged bundle; one process for all, since its start takes longest."""
    folder = tmp_path_factory.mktemp("conformance_run")
    write_json(folder / "bundles.json", packaged)
    command = [stock_python, "-B", Path(__file__).with_name("stock_checks.py"), folder / "bundles.json"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_stock_monai_accepts_the_packaged_bundle(kind: str, results: dict[str, dict[str, str]]) -> None:
    assert len(results[kind]) == 14
    assert {name: result for name, result in results[kind].items() if result != "passed"} == {}


@pytest.mark.parametrize("kind", KINDS)
def test_stock_monai_verifies_the_metadata_of_the_packaged_bundle(
    pipeline_data: Path, kind: str, packaged: dict[str, dict[str, str]]
) -> None:
    metadata = Path(packaged[kind]["root"]) / "configs" / "metadata.json"
    verify_metadata(meta_file=str(metadata), filepath=str(pipeline_data / "meta_schema_20240725.json"))
