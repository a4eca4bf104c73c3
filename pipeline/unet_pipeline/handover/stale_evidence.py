"""Do the evaluations in a bundle's evidence belong to the weights and the config that it hands over?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationRunRecord, read_record
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.plan import read_plan


def check_evidence(folder: BundleFolder) -> str:
    """Refuse evaluations of other weights, of another inference config, or with numbers that were changed afterwards.

    An evaluation without a record, or of label maps that were given, is named: nobody knows what it belongs to.

    Returns:
        What was seen, in words.

    Raises:
        BundleError: the first evaluation that does not belong to the bundle.
    """
    seen = []
    for target in sorted(path.parent for path in folder.evaluations.glob("*/metrics.csv")):
        record = read_record(target / "run.json", EvaluationRunRecord)
        if record is None:
            seen.append(f"{target.name} has no record")
            continue
        if reason := next(_find_reasons(folder, target, record), None):
            shown = target.relative_to(folder.root).as_posix()
            raise BundleError(
                f"{shown} is no evidence for {folder.name}: {reason}. Evaluate again with `unet-pipeline evaluate`, or remove the "
                "folder."
            )
        how = "label maps that were given" if record.predictions_given else "these weights and this config"
        seen.append(f"{target.name} is of {how}")
    return "; ".join(seen) or "no evaluation"


def _find_reasons(folder: BundleFolder, target: Path, record: EvaluationRunRecord) -> Iterator[str]:
    result = record.result
    for name, sha256 in (("metrics.csv", result.metrics_sha256), ("summary.json", result.summary_sha256)):
        if not (target / name).is_file() or compute_sha256(target / name) != sha256:
            yield f"{name} was changed after the evaluation"
    if record.predictions_given:
        return
    if record.inference_config_sha256 != compute_sha256(folder.config("inference")):
        yield "it was made with another configs/inference.json"
    origin = folder.fold_of_weights(read_plan(folder.plan).fold)
    for weights in record.weights:
        path = folder.root / weights.file
        if not path.is_file() and weights.fold == origin:
            path = folder.weights  # a sealed bundle has these only
        if path.is_file() and compute_sha256(path) != weights.sha256:
            yield f"it was made with other weights than models/{path.name}"
    evaluated = {weights.sha256 for weights in record.weights if weights.fold == origin}
    if evaluated and compute_sha256(folder.weights) not in evaluated:
        yield f"it was made with other weights of fold {origin} than models/model.pt"
