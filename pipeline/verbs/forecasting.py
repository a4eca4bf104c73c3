"""What `predict` would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle.configs import find_edited_configs
from pipeline.bundle.trust import open_for_reading
from pipeline.bundle_folder import BundleFolder, open_any_bundle, require_ensemble, require_weights
from pipeline.errors import PredictionError
from pipeline.lean_imports import arrange_lean_import
from pipeline.planning.plan import read_plan
from pipeline.prediction.inputs import PredictionInput, list_inputs

if TYPE_CHECKING:
    from pipeline.prediction.forecast import Forecast


def prepare_prediction(
    folder: BundleFolder, source: Path | str, ensemble: bool, runtime: str, alone: bool
) -> tuple[tuple[Path, ...], list[PredictionInput]]:
    """The weights and the images of a prediction, for `predict` and `forecast`; and the process is ready for it.

    Raises:
        BundleError: no weights, for an ensemble fewer than two folds, or no export for the runtime.
        PredictionError: no image.
    """
    weights = require_ensemble(folder) if ensemble else (require_weights(folder),)
    plan = read_plan(folder.plan)
    # a config that was edited may name any part of MONAI
    if alone and folder.generated_configs.is_file() and not find_edited_configs(folder):
        arrange_lean_import(with_label_maps=bool(plan.without_holes or plan.one_part or plan.smallest_part))
    from pipeline.prediction.runtime import check_runtime
    from pipeline.training.memory import keep_freed_pages

    check_runtime(folder, runtime, ensemble)
    keep_freed_pages()
    return tuple(weights), list_inputs(Path(source), len(plan.channel_names), plan.channel_names)


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
        weights, inputs = prepare_prediction(folder, source, ensemble, runtime, alone)
        from pipeline.prediction.run import forecast_prediction

        return forecast_prediction(
            folder, inputs, Path(out), weights, device, mirror, probabilities, runtime, precision
        )
