"""`predict` and `evaluate` for bundles that this package did not make, such as those of MONAI's model zoo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle_folder import BundleFolder
from pipeline.errors import EvaluationError, PredictionError
from pipeline.files import compute_sha256, write_together
from pipeline.prediction.inputs import PredictionInput, list_inputs
from pipeline.verbs.evaluation_result import Evaluation
from pipeline.verbs.references import join_references, read_references

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.dataset.dataset import Case, Dataset
    from pipeline.dataset.problems import Problem
    from pipeline.evaluation.files import SummaryRecord
    from pipeline.prediction.run import Predictions

_DEFAULTS = (False, False, False, "torch", "float32")


def predict_with_foreign(
    folder: BundleFolder,
    source: Path | str,
    out: Path | str,
    device: str | None,
    options: tuple[Any, ...],
    announce: Callable[[str], None] = lambda line: None,
) -> Predictions:
    """The verb `predict` for a bundle of others.

    Args:
        folder: the bundle, once it is trusted.
        source: see `predict`.
        out: see `predict`.
        device: see `predict`.
        options: mirror, ensemble, probabilities, runtime, precision, which its config decides and not the user.
        announce: see `predict`.

    Raises:
        BundleError: it cannot be built, or has no weights.
        PredictionError: an option is set, no image, or an image that fails.
    """
    if options != _DEFAULTS:
        raise PredictionError(
            f"{folder.name} was not made by `unet-pipeline plan`: it runs as its inference config says. Leave out --mirror, --ensemble, "
            "--probabilities, --runtime and --precision."
        )
    from pipeline.prediction.foreign import read_format
    from pipeline.prediction.passed_over import say_passed_over
    from pipeline.prediction.run import refuse_own_folder
    from pipeline.training.memory import keep_freed_pages

    keep_freed_pages()
    expected = read_format(folder.read_metadata(), folder.name)
    inputs = list_inputs(Path(source), len(expected.channel_names), expected.channel_names)
    refuse_own_folder(inputs, Path(out))
    say_passed_over(Path(source), inputs, announce)
    return _predict(folder, inputs, Path(out), device, announce)


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
            _predict(folder, sources, made, device, announce)
        files = {source.name: find_any_output(source, made) for source in sources}
        rows, summary = _measure(folder, measured, files, target)
        add_result(record, target, summary.title, files)
    return Evaluation(summary.title, rows, tuple(summary.rows), (), target, (made,), summary)


def _predict(
    folder: BundleFolder,
    sources: list[PredictionInput],
    made: Path,
    device: str | None,
    announce: Callable[[str], None],
) -> Predictions:
    from pipeline.evidence.prediction_record import record_predictions
    from pipeline.prediction.foreign_run import predict_foreign

    settings = {"device": device}
    with record_predictions(folder, made, folder.list_model_files(), settings, settings, announce) as (_, ledger):
        return predict_foreign(folder, sources, made, device, ledger)


def _name_source(measured: Dataset, case: Case) -> PredictionInput:
    return PredictionInput(case.name, tuple(measured.root / image for image in case.images))


def _measure(
    folder: BundleFolder, measured: Dataset, files: dict[str, Path], target: Path
) -> tuple[pd.DataFrame, SummaryRecord]:
    """Write metrics.csv and summary.json of predicted files, by case."""
    from pipeline.evaluation.files import DataRecord, build_summary, write_rows, write_summary
    from pipeline.evaluation.foreign import compare_outputs, name_outputs
    from pipeline.evaluation.pairs import Pair, sum_up_changes
    from pipeline.prediction.foreign import read_format

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
