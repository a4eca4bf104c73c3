"""What a bundle's evidence says about it, read once for the model card, the checklists and the report.

A part that is missing is None or empty here and has a note; only a bundle without a plan cannot be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.records import FoldLists, ImportRecord, SplitRecord, TuningSummary, WeightsOrigin
from unet_pipeline.bundle.run_record import FINISHED, EvaluationRunRecord, TrainingRecord
from unet_pipeline.bundle.unlabelled import find_trained_pool, read_pools
from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.dataset.manifest import Manifest
from unet_pipeline.errors import FileContentError
from unet_pipeline.evaluation import metric_table
from unet_pipeline.evaluation.files import METRICS_FILE, SummaryRecord
from unet_pipeline.evaluation.metric_table import METRICS
from unet_pipeline.evaluation.subgroups import SubgroupRow
from unet_pipeline.evaluation.summary import FoldRow, SummaryRow
from unet_pipeline.evidence.records.data_terms import read_data_terms
from unet_pipeline.evidence.records.shortfall import describe_shortfall
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.planning.plan_text import read_reasons
from unet_pipeline.quality.claim import QUALITY_FILE, ClaimRecord
from unet_pipeline.text_files import read_model

VALIDATION = "validation"
Model = TypeVar("Model")
_FOLD = re.compile(r"fold_(\d+)")


@dataclass(frozen=True)
class FoldCases:
    """Names of the cases of one fold."""

    fold: int
    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationRecord:
    """One folder below evidence/evaluations.

    Attributes:
        name: of the folder; "validation" is that of the validation cases.
        folder: where it lies.
        summary: summary.json.
    """

    name: str
    folder: Path
    summary: SummaryRecord

    @property
    def was_given(self) -> bool:
        """Whether its label maps were made before, with weights that nobody knows."""
        record = _read(self.folder / "run.json", EvaluationRunRecord)
        return record is not None and record.predictions_given

    @property
    def label_maps_sha256(self) -> Mapping[str, str]:
        """Hash of the label map of each case that was measured; {} where that was not recorded."""
        record = _read(self.folder / "run.json", EvaluationRunRecord)
        return record.result.label_maps_sha256 if record is not None else {}

    @property
    def claim(self) -> ClaimRecord | None:
        """How well expected Dice was kept on these cases; None where that was not measured, or on other numbers."""
        record = _read(self.folder / QUALITY_FILE, ClaimRecord)
        metrics = self.folder / METRICS_FILE
        if record is None or not metrics.is_file() or record.metrics_sha256 != compute_sha256(metrics):
            return None
        return record


@dataclass(frozen=True)
class History:
    """Everything that is known.

    Attributes:
        plan, reasons: plan.yaml.
        manifest: dataset_manifest.json.
        fingerprint: fingerprint.json.
        split_record: splits/split.json.
        folds: the lists of every fold that has a file.
        runs: run records, in the order of their start.
        evaluations: the validation cases first.
        tuning: tuning.json.
        data_facts: lines "Name: value" of docs/data_license.txt.
        citations: its lines "- text".
        weights_fold: fold of models/model.pt; None where it is not noted.
        hashes: what is hashed and its SHA-256.
        notes: parts that are missing, each a sentence.
    """

    folder: BundleFolder
    plan: Plan
    reasons: Mapping[str, str]
    manifest: Manifest | None
    fingerprint: Fingerprint | None
    split_record: SplitRecord | None
    folds: tuple[FoldCases, ...]
    runs: tuple[TrainingRecord, ...]
    evaluations: tuple[EvaluationRecord, ...]
    tuning: TuningSummary | None
    data_facts: Mapping[str, str]
    citations: tuple[str, ...]
    weights_fold: int | None
    hashes: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def finished_runs(self) -> tuple[TrainingRecord, ...]:
        return tuple(run for run in self.runs if run.state == FINISHED)

    def list_cut_short(self) -> list[tuple[str, str]]:
        """The finished trainings that were shorter than planned, and how."""
        return [(run.id, short) for run in self.finished_runs if (short := describe_shortfall(run))]

    @property
    def trained_folds(self) -> tuple[int, ...]:
        """Folds with a finished training on record, or with weights; a packaged bundle has the weights of one fold only."""
        folds = {run.trained_fold for run in self.finished_runs if run.trained_fold is not None}
        folds |= {
            *self.folder.trained_folds(),
            *(int(match[1]) for match in map(_FOLD.fullmatch, self.imported_folds) if match),
        }
        if self.weights_fold is not None:
            folds.add(self.weights_fold)
        elif not folds and not self.imported_folds and self.folder.weights.is_file():
            folds.add(self.plan.fold)  # of a training with stock MONAI, which notes nothing
        return tuple(sorted(fold for fold in folds if 0 <= fold < self.plan.num_folds))

    @property
    def imported_folds(self) -> tuple[str, ...]:
        """Names of nnU-Net's folds that the weights were taken from, such as "fold_0" or "fold_all"; empty for own trainings."""
        record = _read(self.folder.imported, ImportRecord)
        return tuple(record.folds) if record else ()

    @property
    def test_cases(self) -> tuple[str, ...]:
        """Held out by the dataset itself; never trained on."""
        return tuple(entry.case for entry in self.split_record.test) if self.split_record else ()

    @property
    def patient_of(self) -> Mapping[str, str]:
        """Patient of each case that shares one with another case; empty where no two cases are known to."""
        return self.split_record.patients if self.split_record else {}

    @property
    def num_patients(self) -> int | None:
        """Patients, a case that shares none counted as one; None where no two cases are known to share one."""
        if not self.patient_of:
            return None
        cases = self.manifest.cases if self.manifest else self.patient_of
        return len({self.patient_of.get(case, f"case {case}") for case in cases})

    def folds_with_shared_patients(self) -> tuple[int, ...]:
        """Folds with a patient on both sides."""
        folds = []
        for fold in self.folds:
            training = {self.patient_of.get(case, f"case {case}") for case in fold.training}
            if training & {self.patient_of.get(case, f"case {case}") for case in fold.validation}:
                folds.append(fold.fold)
        return tuple(folds)

    def folds_with_shared_cases(self) -> tuple[int, ...]:
        """Folds whose validation shows cases that were trained on."""
        return tuple(fold.fold for fold in self.folds if set(fold.training) & set(fold.validation))

    @property
    def credit(self) -> tuple[str, ...]:
        """What is to be said beside pictures of the data, by docs/data_license.txt: name, address, licence, citations; () without."""
        facts = [
            f"{name}: {self.data_facts[name]}" for name in ("Data set", "Address", "Licence") if name in self.data_facts
        ]
        if "Licence" not in self.data_facts:
            return ()
        return (*facts, *self.citations)

    @property
    def num_used(self) -> int:
        """Cases in any fold."""
        return len({case for fold in self.folds for case in (*fold.training, *fold.validation)})

    @property
    def ended_on_last_epoch(self) -> bool:
        """Whether no finished training picked its weights by validation; False without one."""
        return bool(self.finished_runs) and all(
            run.result is not None and (run.result.best_epoch or 0) < 1 for run in self.finished_runs
        )


def read_history(folder: BundleFolder) -> History:
    """Read a bundle's evidence.

    Raises:
        PlanError: the plan is missing or not valid.
    """
    notes: list[str] = []
    plan = read_plan(folder.plan)
    runs = _read_runs(folder, notes)
    evaluations = _read_evaluations(folder, notes)
    origin = _read(folder.weights_origin, WeightsOrigin)
    terms = read_data_terms(folder)
    return History(
        folder=folder,
        plan=plan,
        reasons=read_reasons(folder.plan),
        manifest=_read(folder.dataset_manifest, Manifest, notes, "the dataset manifest"),
        fingerprint=_read(folder.fingerprint, Fingerprint, notes, "the fingerprint of the dataset"),
        split_record=_read(folder.split_record, SplitRecord, notes, "the record of the split"),
        folds=_read_folds(folder, plan),
        runs=runs,
        evaluations=evaluations,
        tuning=_read(folder.tuning, TuningSummary),
        data_facts=terms.facts,
        citations=terms.citations,
        weights_fold=None if origin is None else origin.fold,
        hashes=_hash_files(folder),
        notes=(
            *notes,
            *_note_missing(folder, runs, evaluations),
            *_note_changed_plan(folder, runs),
            *_note_cut_short(runs),
            *_note_pools(folder),
        ),
    )


def _read(path: Path, kind: type[Model], notes: list[str] | None = None, name: str = "") -> Model | None:
    """JSON of a file; None and a note when it is missing or broken."""
    try:
        return read_model(path, kind)
    except (OSError, FileContentError) as error:
        if notes is not None:
            what = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
            notes.append(f"{name} ({path.parent.name}/{path.name}) {what}.")
        return None


def _read_folds(folder: BundleFolder, plan: Plan) -> tuple[FoldCases, ...]:
    folds = []
    for fold in range(plan.num_folds):
        if (lists := _read(folder.split(fold), FoldLists)) is not None:
            training, validation = (tuple(case.case for case in side) for side in (lists.training, lists.validation))
            folds.append(FoldCases(fold, training, validation))
    return tuple(folds)


def _read_runs(folder: BundleFolder, notes: list[str]) -> tuple[TrainingRecord, ...]:
    found = (_read(path, TrainingRecord, notes, "a run record") for path in sorted(folder.runs.glob("*/run.json")))
    return tuple(sorted((record for record in found if record is not None), key=lambda record: record.started))


def _read_evaluations(folder: BundleFolder, notes: list[str]) -> tuple[EvaluationRecord, ...]:
    paths = sorted(
        folder.evaluations.glob("*/summary.json"), key=lambda path: (path.parent.name != VALIDATION, path.parent.name)
    )
    summaries = ((path, _read(path, SummaryRecord, notes, "a summary")) for path in paths)
    return tuple(EvaluationRecord(path.parent.name, path.parent, summary) for path, summary in summaries if summary)


def _hash_files(folder: BundleFolder) -> dict[str, str]:
    files = {
        "weights, models/model.pt": folder.weights,
        **{f"weights of fold {fold}": folder.fold_weights(fold) for fold in folder.trained_folds()},
        "plan, configs/plan.yaml": folder.plan,
        "configs/train.json": folder.config("train"),
        "configs/inference.json": folder.config("inference"),
        "dataset manifest, evidence/dataset_manifest.json": folder.dataset_manifest,
        "split, evidence/splits/split.json": folder.split_record,
    }
    return {name: compute_sha256(path) for name, path in files.items() if path.is_file()}


def _note_missing(
    folder: BundleFolder, runs: tuple[TrainingRecord, ...], evaluations: tuple[EvaluationRecord, ...]
) -> list[str]:
    notes = []
    if not folder.weights.is_file():
        notes.append("The bundle has no weights (models/model.pt): it is planned, not trained.")
    if not runs and folder.weights.is_file():
        notes.append(
            "There is no run record: the weights were trained with stock MONAI or come from elsewhere, so times, memory and the "
            "machine are not known."
        )
    if not evaluations:
        notes.append("The bundle has not been evaluated; `unet-pipeline evaluate BUNDLE` does it.")
    return notes


def _note_changed_plan(folder: BundleFolder, runs: tuple[TrainingRecord, ...]) -> list[str]:
    now = compute_sha256(folder.plan)
    changed = [run.id for run in runs if run.plan_sha256 not in (None, now)]
    if not changed:
        return []
    return [
        f"configs/plan.yaml is not the file that {', '.join(changed)} was trained with (its SHA-256 differs): `tune` changes it, and so "
        "does an edit."
    ]


def _note_cut_short(runs: tuple[TrainingRecord, ...]) -> list[str]:
    return [
        f"The training {run.id} was cut short: {short}. Results are not those of the plan."
        for run in runs
        if run.state != "running" and (short := describe_shortfall(run))
    ]


def _note_pools(folder: BundleFolder) -> list[str]:
    """Unlabelled images that were tried; those of which no weights are left are told of only where they were rejected."""
    notes = [
        f"Unlabelled images ({one.pool}) were tried and rejected: {one.reason}."
        for one in read_pools(folder)
        if not one.accepted
    ]
    for fold in folder.trained_folds() or (folder.fold_of_weights(-1),):
        if (pool := find_trained_pool(folder, fold)) is not None:
            notes.append(
                f"The weights of fold {fold} were trained with {pool.num_kept} unlabelled images ({pool.pool}) too, labelled "
                f"{pool.labelled_by}; {pool.reason}."
            )
    return notes


def format_value(metric: str, value: float | None) -> str:
    """A metric's value with the decimals of its table; "undefined" for None and NaN."""
    if value is None or math.isnan(value):
        return "undefined"
    known = METRICS.get(metric)
    return known.format(value) if known else f"{value:.4f}"


def describe_claim(claim: ClaimRecord) -> str:
    """What the numbers of expected Dice are, before them."""
    if not claim.rows:
        return "Expected Dice: too few cases of every label to fit it and to judge it by others."
    return (
        f"Expected Dice with {100 * claim.confidence:.0f} % intervals, {claim.judged}: share of the cases in the interval, its mean width, "
        "mean absolute error; area under the risk-coverage curve (AURC, mean of 1 - Dice of the most trusted cases) by expected Dice and by "
        "mean entropy; cases with a Dice below 0.8 of the median, and how well expected Dice finds them (AUROC). Small print: 95 % "
        "intervals."
    )


def format_interval(row: SummaryRow | SubgroupRow) -> str:
    """Interval of a row of summary.json, or why there is none."""
    if math.isnan(row.low) or math.isnan(row.high):
        return "n = 1" if row.n == 1 else "-"
    return f"{format_value(row.metric, row.low)} to {format_value(row.metric, row.high)}"


def format_support(row: SummaryRow) -> str:
    """Interval and number of cases of a row of summary.json."""
    interval = format_interval(row)
    return interval if interval.startswith("n = ") else f"{interval}, n = {row.n}"


def title_metric(row: SummaryRow | SubgroupRow | FoldRow, is_flat: bool = False) -> str:
    """Name of a row's metric with its unit, where it has one; of pictures, `is_flat`, the sizes are areas."""
    title = metric_table.title_metric(row.metric, is_flat)
    unit = row.unit.replace("mm^2", "mm²") if isinstance(row, SummaryRow) else ""
    return f"{title} ({unit})" if unit else title
