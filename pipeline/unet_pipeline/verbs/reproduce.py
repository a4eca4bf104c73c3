"""`reproduce`: runs again what a bundle's record tells, and compares."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.audit.trust import open_for_reading
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationRunRecord, RunRecord, TrainingRecord, read_record
from unet_pipeline.bundle.weights_origin import hash_trained_weights, is_halved
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import ERROR, Problem
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.verbs.evaluate import evaluate
from unet_pipeline.verbs.train import train

if TYPE_CHECKING:
    from unet_pipeline.evidence.reproduce.reproduction import Comparison, Reproduction

_ROOT = "BUNDLE/"  # how a record begins a path below the bundle


@dataclass(frozen=True)
class _Recorded:
    """What a bundle's evidence says about the folds that are to be reproduced."""

    folder: BundleFolder
    dataset: Path
    trainings: Mapping[int, TrainingRecord]
    folds: tuple[int, ...]
    evaluation: EvaluationRunRecord | None
    has_numbers: bool

    @property
    def target(self) -> Path:
        return self.folder.evaluations / "validation"

    def was_mirrored(self) -> bool:
        """Whether the recorded predictions were averaged over mirrored copies; older ones tell it by their folder's name."""
        if self.evaluation is not None:
            return self.evaluation.mirror
        return any(self.target.glob("predictions_*_mirrored"))


def reproduce(
    bundle: Path | str,
    fold: int | str | None = None,
    evaluation_only: bool = False,
    dataset: Path | str | None = None,
    out: Path | str | None = None,
    anyway: bool = False,
    device: str | None = None,
    announce: Callable[[str], None] | None = None,
    trust: bool = False,
) -> Reproduction:
    """Run again what a bundle's evidence records and compare weights, label maps and every number.

    Data files, splits, plan, configs and versions are compared first; where one differs, nothing is run. The bundle itself
    stays as it is. A training takes as many threads as the recorded one did.

    Args:
        bundle: with evidence, as a folder or an archive; a sealed one has all that is needed beside the data.
        fold: a number, "all" recorded ones, or None for the fold of models/model.pt.
        evaluation_only: predict with the bundle's weights instead of training again.
        dataset: where the data are now; where the plan says, if None. Of a dataset that `plan` copied, the copies or the dataset itself,
            which is then copied again.
        out: keeps the files of the run; does not exist yet.
        anyway: run in spite of differences.
        device: for predicting.
        announce: called with each difference to the record, and with the stock command before each training.
        trust: run the bundle although its audit finds a danger, or its files are not those that were sealed.

    Raises:
        BundleError: no finished training or no evaluation in evidence, or no weights for an evaluation; or the bundle needs trust.
        PipelineError: as `train` and `evaluate`.
    """
    if out is not None and Path(out).exists():
        raise BundleError(f"{out} exists already; expected the name of a new folder for the files of the run.")
    say = announce or (lambda line: None)
    from unet_pipeline.evidence.reproduce.reproduction_data import provide_data

    with (
        open_for_reading(bundle, trust) as folder,
        provide_data(folder, Path(dataset) if dataset is not None else None) as (data, changes),
    ):
        return _reproduce(folder, fold, evaluation_only, data, changes, out, anyway, device, say)


def _reproduce(
    folder: BundleFolder,
    fold: int | str | None,
    evaluation_only: bool,
    dataset: Path | None,
    changes: Sequence[Problem],
    out: Path | str | None,
    anyway: bool,
    device: str | None,
    say: Callable[[str], None],
) -> Reproduction:
    from unet_pipeline.evidence.reproduce.reproduction import stop

    recorded = _read_evidence(folder, fold, evaluation_only, dataset)
    findings = tuple(dict.fromkeys([*changes, *_find_changes(recorded, evaluation_only)]))
    for finding in findings:
        say(str(finding))
    if any(finding.severity == ERROR for finding in findings) and not anyway:
        return stop(recorded.folds, findings)
    scratch = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="reproduce-")) / folder.name
    try:
        return _run(recorded, findings, scratch.resolve(), evaluation_only, device, say)
    finally:
        if out is None:
            shutil.rmtree(scratch.parent, ignore_errors=True)


def _read_evidence(
    folder: BundleFolder, fold: int | str | None, evaluation_only: bool, dataset: Path | str | None
) -> _Recorded:
    from unet_pipeline.evaluation.files import METRICS_FILE
    from unet_pipeline.evidence.records.record import RECORD, find_latest_training
    from unet_pipeline.evidence.reproduce.reproduction_checks import find_weights

    plan = read_plan(folder.plan)
    folds = range(plan.num_folds) if fold == "all" else [int(fold)] if fold is not None else None
    wanted = [folder.fold_of_weights(plan.fold)] if folds is None else list(folds)
    latest = {number: find_latest_training(folder, number) for number in wanted}
    trainings = {number: record for number, record in latest.items() if record is not None}
    usable = [n for n in wanted if (find_weights(folder, n) is not None if evaluation_only else n in trainings)]
    if not usable or (fold != "all" and usable != wanted):
        missing = next(number for number in wanted if number not in usable)
        what = "weights" if evaluation_only else "record of a finished training"
        raise BundleError(
            f"{folder.name} has no {what} of fold {missing}; there is nothing to reproduce. Train it first."
        )
    target = folder.evaluations / "validation"
    has_numbers = (target / METRICS_FILE).is_file()
    if evaluation_only and not has_numbers:
        raise BundleError(
            f"{folder.name} has no evaluation in evidence/evaluations/validation; there is nothing to reproduce. Run "
            "`unet-pipeline evaluate BUNDLE` first."
        )
    root = Path(dataset) if dataset is not None else folder.root / plan.dataset_dir
    evaluation = read_record(target / RECORD, EvaluationRunRecord)
    return _Recorded(folder, root.resolve(), trainings, tuple(usable), evaluation, has_numbers)


def _find_changes(recorded: _Recorded, evaluation_only: bool) -> Iterator[Problem]:
    """Every difference to the records, the cheapest to find first."""
    from unet_pipeline.evidence.reproduce import reproduction_checks as checks

    folder, evaluation = recorded.folder, recorded.evaluation
    trainings = {fold: recorded.trainings[fold] for fold in recorded.folds if fold in recorded.trainings}
    for fold, record in trainings.items():
        yield from checks.find_changes_of_split(folder, fold, record)
        yield from checks.find_changes_of_weights(folder, fold, record)
        if not evaluation_only:
            yield from checks.find_changes_of_plan(folder, record)
            yield from checks.find_changes_of_versions(record)
            yield from _find_change_of_initial_weights(folder, record)
    if recorded.has_numbers:
        for fold in recorded.folds:
            yield from checks.find_changes_of_evaluation(folder, recorded.target, fold, evaluation)
        if evaluation is not None:
            yield from checks.find_changes_of_versions(evaluation)
        elif evaluation_only:
            for record in trainings.values():
                yield from checks.find_changes_of_versions(record)
    records = [*trainings.values(), *([evaluation] if evaluation is not None else [])]
    manifests = [record.dataset_manifest_sha256 for record in records]
    yield from checks.find_changes_of_data(folder, recorded.dataset, manifests)


def _find_change_of_initial_weights(folder: BundleFolder, record: TrainingRecord) -> Iterator[Problem]:
    from unet_pipeline.evidence.reproduce.reproduction_messages import START_CHANGED, START_GONE

    if record.initial_weights_sha256 is not None:
        named = _restore_paths(folder, record.overrides).get("initial_weights")
        path = folder.initial_weights if named is None else Path(str(named))
        shown = f"models/{path.name}" if named is None else path.name
        if not path.is_file():
            yield START_GONE.about(shown)
        elif compute_sha256(path) != record.initial_weights_sha256:
            yield START_CHANGED.about(shown)


def _restore_paths(folder: BundleFolder, overrides: Mapping[str, object]) -> dict[str, object]:
    return {
        key: str(folder.root.resolve() / value.removeprefix(_ROOT))
        if isinstance(value, str) and value.startswith(_ROOT)
        else value
        for key, value in overrides.items()
    }


def _run(
    recorded: _Recorded,
    findings: Sequence[Problem],
    scratch: Path,
    evaluation_only: bool,
    device: str | None,
    say: Callable[[str], None],
) -> Reproduction:
    from unet_pipeline.bundle.half_weights import halve_weights
    from unet_pipeline.evaluation.files import METRICS_FILE
    from unet_pipeline.evidence.reproduce import reproduction
    from unet_pipeline.evidence.reproduce.reproduction_checks import find_weights, read_overrides

    folder, folds = recorded.folder, recorded.folds
    weights = {fold: path for fold in folds if (path := find_weights(folder, fold)) is not None}
    copy = reproduction.copy_for_run(folder, scratch, recorded.dataset, weights if evaluation_only else {})
    comparisons: list[Comparison] = []
    if not evaluation_only:
        for fold in folds:
            record = recorded.trainings[fold]
            overrides = {
                **_recall_choices(record, folder.read_config("train")),
                **_restore_paths(folder, read_overrides(record)),
                "dataset_dir": str(recorded.dataset),
            }
            with _threads_of(record):  # the copy is trusted as the bundle is, and the data were compared
                (run,) = train(copy.root, fold, overrides=overrides, announce=say, trust=True, check_data=False)
            sha256 = record.result.weights_sha256 if record.result else ""
            own = weights.get(fold)
            own = own if own is not None and hash_trained_weights(folder, own) == sha256 else None
            comparisons.append(reproduction.compare_weights(fold, sha256, own, run.weights))
        if is_halved(folder):
            halve_weights(copy)  # the numbers are of the weights as they are handed over
    outside = None
    if recorded.has_numbers:
        with _threads_of(recorded.evaluation or recorded.trainings.get(folds[0])):
            known = recorded.evaluation or EvaluationRunRecord()
            by, precision = known.by, known.precision or "float32"
            mirror = recorded.was_mirrored()
            evaluate(copy.root, None, None, None, device, mirror, False, by, True, precision, check_data=False)
        repeated = copy.evaluations / "validation"
        comparisons += _compare_results(recorded, repeated)
        scored = read_plan(folder.plan).scored_labels
        outside = reproduction.find_outside(recorded.target / METRICS_FILE, repeated / METRICS_FILE, folds, scored)
    return reproduction.judge(folds, findings, not evaluation_only, comparisons, outside)


def _compare_results(recorded: _Recorded, repeated: Path) -> list[Comparison]:
    from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE
    from unet_pipeline.evidence.records.record import RECORD
    from unet_pipeline.evidence.reproduce import reproduction

    target = recorded.target
    comparisons = [
        reproduction.compare_label_maps(recorded.evaluation, read_record(repeated / RECORD, EvaluationRunRecord)),
        reproduction.compare_metrics(target / METRICS_FILE, repeated / METRICS_FILE, recorded.folds),
    ]
    if reproduction.list_folds(target / METRICS_FILE) == set(recorded.folds):
        comparisons.append(reproduction.compare_summaries(target / SUMMARY_FILE, repeated / SUMMARY_FILE))
    return comparisons


def _recall_choices(record: TrainingRecord, config: Mapping[str, Any]) -> dict[str, object]:
    """The overrides for what a recorded training chose by measuring, as far as the config has a place for them.

    A record without the order in memory is of a version that chose none on a CPU.
    """
    step = "train#trainer#iteration_update"
    overrides: dict[str, object] = {}
    if record.precision:
        overrides[f"{step}#autocast"] = record.precision == "bfloat16"
    on_cpu = record.machine.gpu is None
    order = record.memory_format if "memory_format" in record.model_fields_set else "contiguous" if on_cpu else ""
    if order and "acceleration" in config["train"]["trainer"].get("iteration_update", {}):
        overrides[f"{step}#acceleration#channels_last"] = order == "channels_last"
    return overrides


@contextmanager
def _threads_of(record: RunRecord | None) -> Iterator[None]:
    """As many threads as in the record: another number adds in another order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads((record.machine.num_threads if record else None) or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
