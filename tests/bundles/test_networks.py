"""Every network goes the same way: plan, training, prediction, evaluation, package, and stock MONAI without this package."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import phantom_bundles as phantoms
import pytest

import unet_pipeline
from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.dataset.image import read_image
from unet_pipeline.files import write_json
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.engines import build_engines
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.window_choice import bound_window, measure_window, settle_windows
from unet_pipeline.prediction.windows import is_plain

from ..warm_python import STOCK, warming_python
from .conftest import TrainedBundle, own_copy
from .stock_environment import ENVIRONMENT, make_stock_environment

SHORT = {"num_epochs": 2, "iterations_per_epoch": 3, "val_interval": 2, "warmup_iterations": 1}
# network, dimensions, padded as well as published, channels per level
NETWORKS = {
    "resenc": ("resenc", 3, False, 4),
    "unet2015": ("unet2015", 2, False, 3),
    "unet2015_padded": ("unet2015", 2, True, 5),
    "unet3d2016": ("unet3d2016", 3, False, 3),
    "unetplusplus": ("unetplusplus", 2, False, 5),
    "attention_unet": ("attention_unet", 3, False, 4),
}


@pytest.fixture(scope="session", params=list(NETWORKS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    name = request.param
    network, dims, padded, _ = NETWORKS[name]

    def build(folder: Path) -> None:
        write = phantoms.write_pictures if dims == 2 else phantoms.write_volumes
        dataset = write(folder / f"{name}s")
        labels = {"background": 0, "cell": 255} if dims == 2 else None
        root = folder / f"{name}_bundle"
        phantoms.plan_small(dataset, root, labels, network, padded, **SHORT)
        levels = len(read_plan(root / "configs" / "plan.yaml").filters)
        text = (root / "configs" / "plan.yaml").read_text(encoding="utf-8")
        planned = f"filters: {[min(16 * 2**level, 256) for level in range(levels)]}"
        assert planned in text
        text = text.replace(planned, f"filters: {[min(4 * 2**level, 16) for level in range(levels)]}")
        (root / "configs" / "plan.yaml").write_text(text, encoding="utf-8")
        unet_pipeline.refresh(root)
        phantoms.silently(unet_pipeline.train, root)

    return own_copy(tmp_path_factory, name, build)


@pytest.fixture(scope="session")
def stock_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stock MONAI, which is imported once; that its command starts by itself is tested in test_stock_monai.py."""
    python = make_stock_environment(tmp_path_factory.mktemp("stock") / "env")
    with warming_python(STOCK, python, ENVIRONMENT) as program:
        yield program


def copy_images(bundle: TrainedBundle, folder: Path) -> Path:
    """Two of a bundle's images, in a folder of their own."""
    images = next(place for place in (bundle.dataset / "imagesTr", bundle.dataset / "images") if place.is_dir())
    folder.mkdir()
    for path in sorted(images.iterdir())[:2]:
        shutil.copy(path, folder)
    return folder


def test_network_is_planned_in_its_form(trained: TrainedBundle) -> None:
    name = trained.root.name.removesuffix("_bundle")
    network, dims, padded, levels = NETWORKS[name]
    plan = read_plan(trained.root / "configs" / "plan.yaml")
    assert (plan.network_name, plan.spatial_dims) == (network, dims)
    assert plan.padded == (padded or network not in ("unet2015", "unet3d2016"))
    assert len(plan.filters) == levels
    config = json.loads((trained.root / "configs" / "inference.json").read_text())
    assert config["network_def"]["_target_"].startswith("unet_networks.")


def test_network_is_trained_evaluated_and_sealed(trained: TrainedBundle, tmp_path: Path) -> None:
    evaluation = phantoms.silently(unet_pipeline.evaluate, trained.root, out=tmp_path / "evaluation")
    assert evaluation.summary[0].n == 2
    sealed = phantoms.silently(unet_pipeline.package, trained.root, tmp_path / "bundle.zip")
    details = {verification.check: verification.detail for verification in sealed.verifications}
    described = unet_pipeline.describe(trained.root)
    # parameters of the file and of the description agree
    assert details["strict weights"] == f"{described.num_parameters} parameters"


def test_network_takes_less_memory_than_its_bound(trained: TrainedBundle, tmp_path: Path) -> None:
    """A prediction on a CPU trusts the bound, and measures only where that is too much."""
    folder = open_bundle(trained.root)
    options = PredictOptions("cpu")
    engines = build_engines(folder, [folder.weights], tmp_path, options)
    if is_plain(engines.parts.inferer):
        assert bound_window(engines) > measure_window(engines) > 0
    else:  # tiles without padding are not computed side by side
        assert settle_windows(engines, [], options).batch_size == 1


@pytest.mark.slow
def test_network_runs_without_this_package(trained: TrainedBundle, stock_python: Path, tmp_path: Path) -> None:
    images = copy_images(trained, tmp_path / "two")
    command = [stock_python, "-m", "monai.bundle", "run", "--config_file", trained.root / "configs" / "inference.json"]
    command += ["--bundle_root", trained.root, "--dataset_dir", images, "--output_dir", tmp_path / "stock"]
    # from another folder
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=ENVIRONMENT)
    phantoms.silently(unet_pipeline.predict, trained.root, images, tmp_path / "ours")
    ours, theirs = (phantoms.list_label_maps(tmp_path / name) for name in ("ours", "stock"))
    assert [path.name for path in ours] == [path.name for path in theirs] != []
    for left, right in zip(ours, theirs, strict=True):
        assert np.array_equal(read_image(left).array, read_image(right).array)


@pytest.mark.slow
def test_unet3d2016_learns_whole_volumes_from_a_few_annotated_slices(tmp_path: Path) -> None:
    """Sparse annotation, as in the paper: every fourth slice is labelled, the others have weight 0."""
    root = tmp_path / "Dataset004_Sparse"
    whole = {}
    for seed in range(5):
        image, label = phantoms.draw_organ(seed)
        whole[f"organ_{seed}"] = label
        sparse = np.full_like(label, 9)
        sparse[..., 1::4] = label[..., 1::4]
        phantoms.write_volume(root / "imagesTr" / f"organ_{seed}_0000.nii.gz", image)
        phantoms.write_volume(root / "labelsTr" / f"organ_{seed}.nii.gz", sparse)
    labels = {"background": 0, "organ": 1, "tumour": 2, "ignore": 9}
    content = {"channel_names": {"0": "T1"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    write_json(root / "dataset.json", content)
    numbers = {"filters": [8, 16, 32], "patch_size": [60, 60, 52], "window_size": [60, 60, 52], "learning_rate": 0.01}
    schedule = {"num_epochs": 1, "iterations_per_epoch": 40, "val_interval": 1, "warmup_iterations": 5}
    bundle = phantoms.plan_small(root, tmp_path / "bundle", network="unet3d2016", **numbers, **schedule)
    phantoms.silently(unet_pipeline.train, bundle)
    evaluation = phantoms.silently(unet_pipeline.evaluate, bundle)
    for case in evaluation.rows["case"].unique():
        found = read_image(evaluation.predictions[0] / f"{case}.nii.gz").array[0] > 0
        unseen = np.ones(found.shape[2], bool)
        unseen[1::4] = False
        shared = (found & (whole[case] > 0))[..., unseen].sum()
        assert 2 * shared / (found[..., unseen].sum() + (whole[case] > 0)[..., unseen].sum()) > 0.85


def test_refresh_with_another_network_changes_the_modules(tmp_path: Path) -> None:
    """A user may change the network in plan.yaml; the modules of the old one go."""
    root = phantoms.plan_small(phantoms.write_volumes(tmp_path / "organs"), tmp_path / "bundle", network="resenc")
    assert sorted(path.name for path in (root / "unet_networks").iterdir()) == ["blocks.py", "residual_encoder.py"]
    plan_file = root / "configs" / "plan.yaml"
    text = plan_file.read_text(encoding="utf-8")
    plan_file.write_text(text.replace('network_name: "resenc"', 'network_name: "dynunet"'), encoding="utf-8")
    unet_pipeline.refresh(root)
    assert not (root / "unet_networks").exists()
