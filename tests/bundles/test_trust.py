"""The gate in front of the verbs, on a trained bundle: sealed, changed, zipped, signed, worked on again."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import phantom_bundles as phantoms
import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import BundleError

from .conftest import TrainedBundle

SHORT = {"num_epochs": 1, "iterations_per_epoch": 2, "val_interval": 1}


@pytest.fixture(scope="module")
def packaged(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """A packaged copy of the 2D bundle, with its zip beside it."""
    copy = bundle_2d.copy_to(tmp_path_factory.mktemp("packaged"))
    phantoms.silently(unet_pipeline.package, copy.root)
    return copy


@pytest.fixture
def sealed(packaged: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    """A copy to be changed."""
    shutil.copytree(packaged.root.parent, tmp_path / "copy")
    return TrainedBundle(tmp_path / "copy" / "cells", tmp_path / "copy" / "cell_bundle")


def predict(bundle: Path, sealed: TrainedBundle, out: Path, **options: bool) -> bytes:
    phantoms.silently(unet_pipeline.predict, bundle, sealed.dataset / "images" / "cell_00.png", out, **options)
    return (out / "cell_00.png").read_bytes()


def change_weights(root: Path) -> None:
    """What somebody does who wants other results under the same name: still a plain state_dict."""
    state = torch.load(root / "models" / "model.pt", weights_only=True)
    torch.save({name: -tensor for name, tensor in state.items()}, root / "models" / "model.pt")


def test_audit_own_packaged_bundle_and_its_zip_pass(packaged: TrainedBundle) -> None:
    folder, archive = unet_pipeline.audit(packaged.root), unet_pipeline.audit(packaged.root.with_suffix(".zip"))
    for found in (folder, archive):
        assert found.passed, found.dangers
        assert not [finding for finding in found.findings if finding.severity == "warning"]
        assert len(found.runs) > 100
    assert set(archive.runs) == set(folder.runs)


def test_predict_zip_gives_what_the_folder_gives_and_leaves_nothing(
    sealed: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    from_folder = predict(sealed.root, sealed, tmp_path / "a")
    assert predict(sealed.root.with_suffix(".zip"), sealed, tmp_path / "b") == from_folder
    assert not list((tmp_path / "temporary").iterdir())


def test_predict_changed_weights_are_refused_unless_trusted(sealed: TrainedBundle, tmp_path: Path) -> None:
    before = predict(sealed.root, sealed, tmp_path / "before")
    change_weights(sealed.root)
    with pytest.raises(BundleError, match=r"models/model\.pt is not the file that was sealed"):
        predict(sealed.root, sealed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BundleError, match=r"models/model\.pt is not the file that was sealed"):
        phantoms.silently(unet_pipeline.evaluate, sealed.root)
    assert predict(sealed.root, sealed, tmp_path / "trusted", trust=True) != before


def test_package_again_after_a_change_of_ones_own_seals_it_again(sealed: TrainedBundle, tmp_path: Path) -> None:
    change_weights(sealed.root)
    phantoms.silently(unet_pipeline.package, sealed.root)
    predict(sealed.root, sealed, tmp_path / "out")


def test_evaluate_packaged_bundle_keeps_its_seal_valid(sealed: TrainedBundle, tmp_path: Path) -> None:
    phantoms.silently(unet_pipeline.evaluate, sealed.root)
    assert BundleFolder(sealed.root).seal.is_file()
    predict(sealed.root, sealed, tmp_path / "out")
    assert unet_pipeline.audit(sealed.root).passed


@pytest.mark.parametrize("work", ["train", "refresh"])
def test_working_on_a_packaged_bundle_breaks_the_seal_and_goes_on(
    sealed: TrainedBundle, tmp_path: Path, work: str
) -> None:
    if work == "train":
        phantoms.silently(unet_pipeline.train, sealed.root, overrides=SHORT)
    else:
        plan = sealed.root / "configs" / "plan.yaml"
        plan.write_text(plan.read_text(encoding="utf-8").replace("window_overlap: 0.5", "window_overlap: 0.25"))
        unet_pipeline.refresh(sealed.root)
    assert not BundleFolder(sealed.root).seal.exists()
    predict(sealed.root, sealed, tmp_path / "out")


def test_train_of_another_fold_leaves_the_seal(sealed: TrainedBundle, tmp_path: Path) -> None:
    phantoms.silently(unet_pipeline.train, sealed.root, fold=1, overrides=SHORT)
    assert BundleFolder(sealed.root).seal.is_file()
    predict(sealed.root, sealed, tmp_path / "out", ensemble=True)


@pytest.mark.parametrize("verb", ["train", "evaluate", "tune", "package"])
def test_verb_that_writes_wants_a_folder(packaged: TrainedBundle, verb: str) -> None:
    with pytest.raises(BundleError, match=rf"is an archive, and `{verb}` writes"):
        getattr(unet_pipeline, verb)(packaged.root.with_suffix(".zip"))


@pytest.mark.parametrize("verb", ["train", "evaluate", "tune", "package", "predict"])
def test_verb_refuses_a_config_that_runs_a_program(sealed: TrainedBundle, tmp_path: Path, verb: str) -> None:
    marker = tmp_path / "marker"
    path = sealed.root / "configs" / ("train.json" if verb == "train" else "inference.json")
    text = path.read_text(encoding="utf-8")
    payload = "\"device\": \"$__import__('os').system('touch " + str(marker) + '\')",\n  "was"'
    path.write_text(text.replace('"device"', payload, 1), encoding="utf-8")
    (sealed.root / "evidence" / "manifest.sha256").unlink()
    arguments = (sealed.dataset / "images", tmp_path / "out") if verb == "predict" else ()
    with pytest.raises(BundleError, match="needs trust"):
        phantoms.silently(getattr(unet_pipeline, verb), sealed.root, *arguments)
    assert not marker.exists()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_package_signed_zip_has_a_signature_that_fits(sealed: TrainedBundle, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    result = phantoms.silently(unet_pipeline.package, sealed.root, tmp_path / "signed.zip", key)
    with zipfile.ZipFile(result.zip_file) as archive:
        assert "cell_bundle/evidence/manifest.sha256.sig" in archive.namelist()
    found = unet_pipeline.audit(result.zip_file, tmp_path / "key.pub")
    assert found.passed
    assert "signature-good" in {finding.code for finding in found.findings}
    phantoms.silently(unet_pipeline.package, sealed.root, tmp_path / "unsigned.zip")
    assert not unet_pipeline.audit(tmp_path / "unsigned.zip", tmp_path / "key.pub").passed
