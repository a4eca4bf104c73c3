"""Predictions with their record, as `predict` and `evaluate` make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.files import compute_sha256
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions

if TYPE_CHECKING:
    from unet_pipeline.prediction.inspection import Inspector
    from unet_pipeline.prediction.result_formats import ResultFormat
    from unet_pipeline.prediction.reuse import Ledger
    from unet_pipeline.prediction.run import Predictions
    from unet_pipeline.verbs.predict_jobs import PredictionJob
    from unet_pipeline.verbs.stores import Places


def predict_recorded(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    options: PredictOptions,
    announce: Callable[[str], None] = lambda line: None,
    announce_windows: Callable[[str], None] = lambda line: None,
    jobs: JobOptions | None = None,
    places: Places | None = None,
    compares: bool = False,
) -> Predictions:
    """Predict images into a folder whose record, predictions_run.json, says what each label map was made of.

    Args:
        folder, inputs, out, weights, options: as for `predict_images`.
        announce, announce_windows: called with why label maps that are there are made again, and how windows are computed.
        jobs: who does the work; this process, if None.
        places: where images or label maps lie in an object store.
        compares: the images with the bundle's input contract; predictions.csv has the verdicts.

    Raises:
        CohortError: workers cannot be had, or the disk is full.
        BundleError, PredictionError: as `predict_images`.
    """
    from unet_pipeline.clinical.formats import choose_format
    from unet_pipeline.evidence.records.prediction_record import record_predictions
    from unet_pipeline.planning.plan import read_plan
    from unet_pipeline.quality.doubt_tables import list_doubt_rows, read_expected_dice
    from unet_pipeline.quality.inspector import build_inspector
    from unet_pipeline.quality.predictions_table import (
        list_contract_rows,
        read_predictions_table,
        write_predictions_table,
    )
    from unet_pipeline.verbs.predict_jobs import PredictionJob

    is_mirrored = places is not None and places.mirror is not None  # the files are looked at once they are fetched
    result_format = choose_format(folder, options.format, () if is_mirrored else inputs)
    files_used = list_used_files(folder, weights, options)
    plan = settle_recorded(folder, options, result_format, jobs)
    settings = options.as_settings() if folder.is_planned else plan
    sha256 = _choose_contract(folder, announce) if compares else ""
    inspector = build_inspector(folder, files_used, options, sha256) if compares else None
    with record_predictions(folder, out, files_used, settings, plan, announce) as (record, ledger):
        ledger.contract_sha256, ledger.is_strict = sha256, options.strict
        job = PredictionJob(
            folder, (), out, weights, files_used, options, jobs or JobOptions(), result_format, announce_windows
        )
        predict = partial(_predict, job, ledger, inspector)
        try:
            predictions = places.predict(inputs, ledger, options.probabilities, predict) if places else predict(inputs)
        finally:
            if compares and folder.is_planned and ledger.entries:
                known = list_doubt_rows(ledger.entries, read_plan(folder.plan), read_expected_dice(folder))
                table = write_predictions_table(out, known, list_contract_rows(ledger.entries))
                ledger.folder.deliver(table, compute_sha256(table))
        record.precision = predictions.precision if predictions.written else None
        record.shares = dict(predictions.shares)
    return replace(predictions, table=tuple(read_predictions_table(out))) if compares else predictions


def _choose_contract(folder: BundleFolder, announce: Callable[[str], None]) -> str:
    """SHA-256 of the contract that images are compared with; empty, and said, where the bundle has none."""
    from unet_pipeline.quality.inspector import NO_CONTRACT, hash_contract

    sha256 = hash_contract(folder)
    if folder.is_planned and not sha256:
        announce(NO_CONTRACT)
    return sha256


def _predict(
    job: PredictionJob, ledger: Ledger, inspector: Inspector | None, inputs: Sequence[PredictionInput]
) -> Predictions:
    """Predict images whose files are there, in this process or by workers."""
    from unet_pipeline.clinical.formats import choose_format
    from unet_pipeline.prediction.run import predict_images
    from unet_pipeline.verbs.predict_jobs import predict_by_jobs

    choose_format(job.folder, job.options.format, inputs)  # now that they can be looked at
    if not job.jobs.is_plain:
        return predict_by_jobs(replace(job, inputs=inputs), ledger)
    return predict_images(
        job.folder, inputs, job.out, job.weights, job.options, None, job.announce, ledger, job.result_format, inspector
    )


def settle_recorded(
    folder: BundleFolder, options: PredictOptions, result_format: ResultFormat, jobs: JobOptions | None = None
) -> dict[str, object]:
    """The options that reach the label maps, with what they come to on this machine, or on that of the workers."""
    from unet_pipeline.prediction.reuse import settle_options
    from unet_pipeline.verbs.predict_jobs import settle_remote_options

    effective: dict[str, object] = {"device": options.device}
    if folder.is_planned:
        effective = settle_remote_options(options, jobs) if jobs else settle_options(options)
    return effective | ({"format": result_format.name} if result_format.name else {})


def list_used_files(folder: BundleFolder, weights: Sequence[Path], options: PredictOptions) -> Sequence[Path]:
    """The files that predict: the weights, the export of the runtime, or all model files of an external bundle."""
    if not folder.is_planned:
        return folder.list_model_files()
    return weights if options.runtime == "torch" else (folder.export(options.runtime),)
