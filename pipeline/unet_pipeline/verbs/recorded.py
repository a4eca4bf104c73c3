"""Predictions with their record, as `predict` and `evaluate` make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions

if TYPE_CHECKING:
    from unet_pipeline.prediction.run import Predictions
    from unet_pipeline.verbs.stores import Places


def predict_recorded(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    options: PredictOptions,
    announce: Callable[[str], None] = lambda line: None,
    announce_windows: Callable[[str], None] = lambda line: None,
    places: Places | None = None,
) -> Predictions:
    """Predict images into a folder whose record, predictions_run.json, says what each label map was made of.

    Args:
        folder, inputs, out, weights, options: as for `predict_images`.
        announce: called with why label maps that are there are made again.
        announce_windows: called with how windows are computed.
        places: where images or label maps lie in an object store.

    Raises:
        BundleError, PredictionError: as `predict_images`.
    """
    from unet_pipeline.evidence.records.prediction_record import record_predictions
    from unet_pipeline.prediction.reuse import settle_options
    from unet_pipeline.prediction.run import predict_images

    files_used = list_used_files(folder, weights, options)
    plan = settle_options(options) if folder.is_planned else {"device": options.device}
    settings = options.as_settings() if folder.is_planned else plan
    with record_predictions(folder, out, files_used, settings, plan, announce) as (record, ledger):
        predict = partial(
            predict_images, folder, out=out, weights=weights, options=options, announce=announce_windows, ledger=ledger
        )
        predictions = places.predict(inputs, ledger, options.probabilities, predict) if places else predict(inputs)
        record.precision = predictions.precision if predictions.written else None
        record.shares = dict(predictions.shares)
    return predictions


def list_used_files(folder: BundleFolder, weights: Sequence[Path], options: PredictOptions) -> Sequence[Path]:
    """The files that predict: the weights, the export of the runtime, or all model files of an external bundle."""
    if not folder.is_planned:
        return folder.list_model_files()
    return weights if options.runtime == "torch" else (folder.export(options.runtime),)
