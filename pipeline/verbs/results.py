"""The verbs that a trained bundle is for: predict, evaluate, and tune on what was evaluated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.boundary import guard
from pipeline.bundle.data_state import is_planned_dataset, require_unchanged_data
from pipeline.bundle.trust import break_seal, open_for_reading, open_trusted
from pipeline.bundle_folder import BundleFolder, open_any_bundle, require_weights
from pipeline.dataset.dataset import Dataset
from pipeline.errors import EvaluationError
from pipeline.evaluation.groups import Group, ReferencedImage, group_by_fold, group_dataset
from pipeline.files import compute_sha256, write_together
from pipeline.planning.plan import Plan, read_plan
from pipeline.prediction.outputs import find_any_output, find_output
from pipeline.verbs.evaluation_result import Evaluation
from pipeline.verbs.forecasting import arrange_process, prepare_prediction
from pipeline.verbs.foreign import evaluate_foreign, predict_with_foreign
from pipeline.verbs.references import open_references

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.dataset.problems import Problem
    from pipeline.evaluation.comparison import ComparisonRecord
    from pipeline.evaluation.files import SummaryRecord
    from pipeline.evaluation.pairs import Pair
    from pipeline.evaluation.subgroups import Cut
    from pipeline.evaluation.tuning import Tuning
    from pipeline.prediction.run import Predictions


@guard
def predict(
    bundle: Path | str,
    source: Path | str,
    out: Path | str,
    device: str | None = None,
    mirror: bool = False,
    ensemble: bool = False,
    probabilities: bool = False,
    trust: bool = False,
    runtime: str = "torch",
    precision: str = "float32",
    alone: bool = False,
    announce: Callable[[str], None] = lambda line: None,
) -> Predictions:
    """Write a label map for an image, or for every image of a folder, on the image's own grid.

    Args:
        bundle: trained; a folder, or the zip that `package` made. A bundle of others, such as the model zoo's, runs as its inference
            config says, without the options about the network.
        source: an image, a DICOM series, or a folder of images or of series.
        out: folder for the label maps, and their record, predictions_run.json. A label map that is there is kept if the record has it with
            the same image, weights, configs and options; otherwise it is made again. A file of that name which `predict` did not write, or
            that was edited since, goes into the folder `replaced`.
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.
        mirror: average over all mirrored copies.
        ensemble: average the probabilities of all trained folds.
        probabilities: write them too.
        trust: run the bundle although its audit finds a danger, or its files are not those that were sealed.
        runtime: torch, or torchscript or onnx for a network that `package` exported.
        precision: float32, as stock MONAI computes; bfloat16; or auto, which takes bfloat16 where the device is fast with it.
        alone: the process does nothing after it; MONAI is then imported without its parts for training, which takes a third of the time.
        announce: called before the first image, with why label maps that are there are made again, and how windows are computed.

    Raises:
        BundleError: no weights, for an ensemble fewer than two folds, or no export for the runtime; or the bundle needs trust.
        PredictionError: no image, or an image that the network cannot take.
    """
    with open_for_reading(bundle, trust, open_any_bundle) as folder:
        if not folder.is_planned:
            return predict_with_foreign(
                folder, source, out, device, (mirror, ensemble, probabilities, runtime, precision), announce
            )
        weights, inputs = prepare_prediction(folder, source, ensemble, runtime, alone, device)
        from pipeline.evidence.prediction_record import record_predictions
        from pipeline.prediction.reuse import settle_options
        from pipeline.prediction.run import predict_images, refuse_own_folder
        from pipeline.prediction.runtime import TORCH

        refuse_own_folder(inputs, Path(out))
        settings = {"device": device, "mirror": mirror, "ensemble": ensemble, "probabilities": probabilities}
        settings |= {"runtime": runtime, "precision": precision}
        options = settle_options(mirror, runtime, precision, device)
        used = weights if runtime == TORCH else (folder.export(runtime),)
        with record_predictions(folder, Path(out), used, settings, options, announce) as (record, ledger):
            given = (device, mirror, probabilities, runtime, precision)
            made = predict_images(folder, inputs, Path(out), weights, *given, announce=announce, ledger=ledger)
            record["precision"], record["shares"] = made.precision if made.written else None, dict(made.shares)
        return made


@guard
def evaluate(
    bundle: Path | str,
    dataset: Path | str | None = None,
    out: Path | str | None = None,
    predictions: Path | str | None = None,
    device: str | None = None,
    mirror: bool = False,
    ensemble: bool = False,
    by: Sequence[str] = (),
    trust: bool = False,
    precision: str = "float32",
    alone: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    check_data: bool = True,
    follow_links: bool = False,
    data_root: Path | str | None = None,
) -> Evaluation:
    """Compare label map files with the references, case by case, on the native grid.

    Without `dataset`, the validation cases of every trained fold are predicted with that fold's weights. With one,
    all its cases are predicted with the bundle's weights, but for those whose image the network was trained on.

    Args:
        bundle: trained; or one of others, then `dataset` is needed.
        dataset: a labelled folder; `follow_links` and `data_root` say how it is read, as in `read_references`.
        out: gets metrics.csv, summary.json and run.json; a folder below the bundle's evidence by default.
        predictions: label maps made before, instead of predicting now.
        ensemble: with `dataset`, all trained folds together, on the cases that none of them was trained on.
        by: columns of the list of cases for results by subgroup, each as in `read_cut`.
        check_data: compare the files with the dataset manifest first; False where that has been done.
        device, mirror, trust, precision, alone, announce: as in `predict`; run.json and the folder of predictions name the precision.

    Raises:
        BundleError: no weights, or for an ensemble fewer than two folds; or the bundle needs trust.
        DatasetError: images or label maps that the bundle was planned from have changed since.
        EvaluationError: no case is left, files do not match, or no case has a column.
    """
    folder = open_trusted(bundle, "evaluate", trust, opener=open_any_bundle)
    reading, options = (follow_links, data_root), (mirror, ensemble, precision, tuple(by))
    if not folder.is_planned:
        return evaluate_foreign(folder, dataset, out, predictions, device, options, announce, *reading)
    _require_ready(folder, alone, "cpu" if predictions is not None else device)
    from pipeline.evidence.evaluation_record import add_result, record_evaluation
    from pipeline.prediction.inference import settle_precision

    settled, target = read_plan(folder.plan), Path(out or folder.evaluations / _name_evaluation(dataset))
    measured = _read_measured(folder, dataset, check_data, settled, target, reading)
    groups, excluded, title = _group_cases(folder, settled, measured, ensemble)
    cuts, columns = _read_cuts(folder, measured, by)
    given = None if predictions is None else Path(predictions)
    with record_evaluation(folder, target, groups, mirror, given is not None, by) as record:
        used = precision if given else settle_precision(precision, device)
        record["precision"] = None if given else used
        made = [given or _predict_group(folder, group, target, device, mirror, used, announce) for group in groups]
        pairs = _pair_cases(groups, made, settled.output_suffix, given is not None)
        facts = {**_describe_evaluation(folder, settled, measured, groups), "title": title, "excluded": list(excluded)}
        rows, summary = _write_numbers(target, settled, pairs, cuts, columns, facts)
        add_result(record, target, title, {pair.case: pair.prediction for pair in pairs})
    return Evaluation(title, rows, tuple(summary.rows), excluded, target, tuple(made), summary)


def _require_ready(folder: BundleFolder, alone: bool, device: str | None) -> None:
    """Weights and data are there; the process is arranged for the device before torch is imported."""
    require_weights(folder)
    folder.require_data()
    arrange_process(folder, alone, device)


def _write_numbers(
    target: Path,
    settled: Plan,
    pairs: Sequence[Pair],
    cuts: Sequence[Cut],
    columns: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, Any],
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Compare the pairs, and write metrics.csv and summary.json."""
    from pipeline.evaluation.cases import evaluate_by_plan
    from pipeline.evaluation.files import build_summary, write_rows, write_summary
    from pipeline.evaluation.pairs import sum_up_changes
    from pipeline.evaluation.subgroups import add_columns

    changes: list[Problem] = []
    measured_rows = add_columns(evaluate_by_plan(pairs, settled, changes), cuts, columns)
    facts = {**facts, "notes": [*facts["notes"], *sum_up_changes(changes)]}
    with write_together():  # a summary is always that of the rows beside it
        rows = write_rows(target, measured_rows)
        return rows, write_summary(target, build_summary(rows, settled.scored_labels, cuts, **facts))


def _read_cuts(
    folder: BundleFolder, measured: Dataset | None, by: Sequence[str]
) -> tuple[list[Cut], dict[str, dict[str, str]]]:
    """How the cases are cut into subgroups, and the further columns of the list of cases, by case."""
    from pipeline.evaluation.subgroups import read_cut

    columns = folder.read_case_table() if measured is None else {case.name: case.columns for case in measured.cases}
    return [read_cut(text, columns) for text in by], columns


def _read_measured(
    folder: BundleFolder,
    dataset: Path | str | None,
    check_data: bool,
    settled: Plan,
    target: Path,
    reading: tuple[bool, Path | str | None],
) -> Dataset | None:
    """The dataset to measure, None for the bundle's own; where it is the bundle's own, its files are compared with the manifest."""
    measured = open_references(dataset, settled.label_table, target, *reading)
    if check_data and (measured is None or is_planned_dataset(folder, measured.root)):
        require_unchanged_data(folder)
    return measured


def _group_cases(
    folder: BundleFolder, settled: Plan, measured: Dataset | None, ensemble: bool
) -> tuple[list[Group], tuple[str, ...], str]:
    """Cases with the weights that predict them, the cases left out, and a title."""
    if measured is None:
        return group_by_fold(folder, settled)
    return group_dataset(folder, settled, measured, ensemble)


def _name_evaluation(dataset: Path | str | None) -> str:
    return "validation" if dataset is None else f"dataset_{Path(dataset).resolve().name}"


def _describe_evaluation(
    folder: BundleFolder, settled: Plan, dataset: Dataset | None, groups: Sequence[Group]
) -> dict[str, Any]:
    """Fields of the summary that do not follow from the rows."""
    from pipeline.evaluation.cross_validation import list_fold_notes
    from pipeline.evaluation.files import DataRecord

    labels = dict(settled.label_table)
    if dataset is not None:
        data = DataRecord(name=dataset.name, manifest_sha256=None)
        return {"dataset": data, "labels": labels, "folds": None, "num_folds": None, "notes": []}
    trained = [group.fold for group in groups if group.fold is not None]
    return {
        "dataset": DataRecord(name=settled.dataset_name, manifest_sha256=compute_sha256(folder.dataset_manifest)),
        "labels": labels,
        "folds": trained,
        "num_folds": settled.num_folds,
        "notes": list(list_fold_notes(folder, trained, settled.num_folds)),
    }


def _predict_group(
    folder: BundleFolder,
    group: Group,
    target: Path,
    device: str | None,
    mirror: bool,
    precision: str,
    announce: Callable[[str], None],
) -> Path:
    """Folder of the label maps of a group below `target`; those of the same images that are there already are kept.

    Args:
        folder: the bundle.
        group: cases and weights.
        target: of the evaluation.
        device, mirror, precision: as in `predict`.
        announce: called with why label maps that are there are made again.
    """
    from pipeline.evidence.prediction_record import record_predictions
    from pipeline.prediction.reuse import settle_options
    from pipeline.prediction.run import predict_images
    from pipeline.training.memory import keep_freed_pages

    keep_freed_pages()
    made = target / f"predictions_{_name_predictions(folder, group.weights, mirror)}"
    made = made if precision == "float32" else made.with_name(f"{made.name}_{precision}")
    options = settle_options(mirror, "torch", precision, device)
    sources = [case.source for case in group.cases]
    with record_predictions(folder, made, group.weights, options, options, announce) as (_, ledger):
        predict_images(folder, sources, made, group.weights, device, mirror, precision=precision, ledger=ledger)
    return made


def _name_predictions(folder: BundleFolder, weights: Sequence[Path], mirror: bool) -> str:
    """Label maps are used again as long as weights, configuration and mirroring are the same."""
    content = "".join(compute_sha256(path) for path in (*weights, folder.config("inference")))
    return f"{hashlib.sha256(content.encode()).hexdigest()[:12]}{'_mirrored' if mirror else ''}"


def _pair_cases(groups: Sequence[Group], made: Sequence[Path], suffix: str, given: bool) -> list[Pair]:
    """References with label maps; `made` has the folder of each group's, of any format where they were `given`."""
    return [
        _pair_case(case, where, suffix, group.fold, given)
        for group, where in zip(groups, made, strict=True)
        for case in group.cases
    ]


def _pair_case(case: ReferencedImage, predictions: Path, suffix: str, fold: int | None, given: bool) -> Pair:
    from pipeline.evaluation.pairs import Pair

    prediction = find_output(case.source, predictions, suffix)
    if given and not prediction.is_file():
        found = find_any_output(case.source, predictions)
        prediction = found if found.is_file() else prediction
    facts = (fold, case.pixel_spacing_mm, case.patient, case.source)
    return Pair(case.source.name, case.label, prediction, *facts)


@guard
def compare(
    a: Path | str, b: Path | str, metrics: Sequence[str] = (), out: Path | str | None = None
) -> ComparisonRecord:
    """Paired comparison of two evaluations, over the cases that both have.

    Args:
        a: a bundle, whose evaluation of the validation cases is taken, or a folder with metrics.csv and summary.json.
        b: likewise; differences are b minus a.
        metrics: ids such as "dice"; all that both have, if empty.
        out: gets comparison.json and comparison.csv.

    Raises:
        EvaluationError: no evaluation there, or labels, grid or data differ, or no case is in both.
    """
    from pipeline.evaluation.comparison import compare_cases, read_measured_cases, write_comparison

    folders = [_find_evaluation(Path(place)) for place in (a, b)]
    names = [Path(place).resolve().name for place in (a, b)]
    if names[0] == names[1]:
        names = [str(a), str(b)]
    first, second = (read_measured_cases(*one) for one in zip(folders, names, strict=True))
    record = compare_cases(first, second, metrics)
    if out is not None:
        write_comparison(Path(out), record)
    return record


def _find_evaluation(place: Path) -> Path:
    """Folder of metrics.csv: `place` itself, or of a bundle's validation cases."""
    inside = BundleFolder(place).evaluations / "validation"
    for folder in (place, inside):
        if (folder / "metrics.csv").is_file():
            return folder
    others = sorted(path.parent.name for path in BundleFolder(place).evaluations.glob("*/metrics.csv"))
    hint = f" It has the evaluation(s) {', '.join(others)} below evidence/evaluations/." if others else ""
    raise EvaluationError(
        f"{place} has no metrics.csv and is no bundle with an evaluation of its validation cases.{hint} Expected one of both; make "
        "it with `unet-pipeline evaluate BUNDLE`."
    )


@guard
def tune(bundle: Path | str, device: str | None = None, mirror: bool = False, trust: bool = False) -> Tuning:
    """Choose post-processing and temperature on predictions of validation cases, each by the fold that has not seen it.

    What is chosen goes into plan.yaml with its reason, the configs are written again, and evidence/tuning.json keeps all that was
    tried; evidence/tuning_run.json is the record of the run.

    Raises:
        BundleError: no weights, or configs that were edited by hand.
        DatasetError: images or label maps that the bundle was planned from have changed since.
        EvaluationError: no case to choose on.
    """
    from pipeline.bundle.tuning import require_generated_configs, tune_bundle
    from pipeline.evidence.prediction_record import record_tuning

    folder = open_trusted(bundle, "tune", trust, sealed=False)
    require_weights(folder)
    folder.require_data()
    require_generated_configs(folder)
    require_unchanged_data(folder)
    groups, _, title = group_by_fold(folder, read_plan(folder.plan))
    break_seal(folder)  # from here on the bundle has another record than it was sealed with
    with record_tuning(folder, groups, {"device": device, "mirror": mirror}):
        return tune_bundle(folder, groups, title, device, mirror)
