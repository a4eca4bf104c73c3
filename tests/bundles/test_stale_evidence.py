"""A bundle is packaged only with evaluations of its own weights and config."""

from __future__ import annotations

import shutil
from pathlib import Path

import phantom_bundles as phantoms
import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError
from unet_pipeline.handover.stale_evidence import check_evidence

from .conftest import TrainedBundle


@pytest.fixture(scope="module")
def evaluated(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    copy = bundle_2d.copy_to(tmp_path_factory.mktemp("stale"))
    phantoms.silently(unet_pipeline.evaluate, copy.root)
    return copy


@pytest.fixture
def bundle(evaluated: TrainedBundle, tmp_path: Path) -> BundleFolder:
    shutil.copytree(evaluated.root, tmp_path / "cell_bundle")
    return BundleFolder(tmp_path / "cell_bundle")


def change_weights(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, path)


def test_check_evidence_of_these_weights_passes(bundle: BundleFolder) -> None:
    assert check_evidence(bundle) == "validation is of these weights and this config"


def test_check_evidence_sealed_bundle_with_one_file_of_weights_passes(bundle: BundleFolder) -> None:
    bundle.fold_weights(0).unlink()
    assert "validation is of these weights" in check_evidence(bundle)
    change_weights(bundle.weights)
    with pytest.raises(BundleError, match=r"other weights than models/model\.pt"):
        check_evidence(bundle)


@pytest.mark.parametrize("name", ["model.pt", "model_fold_0.pt"])
def test_package_other_weights_than_evaluated_is_refused(bundle: BundleFolder, tmp_path: Path, name: str) -> None:
    change_weights(bundle.models / name)
    with pytest.raises(
        BundleError, match=r"evaluations/validation is no evidence for cell_bundle: it was made with other"
    ):
        phantoms.silently(unet_pipeline.package, bundle.root, tmp_path / "cells.zip")
    assert not (tmp_path / "cells.zip").exists()


def test_check_evidence_other_inference_config_is_refused(bundle: BundleFolder) -> None:
    path = bundle.config("inference")
    path.write_text(path.read_text().replace('"window_overlap": 0.5', '"window_overlap": 0.7'))
    with pytest.raises(BundleError, match=r"another configs/inference\.json"):
        check_evidence(bundle)


def test_check_evidence_edited_numbers_are_refused(bundle: BundleFolder) -> None:
    path = bundle.evaluations / "validation" / "metrics.csv"
    path.write_text(path.read_text().replace("0.9", "1.0"))
    with pytest.raises(BundleError, match=r"metrics\.csv was changed after the evaluation"):
        check_evidence(bundle)


def test_check_evidence_without_record_is_named(bundle: BundleFolder) -> None:
    (bundle.evaluations / "validation" / "run.json").unlink()
    assert check_evidence(bundle) == "validation has no record"
    shutil.rmtree(bundle.evaluations)
    assert check_evidence(bundle) == "no evaluation"
