"""`package` hands weights over in half precision, with numbers that were measured with them; all that reads weights takes both."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import phantom_bundles as phantoms
import pytest
import torch

import unet_pipeline
from unet_pipeline.audit.audit import audit_bundle
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.half_weights import halve_state, halve_weights, holds_full_weights
from unet_pipeline.bundle.weights_origin import find_measured_weights
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256
from unet_pipeline.handover.package import read_eval_metrics
from unet_pipeline.handover.stale_evidence import check_evidence
from unet_pipeline.planning.plan import read_plan

from .conftest import TrainedBundle


def read_state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def package(root: Path, **options: str) -> tuple[str, list[str]]:
    """The version, and what was said."""
    said: list[str] = []
    result = phantoms.silently(
        unet_pipeline.package, root, root.with_suffix(".zip"), export="none", announce=said.append, **options
    )
    return result.version, said


@pytest.fixture(scope="module")
def halved(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """Evaluated with float32, then packaged; not to be changed."""
    copy = bundle_2d.copy_to(tmp_path_factory.mktemp("halved"))
    phantoms.silently(unet_pipeline.evaluate, copy.root)
    package(copy.root)
    return copy


@pytest.fixture
def changed(halved: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    return halved.copy_to(tmp_path)


def test_halve_state_halves_what_has_two_axes_and_keeps_what_is_shared() -> None:
    kernel, bias = torch.full((4, 2, 3, 3), 1 / 3), torch.full((4,), 1 / 3)
    state = {"a": kernel, "b": kernel, "bias": bias, "count": torch.tensor(3), "half": kernel.half()}
    found = halve_state(state)
    assert [value.dtype for value in found.values()] == [
        torch.float16, torch.float16, torch.float32, torch.int64, torch.float16,
    ]  # fmt: skip
    assert found["a"].data_ptr() == found["b"].data_ptr()
    assert float(found["a"].float().sub(1 / 3).abs().max()) < 1 / 3 * 2**-11
    assert torch.equal(found["bias"], bias)
    assert state["a"].dtype == torch.float32, "the caller's stays as it is"


def test_halve_state_beyond_float16_is_refused_and_the_bundle_stays(changed: TrainedBundle) -> None:
    with pytest.raises(BundleError, match=r"weights deep reach 1e\+05; expected at most 65504.*--weights float32"):
        halve_state({"deep": torch.full((2, 2), 1e5)})


def test_package_file_is_half_and_the_trainings_own_stay_float32(
    halved: TrainedBundle, bundle_2d: TrainedBundle
) -> None:
    folder, trained = BundleFolder(halved.root), BundleFolder(bundle_2d.root)
    assert folder.weights.stat().st_size < 0.65 * trained.weights.stat().st_size
    assert not holds_full_weights(folder.weights)
    assert compute_sha256(folder.fold_weights(0)) == compute_sha256(trained.weights)
    origin = json.loads(folder.weights_origin.read_text())
    expected = {
        "fold": 0,
        "sha256": compute_sha256(folder.weights),
        "trained_sha256": compute_sha256(trained.weights),
    }
    assert origin == expected
    checkpoint = next(folder.runs.glob("fold_0*/checkpoint_last.pt"))
    assert {value.dtype for value in torch.load(checkpoint, weights_only=True)["network"].values()} == {torch.float32}


def test_package_numbers_are_of_what_is_shipped(halved: TrainedBundle, bundle_2d: TrainedBundle) -> None:
    folder = BundleFolder(halved.root)
    record = json.loads((folder.evaluations / "validation" / "run.json").read_text())
    assert record["weights"] == [{"fold": 0, "file": "models/model.pt", "sha256": compute_sha256(folder.weights)}]
    metadata = folder.read_metadata()
    assert metadata["eval_metrics"] == read_eval_metrics(folder)
    assert "stored in float16" in metadata["description"]
    assert "validation is of these weights" in check_evidence(folder)
    assert audit_bundle(halved.root).passed
    with zipfile.ZipFile(halved.root.with_suffix(".zip")) as archive:
        assert archive.read("cell_bundle/models/model.pt") == folder.weights.read_bytes()


def test_package_again_changes_nothing(changed: TrainedBundle) -> None:
    before = compute_sha256(BundleFolder(changed.root).weights)
    version, said = package(changed.root)
    assert (version, said) == ("0.1.0", [])
    assert compute_sha256(BundleFolder(changed.root).weights) == before


def test_package_says_what_was_measured_before_and_after(copy_of_2d: TrainedBundle) -> None:
    phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root)
    _, said = package(copy_of_2d.root)
    (line,) = said
    assert line.startswith("weights  float16; measured again with them: mean Dice ")
    after, before = (float(text.split()[-1]) for text in line.replace(", before", "#").split("#"))
    assert after == pytest.approx(before, abs=5e-4)


def test_package_float32_keeps_what_was_trained(copy_of_2d: TrainedBundle) -> None:
    folder = BundleFolder(copy_of_2d.root)
    before = compute_sha256(folder.weights)
    phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root)
    assert package(copy_of_2d.root, weights="float32")[1] == []
    assert compute_sha256(folder.weights) == before
    assert "stored in float32" in folder.read_metadata()["description"]


def test_package_of_an_unknown_type_is_refused(copy_of_2d: TrainedBundle) -> None:
    with pytest.raises(BundleError, match=r"Unknown type of weights 'float8'; did you mean 'float32'"):
        package(copy_of_2d.root, weights="float8")


@pytest.mark.parametrize("gone", ["dataset", "image"])
def test_package_where_nothing_can_be_measured_keeps_the_weights_and_says_why(
    copy_of_2d: TrainedBundle, gone: str
) -> None:
    folder = BundleFolder(copy_of_2d.root)
    before = compute_sha256(folder.weights), folder.weights_origin.read_bytes()
    phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root)
    if gone == "dataset":
        copy_of_2d.dataset.rename(copy_of_2d.dataset.with_name("elsewhere"))
    else:
        case = folder.read_split(0).validation[0]
        (copy_of_2d.dataset / case.image).write_bytes((copy_of_2d.dataset / case.label).read_bytes())
    _, (line, contract) = package(copy_of_2d.root)
    assert contract.startswith("contract none: ")
    assert line.startswith("weights  float32, as they were measured: ")
    assert ("the dataset is not at ../cells" if gone == "dataset" else "changed") in line
    assert before == (compute_sha256(folder.weights), folder.weights_origin.read_bytes())
    assert read_eval_metrics(folder) == folder.read_metadata()["eval_metrics"]


def test_package_never_evaluated_is_halved(copy_of_2d: TrainedBundle) -> None:
    assert package(copy_of_2d.root)[1] == []
    assert not holds_full_weights(BundleFolder(copy_of_2d.root).weights)


def test_package_evidence_that_is_refused_is_not_measured_anew(copy_of_2d: TrainedBundle) -> None:
    phantoms.silently(unet_pipeline.evaluate, copy_of_2d.root)
    path = BundleFolder(copy_of_2d.root).evaluations / "validation" / "metrics.csv"
    path.write_text(path.read_text().replace("0.9", "1.0"))
    with pytest.raises(BundleError, match=r"metrics\.csv was changed"):
        package(copy_of_2d.root)


def test_predict_either_gives_nearly_the_same(halved: TrainedBundle, bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    image = bundle_2d.dataset / "images" / "cell_00.png"
    maps = []
    for name, root in (("half", halved.root), ("full", bundle_2d.root)):
        phantoms.silently(unet_pipeline.predict, root, image, tmp_path / name)
        maps.append(read_label_map(tmp_path / name / "cell_00.png").array)
    assert np.mean(maps[0] != maps[1]) < 1e-3


def test_evaluate_tune_and_exports_take_half_weights(changed: TrainedBundle, tmp_path: Path) -> None:
    before = read_eval_metrics(BundleFolder(changed.root))
    phantoms.silently(unet_pipeline.evaluate, changed.root)
    assert read_eval_metrics(BundleFolder(changed.root)) == before
    phantoms.silently(unet_pipeline.tune, changed.root)
    phantoms.silently(unet_pipeline.evaluate, changed.root)
    sealed = phantoms.silently(unet_pipeline.package, changed.root, tmp_path / "cells.zip", export="torchscript")
    assert sealed.exports[0].label_maps[0].dice == 1


def test_reproduce_half_weights_is_identical(changed: TrainedBundle) -> None:
    result = phantoms.silently(unet_pipeline.reproduce, changed.root)
    assert (result.verdict, result.cause, result.trained) == ("identical", "", True), result
    result = phantoms.silently(unet_pipeline.reproduce, changed.root, evaluation_only=True)
    assert (result.verdict, result.trained) == ("identical", False), result


def test_reproduce_received_bundle_with_half_weights_is_identical(halved: TrainedBundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(halved.root.with_suffix(".zip")) as archive:
        archive.extractall(tmp_path / "received")
    received = tmp_path / "received" / "cell_bundle"
    result = phantoms.silently(unet_pipeline.reproduce, received, dataset=halved.dataset)
    assert (result.verdict, result.cause, result.trained) == ("identical", "", True), result


def test_train_from_half_weights_computes_in_float32(changed: TrainedBundle, tmp_path: Path) -> None:
    root = tmp_path / "tuned"
    phantoms.silently(
        unet_pipeline.plan, changed.dataset, root, initial=changed.root, labels={"background": 0, "cell": 255}
    )
    assert not holds_full_weights(BundleFolder(root).initial_weights)
    short = {"num_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1, "warmup_iterations": 0}
    (run,) = phantoms.silently(unet_pipeline.train, root, overrides=short)
    assert {value.dtype for value in read_state(run.weights).values() if value.is_floating_point()} == {torch.float32}


def test_train_resumed_after_package_goes_on_from_float32(changed: TrainedBundle) -> None:
    folder = BundleFolder(changed.root)
    checkpoint = next(folder.runs.glob("fold_0*/checkpoint_last.pt"))
    steps = torch.load(checkpoint, weights_only=True)["iteration"]
    longer = {"num_epochs": read_plan(folder.plan).num_epochs + 1}
    (run,) = phantoms.silently(unet_pipeline.train, changed.root, resume=True, overrides=longer)
    assert torch.load(checkpoint, weights_only=True)["iteration"] > steps
    assert holds_full_weights(folder.weights)
    assert compute_sha256(run.weights) == compute_sha256(folder.weights)
    assert find_measured_weights(folder, 0) == run.weights


def test_weights_that_stock_monai_trained_are_halved_too(copy_of_2d: TrainedBundle) -> None:
    folder = BundleFolder(copy_of_2d.root)
    folder.weights_origin.unlink()
    own = compute_sha256(folder.weights)
    halve_weights(folder)
    assert json.loads(folder.weights_origin.read_text())["trained_sha256"] == own
    assert find_measured_weights(folder, 0) == folder.weights
