"""What `predict` would do and what `train` would take, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.boundary import guard
from pipeline.bundle.configs import find_edited_configs
from pipeline.bundle.trust import open_for_reading
from pipeline.bundle_folder import BundleFolder, open_any_bundle, open_bundle, require_ensemble, require_weights
from pipeline.dataset.fingerprint import read_fingerprint
from pipeline.errors import PipelineError, PlanError, PredictionError
from pipeline.lean_imports import arrange_lean_import
from pipeline.planning.plan import read_plan
from pipeline.prediction.inputs import PredictionInput, list_inputs

if TYPE_CHECKING:
    from pipeline.prediction.forecast import Forecast
    from pipeline.training.forecast import TrainingForecast


def arrange_process(folder: BundleFolder, alone: bool, device: str | None) -> None:
    """Make the process ready for predictions of a bundle: a short import of MONAI, and a GPU that starts beside it.

    Args:
        folder: of the bundle.
        alone: the process does nothing else that needs MONAI's parts for training.
        device: as in `predict`.
    """
    plan = read_plan(folder.plan)
    # a config that was edited may name any part of MONAI
    if alone and folder.generated_configs.is_file() and not find_edited_configs(folder):
        arrange_lean_import(with_label_maps=bool(plan.without_holes or plan.one_part or plan.smallest_part))
    if alone:
        from pipeline.prediction.device_start import start_device

        start_device(device)


def prepare_prediction(
    folder: BundleFolder, source: Path | str, ensemble: bool, runtime: str, alone: bool, device: str | None = None
) -> tuple[tuple[Path, ...], list[PredictionInput]]:
    """The weights and the images of a prediction, for `predict` and `forecast`; and the process is ready for it.

    Raises:
        BundleError: no weights, for an ensemble fewer than two folds, or no export for the runtime.
        PredictionError: no image.
    """
    weights = require_ensemble(folder) if ensemble else (require_weights(folder),)
    plan = read_plan(folder.plan)
    arrange_process(folder, alone, device if runtime == "torch" else "cpu")
    from pipeline.prediction.runtime import check_runtime
    from pipeline.training.memory import keep_freed_pages

    check_runtime(folder, runtime, ensemble)
    keep_freed_pages()
    return tuple(weights), list_inputs(Path(source), len(plan.channel_names), plan.channel_names)


@guard
def forecast(
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
) -> Forecast:
    """Windows, memory and the rest of what `predict` would do with the same arguments; the network does not run, nothing is written.

    Only the headers of the images are read, so damaged voxels do not show.

    Raises:
        BundleError: as `predict`.
        PredictionError: as `predict`, before the first image; or the bundle's preprocessing is not what `plan` writes.
    """
    with open_for_reading(bundle, trust, open_any_bundle) as folder:
        if not folder.is_planned:
            raise PredictionError(
                f"{folder.name} was not made by `plan`, so what its prediction takes cannot be told from headers. "
                "Predict without --dry-run."
            )
        weights, inputs = prepare_prediction(folder, source, ensemble, runtime, alone, device)
        from pipeline.evidence.prediction_record import open_ledger
        from pipeline.prediction.reuse import settle_options
        from pipeline.prediction.run import forecast_prediction
        from pipeline.prediction.runtime import TORCH

        options = settle_options(mirror, runtime, precision, device)
        used = weights if runtime == TORCH else (folder.export(runtime),)
        ledger = open_ledger(folder, Path(out), used, options)
        return forecast_prediction(
            folder, inputs, Path(out), weights, device, mirror, probabilities, runtime, precision, ledger
        )


@guard
def forecast_training(bundle: Path | str, read_case_s: float = 0.0) -> TrainingForecast:
    """How long the planned training of a fold will take on this machine; a step is timed for a few seconds, nothing is written.

    Args:
        bundle: from `plan`; its data are not read.
        read_case_s: of reading one image and its label, such as `PlannedFolder.read_case_s`.

    Raises:
        BundleError: no bundle.
        PlanError: a step cannot be timed; says why.
    """
    folder = open_bundle(bundle)
    plan = read_plan(folder.plan)
    shape, spacing_mm = plan.patch_size, tuple(plan.spacing_mm)
    if folder.fingerprint.is_file():
        shape = read_fingerprint(folder.fingerprint).median_shape(spacing_mm)
    split = folder.read_split(plan.fold)
    from pipeline.training.forecast import forecast_training as add_up
    from pipeline.training.probe import time_step

    try:
        step = time_step(folder, plan)
    except PipelineError:
        raise
    except Exception as error:  # a machine may fail in many ways, and the plan is good without its time
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise PlanError(f"A step of the training cannot be timed on this machine ({cause}).") from error
    sizes = len(split["training"]), len(split["validation"])
    return add_up(plan, step, *sizes, shape, read_case_s)
