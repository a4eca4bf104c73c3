"""A training in MLflow: its parameters, tags, metrics of every epoch and record, as the run record has them, and its pictures.

Everything is taken from the run record and TensorBoard's files beside it, so what a server did not get while it was away is sent when it is
back. MONAI's MLFlowHandler and Ignite's MLflowLogger are not used: with both an error of the server ends the training.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import FINISHED, Epoch, Tracking, TrainingRecord, read_record
from unet_pipeline.errors import TrainingError, suggest
from unet_pipeline.evidence.records.continuation import list_overrides
from unet_pipeline.evidence.records.record import FAILED, RECORD, RESOLVED_CONFIG, RecordKeeper
from unet_pipeline.training.events import (
    AUGMENTED_PATCHES,
    BY_ITERATION,
    TIME_SHARE,
    VAL_DICE,
    VALIDATION_CASES,
    read_pictures,
)

if TYPE_CHECKING:
    from ignite.engine import Engine

MLFLOW, NO_TRACKING = "mlflow", "none"
TRACKING_URI, EXPERIMENT_NAME = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
NO_TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
# unless the user has set them: MLflow reports its use to its makers, and waits some 30 minutes for a silent server
_SETTINGS = {
    NO_TELEMETRY: "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
_PAUSE_S = 120.0  # after a failure: a server that answers slowly must not hold up every epoch
_MAX_PER_REQUEST, _MAX_METRICS_PER_REQUEST = 100, 1000  # MLflow's own limits
_MAX_VALUE_LENGTH = 6000  # of a parameter in MLflow
# name in MLflow, as in the TensorBoard events -> name in an epoch of the run record
_METRICS = {
    "train_loss": "loss",
    "learning_rate": "learning_rate",
    "val_mean_dice": "dice_resampled_grid",
    "epoch_duration_s": "duration_s",
}
_METRIC_GROUPS = {VAL_DICE: "label_dice_resampled_grid", TIME_SHARE: "time_shares"}
_NUM_COLOURS = 64  # of a picture: MLflow keeps it as PNG, which is several times as large with all of them
_TAGS = ("dataset_manifest_sha256", "split_sha256", "plan_sha256", "resolved_config_sha256", "fold")


@dataclass(frozen=True)
class TrackingStore:
    """Where the runs of a bundle are tracked.

    Attributes:
        uri: of MLflow's server or database.
        experiment_name: holds the runs.
        artifacts: address for the files of a new experiment; None where the server decides.
    """

    uri: str
    experiment_name: str
    artifacts: str | None = None

    @cached_property
    def client(self) -> Any:
        """MLflow's client; the first use of a local store makes its database."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    @property
    def shown_uri(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.uri)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else self.uri

    @property
    def hint(self) -> str:
        """How to look at a local store, on a line of its own; empty for a server, which shows itself."""
        if self.artifacts is None:
            return ""
        # without it MLflow's pages report their use to its makers
        return f"\n  to look at it: {NO_TELEMETRY}=true mlflow server --backend-store-uri {shlex.quote(self.uri)} --host 127.0.0.1"

    def explain(self, error: Exception) -> str:
        """An error of another library on one line, cut at 200 characters, without the address's password."""
        text = " ".join(str(error).replace(self.uri, self.shown_uri).split()) or type(error).__name__
        return (text if len(text) <= 200 else f"{text[:197]}...").rstrip(".")

    def find_experiment(self) -> str:
        """Id of the experiment, which is made when it is missing."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(self.experiment_name)
        if experiment is None:
            try:
                return str(self.client.create_experiment(self.experiment_name, artifact_location=self.artifacts))
            except MlflowException:  # another training may have made it since
                experiment = self.client.get_experiment_by_name(self.experiment_name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)


def open_tracking(folder: BundleFolder, name: str, must_answer: bool = True) -> TrackingStore | None:
    """Where trainings are tracked: at MLFLOW_TRACKING_URI when it is set, otherwise in a database beside the bundle.

    Args:
        folder: the bundle; its name is that of the experiment unless MLFLOW_EXPERIMENT_NAME is set.
        name: mlflow or none.
        must_answer: whether a store that does not answer now is an error.

    Returns:
        None for "none".

    Raises:
        TrainingError: unknown name, a package is missing, or the store does not answer.
    """
    if name not in (MLFLOW, NO_TRACKING):
        raise TrainingError(f"Unknown tracking {name!r}; {suggest(name, (MLFLOW, NO_TRACKING))}.")
    if name == NO_TRACKING:
        return None
    uri = os.environ.get(TRACKING_URI)
    _require_packages(is_database=uri is None or "sql" in urlsplit(uri).scheme)
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    for logger in ("mlflow.store.db.utils", "alembic"):  # they announce every table of a new database
        logging.getLogger(logger).setLevel(logging.WARNING)
    store = _choose_store(folder, uri)
    if must_answer:
        try:
            store.find_experiment()
        except Exception as error:  # of MLflow, SQLAlchemy, requests or the system
            raise TrainingError(
                f"MLflow at {store.shown_uri} cannot be used: {store.explain(error)}. Expected a server or a database that takes the "
                f"experiment {store.experiment_name!r}; correct {TRACKING_URI}, or train without --tracking."
            ) from error
    return store


def _choose_store(folder: BundleFolder, uri: str | None) -> TrackingStore:
    experiment = os.environ.get(EXPERIMENT_NAME) or folder.name
    if uri is not None:
        return TrackingStore(uri, experiment)
    folder.tracking.mkdir(exist_ok=True)
    database = f"sqlite:///{quote((folder.tracking / 'mlflow.db').as_posix(), safe='/:')}"
    return TrackingStore(database, experiment, (folder.tracking / "artifacts").as_uri())


def _require_packages(is_database: bool) -> None:
    needed = ("mlflow", "sqlalchemy", "alembic") if is_database else ("mlflow",)
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise TrainingError(
            f"--tracking mlflow needs {' and '.join(missing)}, which is not installed. Install it with "
            "`pip install 'unet-pipeline[tracking]'`, or train with --tracking none."
        )


def recall_tracking(run_dir: Path | None) -> str:
    """Whether an interrupted run was tracked: mlflow or none."""
    earlier = read_record(run_dir / RECORD, TrainingRecord) if run_dir is not None else None
    return MLFLOW if earlier and earlier.tracking else NO_TRACKING


@contextmanager
def track_run(store: TrackingStore | None, folder: BundleFolder) -> Iterator[RunTracker]:
    """Mirror a training into MLflow; put it around `record_run`, whose last words it sends.

    Args:
        store: None for no tracking; then the tracker does nothing.

    Yields:
        The tracker, for `begin` and `watch`.
    """
    tracker = RunTracker(store, folder)
    try:
        yield tracker
    finally:
        tracker.end()


class RunTracker:
    """Sends a run record to MLflow; no failure of it reaches the training.

    Args:
        store: None for no tracking.
        folder: the bundle.
    """

    def __init__(self, store: TrackingStore | None, folder: BundleFolder) -> None:
        self.store, self.folder = store, folder
        self._keeper: RecordKeeper[TrainingRecord] | None = None
        self._run_id: str | None = None
        self._sent_epochs: set[int] = set()
        self._sent_pictures: set[str] = set()
        self._failed_s: float | None = None
        self._has_warned = False

    def begin(self, keeper: RecordKeeper[TrainingRecord]) -> None:
        """Start the run in MLflow, or continue the one that the record names."""
        self._keeper = keeper
        self._try(self._send)

    def watch(self, trainer: Engine, _: Engine) -> None:
        """Send every epoch; attach it behind what writes the record."""
        from ignite.engine import Events

        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self._try(self._send))

    def end(self) -> None:
        """Send what is missing, the final record and how the run ended."""
        self._failed_s = None
        self._try(self._finish)

    def _try(self, action: Any) -> None:
        if self.store is None or self._keeper is None:
            return
        if self._failed_s is not None and time.monotonic() - self._failed_s < _PAUSE_S:
            return
        try:
            action(self.store, self._keeper)
            self._failed_s = None
        except Exception as error:  # of MLflow, SQLAlchemy, requests or the system: the training goes on
            self._failed_s = time.monotonic()
            if not self._has_warned:
                self._has_warned = True
                print(
                    f"tracking MLflow at {self.store.shown_uri} failed: {self.store.explain(error)}. The training goes on; what is "
                    "missing is sent when MLflow answers again, at the latest at the end.",
                    file=sys.stderr,
                    flush=True,
                )

    def _send(self, store: TrackingStore, keeper: RecordKeeper[TrainingRecord]) -> None:
        if self._run_id is None:
            self._run_id = self._open_run(store, keeper)
        missing = [epoch for epoch in keeper.record.epochs if epoch.epoch not in self._sent_epochs]
        metrics = [metric for epoch in missing for metric in _build_metrics(epoch)]
        for part in _cut(metrics, _MAX_METRICS_PER_REQUEST):
            store.client.log_batch(self._run_id, metrics=part)
        self._sent_epochs.update(epoch.epoch for epoch in missing)
        if missing:
            self._send_pictures(store, keeper)

    def _send_pictures(self, store: TrackingStore, keeper: RecordKeeper[TrainingRecord]) -> None:
        """As files: MLflow's charts of pictures put all parameters of the run in front of them, and begin at a step that has none."""
        from PIL import Image as PillowImage

        for (tag, step), content in read_pictures(keeper.path.parent).items():
            file = f"{tag}/{'iteration' if tag in BY_ITERATION else 'epoch'}_{step:04d}.png"
            if file not in self._sent_pictures:
                picture = PillowImage.open(io.BytesIO(content)).quantize(_NUM_COLOURS)
                store.client.log_image(self._run_id, picture, file)
                self._sent_pictures.add(file)

    def _open_run(self, store: TrackingStore, keeper: RecordKeeper[TrainingRecord]) -> str:
        client, record = store.client, keeper.record
        run = _find_run(client, record.tracking.run_id if record.tracking else None)
        if run is None:
            experiment = store.find_experiment()
            run = client.create_run(experiment, run_name=record.id, tags={"bundle": self.folder.name})
        run_id = str(run.info.run_id)
        client.update_run(run_id, status="RUNNING")
        record.tracking = Tracking(tool=MLFLOW, experiment=store.experiment_name, run_id=run_id)
        keeper.beat()
        self._sent_epochs = {metric.step for metric in client.get_metric_history(run_id, "epoch_duration_s")}
        tags = (VALIDATION_CASES, AUGMENTED_PATCHES)
        self._sent_pictures = {entry.path for tag in tags for entry in client.list_artifacts(run_id, tag)}
        _send_description(client, run, record)
        for path in (self.folder.plan, keeper.path.with_name(RESOLVED_CONFIG), keeper.path):
            client.log_artifact(run_id, str(path))
        return run_id

    def _finish(self, store: TrackingStore, keeper: RecordKeeper[TrainingRecord]) -> None:
        from mlflow.entities import Metric

        is_new, record = self._run_id is None, keeper.record
        self._send(store, keeper)
        if is_new:  # the record got the number of the run behind its last words
            keeper.write()
        if result := record.result:
            values = {"best_val_mean_dice": result.best_dice_resampled_grid, "best_epoch": result.best_epoch}
            known = {key: value for key, value in values.items() if value is not None}
            metrics = [Metric(key, value, _now_ms(), result.num_epochs or 0) for key, value in known.items()]
            store.client.log_batch(self._run_id, metrics=metrics)
        store.client.log_artifact(self._run_id, str(keeper.path))
        store.client.set_tag(self._run_id, "state", record.state)
        if record.cut_short:
            store.client.set_tag(self._run_id, "cut_short", record.cut_short)
        status = {FINISHED: "FINISHED", FAILED: "FAILED"}.get(record.state, "KILLED")
        store.client.set_terminated(self._run_id, status)


def describe_parameters(record: TrainingRecord) -> dict[str, str]:
    """Parameters of a training for MLflow: every number of the plan with the overrides in its place, as text.

    Other overrides are under their own id, with "/" for "#", which MLflow does not take. Longer texts are cut at 6000 characters.
    """
    values = {**record.plan, **list_overrides(record)}
    texts = {
        key.replace("#", "/"): value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
    return {key: text[:_MAX_VALUE_LENGTH] for key, text in texts.items()}


def describe_tags(record: TrainingRecord) -> dict[str, str]:
    """Tags of a training for MLflow: what it ran on and with, by hashes, and the commit under MLflow's own name."""
    tags = {name: str(getattr(record, name)) for name in _TAGS if name in record.model_fields_set}
    tags |= {"run_id": record.id, "seed": str(record.seeds.seed), "state": record.state}
    tags |= {"mlflow.source.name": "unet-pipeline train"}
    if record.code.commit:
        tags |= {"mlflow.source.git.commit": record.code.commit, "commit_changed": json.dumps(record.code.changed)}
    if overrides := list_overrides(record):
        tags["overrides"] = " ".join(f"{key}={value}" for key, value in overrides.items())
    return tags


def _find_run(client: Any, run_id: str | None) -> Any:
    """The run of that id; None when the store has none, or has deleted it."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _send_description(client: Any, run: Any, record: TrainingRecord) -> None:
    """Parameters and tags; MLflow keeps a parameter for ever, so what a continued run changes becomes a tag."""
    from mlflow.entities import Param, RunTag

    before = run.data.params
    values = describe_parameters(record)
    params = [Param(key, value) for key, value in values.items() if key not in before]
    changed = {
        f"continued_with.{key}": value for key, value in values.items() if key in before and before[key] != value
    }
    tags = [RunTag(key, value) for key, value in {**describe_tags(record), **changed}.items()]
    for part in _cut(params, _MAX_PER_REQUEST):
        client.log_batch(run.info.run_id, params=part)
    for part in _cut(tags, _MAX_PER_REQUEST):
        client.log_batch(run.info.run_id, tags=part)


def _build_metrics(epoch: Epoch) -> list[Any]:
    from mlflow.entities import Metric

    ended_ms = int(1000 * datetime.fromisoformat(epoch.ended).timestamp())
    values = {name: getattr(epoch, source) for name, source in _METRICS.items()}
    for group, source in _METRIC_GROUPS.items():
        values |= {f"{group}/{name}": value for name, value in getattr(epoch, source).items()}
    return [Metric(name, float(value), ended_ms, epoch.epoch) for name, value in values.items() if value is not None]


def _cut(entries: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def _now_ms() -> int:
    return int(1000 * time.time())
