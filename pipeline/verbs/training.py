"""The verb `train`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle.trust import break_seal, open_trusted
from pipeline.bundle_folder import open_bundle, require_weights
from pipeline.evidence.epochs import EpochRecorder
from pipeline.evidence.record import record_run
from pipeline.files import compute_sha256, write_atomically, write_json
from pipeline.planning.plan import read_plan

if TYPE_CHECKING:
    from pipeline.training.run import TrainingRun


def train(
    bundle: Path | str,
    fold: int | str | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    announce: Any = None,
    initial: Path | str | None = None,
    trust: bool = False,
) -> tuple[TrainingRun, ...]:
    """Train one fold, or all of them.

    Args:
        bundle: from `plan`.
        fold: a number, "all", or None for the plan's fold.
        resume: continue the latest interrupted training of the fold.
        overrides: ids of train.json and their values.
        announce: called with the stock command before each training.
        initial: a trained bundle, or a file of weights, to start from; what does not fit starts anew.

        trust: run the bundle although its audit finds a danger.

    Raises:
        BundleError: the bundle needs trust.
        PlanError: unknown id.
        TrainingError: a data file is gone, nothing to resume, the initial weights do not fit, or the loss is not finite.
    """
    from pipeline.training.run import (
        build_settings,
        build_stock_command,
        check_overrides,
        next_run_dir,
        run_training,
    )

    folder = open_trusted(bundle, "train", trust, sealed=False)
    start = _find_initial_weights(initial)
    overrides = {**({"initial_weights": str(start)} if start else {}), **(overrides or {})}
    check_overrides(folder, overrides)
    settled = read_plan(folder.plan)
    folds = range(settled.num_folds) if fold == "all" else [settled.fold if fold is None else int(fold)]
    runs = []
    for number in folds:
        folder.read_split(number)
        run_dir = next_run_dir(folder, number, resume)
        settings = build_settings(folder, number, run_dir, resume, overrides)
        command = build_stock_command(folder, settings)
        if announce is not None:
            announce(command)
        with record_run(folder, run_dir, command, settings, number) as record:
            if start is not None and start.is_file():
                record["initial_weights_sha256"] = compute_sha256(start)
            run = run_training(folder, settings, EpochRecorder(record).watch)
            record["profile"], record["result"] = run.profile, _describe_result(run)
        own_place = run.weights == folder.fold_weights(number)  # not sent elsewhere by an override
        if own_place and (number == settled.fold or not folder.weights.is_file()):
            break_seal(folder)
            _copy_weights(run.weights, folder.weights)
            write_json(folder.weights_origin, {"fold": number, "sha256": compute_sha256(folder.weights)})
        runs.append(run)
    return tuple(runs)


def _find_initial_weights(initial: Path | str | None) -> Path | None:
    """The file of weights that a training is to start from: a bundle's, or the file itself."""
    if initial is None:
        return None
    return (require_weights(open_bundle(initial)) if Path(initial).is_dir() else Path(initial)).resolve()


def _describe_result(run: TrainingRun) -> dict[str, Any]:
    """What the record says about a finished training."""
    return {
        "best_epoch": run.best_epoch,
        "best_dice_resampled_grid": run.best_dice,
        "num_epochs": run.num_epochs,
        "weights_sha256": compute_sha256(run.weights),
    }


def _copy_weights(source: Path, target: Path) -> None:
    with write_atomically(target) as partial:
        shutil.copyfile(source, partial)
