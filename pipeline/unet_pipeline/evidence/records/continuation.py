"""Which run `train --resume` continues, with which settings, and whether they are those of its beginning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.earlier import is_same_value
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import FINISHED, TrainingRecord, TrainingResult, read_record
from unet_pipeline.config_values import FINDING_IDS
from unet_pipeline.errors import TrainingError
from unet_pipeline.evidence.records.record import (
    FAILED,
    RECORD,
    RESOLVED_CONFIG,
    find_state,
    hide_setting,
    resolve_config,
)
from unet_pipeline.evidence.records.shortfall import describe_shortfall
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import show_clauses
from unet_pipeline.text_files import read_json_object

if TYPE_CHECKING:
    from unet_pipeline.training.run import TrainingRun

# where things lie and how fast they go, not what comes out; the number of epochs may grow
_MAY_CHANGE = {
    *FINDING_IDS,
    "output_dir",
    "weights_path",
    "dataset_dir",
    "dataset_location",
    "resume",
    "num_epochs",
    "num_workers",
    "cache_rate",
    "checkpoint_interval_s",
    "initial_weights",
}
_MAX_SHOWN = 5
_SET_BY_THE_RUN = {"bundle_root", "fold", "output_dir", "weights_path", "dataset_dir", "resume", "initial_weights"}


def find_resumable(folder: BundleFolder, name: str) -> Path | None:
    """Folder of the latest run to continue; None when there is none.

    A run that was cut off before its first checkpoint begins again in its folder; one that failed there is passed over.

    Args:
        name: of the run folders, before their number.
    """
    from unet_pipeline.training.checkpoint import has_checkpoint

    for run_dir in sorted(folder.runs.glob(f"{name}-*"), reverse=True):
        record = read_record(run_dir / RECORD, TrainingRecord)
        if has_checkpoint(run_dir) or (record is not None and find_state(record) != FAILED):
            return run_dir
    return None


def find_never_begun(folder: BundleFolder, name: str) -> Path | None:
    """The latest run folder when its process was killed before it wrote the record; a new training takes it over."""
    latest = max(folder.runs.glob(f"{name}-*"), default=None)
    return None if latest is None or (latest / RECORD).is_file() else latest


def recall_overrides(run_dir: Path, overrides: Mapping[str, object]) -> dict[str, object]:
    """The overrides of an interrupted run, and over them those that are given now."""
    return {**list_overrides(read_record(run_dir / RECORD, TrainingRecord) or TrainingRecord()), **overrides}


def recall_start(run_dir: Path, overrides: Mapping[str, object]) -> dict[str, object]:
    """The overrides of a run that begins again because it was cut off before its first checkpoint, with where it started from.

    Args:
        overrides: recalled, and given now.

    Raises:
        TrainingError: it started from weights that are not named now; a record names no folder of a machine, so it cannot tell where
            they are.
    """
    recorded = (read_record(run_dir / RECORD, TrainingRecord) or TrainingRecord()).overrides
    if "initial_weights" not in recorded or "initial_weights" in overrides:
        return dict(overrides)
    if recorded["initial_weights"] is None:
        return {**overrides, "initial_weights": None}
    raise TrainingError(
        f"{run_dir.name} was to start from the weights {Path(str(recorded['initial_weights'])).name} and has no checkpoint yet; expected to "
        "hear where they are, because it begins again. Give --resume together with --from."
    )


def list_overrides(record: TrainingRecord) -> dict[str, object]:
    """What the user set in a run, beside where things lie."""
    return {key: value for key, value in record.overrides.items() if key not in _SET_BY_THE_RUN}


def check_unchanged(folder: BundleFolder, run_dir: Path, fold: int, settings: Mapping[str, object]) -> None:
    """Whether a continued run would do the same as the one that was interrupted.

    Raises:
        TrainingError: the config, the overrides, the split or the data changed; names every id with both values.
    """
    path, record = run_dir / RESOLVED_CONFIG, read_record(run_dir / RECORD, TrainingRecord)
    if not path.is_file() or record is None:  # of a stock run
        return
    before = read_json_object(path)
    now = json.loads(json.dumps(resolve_config(folder, settings)))
    known = [key for key in sorted(before.keys() | now.keys()) if key not in _MAY_CHANGE]
    differences = [
        f"{key} was {_show(before.get(key))}, now {_show(now.get(key))}"
        for key in known
        if not is_same_value(before.get(key), now.get(key))
    ]
    differences += _find_changed_files(folder, record, fold)
    if differences:
        raise TrainingError(
            f"Cannot resume {run_dir.name} with other settings: {show_clauses(differences, _MAX_SHOWN)}. Only num_epochs may change. "
            "Set the others as before, or train without --resume."
        )


def is_same_training(
    folder: BundleFolder, run_dir: Path, fold: int, settings: Mapping[str, object], initial_weights_sha256: str | None
) -> bool:
    """Whether a run was begun with exactly these settings, from the same weights, so that going on with it is the same as training anew."""
    record = read_record(run_dir / RECORD, TrainingRecord)
    if record is None or record.initial_weights_sha256 != initial_weights_sha256:
        return False
    overrides = {key: hide_setting(key, value, folder.root) for key, value in settings.items()}
    wanted = TrainingRecord(overrides=json.loads(json.dumps(overrides)))
    if list_overrides(record) != list_overrides(wanted):
        return False
    try:
        check_unchanged(folder, run_dir, fold, settings)
    except TrainingError:
        return False
    return True


def find_finished(folder: BundleFolder, run_dir: Path, settings: Mapping[str, object]) -> TrainingRun | None:
    """Outcome of a run that ended and that is asked for no more epochs; None for any other.

    A run that was cut off between its last epoch and its end is continued, to end.
    """
    from unet_pipeline.training.checkpoint import read_best, read_newest_checkpoint
    from unet_pipeline.training.run import TrainingRun

    record = read_record(run_dir / RECORD, TrainingRecord)
    weights = Path(str(settings["weights_path"]))
    if record is None or record.state != FINISHED or not weights.is_file():
        return None
    state = read_newest_checkpoint(run_dir)
    config = resolve_config(folder, settings)
    if state["epoch"] != config["num_epochs"]:
        return None
    best_dice, best_epoch = read_best(state["best_metric"], state["best_metric_epoch"])
    return TrainingRun(
        fold=int(str(settings["fold"])),
        weights=weights,
        run_dir=run_dir,
        num_epochs=state["epoch"],
        best_epoch=best_epoch,
        best_dice=best_dice,
        duration_s=record.duration_s or 0.0,
        seed=int(str(config["seed"])),
        num_iterations=state.get("iteration", 0),
        cut_short=describe_shortfall(record),
    )


def describe_result(run: TrainingRun) -> TrainingResult:
    """What the record says about a finished training."""
    return TrainingResult(
        best_epoch=run.best_epoch,
        best_dice_resampled_grid=run.best_dice,
        num_epochs=run.num_epochs,
        num_iterations=run.num_iterations,
        weights_sha256=compute_sha256(run.weights),
    )


def _find_changed_files(folder: BundleFolder, record: TrainingRecord, fold: int) -> list[str]:
    files = {folder.split(fold): record.split_sha256, folder.dataset_manifest: record.dataset_manifest_sha256}
    return [
        f"{path.relative_to(folder.root)} is another file"
        for path, sha256 in files.items()
        if sha256 is not None and sha256 != compute_sha256(path)
    ]


def _show(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
