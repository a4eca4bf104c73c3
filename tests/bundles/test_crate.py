"""The RO-Crate of a packaged bundle, read with the library of the standard's authors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import phantom_bundles as phantoms
import pytest
from rocrate.rocrate import ROCrate

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.records.crate import CRATE, build_crate
from unet_pipeline.files import compute_sha256

from .conftest import TrainedBundle


@pytest.fixture(scope="module")
def packed(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packaged bundle with a training and an evaluation, unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("crate")
    copy = bundle_2d.copy_to(folder)
    phantoms.silently(unet_pipeline.evaluate, copy.root)
    sealed = phantoms.silently(unet_pipeline.package, copy.root, folder / "cells.zip", export="none")
    shutil.unpack_archive(sealed.zip_file, folder / "received")
    return folder / "received" / "cell_bundle"


def test_write_crate_is_read_by_the_library_with_every_entity(packed: Path) -> None:
    crate = ROCrate(packed)
    assert crate.name == "cell_bundle"
    assert crate.root_dataset["license"].id == "https://spdx.org/licenses/Apache-2.0"
    weights = crate.dereference("models/model.pt")
    assert weights["sha256"] == compute_sha256(packed / "models" / "model.pt")
    actions = {action.id: action for action in crate.root_dataset["mentions"]}
    assert set(actions) == {"#evidence/runs/fold_0-001", "#evidence/evaluations/validation"}
    training = actions["#evidence/runs/fold_0-001"]
    assert training.type == "CreateAction"
    assert training["instrument"].id == "#unet-pipeline"
    assert training["agent"]["name"] == "to be filled in by the authors"
    assert weights in training["result"]
    assert weights in actions["#evidence/evaluations/validation"]["object"]
    assert {"#dataset", "configs/train.json", "evidence/splits/fold_0.json"} <= {e.id for e in training["object"]}
    assert training["startTime"] <= training["endTime"]
    assert crate.dereference("#dataset")["name"] == "cells"


def test_write_crate_names_every_file_once_with_its_hash(packed: Path) -> None:
    graph = json.loads((packed / CRATE).read_text())["@graph"]
    identifiers = [entity["@id"] for entity in graph]
    assert len(identifiers) == len(set(identifiers))
    files = {entity["@id"]: entity for entity in graph if entity["@type"] == "File"}
    there = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    assert there - set(files) == {CRATE, "evidence/manifest.sha256"}, "neither can hold its own hash"
    assert all(compute_sha256(packed / name) == entity["sha256"] for name, entity in files.items())
    # no reference leads nowhere
    text = [value["@id"] for entity in graph for value in iterate_references(entity)]
    assert set(text) - set(identifiers) == {"https://w3id.org/ro/crate/1.1"}
    sealed = (packed / "evidence" / "manifest.sha256").read_text()
    assert f"{compute_sha256(packed / CRATE)}  {CRATE}" in sealed


def iterate_references(entity: dict):  # type: ignore[no-untyped-def]
    for value in entity.values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                yield part


def test_build_crate_failed_run_is_a_failed_action(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path / "bundle")
    path = tmp_path / "bundle" / "evidence" / "runs" / "fold_0-001" / "run.json"
    record = json.loads(path.read_text()) | {"state": "failed", "error": "TrainingError: the loss is not finite"}
    path.write_text(json.dumps(record))
    graph = build_crate(BundleFolder(tmp_path / "bundle"))["@graph"]
    action = next(entity for entity in graph if entity["@id"] == "#evidence/runs/fold_0-001")
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert "not finite" in action["error"]


def test_build_crate_before_any_training_has_no_action(tmp_path: Path) -> None:
    dataset = phantoms.write_pictures(tmp_path / "cells")
    labels = {"background": 0, "cell": 255}
    root = phantoms.plan_small(dataset, tmp_path / "bundle", labels=labels, **phantoms.SMALL_2D)
    graph = build_crate(BundleFolder(root))["@graph"]
    assert not [entity for entity in graph if entity["@type"] == "CreateAction"]
