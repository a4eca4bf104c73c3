"""MLflow gets what the run record has, in one run per training, and its failures stay its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import Epoch, TrainingRecord
from unet_pipeline.errors import TrainingError
from unet_pipeline.evidence.records import tracking
from unet_pipeline.evidence.records.record import RECORD, RESOLVED_CONFIG, add_epoch, keep_record
from unet_pipeline.evidence.records.tracking import (
    TrackingStore,
    describe_parameters,
    open_tracking,
    recall_tracking,
    track_run,
)
from unet_pipeline.files import write_json, write_text
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.text_files import read_json

from . import phantom_bundles as phantoms

SILENT = "127.0.0.1:9"  # nothing answers there
TINY = {"samples_per_epoch": 8, "val_interval": 1, "num_workers": 0}


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow makes some sixty tables in a new database; the tests begin with a copy of it."""
    folder = BundleFolder(tmp_path_factory.mktemp("store") / "empty")
    store = open_tracking(folder, "mlflow")
    assert store is not None
    return folder.tracking


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path) -> BundleFolder:
    """A bundle in a folder whose name must be quoted in an address, without configs."""
    made = BundleFolder(tmp_path / "a cell #1")
    shutil.copytree(empty_store, made.tracking)
    write_text(made.plan, "learning_rate: 0.01\n")
    return made


def open_store(folder: BundleFolder) -> TrackingStore:
    store = open_tracking(folder, "mlflow")
    assert store is not None
    return store


def list_runs(store: TrackingStore) -> list[Any]:
    return sorted(store.client.search_runs([store.find_experiment()]), key=lambda run: run.info.run_name)


def read_curve(store: TrackingStore, run_id: str, name: str = "train_loss") -> dict[int, float]:
    history = store.client.get_metric_history(run_id, name)
    assert len({metric.step for metric in history}) == len(history)
    return {metric.step: metric.value for metric in history}


@contextmanager
def record_epochs(
    folder: BundleFolder, store: TrackingStore | None, **content: Any
) -> Iterator[tuple[TrainingRecord, Any]]:
    """A record as a training has it, and what it calls at the end of an epoch."""
    run_dir = folder.runs / "fold_0-001"
    write_json(run_dir / RESOLVED_CONFIG, {})
    known = {
        "plan": {"learning_rate": 0.01, "patch_size": [48, 48], "network_name": "dynunet"},
        "overrides": {"bundle_root": "BUNDLE", "num_epochs": 3, "train#loss#weights": [1]},
        "seeds": {"seed": 0, "fold": 0},
        "fold": 0,
        "epochs": [],
    }
    with (
        track_run(store, folder) as tracker,
        keep_record(run_dir / RECORD, folder.root, TrainingRecord, {**known, **content}) as keeper,
    ):
        tracker.begin(keeper)

        def finish_epoch(number: int) -> None:
            add_epoch(keeper, Epoch(epoch=number, duration_s=1.0, loss=1 / number))
            tracker._try(tracker._send)

        yield keeper.record, finish_epoch


def test_train_tracked_and_continued_is_one_run_for_each_seed(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"background": 0, "cell": 255}
    dataset = phantoms.write_pictures(tmp_path / "cells")
    bundle = BundleFolder(phantoms.plan_small(dataset, tmp_path / "bundle", labels=labels, **phantoms.SMALL_2D))
    shutil.copytree(empty_store, bundle.tracking)
    connections: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: connections.append(address))
    settings = {**TINY, "num_epochs": 1}
    phantoms.silently(unet_pipeline.train, bundle.root, seeds=2, tracking="mlflow", overrides=settings)
    store = open_store(bundle)
    before = list_runs(store)
    phantoms.silently(unet_pipeline.train, bundle.root, resume=True, overrides={"num_epochs": 2})
    runs = list_runs(store)
    assert [run.info.run_id for run in runs] == [run.info.run_id for run in before]
    assert [run.info.run_name for run in runs] == ["fold_0-001", "fold_0_seed_1-001"]
    assert connections == []

    record = read_json(bundle.runs / "fold_0-001" / RECORD)
    assert record["tracking"]["run_id"] == runs[0].info.run_id
    assert str(tmp_path) not in json.dumps(record)
    losses = {epoch["epoch"]: epoch["loss"] for epoch in record["epochs"]}
    dice = {epoch["epoch"]: epoch["dice_resampled_grid"] for epoch in record["epochs"]}
    assert read_curve(store, runs[0].info.run_id) == losses
    assert read_curve(store, runs[0].info.run_id, "val_mean_dice") == dice
    assert losses.keys() == {1, 2}
    data = runs[0].data
    assert data.metrics["best_val_mean_dice"] == pytest.approx(record["result"]["best_dice_resampled_grid"])
    assert data.params["learning_rate"] == str(read_plan(bundle.plan).learning_rate)
    shown = [data.params[name] for name in ("samples_per_epoch", "network_name", "preset")]
    assert shown == ["8", "dynunet", "quick"]
    assert (data.params["num_epochs"], data.tags["continued_with.num_epochs"]) == ("1", "2")
    assert data.tags["split_sha256"] == record["split_sha256"]
    assert data.tags["dataset_manifest_sha256"] == record["dataset_manifest_sha256"]
    assert data.tags.get("mlflow.source.git.commit") == record["code"]["commit"]
    assert (data.tags["run_id"], data.tags["bundle"], runs[0].info.status) == ("fold_0-001", "bundle", "FINISHED")
    assert [run.data.tags["seed"] for run in runs] == ["0", "1"]
    files = {entry.path for entry in store.client.list_artifacts(runs[0].info.run_id)}
    assert files == {"config.json", "pictures", "plan.yaml", "run.json"}
    tags = ("pictures/augmented_patches", "pictures/validation_cases")
    pictures = [entry.path for tag in tags for entry in store.client.list_artifacts(runs[0].info.run_id, tag)]
    assert pictures == [f"{tags[0]}/iteration_0004.png", *(f"{tags[1]}/epoch_000{epoch}.png" for epoch in (1, 2))]
    assert read_curve(store, runs[0].info.run_id, "val_dice/cell") == dice
    rates = {epoch["epoch"]: epoch["learning_rate"] for epoch in record["epochs"]}
    assert read_curve(store, runs[0].info.run_id, "learning_rate") == rates
    shares = {epoch["epoch"]: epoch["time_shares"]["data"] for epoch in record["epochs"]}
    assert read_curve(store, runs[0].info.run_id, "time_share/data") == shares
    kept = store.client.download_artifacts(runs[0].info.run_id, "run.json", str(tmp_path))
    assert json.loads(Path(kept).read_text(encoding="utf-8")) == record


def test_track_run_failure_in_between_warns_once_and_sends_all_at_the_end(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(folder)
    monkeypatch.setattr(tracking, "_PAUSE_S", 0.0)
    with record_epochs(folder, store) as (_, finish_epoch):
        finish_epoch(1)
        with monkeypatch.context() as broken:
            broken.setattr(type(store.client), "log_batch", _refuse)
            finish_epoch(2)
            finish_epoch(3)
        shown = capsys.readouterr().err
        assert shown.count("failed: no answer") == 1
        assert list(read_curve(store, list_runs(store)[0].info.run_id)) == [1]
    (run,) = list_runs(store)
    assert read_curve(store, run.info.run_id) == {1: 1.0, 2: 0.5, 3: 1 / 3}
    assert run.info.status == "FINISHED"


def test_track_run_after_a_failure_the_server_is_left_alone_for_a_while(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(folder)
    calls = []
    with record_epochs(folder, store) as (_, finish_epoch), monkeypatch.context() as broken:
        broken.setattr(type(store.client), "log_batch", lambda *_, **__: calls.append(1) or _refuse())
        for number in (1, 2, 3):
            finish_epoch(number)
        assert len(calls) == 1


def test_track_run_server_gone_from_start_to_end_leaves_the_run_alone(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = TrackingStore("http://" + f"someone:secret@{SILENT}", "cells")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with record_epochs(folder, store) as (_, finish_epoch):
        finish_epoch(1)
    record = read_json(folder.runs / "fold_0-001" / RECORD)
    assert (record["state"], "tracking" in record) == ("finished", False)
    shown = capsys.readouterr().err
    assert shown.count(f"tracking MLflow at http://{SILENT} failed") == 1
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (TrainingError, "FAILED"), (None, "FINISHED")]
)
def test_track_run_end_is_told(folder: BundleFolder, error: type[BaseException] | None, status: str) -> None:
    store = open_store(folder)
    if error is None:
        with record_epochs(folder, store):
            pass
    else:
        with pytest.raises(error), record_epochs(folder, store):
            raise error
    assert [run.info.status for run in list_runs(store)] == [status]


def test_track_run_deleted_in_mlflow_begins_again_with_all_epochs(folder: BundleFolder) -> None:
    store = open_store(folder)
    with record_epochs(folder, store) as (record, finish_epoch):
        finish_epoch(1)
    store.client.delete_run(record.tracking.run_id if record.tracking else "")
    assert recall_tracking(folder.runs / "fold_0-001") == "mlflow"
    earlier = {"epochs": record.epochs, "tracking": record.tracking}
    with record_epochs(folder, store, **earlier) as (_, finish_epoch):
        finish_epoch(2)
    (run,) = list_runs(store)
    assert read_curve(store, run.info.run_id).keys() == {1, 2}


def test_track_run_without_store_does_nothing(folder: BundleFolder) -> None:
    with record_epochs(folder, None) as (record, finish_epoch):
        finish_epoch(1)
    assert record.tracking is None
    assert recall_tracking(folder.runs / "fold_0-001") == recall_tracking(None) == "none"


def test_open_tracking_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None if name == "mlflow" else object())
    with pytest.raises(TrainingError, match=r"needs mlflow, which is not installed.*unet-pipeline\[tracking\]"):
        open_tracking(BundleFolder(tmp_path / "bundle"), "mlflow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", [f"http://{SILENT}", "elsewhere/mlruns"])
def test_open_tracking_store_that_does_not_answer_is_an_error_only_for_a_new_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    folder = BundleFolder(tmp_path / "bundle")
    with pytest.raises(TrainingError, match=f"MLflow at {uri} cannot be used: .*MLFLOW_TRACKING_URI"):
        open_tracking(folder, "mlflow")
    store = open_tracking(folder, "mlflow", must_answer=False)
    assert store is not None
    assert store.uri == uri
    assert not folder.tracking.exists()


def test_open_tracking_names_the_experiment_as_asked(folder: BundleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store(folder).experiment_name == "a cell #1"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "all cells")
    assert open_store(folder).experiment_name == "all cells"


def test_open_tracking_unknown_name_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="Unknown tracking 'mlfow'; did you mean 'mlflow'"):
        open_tracking(BundleFolder(tmp_path), "mlfow")
    assert open_tracking(BundleFolder(tmp_path), "none") is None


def test_describe_parameters_overrides_stand_in_the_plan(folder: BundleFolder) -> None:
    with record_epochs(folder, None) as (record, _):
        pass
    assert describe_parameters(record) == {
        "learning_rate": "0.01",
        "patch_size": "[48, 48]",
        "network_name": "dynunet",
        "num_epochs": "3",
        "train/loss/weights": "[1]",
    }


def _refuse(*_: Any, **__: Any) -> None:
    raise ConnectionError("no answer")


def test_documented_way_to_look_at_the_local_store_is_the_one_that_is_said(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.cli import server

    page = (Path(__file__).parents[1] / "docs/howto/watch_a_training.md").read_text(encoding="utf-8")
    (documented,) = re.findall(r"^    (\S+ mlflow server .*)$", page, re.MULTILINE)
    said = open_store(folder).hint.partition(": ")[2]
    for command in (documented, said):
        silence, *words = shlex.split(command)
        assert silence == "MLFLOW_DISABLE_TELEMETRY=true"
        options = server.make_context("server", words[2:]).params
        assert options["host"] == "127.0.0.1"
    assert options["backend_store_uri"] == open_store(folder).uri
    assert options["backend_store_uri"].endswith("/a%20cell%20%231_mlflow/mlflow.db")
    assert "sqlite:///BUNDLE_mlflow/mlflow.db" in documented
    assert folder.tracking.name == f"{folder.root.name}_mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert open_tracking(folder, "mlflow", must_answer=False).hint == ""


def test_extra_tracking_brings_the_server_of_the_version_that_is_tested() -> None:
    root = Path(__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [re.split(r"[><=]", name)[0] for name in extras["tracking"]] == ["mlflow"]
    pins = dict(line.split("==") for line in (root / "constraints.txt").read_text().split())
    assert pins["mlflow"] == pins["mlflow-skinny"] == version("mlflow-skinny")
