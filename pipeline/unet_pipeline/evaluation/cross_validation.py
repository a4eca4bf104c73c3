"""What must be said about a result that pools folds: which, which are missing, and whether they were trained alike."""

from __future__ import annotations

import json
from collections.abc import Sequence

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import FINISHED, TrainingRecord, read_record

PACKAGES_WITHOUT_EFFECT = ("tensorboard", "mlflow-skinny", "nilearn", "onnxruntime")
"""Packages of a run record's versions that change no number of a training."""

_OF_THE_FOLD = ("fold", "output_dir", "weights_path", "resume", "bundle_root")
_RECORDED = {
    "plan_sha256": "plan",
    "config_sha256": "configuration",
    "dataset_manifest_sha256": "data",
    "code": "code",
    "versions": "package versions",
    "settings": "settings",
}


def name_folds(folds: Sequence[int], num_folds: int) -> str:
    """For a title: "validation of fold 0 of 5", or "validation, pooled over folds 0, 1, 2 (of 5)"."""
    if len(folds) == 1:
        return f"validation of fold {folds[0]} of {num_folds}"
    return f"validation, pooled over folds {_join(folds)} (of {num_folds})"


def list_fold_notes(folder: BundleFolder, folds: Sequence[int], num_folds: int) -> tuple[str, ...]:
    """Sentences about the folds of a result.

    Args:
        folder: the bundle, whose run records say how each fold was trained.
        folds: that were evaluated.
    """
    notes = []
    missing = [fold for fold in range(num_folds) if fold not in folds]
    trained = [fold for fold in missing if _read_latest_run(folder, fold) is not None]
    untrained = [fold for fold in missing if fold not in trained]
    for listed, what in (
        (untrained, "not trained and not in this result"),
        (trained, "trained, and not in this result"),
    ):
        if listed:
            notes.append(f"{what}: {'fold' if len(listed) == 1 else 'folds'} {_join(listed)} of {num_folds}")
    records = {fold: record for fold in folds if (record := _read_latest_run(folder, fold)) is not None}
    for key, title in _RECORDED.items():
        groups: dict[str, list[int]] = {}
        for fold, record in records.items():
            groups.setdefault(_fingerprint(key, record), []).append(fold)
        if len(groups) > 1:
            parts = "; ".join(f"{'fold' if len(same) == 1 else 'folds'} {_join(same)}" for same in groups.values())
            notes.append(
                f"warning: the folds were trained with different {title} ({parts}); their mean mixes trainings"
            )
    return tuple(notes)


def _read_latest_run(folder: BundleFolder, fold: int) -> TrainingRecord | None:
    """Record of the latest finished training of a fold; None after a training with stock MONAI, which leaves none."""
    records = (read_record(path, TrainingRecord) for path in sorted(folder.runs.glob(f"fold_{fold}-*/run.json")))
    finished = [record for record in records if record is not None and record.state == FINISHED]
    return finished[-1] if finished else None


def _fingerprint(key: str, record: TrainingRecord) -> str:
    value = record.as_data().get(key)
    left_out = {"settings": _OF_THE_FOLD, "versions": PACKAGES_WITHOUT_EFFECT}.get(key, ())
    if isinstance(value, dict):
        value = {name: part for name, part in value.items() if name not in left_out}
    return json.dumps(value, sort_keys=True)


def _join(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))
