"""`reproduce` on a phantom bundle: the same again is identical, and every planted change is found before anything runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import phantom_bundles as phantoms
import pytest
import torch
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import TrainingRecord, read_record
from unet_pipeline.device.memory_format import OrderChoice
from unet_pipeline.errors import BundleError
from unet_pipeline.evidence.reproduce import reproduction
from unet_pipeline.evidence.reproduce.reproduction_checks import find_changes_of_plan
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.messages import ERROR, Problem
from unet_pipeline.verbs import reproduce as verbs

from .conftest import TrainedBundle

OVERRIDES = {"samples_per_epoch": 8, "num_epochs": 2, "val_interval": 1}


@pytest.fixture(scope="module")
def evaluated(bundle_2d: TrainedBundle, tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    """A bundle with a short training of two epochs, with overrides, and its evaluation."""
    copy = bundle_2d.copy_to(tmp_path_factory.mktemp("reproduction"))
    phantoms.silently(unet_pipeline.train, copy.root, overrides=OVERRIDES)
    phantoms.silently(unet_pipeline.evaluate, copy.root)
    return copy


@pytest.fixture
def changed(evaluated: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    """A copy to plant a change in."""
    return evaluated.copy_to(tmp_path)


@pytest.fixture
def without_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains or predicts fails: a change must be found before."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(verbs, "train", fail)
    monkeypatch.setattr(verbs, "evaluate", fail)


def hash_files(root: Path) -> dict[str, str]:
    return {str(path): compute_sha256(path) for path in sorted(root.rglob("*")) if path.is_file()}


def list_errors(result: reproduction.Reproduction) -> list[Problem]:
    return [finding for finding in result.findings if finding.severity == ERROR]


def edit_record(root: Path, pattern: str, change: Callable[[dict], None]) -> None:
    for path in root.glob(pattern):
        record = json.loads(path.read_text())
        change(record)
        write_json(path, record)


# the same again


def test_reproduce_same_machine_is_identical_and_leaves_the_bundle(evaluated: TrainedBundle) -> None:
    before = hash_files(evaluated.root)
    result = phantoms.silently(unet_pipeline.reproduce, evaluated.root)
    assert (result.verdict, result.cause, result.trained, result.folds) == ("identical", "", True, (0,))
    compared = {comparison.what: comparison for comparison in result.comparisons}
    assert set(compared) == {"weights of fold 0", "label maps", "metrics.csv", "summary.json"}
    assert all(comparison.num_compared and not comparison.num_different for comparison in result.comparisons)
    assert compared["label maps"].num_compared == 2
    assert hash_files(evaluated.root) == before


def test_reproduce_takes_the_recorded_precision_and_not_that_of_the_moment(
    evaluated: TrainedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((evaluated.root / "evidence" / "runs" / "fold_0-002" / "run.json").read_text())
    monkeypatch.setattr(
        "unet_pipeline.training.step.supports_fast_bfloat16", lambda device: record["precision"] != "bfloat16"
    )
    result = phantoms.silently(unet_pipeline.reproduce, evaluated.root)
    assert (result.verdict, result.trained) == ("identical", True), result


@pytest.mark.parametrize("recorded", ["contiguous", "channels_last"])
def test_reproduce_takes_the_recorded_order_in_memory_and_not_that_of_the_moment(
    changed: TrainedBundle, monkeypatch: pytest.MonkeyPatch, recorded: str
) -> None:
    monkeypatch.setattr("unet_pipeline.training.acceleration.STEPS_WORTH_A_PROBE", 1)
    choose = "unet_pipeline.training.acceleration.choose_memory_format"
    order = torch.contiguous_format if recorded == "contiguous" else torch.channels_last
    monkeypatch.setattr(choose, lambda *_: OrderChoice(order, "it was faster"))
    phantoms.silently(unet_pipeline.train, changed.root, overrides={"samples_per_epoch": 4, "num_epochs": 1})
    phantoms.silently(unet_pipeline.evaluate, changed.root)
    record = sorted((changed.root / "evidence" / "runs").glob("fold_0-*"))[-1] / "run.json"
    assert json.loads(record.read_text())["memory_format"] == recorded
    monkeypatch.setattr(choose, lambda *_: pytest.fail("asked again"))
    result = phantoms.silently(unet_pipeline.reproduce, changed.root)
    assert (result.verdict, result.trained) == ("identical", True), result


PLAIN_CONFIG = {"train": {"trainer": {"iteration_update": {}}}}
FAST_CONFIG = {"train": {"trainer": {"iteration_update": {"acceleration": {"channels_last": None}}}}}


@pytest.mark.parametrize(
    ("record", "config", "expected"),
    [
        ({"memory_format": "channels_last", "machine": {"gpu": None}}, FAST_CONFIG, True),
        ({"memory_format": "contiguous", "machine": {"gpu": None}}, FAST_CONFIG, False),
        ({"memory_format": "channels_last", "machine": {"gpu": "any"}}, FAST_CONFIG, True),
        ({"machine": {"gpu": None}}, FAST_CONFIG, False),  # of a version that was contiguous on every CPU
        ({"machine": {"gpu": "any"}}, FAST_CONFIG, None),
        ({"machine": {"gpu": None}}, PLAIN_CONFIG, None),
        ({"memory_format": ""}, FAST_CONFIG, None),
    ],
)
def test_recall_choices_has_the_order_in_memory(record: dict, config: dict, expected: bool | None) -> None:
    step = "train#trainer#iteration_update#acceleration#channels_last"
    assert verbs._recall_choices(TrainingRecord(**record), config) == ({} if expected is None else {step: expected})


def test_reproduce_fold_that_the_configs_do_not_name_is_identical(changed: TrainedBundle) -> None:
    phantoms.silently(unet_pipeline.train, changed.root, fold=1)
    phantoms.silently(unet_pipeline.evaluate, changed.root)
    result = phantoms.silently(unet_pipeline.reproduce, changed.root, fold=1)
    assert (result.verdict, result.trained, result.folds) == ("identical", True, (1,)), result


def test_reproduce_sealed_bundle_without_label_maps_is_identical(evaluated: TrainedBundle, tmp_path: Path) -> None:
    packed = tmp_path / "sealed.zip"
    copy = tmp_path / "elsewhere" / "cell_bundle"
    shutil.copytree(evaluated.root, copy)
    phantoms.silently(unet_pipeline.package, copy, packed)
    shutil.rmtree(copy)
    shutil.unpack_archive(packed, tmp_path / "received")
    received = tmp_path / "received" / "cell_bundle"
    assert not list(received.glob("evidence/evaluations/*/predictions*"))
    with pytest.raises(BundleError, match="has no weights of fold 1"):
        unet_pipeline.reproduce(received, fold=1, evaluation_only=True)
    result = phantoms.silently(
        unet_pipeline.reproduce, received, evaluation_only=True, dataset=evaluated.dataset, out=tmp_path / "kept"
    )
    assert (result.verdict, result.trained) == ("identical", False)
    assert {comparison.what for comparison in result.comparisons} == {"label maps", "metrics.csv", "summary.json"}
    assert (tmp_path / "kept" / "evidence" / "evaluations" / "validation" / "metrics.csv").is_file()


def test_reproduce_other_weights_with_anyway_is_different_and_says_why(changed: TrainedBundle) -> None:
    weights = changed.root / "models" / "model_fold_0.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({name: torch.zeros_like(tensor) for name, tensor in state.items()}, weights)
    result = phantoms.silently(unet_pipeline.reproduce, changed.root, evaluation_only=True, anyway=True)
    assert result.verdict == "different"
    assert result.outside
    assert "models/model_fold_0.pt is not what the recorded training" in result.cause


# planted changes


@pytest.mark.usefixtures("without_run")
def test_reproduce_changed_label_file_is_named(changed: TrainedBundle) -> None:
    path = changed.dataset / "labels" / "cell_03.png"
    label = PillowImage.open(path).copy()
    label.putpixel((0, 0), 255 - label.getpixel((0, 0)))
    label.save(path)
    result = unet_pipeline.reproduce(changed.root)
    assert result.verdict == "different"
    (finding,) = list_errors(result)
    assert (finding.code, finding.file) == ("recorded-file-changed", "labels/cell_03.png (case cell_03)")
    assert re.fullmatch("has changed: SHA-256 [0-9a-f]{12}, recorded [0-9a-f]{12}", finding.cause)
    assert "--anyway" in finding.remedy
    assert "cell_03" in result.cause


@pytest.mark.usefixtures("without_run")
def test_reproduce_missing_image_is_named(changed: TrainedBundle) -> None:
    (changed.dataset / "images" / "cell_05.png").unlink()
    result = unet_pipeline.reproduce(changed.root, evaluation_only=True)
    assert [f"{error.file} {error.cause}" for error in list_errors(result)] == [
        "images/cell_05.png (case cell_05) is missing"
    ]


@pytest.mark.usefixtures("without_run")
def test_reproduce_changed_split_names_the_cases_that_moved(changed: TrainedBundle) -> None:
    path = changed.root / "evidence" / "splits" / "fold_0.json"
    split = json.loads(path.read_text())
    moved = split["validation"][0]["case"]
    split["training"].append(split["validation"].pop(0))
    write_json(path, split)
    result = unet_pipeline.reproduce(changed.root)
    assert not result.holds
    causes = [error.cause for error in list_errors(result) if error.file == "evidence/splits/fold_0.json"]
    assert any(f"{moved} was in validation, is in training" in cause for cause in causes)


@pytest.mark.usefixtures("without_run")
def test_reproduce_changed_version_is_named(changed: TrainedBundle) -> None:
    edit_record(changed.root, "evidence/runs/*/run.json", lambda record: record["versions"].update(monai="1.5.0"))
    result = unet_pipeline.reproduce(changed.root)
    (finding,) = list_errors(result)
    assert (finding.code, finding.file) == ("recorded-version-changed", "monai")
    assert re.fullmatch(r"is \d.*, was 1\.5\.0", finding.cause)


@pytest.mark.usefixtures("without_run")
def test_reproduce_changed_plan_is_named(changed: TrainedBundle) -> None:
    path = changed.root / "configs" / "plan.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    result = unet_pipeline.reproduce(changed.root)
    assert [f"{error.file} {error.cause}" for error in list_errors(result)] == [
        "configs/plan.yaml differs: learning_rate is 0.02, was 0.01"
    ]
    unet_pipeline.refresh(changed.root)
    codes = {error.code for error in list_errors(unet_pipeline.reproduce(changed.root))}
    assert codes == {"recorded-plan-changed", "recorded-config-changed"}


@pytest.mark.usefixtures("without_run")
def test_find_changes_of_plan_number_that_the_recording_version_did_not_know_is_none(changed: TrainedBundle) -> None:
    folder = BundleFolder(changed.root)
    path = max(changed.root.glob("evidence/runs/*/run.json"))
    record = read_record(path, TrainingRecord)
    assert record is not None
    del record.plan["transposed_bias"]
    assert not list(find_changes_of_plan(folder, record))
    record.plan["transposed_bias"] = True
    assert [problem.code for problem in find_changes_of_plan(folder, record)] == ["recorded-plan-changed"]


def test_reproduce_edited_number_is_found(changed: TrainedBundle) -> None:
    path = changed.root / "evidence" / "evaluations" / "validation" / "summary.json"
    path.write_text(path.read_text().replace("0.", "0.9", 1))
    result = unet_pipeline.reproduce(changed.root)
    assert [f"{error.file} {error.cause}" for error in list_errors(result)] == [
        "evidence/evaluations/validation/summary.json was changed after the evaluation"
    ]


def test_reproduce_other_threads_and_commit_are_notes(changed: TrainedBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(record: dict) -> None:
        record["machine"]["num_threads"] = 64
        record["code"]["commit"] = "0" * 40

    edit_record(changed.root, "evidence/**/run.json", change)
    lines: list[str] = []
    monkeypatch.setattr(verbs, "_run", lambda *_: "was run")
    assert unet_pipeline.reproduce(changed.root, announce=lines.append) == "was run"
    assert any(line.startswith("note: this machine differs: num_threads is ") and "was 64. " in line for line in lines)
    assert any(line.startswith("note: the source of unet-pipeline differs: commit ") for line in lines)
    assert not [line for line in lines if line.startswith("changed")]


def test_reproduce_untrained_fold_is_said(evaluated: TrainedBundle) -> None:
    with pytest.raises(BundleError, match="no record of a finished training of fold 2"):
        unet_pipeline.reproduce(evaluated.root, fold=2)


# the comparison


def write_metrics(folder: Path, dice: list[float]) -> Path:
    folder.mkdir()
    table = pd.DataFrame(
        {
            "fold": 0,
            "case": [f"{index:03d}" for index in range(len(dice))],
            "label": "organ",
            **dict.fromkeys(("iou", "hd95", "surface_dice"), 0.5),
            "dice": dice,
        }
    )
    table.to_csv(folder / "metrics.csv", index=False)
    return folder / "metrics.csv"


def test_compare_metrics_counts_every_number(tmp_path: Path) -> None:
    recorded, found = (
        write_metrics(tmp_path / "a", [0.8, 0.9, 0.7]),
        write_metrics(tmp_path / "b", [0.8, 0.9, 0.700001]),
    )
    comparison = reproduction.compare_metrics(recorded, found, [0])
    assert comparison.num_different == 1
    assert comparison.examples == ("case 002, organ, dice: 0.700001, recorded 0.7",)
    assert reproduction.compare_metrics(recorded, recorded, [0]).num_different == 0


def test_compare_metrics_missing_case_is_a_difference(tmp_path: Path) -> None:
    recorded, found = write_metrics(tmp_path / "a", [0.8, 0.9]), write_metrics(tmp_path / "b", [0.8])
    assert reproduction.compare_metrics(recorded, found, [0]).examples == ("case 001, organ is missing",)


def test_compare_weights_of_equal_values_in_other_bytes_is_equal(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2)}
    for name in ("one", "two"):  # PyTorch writes the name into the file
        torch.save(state, tmp_path / f"{name}.pt")
    torch.save(state | {"b": torch.tensor(3)}, tmp_path / "three.pt")
    one, two, three = (tmp_path / f"{name}.pt" for name in ("one", "two", "three"))
    sha256 = compute_sha256(one)
    assert sha256 != compute_sha256(two)
    assert reproduction.compare_weights(0, sha256, one, two).num_different == 0
    assert reproduction.compare_weights(0, sha256, one, three).num_different == 1
    assert reproduction.compare_weights(0, sha256, None, two).num_different == 1


@pytest.mark.parametrize(
    ("different", "outside", "verdict"),
    [(0, [], "identical"), (3, [], "within the interval"), (3, ["dice"], "different"), (1, None, "different")],
)
def test_judge_follows_differences_and_intervals(different: int, outside: list[str] | None, verdict: str) -> None:
    comparisons = [reproduction.Comparison("metrics.csv", 9, different)]
    result = reproduction.judge([0], [], True, comparisons, outside)
    assert result.verdict == verdict
    assert bool(result.cause) == (verdict != "identical")
    assert result.holds == (verdict != "different")
