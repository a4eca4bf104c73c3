"""`plan --from` and what follows: the training starts from the other bundle's weights, and only from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantom_bundles as phantoms
import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError, TrainingError
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.planning.plan_text import read_reasons

from .conftest import TrainedBundle

STEP = {"num_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1, "learning_rate": 1e-9}


def write_three_labels(root: Path) -> Path:
    """Volumes of the same kind with one more label: the lower half of the organ is another structure."""
    phantoms.write_volumes(root, 6)
    for path in sorted((root / "labelsTr").iterdir()):
        image = nib.load(path)
        label = np.asarray(image.dataobj).astype(np.uint8)
        label[:, : label.shape[1] // 2][label[:, : label.shape[1] // 2] == 1] = 3
        phantoms.write_volume(path, label, image.affine)
    content = json.loads((root / "dataset.json").read_text())
    write_json(root / "dataset.json", content | {"labels": {**content["labels"], "3": "cyst"}})
    return root


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def plan_from(bundle: TrainedBundle, root: Path, dataset: Path | None = None, **options: Any) -> BundleFolder:
    phantoms.silently(
        unet_pipeline.plan, dataset or bundle.dataset, root, preset="quick", folds=3, initial=bundle.root, **options
    )
    return BundleFolder(root)


@pytest.fixture(scope="module")
def planned(bundle_3d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> BundleFolder:
    """Four labels, planned from the bundle of three."""
    folder = tmp_path_factory.mktemp("fine")
    return plan_from(bundle_3d, folder / "organ_fine", write_three_labels(folder / "cysts"))


@pytest.fixture
def own(planned: BundleFolder, tmp_path: Path) -> BundleFolder:
    """A copy to be changed, beside its dataset."""
    shutil.copytree(planned.root.parent, tmp_path / "copy")
    return BundleFolder(tmp_path / "copy" / planned.root.name)


def test_plan_from_bundle_stores_its_weights_with_their_hash(planned: BundleFolder, bundle_3d: TrainedBundle) -> None:
    plan, other = read_plan(planned.plan), read_plan(BundleFolder(bundle_3d.root).plan)
    source = bundle_3d.root / "models" / "model.pt"
    assert planned.initial_weights.read_bytes() == source.read_bytes()
    assert plan.initial_weights_sha256 == compute_sha256(source)
    assert "organ_bundle" in read_reasons(planned.plan)["filters"]
    assert (plan.filters, plan.patch_size, plan.spacing_mm) == (
        other.filters,
        other.patch_size,
        other.spacing_mm,
    )
    assert list(plan.label_table) == ["background", "organ", "tumour", "cyst"]
    assert "trained on organs" in (planned.docs / "data_license.txt").read_text()


def test_train_planned_from_bundle_starts_with_its_weights_but_for_the_heads(
    own: BundleFolder, bundle_3d: TrainedBundle
) -> None:
    """After one step at a tiny rate, all is the other bundle's but the layers that give the labels."""
    phantoms.silently(unet_pipeline.train, own.root, overrides=STEP)
    before = torch.load(bundle_3d.root / "models" / "model.pt", weights_only=True)
    after = torch.load(own.weights, weights_only=True)
    assert before.keys() == after.keys()
    replaced = {name for name in before if before[name].shape != after[name].shape}
    assert {(len(before[name]), len(after[name])) for name in replaced} == {(3, 4)}
    assert len(replaced) == 2 * 3, (
        "weight and bias of the head, of the supervised one, and of MONAI's second name for it"
    )
    for name in before.keys() - replaced:
        assert torch.allclose(after[name], before[name], atol=1e-6), name
    (record,) = (json.loads(path.read_text()) for path in own.runs.glob("*/run.json"))
    assert record["initial_weights_sha256"] == read_plan(own.plan).initial_weights_sha256


@pytest.mark.parametrize("state", ["missing", "another file than was planned"])
def test_train_planned_from_bundle_with_other_weights_is_refused(own: BundleFolder, state: str) -> None:
    own.initial_weights.unlink()
    if state != "missing":
        torch.save({"a": torch.ones(1)}, own.initial_weights)
    with pytest.raises(TrainingError, match=rf"models/initial\.pt of organ_fine is {state}"):
        phantoms.silently(unet_pipeline.train, own.root, overrides=STEP)
    assert not own.weights.exists()
    phantoms.silently(unet_pipeline.train, own.root, overrides={**STEP, "initial_weights": None})
    assert own.weights.is_file()


def test_resume_before_the_first_checkpoint_asks_for_the_weights_that_it_started_from(
    own: BundleFolder, bundle_3d: TrainedBundle
) -> None:
    (run,) = phantoms.silently(unet_pipeline.train, own.root, overrides=STEP, initial=bundle_3d.root)
    for checkpoint in run.run_dir.glob("checkpoint*"):
        checkpoint.unlink()
    record = read_json(run.run_dir / "run.json")
    write_json(run.run_dir / "run.json", record | {"state": "preempted"})
    with pytest.raises(TrainingError, match=r"start from the weights model\.pt and has no checkpoint yet"):
        unet_pipeline.train(own.root, resume=True)
    phantoms.silently(unet_pipeline.train, own.root, resume=True, initial=bundle_3d.root)
    again = read_json(run.run_dir / "run.json")
    assert again["initial_weights_sha256"] == record["initial_weights_sha256"]
    assert again["state"] == "finished"


def test_package_leaves_the_initial_weights_out(own: BundleFolder) -> None:
    phantoms.silently(unet_pipeline.train, own.root, overrides=STEP)
    phantoms.silently(unet_pipeline.package, own.root)
    assert "initial.pt" not in own.seal.read_text()
    (checklist,) = own.docs.glob("*CLAIM*")
    assert "weights of an earlier training" in checklist.read_text()
    assert unet_pipeline.audit(own.root).passed


def make_dangerous(root: Path) -> None:
    """An expression that nobody needs."""
    config = root / "configs" / "train.json"
    write_json(config, json.loads(config.read_text()) | {"danger": "$__import__('os').getcwd()"})


@pytest.fixture
def dangerous(bundle_3d: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    shutil.copytree(bundle_3d.root, tmp_path / "stranger")
    make_dangerous(tmp_path / "stranger")
    return TrainedBundle(bundle_3d.dataset, tmp_path / "stranger")


def test_plan_from_a_bundle_that_fails_its_audit_needs_trust(dangerous: TrainedBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="stranger needs trust"):
        plan_from(dangerous, tmp_path / "fine")
    assert not (tmp_path / "fine").exists()
    assert plan_from(dangerous, tmp_path / "fine", trust=True).initial_weights.is_file()


def test_train_from_a_bundle_that_fails_its_audit_needs_trust(own: BundleFolder, dangerous: TrainedBundle) -> None:
    with pytest.raises(BundleError, match="stranger needs trust"):
        phantoms.silently(unet_pipeline.train, own.root, overrides=STEP, initial=dangerous.root)
    assert not own.weights.exists()
    phantoms.silently(unet_pipeline.train, own.root, overrides=STEP, initial=dangerous.root, trust=True)
    assert own.weights.is_file()


def test_plan_from_a_bundle_without_weights_is_refused(planned: BundleFolder, tmp_path: Path) -> None:
    untrained = TrainedBundle(planned.root.parent / "cysts", planned.root)
    with pytest.raises(BundleError, match="organ_fine has no weights"):
        plan_from(untrained, tmp_path / "fine")
