"""`evaluate` for an external bundle: what it writes is compared with a labelled dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.groups import Group, ReferencedImage
from unet_pipeline.files import compute_sha256, find_relative, write_together
from unet_pipeline.messages import show_all_cases
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.verbs.evaluate import Evaluation
from unet_pipeline.verbs.evaluate_jobs import choose_measuring
from unet_pipeline.verbs.predict import predict_recorded
from unet_pipeline.verbs.references import join_references, read_references

if TYPE_CHECKING:
    import pandas as pd

    from unet_pipeline.dataset.dataset import Case
    from unet_pipeline.evaluation.files import SummaryRecord
    from unet_pipeline.evaluation.pairs import Pair
    from unet_pipeline.messages import Problem


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
    workers: JobOptions | None = None,
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
        workers: who predicts and measures; this process, if None.

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
            predict_recorded(folder, sources, label_maps, (), PredictOptions(device), announce, jobs=workers)
        files = {source.name: find_any_output(source, label_maps) for source in sources}
        given = None if predictions is None else label_maps
        place = find_relative(dataset, folder.root)
        rows, summary = _measure(folder, measured, files, target, given, place, workers)
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
    workers: JobOptions | None,
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Write metrics.csv and summary.json of predicted files, by case.

    Args:
        files: label map of each case.
        target: gets the two.
        given: folder of the label maps, where they were made before.
        place: of the data, from the bundle's root.
        workers: who measures; this process, if None.
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
    compared = compare_outputs(pairs, outputs, measured.ignore_value, changes, choose_measuring(workers, target))
    facts = SummaryFacts(
        f"{measured.name}, {show_all_cases(len(pairs))}",
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
