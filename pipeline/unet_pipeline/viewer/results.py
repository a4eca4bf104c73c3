"""What is to be looked at: the label maps of an evaluation or of `predict`, with the images, references and numbers that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationRunRecord, PredictionRecord, read_record
from unet_pipeline.dataset.dataset import case_name, list_images
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE, SummaryRecord, read_rows, read_summary
from unet_pipeline.evidence.records.case_files import Labels, Source, choose_evaluation, find_sources
from unet_pipeline.evidence.records.measured import is_measured_prediction, is_measured_reference
from unet_pipeline.evidence.records.prediction_record import PREDICTIONS_RECORD
from unet_pipeline.evidence.records.record import RECORD
from unet_pipeline.planning.plan import read_plan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """Label maps of one bundle, or one folder of them.

    Attributes:
        name: of the bundle or folder.
        labels: what the values mean.
        sources: image and reference of every case, by its name.
        predictions: label map of every case, by its name.
        rows: metrics.csv, None without an evaluation.
        summary: summary.json, None without one.
        failures: of the summary: kinds and label, by case.
        label_maps_sha256: of the label map of each case that was measured; {} where that was not recorded.
    """

    name: str
    labels: Labels
    sources: dict[str, Source]
    predictions: dict[str, Path]
    rows: pd.DataFrame | None
    summary: SummaryRecord | None
    failures: dict[str, tuple[str, ...]]
    label_maps_sha256: Mapping[str, str]

    def find_unmeasured(self, case: str) -> str:
        """Why the label maps of an evaluated case cannot stand beside its numbers; "" where they can."""
        source, prediction = self.sources.get(case), self.predictions.get(case)
        if self.rows is None or source is None or prediction is None:
            return "its image or its predicted label map is not there"
        if source.reference is None:
            return "the dataset has no label map of it"
        rows = self.rows[self.rows["case"] == case]
        if not is_measured_reference(source.reference, rows, self.labels):
            return "the label map of the dataset is not the one that was evaluated"
        if not is_measured_prediction(prediction, rows, self.labels, self.label_maps_sha256.get(case)):
            return "the predicted label map is not the one that was evaluated"
        return ""


def open_result(target: Path, dataset: Path | None = None, predictions: Path | None = None) -> Result:
    """Find the files that belong together.

    Args:
        target: an evaluated bundle; the folder of an evaluation; or a folder of label maps that `predict` wrote.
        dataset: where the images lie, if not where the evaluation or the bundle's plan says; labelled or not.
        predictions: folder of the label maps, if they are not in the evaluation's folder.

    Raises:
        EvaluationError: nothing to look at, or the images or label maps are not where they should be.
    """
    if not target.is_dir():
        raise EvaluationError(
            f"{target} is no folder. Expected a bundle, the folder of an evaluation, or one that `predict` wrote. Check the path."
        )
    bundle = _find_bundle(target)
    folder = choose_evaluation(bundle) if bundle is not None and bundle.root == target else target
    is_evaluated = (folder / METRICS_FILE).is_file()
    record = read_record(folder / RECORD, EvaluationRunRecord) if is_evaluated else None
    summary = read_summary(folder) if is_evaluated and (folder / SUMMARY_FILE).is_file() else None
    rows = read_rows(folder) if is_evaluated else None
    labels = _read_labels(bundle, record, summary, folder)
    names = None if rows is None else list(dict.fromkeys(map(str, rows["case"])))
    sources = find_sources(bundle, dataset, labels, folder.name, summary.dataset if summary else None)
    wanted = list(sources) if names is None else [name for name in names if name in sources]
    if names and not wanted:
        raise EvaluationError(
            f"Case {names[0]} of {folder.name}/{METRICS_FILE} is not in the dataset {'of the plan' if dataset is None else dataset.name}. "
            "Expected the data that were evaluated. Give their folder: --dataset DIR."
        )
    hashes = record.result.label_maps_sha256 if record else {}
    listed = _list_predictions(folder, predictions, {name: sources[name] for name in wanted})
    found = {name: _choose_prediction(paths, name, rows, labels, hashes.get(name)) for name, paths in listed.items()}
    failures = _read_failures(summary)
    shown = bundle.name if bundle is not None else folder.name
    kept = {name: sources[name] for name in wanted if name in found}
    return Result(shown, labels, kept, found, rows, summary, failures, hashes)


def _find_bundle(target: Path) -> BundleFolder | None:
    """The bundle that `target` is, lies in, or was evaluated with."""
    record = read_record(target / RECORD, EvaluationRunRecord) if (target / METRICS_FILE).is_file() else None
    places = [(target / record.bundle_place).resolve()] if record and record.bundle_place else []
    folders = map(BundleFolder, (target, *target.resolve().parents, *places))
    return next((folder for folder in folders if folder.is_bundle), None)


class _StatedPlan(BaseModel):
    """What a record's copy of a plan, of this version or an earlier one, says about label values."""

    label_table: dict[str, int] = {}
    regions: dict[str, list[int]] = {}
    ignore_value: int | None = None
    spatial_dims: int | None = None


def _read_labels(
    bundle: BundleFolder | None, record: EvaluationRunRecord | None, summary: SummaryRecord | None, folder: Path
) -> Labels:
    """From the bundle's plan, or the copy of it in the record of the evaluation or prediction, or the summary."""
    scored = tuple(summary.scored_labels) if summary else ()
    if bundle is not None and bundle.is_planned:
        plan = read_plan(bundle.plan)
        regions = {name: tuple(values) for name, values in plan.regions.items()}
        scored = scored or tuple(plan.scored_labels)
        channels = tuple(plan.channel_names)
        return Labels(dict(plan.label_table), regions, scored, plan.ignore_value, plan.spatial_dims, channels)
    recorded = record or read_record(folder / PREDICTIONS_RECORD, PredictionRecord)
    stated = _StatedPlan.model_validate(recorded.plan if recorded else {})
    table = stated.label_table or (summary.labels if summary else {})
    if not table:
        raise EvaluationError(
            f"{folder.name} does not say what its label values mean: it has neither a {SUMMARY_FILE} nor a record with a plan. Expected a "
            "bundle, or a folder that `evaluate` or `predict` of this version wrote. Give one of them."
        )
    regions = {name: tuple(values) for name, values in stated.regions.items()}
    scored = scored or (*list(table)[1:], *regions)
    return Labels(table, regions, scored, stated.ignore_value, stated.spatial_dims, ())


def _list_predictions(folder: Path, given: Path | None, sources: Mapping[str, Source]) -> dict[str, list[Path]]:
    """The label maps of each case that has one."""
    folders = [given] if given is not None else [*sorted(folder.glob("predictions_*/")), folder]
    listed = [{case_name(path): path for path in list_images(made)} for made in folders if made.is_dir()]
    found: dict[str, list[Path]] = {}
    for name, source in sources.items():
        names = dict.fromkeys((name, case_name(source.image.files[0])))
        if candidates := [made[own] for made in listed for own in names if own in made]:
            found[name] = candidates
    if not found:
        raise EvaluationError(
            f"{folder.name} has no label map of its {len(sources)} case(s). Expected them below it, as `evaluate` and `predict` leave them; "
            "a packaged bundle holds none. Evaluate or predict again, or give their folder: --predictions DIR."
        )
    return found


def _choose_prediction(
    candidates: Sequence[Path], case: str, rows: pd.DataFrame | None, labels: Labels, sha256: str | None
) -> Path:
    """Of several label maps the one that was evaluated, the first if none was."""
    if len(candidates) > 1 and rows is not None:
        of_case = rows[rows["case"] == case]
        measured = (path for path in candidates if is_measured_prediction(path, of_case, labels, sha256))
        return next(measured, candidates[0])
    return candidates[0]


def _read_failures(summary: SummaryRecord | None) -> dict[str, tuple[str, ...]]:
    """Kind and label of every failure that the summary names, by case; "missed Anterior"."""
    found: dict[str, list[str]] = {}
    for failure in summary.failures if summary else ():
        for kind in failure.kinds:
            shown = kind if kind == "among the worst" else f"{kind}: {failure.label}"
            found.setdefault(failure.case, []).append(shown)
    return {case: tuple(dict.fromkeys(kinds)) for case, kinds in found.items()}


def choose_cases(results: Sequence[Result], wanted: str | None) -> list[str]:
    """Names of the cases to show.

    Args:
        results: one or two; the first one's numbers decide.
        wanted: `worst:20`, `best:5`, `median:3`, `failed`, names, or several of them with commas; all cases, the worst first, if None.

    Raises:
        EvaluationError: no such case, or a number that is none.
    """
    ordered = _order_by_dice(results[0])
    if wanted is None or wanted == "all":
        return ordered
    chosen: list[str] = []
    for part in (text.strip() for text in wanted.split(",")):
        chosen += _choose_part(part, ordered, results[0])
    return list(dict.fromkeys(chosen))


def _choose_part(part: str, ordered: list[str], result: Result) -> list[str]:
    if part in ordered:
        return [part]
    if part == "failed":
        return [name for name in ordered if name in result.failures]
    kind, _, number = part.partition(":")
    if kind not in ("worst", "best", "median") or not (number or "1").isdecimal() or int(number or 1) < 1:
        raise EvaluationError(
            f"--cases has {part!r}; expected worst:N, median:N or best:N with a whole number, failed, all, or a case of {result.name} such "
            f"as {ordered[0]}."
        )
    count = min(int(number or 1), len(ordered))
    start = (len(ordered) - count) // 2
    return {"worst": ordered[:count], "best": ordered[::-1][:count], "median": ordered[start : start + count]}[kind]


def _order_by_dice(result: Result) -> list[str]:
    """The lowest mean Dice over the labels that count first, cases without one last."""
    names = list(result.sources)
    if result.rows is None:
        return names
    rows = result.rows[result.rows["label"].isin(result.labels.scored)]
    means = rows.groupby("case")["dice"].mean().to_dict()
    return sorted(names, key=lambda name: (value if (value := means.get(name, 2.0)) == value else 2.0, name))
