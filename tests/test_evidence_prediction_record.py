"""Every label map can be traced to its image and weights, also when a later call keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle_folder import BundleFolder
from pipeline.errors import PredictionError
from pipeline.evidence.prediction_record import PREDICTIONS_RECORD, record_predictions
from pipeline.files import compute_sha256, write_text
from pipeline.prediction.inputs import PredictionInput

from . import phantom_bundles as phantoms


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    labels = {"background": 0, "cell": 255}
    dataset = phantoms.write_pictures(tmp_path / "cells", 8)
    made = BundleFolder(phantoms.plan_small(dataset, tmp_path / "bundle", labels=labels))
    write_text(made.weights, "first")
    return made


def list_sources(folder: BundleFolder, *names: str) -> list[PredictionInput]:
    return [PredictionInput(name, (folder.root.parent / "cells" / "images" / f"{name}.png",)) for name in names]


def predict(
    folder: BundleFolder, names: tuple[str, ...], written: tuple[str, ...], fails: bool = False
) -> dict[str, Any]:
    """The record of a call that is asked for some images and writes some label maps."""
    out = folder.root.parent / "out"
    sources = list_sources(folder, *names)
    with record_predictions(folder, out, sources, (folder.weights,), ".png", {"mirror": False}):
        for name in written:
            write_text(out / f"{name}.png", f"{name} {folder.weights.read_text(encoding='utf-8')}")
        if len(written) < len(names) and fails:
            raise PredictionError(f"{len(names) - len(written)} of {len(names)} images could not be predicted")
    return json.loads((out / PREDICTIONS_RECORD).read_text(encoding="utf-8"))


def test_record_predictions_label_maps_are_bound_to_images_and_weights(folder: BundleFolder) -> None:
    record = predict(folder, ("cell_00", "cell_01"), ("cell_00", "cell_01"))
    weights = compute_sha256(folder.weights)
    assert (record["kind"], record["state"], record["bundle"]["name"]) == ("predict", "finished", "bundle")
    assert record["weights"] == [{"file": "models/model.pt", "sha256": weights}]
    assert record["inference_config_sha256"] == compute_sha256(folder.config("inference"))
    entry = record["images"]["cell_01"]
    out = folder.root.parent / "out"
    source = list_sources(folder, "cell_01")[0].files[0]
    assert entry["files_sha256"] == {"cell_01.png": compute_sha256(source)}
    assert entry["label_map_sha256"] == compute_sha256(out / "cell_01.png")
    assert entry["weights_sha256"] == [weights]
    assert {"machine", "versions", "started", "ended", "duration_s"} <= record.keys()
    assert str(folder.root.parent) not in json.dumps(record)


def test_record_predictions_kept_label_maps_keep_their_weights(folder: BundleFolder) -> None:
    first = predict(folder, ("cell_00", "cell_01"), ("cell_00", "cell_01"))
    write_text(folder.weights, "second")
    second = predict(folder, ("cell_01", "cell_02"), ("cell_02",))
    assert second["images"].keys() == {"cell_00", "cell_01", "cell_02"}
    assert [second["images"][name] for name in ("cell_00", "cell_01")] == list(first["images"].values())
    assert second["images"]["cell_02"]["weights_sha256"] == [compute_sha256(folder.weights)]
    assert second["images"]["cell_02"]["weights_sha256"] != first["images"]["cell_01"]["weights_sha256"]


def test_record_predictions_label_map_of_unknown_origin_has_no_weights(folder: BundleFolder) -> None:
    write_text(folder.root.parent / "out" / "cell_00.png", "from elsewhere")
    entry = predict(folder, ("cell_00",), ())["images"]["cell_00"]
    assert (entry["weights_sha256"], entry["files_sha256"]) == (None, {})


def test_record_predictions_label_map_replaced_by_hand_loses_its_weights(folder: BundleFolder) -> None:
    predict(folder, ("cell_00",), ("cell_00",))
    write_text(folder.root.parent / "out" / "cell_00.png", "edited")
    assert predict(folder, ("cell_00",), ())["images"]["cell_00"]["weights_sha256"] is None


def test_record_predictions_call_without_label_map_leaves_nothing(folder: BundleFolder) -> None:
    out = folder.root.parent / "out"
    sources = list_sources(folder, "cell_00")
    with pytest.raises(PredictionError), record_predictions(folder, out, sources, (folder.weights,), ".png", {}):
        raise PredictionError("no image can be read")
    assert not out.exists()


def test_record_predictions_failed_call_keeps_what_was_written(folder: BundleFolder) -> None:
    out = folder.root.parent / "out"
    with pytest.raises(PredictionError):
        predict(folder, ("cell_00", "cell_01"), ("cell_00",), fails=True)
    record = json.loads((out / PREDICTIONS_RECORD).read_text(encoding="utf-8"))
    assert (record["state"], list(record["images"])) == ("failed", ["cell_00"])
    assert "1 of 2 images" in record["error"]


def test_record_predictions_equal_label_map_of_other_weights_names_those(folder: BundleFolder) -> None:
    out = folder.root.parent / "out"
    sources = list_sources(folder, "cell_00")
    for content in ("first", "second"):
        write_text(folder.weights, content)
        (out / "cell_00.png").unlink(missing_ok=True)
        with record_predictions(folder, out, sources, (folder.weights,), ".png", {}) as record:
            write_text(out / "cell_00.png", "the same")
    assert record["images"]["cell_00"]["weights_sha256"] == [compute_sha256(folder.weights)]
