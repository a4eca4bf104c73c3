"""`package`: a trained bundle, verified and sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_trusted
from unet_pipeline.bundle.data_state import require_unchanged_data
from unet_pipeline.bundle.folder import BundleFolder, require_weights
from unet_pipeline.bundle.run_record import EvaluationRunRecord
from unet_pipeline.bundle.seal import break_seal
from unet_pipeline.errors import PipelineError
from unet_pipeline.files import compute_sha256, write_atomically
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.text_files import read_model
from unet_pipeline.verbs.evaluate import evaluate

if TYPE_CHECKING:
    from unet_pipeline.handover.package import Package


def package(
    bundle: Path | str,
    zip_file: Path | str | None = None,
    key: Path | str | None = None,
    trust: bool = False,
    export: str | None = None,
    note: str | None = None,
    weights: str = "float16",
    announce: Callable[[str], None] = lambda line: None,
) -> Package:
    """Verify, export, document, seal and zip a trained bundle.

    Its weights are stored in half precision, and its validation cases, if they were evaluated, are measured again with these. What the
    images of the training look like is noted as its input contract, unless it has that of these weights.
    Where that is not possible, because the dataset is elsewhere, the weights stay as they were measured, and it is said.

    Args:
        bundle: trained.
        zip_file: the archive; beside the folder by default.
        key: private SSH key to sign it with.
        trust: run it although its audit finds a danger.
        export: torchscript, onnx, both joined by a comma, or none; all that the installed packages can write, if None.
        note: line of this version in the changelog; the files that changed, if None.
        weights: float16 or float32; weights that are in half precision already stay so.
        announce: is given lines about the weights.

    Raises:
        BundleError: no weights, an unknown type of them, a check fails, or an export does not agree with the network.
    """
    from unet_pipeline.bundle.half_weights import FLOAT16, holds_full_weights, require_weight_type
    from unet_pipeline.evidence.records.crate import write_crate
    from unet_pipeline.handover.package import package_bundle

    require_weight_type(weights)
    folder = open_trusted(bundle, "package", trust, sealed=False)
    folder.require_data()
    if weights == FLOAT16 and holds_full_weights(require_weights(folder)):
        _halve_and_measure(folder, announce)
    _describe_training(folder, announce)
    default = folder.root.resolve().with_name(f"{folder.name}.zip")
    target = Path(zip_file) if zip_file is not None else default
    return package_bundle(folder, target, Path(key) if key is not None else None, export, note, write_crate)


def _describe_training(folder: BundleFolder, announce: Callable[[str], None]) -> None:
    """Make the input contract, where the bundle has none of its weights; where the images are elsewhere or others, say so."""
    from unet_pipeline.evaluation.groups import group_by_fold
    from unet_pipeline.quality.contract import read_contract
    from unet_pipeline.quality.fitting import write_contract

    plan, known = read_plan(folder.plan), read_contract(folder)
    try:
        groups, _, _ = group_by_fold(folder, plan)
        if known is not None and known.weights_sha256 == [compute_sha256(group.weights[0]) for group in groups]:
            return
        require_unchanged_data(folder)
        break_seal(folder)
        write_contract(folder, plan, groups)
    except PipelineError as error:  # a bundle that cannot predict is refused by the checks that follow, in their words
        announce(f"contract {'none' if known is None else 'of other weights'}: {error}")


def _halve_and_measure(folder: BundleFolder, announce: Callable[[str], None]) -> None:
    """Store the weights in half precision and repeat the evaluation that was made with them, or leave all as it was and say why."""
    from unet_pipeline.bundle.half_weights import halve_weights
    from unet_pipeline.handover.stale_evidence import check_evidence

    check_evidence(folder)  # what would be refused is not measured anew
    known = _list_measured(folder)
    if reason := _find_reason(folder, known):
        announce(f"weights  float32, as they were measured: {reason}")
        return
    break_seal(folder)
    try:
        with _put_back_on_failure(folder):
            halve_weights(folder)
            for record in known.values():
                before = _read_dice(folder)
                precision = record.precision or "float32"
                was_judged = (folder.evaluations / "validation" / "quality.json").is_file()
                evaluate(
                    folder.root,
                    mirror=record.mirror,
                    by=record.by,
                    trust=True,
                    precision=precision,
                    quality=was_judged,
                )
                announce(f"weights  float16; measured again with them: mean Dice {_read_dice(folder)}, before {before}")
    except PipelineError as error:
        announce(f"weights  float32, as they were measured: {error}")


def _list_measured(folder: BundleFolder) -> dict[str, EvaluationRunRecord]:
    """Evaluations of the weights as they are, by their names, with their records."""
    own, paths = compute_sha256(folder.weights), sorted(folder.evaluations.glob("*/run.json"))
    records = {path.parent.name: read_model(path, EvaluationRunRecord) for path in paths}
    return {name: record for name, record in records.items() if own in [weights.sha256 for weights in record.weights]}


def _find_reason(folder: BundleFolder, known: Mapping[str, EvaluationRunRecord]) -> str:
    """Why these evaluations cannot be repeated here; empty if they can."""
    if others := sorted(known.keys() - {"validation"}):
        return (
            f"evidence/evaluations/{others[0]} was made with them, and where its images lie is not known. Remove that folder, package, then "
            "evaluate and package again."
        )
    dataset = read_plan(folder.plan).dataset_dir
    if known and not (folder.root / dataset).is_dir():
        return f"the dataset is not at {dataset} (from the bundle's root), so that nothing can be measured again."
    return ""


@contextmanager
def _put_back_on_failure(folder: BundleFolder) -> Iterator[None]:
    """Files of the weights as they were, whatever stops what changes them."""
    kept = {path: path.read_bytes() if path.is_file() else None for path in (folder.weights, folder.weights_origin)}
    try:
        yield
    except BaseException:
        for path, content in kept.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                with write_atomically(path) as partial:
                    partial.write_bytes(content)
        raise


def _read_dice(folder: BundleFolder) -> str:
    """Mean Dice of the validation cases, as text."""
    from unet_pipeline.handover.package import read_eval_metrics

    value = read_eval_metrics(folder).get("mean_dice")
    return "undefined" if value is None else f"{value:.4f}"
