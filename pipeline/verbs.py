"""The verbs of the command line as plain functions: each calls its stage and returns a typed result.

`import pipeline` offers them; the command line adds only parsing and printing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle.write import refresh_bundle, require_free, write_bundle
from pipeline.bundle_folder import BundleFolder, open_bundle, require_ensemble, require_weights
from pipeline.dataset.check import CheckReport, check_dataset
from pipeline.dataset.layouts import read_dataset
from pipeline.dataset.options import ReadOptions
from pipeline.dataset.prepare import PreparedCase, prepare_dataset
from pipeline.dataset.report import write_report
from pipeline.errors import PlanError
from pipeline.evaluation.groups import ReferencedImage, group_by_fold, group_dataset
from pipeline.evidence.record import record_run
from pipeline.files import compute_sha256, write_atomically, write_json, write_text
from pipeline.planning.machine import find_memory
from pipeline.planning.plan import Plan, read_plan
from pipeline.planning.planner import plan_from_fingerprint
from pipeline.planning.splits import choose_splits
from pipeline.prediction.inputs import list_inputs
from pipeline.prediction.outputs import find_output

# torch, monai and pandas take seconds to import: the verbs that need them import them when they run
if TYPE_CHECKING:
    import pandas as pd

    from pipeline.bundle.package import Package
    from pipeline.evaluation.cases import Pair
    from pipeline.evaluation.summary import SummaryRow
    from pipeline.evaluation.tuning import Tuning
    from pipeline.evidence.network_drawing import Description
    from pipeline.prediction.run import Predictions
    from pipeline.training.run import TrainingRun


@dataclass(frozen=True)
class PlannedFolder:
    """A bundle that `plan` wrote."""

    bundle: BundleFolder
    plan: Plan
    report: CheckReport


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        title: which cases, which folds.
        rows: one per case and label.
        summary: one row per label and metric.
        excluded: cases of the dataset that the network was trained on, which were left out.
        folder: has metrics.csv and summary.json.
        predictions: folders of the label maps that were compared.
    """

    title: str
    rows: pd.DataFrame
    summary: tuple[SummaryRow, ...]
    excluded: tuple[str, ...]
    folder: Path
    predictions: tuple[Path, ...]


def check(
    dataset: Path | str,
    out: Path | str | None = None,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
) -> CheckReport:
    """Read every file of a labelled folder and report all problems.

    Args:
        dataset: the folder, or a table of cases.
        out: gets problems.json, contact_sheet.png and, for a usable dataset, fingerprint.json and dataset_manifest.json.
        labels: names for the label values, where the layout does not give them.
        options: how the files are to be read.

    Raises:
        DatasetError: there is no dataset to check.
    """
    options = options or ReadOptions()
    report = check_dataset(read_dataset(dataset, options.layout), labels, options, with_tiles=out is not None)
    if out is not None:
        write_report(report, Path(out))
    return report


def plan(
    dataset: Path | str,
    bundle: Path | str,
    preset: str = "standard",
    folds: int = 5,
    seed: int = 0,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    network: str = "dynunet",
    padded: bool = False,
    memory_gib: float | None = None,
) -> PlannedFolder:
    """Check a labelled folder and write a complete bundle for it, without weights yet.

    Files that stock MONAI cannot read are copied into the folder `BUNDLE_data` beside the bundle, in a format that it can.

    Raises:
        DatasetError: the dataset has an error.
        PlanError: unknown preset or network, or a network for other dimensions.
        BundleError: the bundle's folder exists and is not empty.
    """
    root = Path(bundle)
    options = options or ReadOptions()
    require_free(root)
    report = check_dataset(read_dataset(dataset, options.layout), labels, options)
    fingerprint = report.require_no_errors()
    splits = choose_splits(report, folds, seed)
    data, prepared = report.dataset.root, tuple[PreparedCase, ...]()
    if report.needs_preparation:
        data = root.resolve().with_name(f"{root.resolve().name}_data")
        _, prepared = prepare_dataset(report, data)
    location = Path(os.path.relpath(data.resolve(), root.resolve())).as_posix()
    planned = plan_from_fingerprint(
        fingerprint,
        location,
        preset,
        len(splits.folds),
        seed=seed,
        network=network,
        padded=padded,
        memory_gib=memory_gib,
        found=find_memory(),
    )
    try:
        folder = write_bundle(root, planned, report, splits, prepared)
    except BaseException:
        if prepared:
            shutil.rmtree(data)
        raise
    return PlannedFolder(folder, planned.plan, report)


def refresh(bundle: Path | str, force: bool = False) -> Plan:
    """Write the JSON configs of a bundle again from its edited plan.yaml."""
    return refresh_bundle(Path(bundle), force)


def describe(bundle: Path | str, svg: Path | str | None = None) -> Description:
    """The network of a bundle: levels, channels, sizes, parameters, receptive field.

    Args:
        bundle: from `plan`; weights are not needed.
        svg: gets a drawing.

    Raises:
        BundleError: no bundle.
        PlanError: its plan cannot be read.
    """
    from pipeline.evidence.network_drawing import describe_network, draw_network

    description = describe_network(read_plan(open_bundle(bundle).plan))
    if svg is not None:
        write_text(Path(svg), draw_network(description))
    return description


def train(
    bundle: Path | str,
    fold: int | str | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    announce: Any = None,
    initial: Path | str | None = None,
) -> tuple[TrainingRun, ...]:
    """Train one fold, or all of them.

    Args:
        bundle: from `plan`.
        fold: a number, "all", or None for the plan's fold.
        resume: continue the latest interrupted training of the fold.
        overrides: ids of train.json and their values.
        announce: called with the stock command before each training.
        initial: a trained bundle, or a file of weights, to start from; what does not fit starts anew.

    Raises:
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

    folder = open_bundle(bundle)
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
            run = run_training(folder, settings)
            record["result"] = {
                "best_epoch": run.best_epoch,
                "best_dice_resampled_grid": run.best_dice,
                "num_epochs": run.num_epochs,
                "weights_sha256": compute_sha256(run.weights),
            }
        own_place = run.weights == folder.fold_weights(number)  # not sent elsewhere by an override
        if own_place and (number == settled.fold or not folder.weights.is_file()):
            _copy_weights(run.weights, folder.weights)
            write_json(folder.weights_origin, {"fold": number, "sha256": compute_sha256(folder.weights)})
        runs.append(run)
    return tuple(runs)


def _find_initial_weights(initial: Path | str | None) -> Path | None:
    """The file of weights that a training is to start from: a bundle's, or the file itself."""
    if initial is None:
        return None
    return (require_weights(open_bundle(initial)) if Path(initial).is_dir() else Path(initial)).resolve()


def _copy_weights(source: Path, target: Path) -> None:
    with write_atomically(target) as partial:
        shutil.copyfile(source, partial)


def predict(
    bundle: Path | str,
    source: Path | str,
    out: Path | str,
    device: str | None = None,
    mirror: bool = False,
    ensemble: bool = False,
    probabilities: bool = False,
) -> Predictions:
    """Write a label map for an image, or for every image of a folder, on the image's own grid.

    Args:
        bundle: trained.
        source: an image, a DICOM series, or a folder of images or of series.
        out: folder for the label maps.
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.
        mirror: average over all mirrored copies.
        ensemble: average the probabilities of all trained folds.
        probabilities: write them too.

    Raises:
        BundleError: no weights, or for an ensemble fewer than two folds.
        PredictionError: no image, or an image that the network cannot take.
    """
    folder = open_bundle(bundle)
    weights = require_ensemble(folder) if ensemble else (require_weights(folder),)
    from pipeline.prediction.run import predict_images
    from pipeline.training.memory import keep_freed_pages

    keep_freed_pages()
    inputs = list_inputs(Path(source), len(read_plan(folder.plan).channel_names))
    return predict_images(folder, inputs, Path(out), weights, device, mirror, probabilities)


def evaluate(
    bundle: Path | str,
    dataset: Path | str | None = None,
    out: Path | str | None = None,
    predictions: Path | str | None = None,
    device: str | None = None,
    mirror: bool = False,
    ensemble: bool = False,
) -> Evaluation:
    """Compare label map files with the references, case by case, on the native grid.

    Without `dataset`, the validation cases of every trained fold are predicted with that fold's weights. With one,
    all its cases are predicted with the bundle's weights, but for those whose image the network was trained on.

    Args:
        bundle: trained.
        dataset: a labelled folder.
        out: gets metrics.csv and summary.json; a folder below the bundle's evidence by default.
        predictions: label maps made before, instead of predicting now.
        device: for predicting.
        mirror: for predicting.
        ensemble: with `dataset`, all trained folds together, on the cases that none of them was trained on.

    Raises:
        BundleError: no weights, or for an ensemble fewer than two folds.
        EvaluationError: no case is left, or files do not match.
    """
    folder = open_bundle(bundle)
    require_weights(folder)
    from pipeline.evaluation.cases import evaluate_pairs
    from pipeline.evaluation.files import write_evaluation
    from pipeline.evaluation.summary import summarize
    from pipeline.prediction.run import predict_images
    from pipeline.training.memory import keep_freed_pages

    keep_freed_pages()
    settled = read_plan(folder.plan)
    name = "validation" if dataset is None else f"dataset_{Path(dataset).resolve().name}"
    target = Path(out) if out is not None else folder.evaluations / name
    groups, excluded, title = (
        group_by_fold(folder, settled)
        if dataset is None
        else group_dataset(folder, settled, read_dataset(dataset), ensemble)
    )
    pairs: list[Pair] = []
    folders: list[Path] = []
    for group in groups:
        given = Path(predictions) if predictions is not None else None
        made = given or target / f"predictions_{_name_predictions(folder, group.weights, mirror)}"
        if given is None:
            predict_images(folder, [case.source for case in group.cases], made, group.weights, device, mirror)
        folders.append(made)
        pairs += [_pair_case(case, made, settled.output_suffix, group.fold) for case in group.cases]
    rows = evaluate_pairs(pairs, settled.label_table, settled.ignore_value, settled.regions)
    summary = summarize(rows, settled.scored_labels)
    write_evaluation(target, title, rows, summary, excluded)
    return Evaluation(title, rows, summary, excluded, target, tuple(folders))


def _name_predictions(folder: BundleFolder, weights: Sequence[Path], mirror: bool) -> str:
    """Label maps are used again as long as weights, configuration and mirroring are the same."""
    content = "".join(compute_sha256(path) for path in (*weights, folder.config("inference")))
    return f"{hashlib.sha256(content.encode()).hexdigest()[:12]}{'_mirrored' if mirror else ''}"


def _pair_case(case: ReferencedImage, predictions: Path, suffix: str, fold: int | None) -> Pair:
    from pipeline.evaluation.cases import Pair

    prediction = find_output(case.source, predictions, suffix)
    return Pair(case.source.name, case.label, prediction, fold, case.pixel_spacing_mm)


def tune(bundle: Path | str, device: str | None = None, mirror: bool = False) -> Tuning:
    """Choose post-processing and temperature on predictions of validation cases, each by the fold that has not seen it.

    What is chosen goes into plan.yaml with its reason, the configs are written again, and evidence/tuning.json keeps all that was
    tried.

    Raises:
        BundleError: no weights, or configs that were edited by hand.
        EvaluationError: no case to choose on.
    """
    from pipeline.bundle.tuning import tune_bundle

    folder = open_bundle(bundle)
    require_weights(folder)
    return tune_bundle(folder, device, mirror)


def package(bundle: Path | str, zip_file: Path | str | None = None) -> Package:
    """Verify, document, seal and zip a trained bundle; the zip lies beside the folder by default.

    Raises:
        BundleError: no weights, or a check fails.
    """
    from pipeline.bundle.package import package_bundle

    folder = open_bundle(bundle)
    default = folder.root.resolve().with_name(f"{folder.name}.zip")
    return package_bundle(folder, Path(zip_file) if zip_file is not None else default)


__all__ = [
    "Evaluation",
    "PlanError",
    "PlannedFolder",
    "check",
    "describe",
    "evaluate",
    "package",
    "plan",
    "predict",
    "refresh",
    "train",
    "tune",
]
