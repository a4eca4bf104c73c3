"""`evaluate`: numbers from label map files, of a bundle's own predictions or of given ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.audit.trust import open_trusted
from unet_pipeline.bundle.data_state import is_planned_dataset, require_unchanged_data
from unet_pipeline.bundle.folder import BundleFolder, open_any_bundle, require_weights
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.groups import Group, ReferencedImage, group_by_fold, group_dataset
from unet_pipeline.files import compute_sha256, find_relative, write_together
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.outputs import find_any_output, find_output
from unet_pipeline.results import Result
from unet_pipeline.verbs.predict import arrange_process
from unet_pipeline.verbs.recorded import predict_recorded
from unet_pipeline.verbs.references import join_references, open_references, read_references

if TYPE_CHECKING:
    import pandas as pd

    from unet_pipeline.dataset.dataset import Case
    from unet_pipeline.evaluation.files import SummaryFacts, SummaryRecord
    from unet_pipeline.evaluation.pairs import Pair
    from unet_pipeline.evaluation.subgroups import Cut
    from unet_pipeline.evaluation.summary import SummaryRow
    from unet_pipeline.messages import Problem


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
        bundle: trained; or an external one, then `dataset` is needed.
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
        return evaluate_external(folder, dataset, out, predictions, device, options, announce, *reading)
    _require_ready(folder, alone, "cpu" if predictions is not None else device)
    from unet_pipeline.evidence.records.evaluation_record import add_result, record_evaluation
    from unet_pipeline.prediction.device_choice import settle_precision

    plan, target = read_plan(folder.plan), Path(out or folder.evaluations / _name_evaluation(dataset))
    measured = _read_measured(folder, dataset, check_data, plan, target, reading)
    groups, excluded, title = _group_cases(folder, plan, measured, ensemble)
    cuts, columns = _read_cuts(folder, measured, by)
    given_maps = None if predictions is None else Path(predictions)
    weights = [(path, group.fold) for group in groups for path in group.weights]
    with record_evaluation(folder, target, weights, given_maps is not None, mirror, by) as keeper:
        keeper.record.precision = None if given_maps else settle_precision(precision, device)
        choices = (device, mirror, keeper.record.precision or precision, announce)
        label_maps = [given_maps or _predict_group(folder, group, target, *choices) for group in groups]
        pairs = _pair_cases(groups, label_maps, plan, given_maps is not None)
        facts = _describe_evaluation(folder, plan, measured, groups, (pairs, given_maps), (title, excluded, dataset))
        rows, summary = _write_numbers(target, plan, pairs, cuts, columns, facts)
        add_result(keeper.record, target, title, {pair.case: pair.prediction for pair in pairs})
    return Evaluation(title, rows, tuple(summary.rows), excluded, target, tuple(label_maps), summary)


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
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Compare the pairs, and write metrics.csv and summary.json."""
    from unet_pipeline.evaluation.cases import evaluate_by_plan
    from unet_pipeline.evaluation.files import build_summary, write_rows, write_summary
    from unet_pipeline.evaluation.pairs import sum_up_changes
    from unet_pipeline.evaluation.subgroups import add_columns

    changes: list[Problem] = []
    measured_rows = add_columns(evaluate_by_plan(pairs, plan, changes), cuts, columns)
    facts = replace(facts, notes=[*facts.notes, *sum_up_changes(changes)])
    with write_together():  # a summary is always that of the rows beside it
        rows = write_rows(target, measured_rows)
        return rows, write_summary(target, build_summary(rows, plan.scored_labels, facts, cuts))


def _read_cuts(
    folder: BundleFolder, measured: Dataset | None, by: Sequence[str]
) -> tuple[list[Cut], dict[str, dict[str, str]]]:
    """How the cases are cut into subgroups, and the further columns of the list of cases, by case."""
    from unet_pipeline.evaluation.subgroups import read_cut

    columns = folder.read_case_table() if measured is None else {case.name: case.columns for case in measured.cases}
    return [read_cut(text, columns) for text in by], columns


def _read_measured(
    folder: BundleFolder,
    dataset: Path | str | None,
    check_data: bool,
    plan: Plan,
    target: Path,
    reading: tuple[bool, Path | str | None],
) -> Dataset | None:
    """The dataset to measure, None for the bundle's own; where it is the bundle's own, its files are compared with the manifest."""
    measured = open_references(dataset, plan.label_table, target, *reading, plan.spatial_dims)
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
        place = find_relative(source or dataset.root, folder.root)
        data = DataRecord(name=dataset.name, manifest_sha256=None, place=place)
        return SummaryFacts(title, data, labels, excluded=excluded, notes=notes)
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
) -> Path:
    """Folder of the label maps of a group below `target`; those of the same images that are there already are kept.

    Args:
        group: cases and weights.
        device, mirror, precision: as in `predict`.
        announce: called with why label maps that are there are made again.
    """
    from unet_pipeline.device.allocator import keep_freed_pages

    keep_freed_pages()
    label_maps = target / f"predictions_{_name_predictions(folder, group.weights, mirror)}"
    label_maps = label_maps if precision == "float32" else label_maps.with_name(f"{label_maps.name}_{precision}")
    options = PredictOptions(device, mirror, precision=precision)
    predict_recorded(folder, [case.source for case in group.cases], label_maps, group.weights, options, announce)
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
    facts = (fold, case.pixel_spacing_mm, case.patient, case.source, plan.spatial_dims)
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
    """

    title: str
    rows: pd.DataFrame
    summary: tuple[SummaryRow, ...]
    excluded: tuple[str, ...]
    folder: Path
    predictions: tuple[Path, ...]
    record: SummaryRecord


def evaluate_external(
    folder: BundleFolder,
    dataset: Path | str | None,
    out: Path | str | None,
    predictions: Path | str | None,
    device: str | None,
    options: tuple[Any, ...],
    announce: Callable[[str], None] = lambda line: None,
    follow_links: bool = False,
    data_root: Path | str | None = None,
) -> Evaluation:
    """The verb `evaluate` for an external bundle, on a dataset with labels.

    Whether the bundle was trained on some of the cases is not known, and the summary says so.

    Args:
        folder: the bundle, once it is trusted.
        dataset: a labelled folder.
        out: gets metrics.csv, summary.json and run.json; a folder below the bundle's evidence, if None.
        predictions: files made before, instead of predicting now.
        device: see `predict`.
        options: mirror, ensemble, precision, by; none of them is known here.
        announce: see `predict`.
        follow_links, data_root: as in `evaluate`.

    Raises:
        EvaluationError: no dataset, an option, or outputs that are none of the dataset's labels.
    """
    if options != (False, False, "float32", ()):
        raise EvaluationError(
            f"{folder.name} was not made by `unet-pipeline plan`: it runs as its inference config says. Leave out --mirror, --ensemble, "
            "--precision and --by."
        )
    if dataset is None:
        raise EvaluationError(
            f"{folder.name} has no record of its training, so it has no validation cases. Give a DATASET."
        )
    from unet_pipeline.evidence.records.evaluation_record import add_result, record_evaluation
    from unet_pipeline.prediction.outputs import find_any_output

    measured = read_references(dataset, follow_links, data_root)
    target = Path(out) if out is not None else folder.evaluations / f"dataset_{measured.name}"
    measured = join_references(measured, None, target)
    label_maps = Path(predictions) if predictions is not None else target / f"predictions_{_hash_external(folder)}"
    sources = [_name_source(measured, case) for case in measured.cases]
    weights = [(path, None) for path in folder.list_model_files()]
    with record_evaluation(folder, target, weights, predictions is not None) as keeper:
        if predictions is None:
            predict_recorded(folder, sources, label_maps, (), PredictOptions(device), announce)
        files = {source.name: find_any_output(source, label_maps) for source in sources}
        given = None if predictions is None else label_maps
        rows, summary = _measure(folder, measured, files, target, given, find_relative(dataset, folder.root))
        add_result(keeper.record, target, summary.title, files)
    return Evaluation(summary.title, rows, tuple(summary.rows), (), target, (label_maps,), summary)


def _name_source(measured: Dataset, case: Case) -> PredictionInput:
    return PredictionInput(case.name, tuple(measured.root / image for image in case.images))


def _measure(
    folder: BundleFolder,
    measured: Dataset,
    files: dict[str, Path],
    target: Path,
    given: Path | None,
    place: str | None,
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Write metrics.csv and summary.json of predicted files, by case.

    Args:
        files: label map of each case.
        target: gets the two.
        given: folder of the label maps, where they were made before.
        place: of the data, from the bundle's root.
    """
    from unet_pipeline.evaluation.external import compare_outputs, name_outputs
    from unet_pipeline.evaluation.files import DataRecord, SummaryFacts, build_summary, write_rows, write_summary
    from unet_pipeline.evaluation.pairs import Pair, sum_up_changes
    from unet_pipeline.prediction.external import read_format

    form = read_format(folder.read_metadata(), folder.name)
    pairs = [
        Pair(
            case.name,
            measured.root / case.require_label(),
            files[case.name],
            None,
            case.spacing_mm,
            case.patient,
            _name_source(measured, case),
            form.images.spatial_dims,
        )
        for case in measured.cases
    ]
    outputs = name_outputs(form, measured, pairs)
    changes: list[Problem] = []
    compared = compare_outputs(pairs, outputs, measured.ignore_value, changes)
    facts = SummaryFacts(
        f"{measured.name}, all {len(pairs)} cases",
        DataRecord(name=measured.name, manifest_sha256=None, place=place),
        {name: values[0] for name, values in outputs.values_of.items()},
        notes=[
            f"Whether {folder.name} was trained on some of these cases is not known.",
            *(_judge_external(folder, pairs, given) if given else ()),
            *outputs.notes,
            *sum_up_changes(changes),
        ],
    )
    with write_together():
        rows = write_rows(target, compared)
        return rows, write_summary(target, build_summary(rows, outputs.scored, facts))


def _judge_external(folder: BundleFolder, pairs: Sequence[Pair], given: Path) -> list[str]:
    """What the record of label maps that were made before says about their images and weights."""
    from unet_pipeline.evidence.records.given_predictions import judge_given

    cases = tuple(ReferencedImage(pair.source, pair.reference) for pair in pairs if pair.source is not None)
    return judge_given(folder, [Group(cases, tuple(folder.list_model_files()), None)], given, pairs)


def _hash_external(folder: BundleFolder) -> str:
    """Label maps are used again as long as weights and config are the same."""
    files = [folder.find_config("inference"), *folder.list_model_files()]
    return hashlib.sha256("".join(map(compute_sha256, files)).encode()).hexdigest()[:12]
