"""What is read of a bundle's evidence, and what is said when a part of it is missing."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.bundle.unlabelled import PoolRecord, find_pool_record
from unet_pipeline.evaluation.summary import SummaryRow
from unet_pipeline.evidence.report.history import History, format_interval, format_value, read_history, title_metric
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.planning.instance_rules import list_unused
from unet_pipeline.planning.plan import Plan

from .evidence_bundles import write_evaluated


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("history"), 2)


@pytest.fixture
def bundle(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated, tmp_path / "bundle")
    return tmp_path / "bundle"


def read(bundle: Path) -> History:
    return read_history(open_bundle(bundle))


def write_pool(bundle: Path, key: str, accepted: bool, reason: str) -> None:
    weights = BundleFolder(bundle).fold_weights(0)
    sha256 = compute_sha256(weights if weights.is_file() else weights.with_name("model.pt"))
    record = PoolRecord(
        key=key,
        pool=f"pool_{key}",
        dataset="organ",
        labelled_by="by its own network",
        images=[],
        num_kept=7,
        least_agreement=0.5,
        contract_sha256="",
        teachers_sha256={},
        students_sha256={0: sha256} if accepted else {},
        accepted=accepted,
        reason=reason,
    )
    write_json(find_pool_record(BundleFolder(bundle), key), record.model_dump(mode="json"))


def test_read_history_unlabelled_images_are_noted_as_long_as_the_weights_are_theirs(bundle: Path) -> None:
    write_pool(bundle, "a", False, "nothing is left")
    write_pool(bundle, "b", True, "the gain is above 0")
    rejected, accepted = read(bundle).notes
    assert rejected == "Unlabelled images (pool_a) were tried and rejected: nothing is left."
    assert accepted.startswith(
        "The weights of fold 0 were trained with 7 unlabelled images (pool_b) too, labelled by its own"
    )
    for path in (bundle / "models").glob("*.pt"):
        path.write_bytes(b"other weights")
    assert read(bundle).notes == (rejected,)


def test_read_history_complete_bundle_has_every_part(bundle: Path) -> None:
    history = read(bundle)
    assert [record.name for record in history.evaluations] == ["validation"]
    assert [len(fold.validation) for fold in history.folds] == [2, 2, 2, 2]
    assert history.runs[0].id == "fold_0-001"
    assert history.weights_fold == 0
    assert set(history.reasons) == Plan.model_fields.keys() - list_unused(history.plan)
    assert all(history.reasons.values())
    assert not history.notes


@pytest.mark.parametrize(
    ("gone", "note"),
    [
        ("evidence/runs", "no run record"),
        ("evidence/evaluations", "has not been evaluated"),
        ("evidence/dataset_manifest.json", "dataset manifest (evidence/dataset_manifest.json) is missing"),
        ("evidence/splits", "record of the split (splits/split.json) is missing"),
        ("models/model.pt", "no weights"),
    ],
)
def test_read_history_missing_part_is_said(bundle: Path, gone: str, note: str) -> None:
    path = bundle / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert note in " ".join(read(bundle).notes)


def test_read_history_broken_summary_is_said_and_left_out(bundle: Path) -> None:
    (bundle / "evidence/evaluations/validation/summary.json").write_text("{")
    history = read(bundle)
    assert not history.evaluations
    assert "a summary (validation/summary.json) cannot be read" in " ".join(history.notes)


def test_read_history_plan_edited_after_the_training_is_said(bundle: Path) -> None:
    record = bundle / "evidence/runs/fold_0-001/run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"plan_sha256": "0" * 64}))
    assert "is not the file that fold_0-001 was trained with" in " ".join(read(bundle).notes)


def test_folds_with_shared_patients_patient_on_both_sides_is_found(bundle: Path) -> None:
    assert read(bundle).folds_with_shared_patients() == ()
    fold = read(bundle).folds[1]
    record = bundle / "evidence/splits/split.json"
    patients = {fold.training[0]: "p1", fold.validation[0]: "p1"}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"patients": patients}))
    history = read(bundle)
    assert 1 in history.folds_with_shared_patients()
    assert history.num_patients == 7  # eight cases, two of one patient


def test_format_interval_without_one_says_why() -> None:
    row = SummaryRow("cell", "dice", 1, 0, 0.5, 0.5, math.nan, math.nan, True, math.nan, 1, 0, 0, "")
    assert format_interval(row) == "n = 1"
    assert format_interval(replace(row, n=0)) == "-"
    assert format_interval(replace(row, n=9, low=0.12345, high=0.5)) == "0.1235 to 0.5000"
    assert format_value("dice", None) == format_value("dice", math.nan) == "undefined"
    assert title_metric(replace(row, metric="unheard_of", unit="mm")) == "unheard_of (mm)"
