"""`evaluate`: numbers from label map files, of a bundle's own predictions or of given ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_trusted, require_place_of_results
from unet_pipeline.bundle.data_state import is_planned_dataset, require_unchanged_data
from unet_pipeline.bundle.folder import BundleFolder, open_any_bundle, require_weights
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.manifest import read_manifest
from unet_pipeline.dataset.missing_channels import COLUMN as MISSING_COLUMN
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.groups import Group, ReferencedImage, group_by_fold, group_dataset
from unet_pipeline.files import compute_sha256, find_relative, write_together
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.outputs import find_any_output, find_output
from unet_pipeline.remote.urls import is_passing
from unet_pipeline.results import Result
from unet_pipeline.verbs.evaluate_jobs import choose_measuring
from unet_pipeline.verbs.evaluate_objects import choose_objects, require_object_format
from unet_pipeline.verbs.predict import arrange_process, predict_recorded
from unet_pipeline.verbs.references import list_split_notes, open_references
from unet_pipeline.verbs.stores import fetches

if TYPE_CHECKING:
    import pandas as pd

    from unet_pipeline.evaluation.files import SummaryFacts, SummaryRecord
    from unet_pipeline.evaluation.pairs import Pair
    from unet_pipeline.evaluation.subgroups import Cut
    from unet_pipeline.evaluation.summary import SummaryRow
    from unet_pipeline.messages import Problem
    from unet_pipeline.quality.claim import QualityRow


@fetches("dataset", "predictions")
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
    jobs: int = 1,
    engine: str = "local",
    threads: int | None = None,
    address: str | None = None,
    sbatch: Mapping[str, str] | None = None,
    quality: bool = False,
    format: str | None = None,
) -> Evaluation:
    """Compare label map files with the references, case by case, on the native grid.

    Without `dataset`, the validation cases of every trained fold are predicted with that fold's weights. With one,
    all its cases are predicted with the bundle's weights, but for those whose image the network was trained on.

    Args:
        bundle: trained; or an external one, then `dataset` is needed.
        dataset: a labelled folder, read as in `read_references`; it and `predictions` may be URLs, which are fetched first.
        out: gets metrics.csv, summary.json and run.json; a folder below the bundle's evidence by default.
        predictions: label maps made before, instead of predicting now.
        ensemble: with `dataset`, all trained folds together, on the cases that none of them was trained on.
        by: columns of the list of cases for results by subgroup, each as in `read_cut`; the column of `plan --site` is always one.
        check_data: compare the files with the dataset manifest first; False where that has been done.
        device, mirror, trust, precision, alone, announce, jobs, engine, threads, address, sbatch: as in `predict`.
        quality, format: measure how well expected Dice is kept; write the predictions as DICOM objects too, as `predict` does.

    Raises:
        CohortError: workers cannot be had, or the disk is full.
        BundleError: no weights, or for an ensemble fewer than two folds; the bundle needs trust; or `out` lies among its configs.
        DatasetError: images or label maps that the bundle was planned from have changed since.
        EvaluationError: no case is left, files do not match, or no case has a column.
    """
    workers = JobOptions(jobs, engine, threads, address, sbatch or {}).workers()
    folder = open_trusted(bundle, "evaluate", trust, opener=open_any_bundle)
    _require_choices(folder, quality, predictions is not None, format, out)
    reading, options = (follow_links, data_root), (mirror, ensemble, precision, tuple(by))
    if not folder.is_planned:
        from unet_pipeline.verbs.evaluate_external import evaluate_external

        return evaluate_external(folder, dataset, out, predictions, device, options, announce, *reading, workers)
    _require_ready(folder, alone, "cpu" if predictions is not None else device)
    plan, target = read_plan(folder.plan), Path(out or folder.evaluations / _name_evaluation(dataset))
    measured = _read_measured(folder, dataset, check_data, plan, target, reading)
    who, is_own = (device, announce, workers, format), not (dataset or out or predictions)
    evaluation = _evaluate_planned(folder, plan, measured, target, predictions, options, who, dataset)
    return replace(evaluation, quality=_judge_claim(folder, plan, evaluation, quality, is_own, announce))


def _evaluate_planned(
    folder: BundleFolder,
    plan: Plan,
    measured: Dataset | None,
    target: Path,
    predictions: Path | str | None,
    options: tuple[bool, bool, str, tuple[str, ...]],
    who: tuple[str | None, Callable[[str], None], JobOptions | None, str | None],
    dataset: Path | str | None,
) -> Evaluation:
    """Predict and compare; `options` and `who` are mirror, ensemble, precision and by, and device, announce, workers and format."""
    from unet_pipeline.evidence.records.evaluation_record import add_result, record_evaluation

    (mirror, ensemble, precision, by), (device, announce, workers, format) = options, who
    given_maps = Path(predictions) if predictions else None
    groups, excluded, title = _group_cases(folder, plan, measured, ensemble)
    cuts, columns = _read_cuts(folder, measured, by)
    objects = choose_objects(folder, plan, groups, format)
    weights = [(path, group.fold) for group in groups for path in group.weights]
    with record_evaluation(folder, target, weights, given_maps is not None, mirror, by) as keeper:
        keeper.record.precision = None if given_maps else _settle_precision(precision, device, workers)
        choices = (device, mirror, keeper.record.precision or precision, announce, workers)
        label_maps = [given_maps or _predict_group(folder, group, target, *choices) for group in groups]
        if objects:
            settled = PredictOptions(device, mirror, precision=choices[2], format=format)
            objects.write(label_maps, settled, workers, plan.output_suffix, announce)
        pairs = _pair_cases(groups, label_maps, plan, given_maps is not None)
        facts = _describe_evaluation(folder, plan, measured, groups, (pairs, given_maps), (title, excluded, dataset))
        rows, summary = _write_numbers(target, plan, pairs, cuts, columns, facts, workers)
        add_result(keeper.record, target, title, {pair.case: pair.prediction for pair in pairs})
    return Evaluation(title, rows, tuple(summary.rows), excluded, target, tuple(label_maps), summary)


def _settle_precision(name: str, device: str | None, workers: JobOptions | None) -> str:
    """What the network computes in, on a device of this machine or of the workers'."""
    from unet_pipeline.prediction.device_choice import settle_precision
    from unet_pipeline.verbs.predict_jobs import settle_remote_options

    if workers is None:
        return settle_precision(name, device)
    return str(settle_remote_options(PredictOptions(device, precision=name), workers)["precision"])


def _require_choices(
    folder: BundleFolder, wanted: bool, are_given: bool, format: str | None, out: Path | str | None
) -> None:
    if out is not None:
        require_place_of_results(folder, Path(out))
    require_object_format(folder, format, are_given)
    if wanted and not folder.is_planned:
        raise EvaluationError(
            f"{folder.name} is none of `plan`'s bundles, and expected Dice is fitted for those only. Leave --quality out."
        )
    if wanted and are_given:
        raise EvaluationError(
            "--quality needs what `predict` adds up while it predicts, which label maps made before do not have. Leave --predictions out."
        )


def _judge_claim(
    folder: BundleFolder,
    plan: Plan,
    evaluation: Evaluation,
    wanted: bool,
    is_out_of_fold: bool,
    announce: Callable[[str], None],
) -> tuple[QualityRow, ...]:
    """Fit expected Dice where the cases are the bundle's own out-of-fold cases; how well it was kept, if wanted."""
    from unet_pipeline.evidence.records.prediction_record import read_entries
    from unet_pipeline.quality.claim import measure_claim, write_claim
    from unet_pipeline.quality.doubt_tables import (
        join_cases,
        list_doubts,
        list_fitted_labels,
        read_expected_dice,
        require_same_kind,
        write_expected_dice,
    )

    entries = {case: entry for out in evaluation.predictions for case, entry in read_entries(out).items()}
    doubts = list_doubts(entries)
    by_label = join_cases(evaluation.rows, doubts, plan, list_fitted_labels(plan))
    if is_out_of_fold and doubts:
        record = write_expected_dice(folder, plan, by_label, evaluation.record.folds or (), entries)
        if record.is_mirrored:
            announce("expected Dice is fitted with mirrored copies, so `predict` says it with --mirror only")
    if not wanted:
        return ()
    fitted = None if is_out_of_fold else read_expected_dice(folder)
    if not is_out_of_fold and fitted is None:
        raise EvaluationError(
            f"{folder.name} has no expected Dice that could be measured on other cases. Run `unet-pipeline evaluate {folder.name}` first."
        )
    if fitted is not None:
        require_same_kind(fitted, entries, plan)
    return write_claim(evaluation.folder, measure_claim(by_label, fitted), is_out_of_fold)


def _require_ready(folder: BundleFolder, alone: bool, device: str | None) -> None:
    """Weights and data are there; the process is arranged for the device before torch is imported."""
    require_weights(folder)
    folder.require_data()
    arrange_process(folder, alone, device)


def _write_numbers(
    target: Path,
    plan: Plan,
    pairs: Sequence[Pair],
    cuts: Sequence[Cut],
    columns: Mapping[str, Mapping[str, str]],
    facts: SummaryFacts,
    workers: JobOptions | None,
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Compare the pairs, and write metrics.csv and summary.json."""
    from unet_pipeline.evaluation.cases import evaluate_by_plan
    from unet_pipeline.evaluation.files import build_summary, write_rows, write_summary
    from unet_pipeline.evaluation.pairs import sum_up_changes
    from unet_pipeline.evaluation.subgroups import add_columns

    changes: list[Problem] = []
    compared = evaluate_by_plan(pairs, plan, changes, choose_measuring(workers, target))
    measured_rows = add_columns(compared, cuts, columns)
    facts = replace(facts, notes=[*facts.notes, *sum_up_changes(changes)])
    with write_together():  # a summary is always that of the rows beside it
        rows = write_rows(target, measured_rows)
        return rows, write_summary(target, build_summary(rows, plan.scored_labels, facts, cuts))


def _read_cuts(
    folder: BundleFolder, measured: Dataset | None, by: Sequence[str]
) -> tuple[list[Cut], dict[str, dict[str, str]]]:
    """How the cases are cut into subgroups, and the further columns of the list of cases, by case.

    Sites that the folds leave out are subgroups without being asked for, wherever the list of cases has their column, and so are the sets
    of missing channels.
    """
    from unet_pipeline.evaluation.subgroups import Cut, read_cut

    columns = folder.read_case_table() if measured is None else {case.name: case.columns for case in measured.cases}
    cuts = [read_cut(text, columns) for text in by]
    site = _find_site_column(folder)
    if site and site not in {cut.column for cut in cuts} and any(site in row for row in columns.values()):
        cuts.append(Cut(site, by_name=True))
    if any(MISSING_COLUMN in row for row in columns.values()) and MISSING_COLUMN not in {cut.column for cut in cuts}:
        cuts.append(Cut(MISSING_COLUMN, by_name=True))
    return cuts, columns


def _find_site_column(folder: BundleFolder) -> str:
    """As the list of cases names it; empty without, and in a bundle that was planned elsewhere."""
    if not folder.dataset_manifest.is_file():
        return ""
    return str(read_manifest(folder.dataset_manifest, folder.name).reading.get("site_column") or "").strip().lower()


def _read_measured(
    folder: BundleFolder,
    dataset: Path | str | None,
    check_data: bool,
    plan: Plan,
    target: Path,
    reading: tuple[bool, Path | str | None],
) -> Dataset | None:
    """The dataset to measure, None for the bundle's own; where it is the bundle's own, its files are compared with the manifest."""
    measured = open_references(dataset, plan, target, *reading)
    if check_data and (measured is None or is_planned_dataset(folder, measured.root)):
        require_unchanged_data(folder)
    return measured


def _group_cases(
    folder: BundleFolder, plan: Plan, measured: Dataset | None, ensemble: bool
) -> tuple[list[Group], tuple[str, ...], str]:
    """Cases with the weights that predict them, the cases left out, and a title."""
    if measured is None:
        return group_by_fold(folder, plan)
    return group_dataset(folder, plan, measured, ensemble)


def _name_evaluation(dataset: Path | str | None) -> str:
    return "validation" if dataset is None else f"dataset_{Path(dataset).resolve().name}"


def _describe_evaluation(
    folder: BundleFolder,
    plan: Plan,
    dataset: Dataset | None,
    groups: Sequence[Group],
    measured: tuple[Sequence[Pair], Path | None],
    named: tuple[str, Sequence[str], Path | str | None],
) -> SummaryFacts:
    """What the summary says beside the rows; `measured` are the pairs, and where label maps were given; `named`
    title, excluded cases, and where the dataset lies.
    """
    from unet_pipeline.evaluation.cross_validation import list_fold_notes
    from unet_pipeline.evaluation.files import DataRecord, SummaryFacts
    from unet_pipeline.evidence.records.given_predictions import judge_given

    labels, (pairs, given_maps), (title, excluded, source) = dict(plan.label_table), measured, named
    notes = [] if given_maps is None else judge_given(folder, groups, given_maps, pairs)
    if dataset is not None:
        place = None if is_passing(dataset.root) else find_relative(source or dataset.root, folder.root)
        data = DataRecord(name=dataset.name, manifest_sha256=None, place=place)
        return SummaryFacts(title, data, labels, excluded=excluded, notes=[*list_split_notes(dataset), *notes])
    trained = [group.fold for group in groups if group.fold is not None]
    manifest_sha256 = compute_sha256(folder.dataset_manifest)
    data = DataRecord(name=plan.dataset_name, manifest_sha256=manifest_sha256, place=plan.dataset_dir)
    notes = [*list_fold_notes(folder, trained, plan.num_folds), *notes]
    return SummaryFacts(title, data, labels, trained, plan.num_folds, excluded, notes)


def _predict_group(
    folder: BundleFolder,
    group: Group,
    target: Path,
    device: str | None,
    mirror: bool,
    precision: str,
    announce: Callable[[str], None],
    workers: JobOptions | None = None,
) -> Path:
    """Folder of the label maps of a group below `target`; those of the same images that are there already are kept.

    Args:
        device, mirror, precision: as in `predict`.
        announce: called with why label maps that are there are made again.
        workers: who predicts; this process, if None.
    """
    from unet_pipeline.device.allocator import keep_freed_pages

    keep_freed_pages()
    label_maps = target / f"predictions_{_name_predictions(folder, group.weights, mirror)}"
    label_maps = label_maps if precision == "float32" else label_maps.with_name(f"{label_maps.name}_{precision}")
    options = PredictOptions(device, mirror, precision=precision)
    sources = [case.source for case in group.cases]
    predict_recorded(folder, sources, label_maps, group.weights, options, announce, jobs=workers)
    return label_maps


def _name_predictions(folder: BundleFolder, weights: Sequence[Path], mirror: bool) -> str:
    """Label maps are used again as long as weights, configuration and mirroring are the same."""
    content = "".join(compute_sha256(path) for path in (*weights, folder.config("inference")))
    return f"{hashlib.sha256(content.encode()).hexdigest()[:12]}{'_mirrored' if mirror else ''}"


def _pair_cases(groups: Sequence[Group], label_maps: Sequence[Path], plan: Plan, are_given: bool) -> list[Pair]:
    """References with label maps; `label_maps` has the folder of each group's, of any format where they were `are_given`."""
    return [
        _pair_case(case, where, plan, group.fold, are_given)
        for group, where in zip(groups, label_maps, strict=True)
        for case in group.cases
    ]


def _pair_case(case: ReferencedImage, predictions: Path, plan: Plan, fold: int | None, is_given: bool) -> Pair:
    from unet_pipeline.evaluation.pairs import Pair

    prediction = find_output(case.source, predictions, plan.output_suffix)
    if is_given and not prediction.is_file():
        given_map = find_any_output(case.source, predictions)
        prediction = given_map if given_map.is_file() else prediction
    facts = (fold, case.pixel_spacing_mm, case.patient, case.source, plan.spatial_dims, case.missing_values)
    return Pair(case.source.name, case.label, prediction, *facts)


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """Result of `evaluate`.

    Attributes:
        title: which cases, which folds.
        rows: one per case and label.
        summary: one row per label and metric.
        excluded: cases of the dataset that the network was trained on, which were left out.
        folder: has metrics.csv and summary.json.
        predictions: folders of the label maps that were compared.
        record: all that summary.json holds: lines per fold and subgroup, failures, notes.
        quality: how well expected Dice was kept, if that was asked for.
    """

    title: str
    rows: pd.DataFrame
    summary: tuple[SummaryRow, ...]
    excluded: tuple[str, ...]
    folder: Path
    predictions: tuple[Path, ...]
    record: SummaryRecord
    quality: tuple[QualityRow, ...] = ()
