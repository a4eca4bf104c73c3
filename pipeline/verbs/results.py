"""The verbs that a trained bundle is for: predict, evaluate, and tune on what was evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle_folder import BundleFolder, open_bundle, require_ensemble, require_weights
from pipeline.dataset.layouts import read_dataset
from pipeline.evaluation.groups import ReferencedImage, group_by_fold, group_dataset
from pipeline.files import compute_sha256
from pipeline.planning.plan import read_plan
from pipeline.prediction.inputs import list_inputs
from pipeline.prediction.outputs import find_output

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.evaluation.cases import Pair
    from pipeline.evaluation.summary import SummaryRow
    from pipeline.evaluation.tuning import Tuning
    from pipeline.prediction.run import Predictions


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
        out: gets metrics.csv, summary.json and run.json; a folder below the bundle's evidence by default.
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
    from pipeline.evidence.evaluation_record import add_result, record_evaluation
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
    given = Path(predictions) if predictions is not None else None
    pairs: list[Pair] = []
    folders: list[Path] = []
    with record_evaluation(folder, target, groups, mirror, given is not None) as record:
        for group in groups:
            made = given or target / f"predictions_{_name_predictions(folder, group.weights, mirror)}"
            if given is None:
                predict_images(folder, [case.source for case in group.cases], made, group.weights, device, mirror)
            folders.append(made)
            pairs += [_pair_case(case, made, settled.output_suffix, group.fold) for case in group.cases]
        rows = evaluate_pairs(pairs, settled.label_table, settled.ignore_value, settled.regions)
        summary = summarize(rows, settled.scored_labels)
        write_evaluation(target, title, rows, summary, excluded)
        add_result(record, target, title, {pair.case: pair.prediction for pair in pairs})
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
