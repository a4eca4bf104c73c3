"""`predict` and `evaluate` for bundles that this package did not make, such as those of MONAI's model zoo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle_folder import BundleFolder
from pipeline.errors import EvaluationError
from pipeline.files import compute_sha256, write_together
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.options import PredictOptions
from pipeline.verbs.evaluation_result import Evaluation
from pipeline.verbs.recorded import predict_recorded
from pipeline.verbs.references import join_references, read_references

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.dataset.dataset import Case, Dataset
    from pipeline.dataset.problems import Problem
    from pipeline.evaluation.files import SummaryRecord


def evaluate_foreign(
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
    """The verb `evaluate` for a bundle of others, on a dataset with labels.

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
    from pipeline.evidence.evaluation_record import add_result, record_foreign_evaluation
    from pipeline.prediction.outputs import find_any_output

    measured = read_references(dataset, follow_links, data_root)
    target = Path(out) if out is not None else folder.evaluations / f"dataset_{measured.name}"
    measured = join_references(measured, None, target)
    made = Path(predictions) if predictions is not None else target / f"predictions_{_hash_foreign(folder)}"
    sources = [_name_source(measured, case) for case in measured.cases]
    with record_foreign_evaluation(folder, target, predictions is not None) as record:
        if predictions is None:
            predict_recorded(folder, sources, made, (), PredictOptions(device), announce)
        files = {source.name: find_any_output(source, made) for source in sources}
        rows, summary = _measure(folder, measured, files, target)
        add_result(record, target, summary.title, files)
    return Evaluation(summary.title, rows, tuple(summary.rows), (), target, (made,), summary)


def _name_source(measured: Dataset, case: Case) -> PredictionInput:
    return PredictionInput(case.name, tuple(measured.root / image for image in case.images))


def _measure(
    folder: BundleFolder, measured: Dataset, files: dict[str, Path], target: Path
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Write metrics.csv and summary.json of predicted files, by case."""
    from pipeline.evaluation.files import DataRecord, build_summary, write_rows, write_summary
    from pipeline.evaluation.foreign import compare_outputs, name_outputs
    from pipeline.evaluation.pairs import Pair, sum_up_changes
    from pipeline.prediction.external import read_format

    pairs = [
        Pair(
            case.name,
            measured.root / case.require_label(),
            files[case.name],
            None,
            case.spacing_mm,
            case.patient,
            _name_source(measured, case),
        )
        for case in measured.cases
    ]
    outputs = name_outputs(read_format(folder.read_metadata(), folder.name), measured, pairs)
    changes: list[Problem] = []
    compared = compare_outputs(pairs, outputs, measured.ignore_value, changes)
    facts: dict[str, Any] = {
        "title": f"{measured.name}, all {len(pairs)} cases",
        "dataset": DataRecord(name=measured.name, manifest_sha256=None),
        "labels": {name: values[0] for name, values in outputs.values_of.items()},
        "folds": None,
        "num_folds": None,
        "excluded": [],
        "notes": [
            f"Whether {folder.name} was trained on some of these cases is not known.",
            *outputs.notes,
            *sum_up_changes(changes),
        ],
    }
    with write_together():
        rows = write_rows(target, compared)
        return rows, write_summary(target, build_summary(rows, outputs.scored, **facts))


def _hash_foreign(folder: BundleFolder) -> str:
    """Label maps are used again as long as weights and config are the same."""
    files = [folder.find_config("inference"), *folder.list_model_files()]
    return hashlib.sha256("".join(map(compute_sha256, files)).encode()).hexdigest()[:12]
