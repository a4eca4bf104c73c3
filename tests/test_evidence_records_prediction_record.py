"""Every label map can be traced to its image and weights, also when a later call keeps it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import PredictionError
from unet_pipeline.evidence.records.prediction_record import (
    PREDICTIONS_LOCK,
    PREDICTIONS_RECORD,
    open_ledger,
    record_predictions,
)
from unet_pipeline.files import compute_sha256, write_text
from unet_pipeline.locks import InUseError, hold_lock
from unet_pipeline.prediction.inputs import PredictionInput

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


OPTIONS = {"mirror": False}


def predict(
    folder: BundleFolder, names: tuple[str, ...], fails: tuple[str, ...] = (), stops_at: str | None = None
) -> dict[str, Any]:
    """The record of a call that is asked for some images, and what it kept under "kept"."""
    out = folder.root.parent / "out"
    finals = {source: out / f"{source.name}.png" for source in list_sources(folder, *names)}
    with record_predictions(folder, out, (folder.weights,), OPTIONS, OPTIONS) as (_, ledger):
        todo, kept = ledger.sort(finals)
        for source in todo:
            if source.name == stops_at:
                raise KeyboardInterrupt
            if source.name not in fails:
                ledger.note_image(source)
                ledger.make_room(source, finals[source])
                write_text(finals[source], f"{source.name} {folder.weights.read_text(encoding='utf-8')}")
                ledger.finish(source, finals[source])
        if fails:
            raise PredictionError(f"{len(fails)} of {len(names)} images could not be predicted")
    return read_json(out / PREDICTIONS_RECORD) | {"kept": [path.name for path in kept]}


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_record_predictions_label_maps_are_bound_to_images_and_weights(folder: BundleFolder) -> None:
    record = predict(folder, ("cell_00", "cell_01"))
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
    assert entry["configs_sha256"] == {
        name: compute_sha256(folder.root / name) for name in ("configs/plan.yaml", "configs/inference.json")
    }
    assert entry["options"] == OPTIONS
    assert {"machine", "versions", "started", "ended", "duration_s"} <= record.keys()
    assert str(folder.root.parent) not in json.dumps(record)


def test_record_predictions_says_what_label_values_mean(folder: BundleFolder) -> None:
    assert predict(folder, ("cell_00",))["plan"]["label_table"] == {"background": 0, "cell": 255}


def test_record_predictions_kept_label_maps_keep_their_entry(folder: BundleFolder) -> None:
    first = predict(folder, ("cell_00", "cell_01"))
    second = predict(folder, ("cell_01", "cell_02"))
    assert second["kept"] == ["cell_01.png"]
    assert second["images"].keys() == {"cell_00", "cell_01", "cell_02"}
    assert [second["images"][name] for name in ("cell_00", "cell_01")] == list(first["images"].values())


def test_record_predictions_other_weights_make_other_label_maps(folder: BundleFolder) -> None:
    first = predict(folder, ("cell_00", "cell_01"))
    write_text(folder.weights, "second")
    second = predict(folder, ("cell_01", "cell_02"))
    assert second["kept"] == []
    assert second["images"]["cell_00"] == first["images"]["cell_00"]
    assert second["images"]["cell_01"]["weights_sha256"] == [compute_sha256(folder.weights)]
    assert (folder.root.parent / "out" / "cell_01.png").read_text() == "cell_01 second"


@pytest.mark.parametrize("name", ["configs/plan.yaml", "configs/inference.json", "unet_networks/net.py"])
def test_record_predictions_other_configs_make_other_label_maps(folder: BundleFolder, name: str) -> None:
    predict(folder, ("cell_00",))
    path = folder.root / name
    write_text(path, (path.read_text(encoding="utf-8") if path.is_file() else "") + "\n")
    assert predict(folder, ("cell_00",))["kept"] == []
    assert predict(folder, ("cell_00",))["kept"] == ["cell_00.png"]


def test_record_predictions_training_config_changes_no_label_map(folder: BundleFolder) -> None:
    predict(folder, ("cell_00",))
    write_text(folder.config("train"), folder.config("train").read_text(encoding="utf-8") + "\n")
    assert predict(folder, ("cell_00",))["kept"] == ["cell_00.png"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": []}', '{"images": {"cell_00": 3}}', "\x00"])
def test_record_predictions_damaged_record_keeps_nothing(folder: BundleFolder, content: str) -> None:
    predict(folder, ("cell_00",))
    write_text(folder.root.parent / "out" / PREDICTIONS_RECORD, content)
    record = predict(folder, ("cell_00",))
    assert record["kept"] == []
    assert list(record["images"]) == ["cell_00"]


def test_record_predictions_stopped_call_goes_on_behind_what_it_finished(folder: BundleFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(folder, ("cell_00", "cell_01", "cell_02"), stops_at="cell_02")
    record = read_json(folder.root.parent / "out" / PREDICTIONS_RECORD)
    assert (record["state"], list(record["images"])) == ("interrupted", ["cell_00", "cell_01"])
    assert predict(folder, ("cell_00", "cell_01", "cell_02"))["kept"] == ["cell_00.png", "cell_01.png"]


def test_record_predictions_killed_call_has_written_what_it_finished(folder: BundleFolder) -> None:
    out = folder.root.parent / "out"
    (source,) = list_sources(folder, "cell_00")
    with record_predictions(folder, out, (folder.weights,), OPTIONS, OPTIONS) as (_, ledger):
        ledger.note_image(source)
        write_text(out / "cell_00.png", "finished")
        ledger.finish(source, out / "cell_00.png")
        record = read_json(out / PREDICTIONS_RECORD)  # a kill -9 here leaves this
        assert (record["state"], list(record["images"])) == ("running", ["cell_00"])


def test_record_predictions_label_map_that_is_gone_has_no_entry(folder: BundleFolder) -> None:
    predict(folder, ("cell_00", "cell_01"))
    (folder.root.parent / "out" / "cell_00.png").unlink()
    assert list(predict(folder, ("cell_01",))["images"]) == ["cell_01"]


def test_open_ledger_reads_the_record_and_writes_nothing(folder: BundleFolder) -> None:
    predict(folder, ("cell_00",))
    out = folder.root.parent / "out"
    before = (out / PREDICTIONS_RECORD).read_bytes()
    ledger = open_ledger(folder, out, (folder.weights,), OPTIONS)
    (source,) = list_sources(folder, "cell_00")
    assert ledger.sort({source: out / "cell_00.png"}) == ([], (out / "cell_00.png",))
    assert (out / PREDICTIONS_RECORD).read_bytes() == before


def test_record_predictions_call_without_label_map_leaves_nothing(folder: BundleFolder) -> None:
    with pytest.raises(PredictionError):
        predict(folder, ("cell_00",), fails=("cell_00",))
    assert not (folder.root.parent / "out").exists()


def test_record_predictions_failed_call_keeps_what_was_written(folder: BundleFolder) -> None:
    with pytest.raises(PredictionError):
        predict(folder, ("cell_00", "cell_01"), fails=("cell_01",))
    record = read_json(folder.root.parent / "out" / PREDICTIONS_RECORD)
    assert (record["state"], list(record["images"])) == ("failed", ["cell_00"])
    assert "1 of 2 images" in record["error"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a second process")
def test_record_predictions_second_process_is_refused_and_changes_nothing(folder: BundleFolder) -> None:
    out = folder.root.parent / "out"
    predict(folder, ("cell_00",))
    before = (out / PREDICTIONS_RECORD).read_bytes()
    (held, tells), (waits, goes_on) = os.pipe(), os.pipe()
    number = os.fork()
    if number == 0:
        with hold_lock(out / PREDICTIONS_LOCK, "out"):
            os.write(tells, b"held")
            os.read(waits, 1)
        os._exit(0)
    os.read(held, 4)
    with pytest.raises(InUseError, match=rf"The output folder out is in use by another process \(process {number} on"):
        predict(folder, ("cell_00", "cell_01"))
    assert (out / PREDICTIONS_RECORD).read_bytes() == before
    os.write(goes_on, b"1")
    os.waitpid(number, 0)
    assert list(predict(folder, ("cell_00", "cell_01"))["images"]) == ["cell_00", "cell_01"]
