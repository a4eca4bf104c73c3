"""Records are read as they were written, by any version, and written back with the same keys, values and order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unet_pipeline.bundle.run_record import (
    EvaluationRunRecord,
    LabelMapEntry,
    PredictionRecord,
    RunRecord,
    TrainingRecord,
    TuningRecord,
    read_record,
)
from unet_pipeline.errors import FileContentError
from unet_pipeline.files import write_json

BUNDLES = Path(__file__).parents[1] / "bundles"
ENTRY = {
    "files_sha256": {"a.png": "1"},
    "label_map": "a.png",
    "label_map_sha256": "2",
    "weights_sha256": ["3"],
    "configs_sha256": {},
    "options": {"mirror": False},
    "started": "2026-01-02T03:04:05+00:00",
}
KINDS: dict[str, type[RunRecord]] = {
    "evidence/runs/*/run.json": TrainingRecord,
    "evidence/evaluations/*/run.json": EvaluationRunRecord,
    "evidence/tuning_run.json": TuningRecord,
}


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/evidence")))
def test_read_record_of_a_ready_bundle_is_written_back_byte_for_byte(bundle: str, tmp_path: Path) -> None:
    found = [(path, kind) for pattern, kind in KINDS.items() for path in (BUNDLES / bundle).glob(pattern)]
    assert found
    for path, kind in found:
        record = read_record(path, kind)
        assert record is not None
        write_json(tmp_path / "again.json", record.as_data())
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_run_record_keys_stand_in_the_order_in_which_they_were_set() -> None:
    record = TrainingRecord(state="running", id="fold_0-001", later_key=1)
    record.precision, record.ended = "float32", "2026-01-02T03:04:05+00:00"
    record.state = "finished"
    assert list(record.as_data()) == ["state", "id", "later_key", "precision", "ended"]
    assert record.as_data()["state"] == "finished"
    assert TrainingRecord().as_data() == {}


@pytest.mark.parametrize(
    ("content", "fold"),
    [
        ({"fold": 2, "settings": {"fold": "1"}}, 2),
        ({"settings": {"fold": "1"}}, 1),
        ({"settings": {"fold": "all"}}, None),
        ({}, None),
    ],
)
def test_training_record_fold_of_an_early_version_is_among_the_settings(
    content: dict[str, object], fold: int | None
) -> None:
    assert TrainingRecord.model_validate(content).trained_fold == fold


def test_prediction_record_entry_that_cannot_be_judged_is_kept_as_it_is(tmp_path: Path) -> None:
    old = {"label_map": "b.png", "sha256": "5"}
    write_json(tmp_path / "predictions_run.json", {"images": {"a": ENTRY, "b": old, "c": None}})
    record = read_record(tmp_path / "predictions_run.json", PredictionRecord)
    assert record is not None
    assert isinstance(record.images["a"], LabelMapEntry)
    assert (record.images["b"], record.images["c"]) == (old, None)
    assert json.loads(json.dumps(record.as_data())) == {"images": {"a": ENTRY, "b": old, "c": None}}


def test_read_record_missing_is_none_and_damaged_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / "fold_0-001" / "run.json"
    assert read_record(path, TrainingRecord) is None
    write_json(path, {"epochs": [{"epoch": 1}, {"epoch": "second"}]})
    with pytest.raises(FileContentError, match=r"fold_0-001/run\.json is damaged: epochs\.1\.epoch: .*Restore it"):
        read_record(path, TrainingRecord)


def test_what_is_known_of_a_label_map_is_written_again_as_it_was_read() -> None:
    of_label = {
        "predicted_voxels": 12.0,
        "expected_voxels": 11.5,
        "soft_dice": None,
        "mean_probability": 0.9,
        "unsure_surface": None,
        "num_voxels": 12.0,
        "num_parts": 1.0,
        "largest_share": 1.0,
        "filled_share": 0.25,
        "touches_border": 0.0,
    }
    entry = {
        "files_sha256": {"a.nii.gz": "1"},
        "label_map": "a.nii.gz",
        "label_map_sha256": "2",
        "weights_sha256": ["3"],
        "configs_sha256": {},
        "options": {"mirror": False},
        "contract": {"verdict": "inside", "ratio": 0.5, "of a later version": [1]},
        "doubt": {
            "mean_entropy": None,
            "voxel_size": 0.001,
            "size_unit": "ml",
            "labels": {"10": of_label, "2": of_label},
        },
    }
    content = {"kind": "predict", "images": {"a": entry, "b": {"of an earlier version": 1}}}
    record = PredictionRecord(**content)
    assert isinstance(record.images["a"], LabelMapEntry)
    assert json.dumps(record.as_data()) == json.dumps(content)
    wrong = {**entry, "doubt": {**entry["doubt"], "labels": {"10": {**of_label, "num_parts": "many"}}}}  # type: ignore[dict-item]
    assert not isinstance(PredictionRecord(images={"a": wrong}).images["a"], LabelMapEntry), "it cannot be judged"
