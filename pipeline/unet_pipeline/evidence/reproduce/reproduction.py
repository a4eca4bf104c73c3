"""The verdict on a repeated run: are weights, label maps and every number those of the record?"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import EvaluationRunRecord
from unet_pipeline.bundle.weights_origin import find_measured_weights
from unet_pipeline.evaluation.files import METRICS_FILE, SUMMARY_FILE, read_rows
from unet_pipeline.evaluation.summary import summarize, to_records
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import ERROR, Problem, show_clauses
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.results import Result
from unet_pipeline.text_files import read_json_object

IDENTICAL, WITHIN, DIFFERENT = "identical", "within the interval", "different"
_KEYS = ["case", "label"]
_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Comparison:
    """What was compared, how many parts of it, and what differs.

    Attributes:
        what: such as "weights of fold 0" or "metrics.csv".
        num_compared: weights, label maps or numbers.
        num_different: of them.
        examples: the first differences in words.
    """

    what: str
    num_compared: int
    num_different: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Reproduction(Result):
    """Result of `reproduce`.

    Attributes:
        verdict: "identical", "within the interval" (of every mean) or "different".
        folds: that were asked for.
        findings: what has changed since the record.
        trained: whether a training was run again; False as well when a finding stopped everything.
        comparisons: empty when a finding stopped the run.
        outside: means that left their recorded interval.
        cause: the likely cause of a difference; empty for "identical".
    """

    verdict: str
    folds: tuple[int, ...]
    findings: tuple[Problem, ...]
    trained: bool
    comparisons: tuple[Comparison, ...]
    outside: tuple[str, ...]
    cause: str

    @property
    def holds(self) -> bool:
        """Whether the recorded result was obtained again."""
        return self.verdict != DIFFERENT


def stop(folds: Sequence[int], findings: Sequence[Problem]) -> Reproduction:
    """The verdict without a run, because it would not be the recorded one."""
    return Reproduction(DIFFERENT, tuple(folds), tuple(findings), False, (), (), describe_cause(findings))


def judge(
    folds: Sequence[int],
    findings: Sequence[Problem],
    trained: bool,
    comparisons: Sequence[Comparison],
    outside: Sequence[str] | None,
) -> Reproduction:
    """The verdict on a run.

    Args:
        folds: that were run.
        findings: what has changed since the record.
        trained: whether weights were trained again.
        comparisons: of weights, label maps and numbers.
        outside: means outside their interval; None where no numbers are in evidence.
    """
    if all(comparison.num_different == 0 for comparison in comparisons):
        verdict = IDENTICAL
    else:
        verdict = WITHIN if outside is not None and not outside else DIFFERENT
    cause = "" if verdict == IDENTICAL else describe_cause(findings)
    return Reproduction(
        verdict, tuple(folds), tuple(findings), trained, tuple(comparisons), tuple(outside or ()), cause
    )


def describe_cause(findings: Sequence[Problem]) -> str:
    """The likely cause of a difference: what stops first, otherwise what may change digits."""
    stopping = [finding for finding in findings if finding.severity == ERROR]
    likely = stopping or list(findings)
    if not likely:
        return (
            "nothing that is recorded differs: an operation that is not deterministic (GPU kernels), or a change that no "
            "record sees"
        )
    return show_clauses([f"{finding.file} {finding.cause}" for finding in likely], _MAX_EXAMPLES)


def copy_for_run(folder: BundleFolder, target: Path, dataset: Path, weights: Mapping[int, Path]) -> BundleFolder:
    """A copy of a bundle without its results, so that a run leaves the bundle as it is.

    Args:
        target: folder of the copy; does not exist yet.
        dataset: where the data are; absolute.
        weights: of the folds that are evaluated and not trained again.
    """
    copy = BundleFolder(target)
    shutil.copytree(folder.configs, copy.configs)
    shutil.copytree(folder.split_record.parent, copy.split_record.parent)
    for part in (folder.dataset_manifest, folder.generated_configs, folder.case_table):
        if part.is_file():
            shutil.copyfile(part, copy.evidence / part.name)
    if folder.modules.is_dir():
        shutil.copytree(folder.modules, copy.modules)
    copy.models.mkdir(parents=True)
    if folder.initial_weights.is_file():
        shutil.copyfile(folder.initial_weights, copy.initial_weights)
    for fold, path in weights.items():
        shutil.copyfile(path, copy.fold_weights(fold))
        shutil.copyfile(path, copy.weights)
    # one fold was measured as it is handed over
    if any(find_measured_weights(folder, fold) == folder.weights for fold in weights):
        for source, place in ((folder.weights, copy.weights), (folder.weights_origin, copy.weights_origin)):
            shutil.copyfile(source, place)
    edit_plan(copy.plan, {"dataset_dir": (dataset.as_posix(), "of the run that is repeated here")})
    return copy


def compare_weights(fold: int, recorded_sha256: str, recorded: Path | None, repeated: Path) -> Comparison:
    """Weights of a repeated training with those of the record.

    Args:
        fold: that was trained.
        recorded_sha256: of the file, from the record.
        recorded: the bundle's file with this SHA-256, or that in half precision, if it has one; then the values decide, because
            another version of PyTorch may write equal weights in other bytes.
        repeated: written by the repeated training.
    """
    equal = compute_sha256(repeated) == recorded_sha256
    if not equal and recorded is not None:
        half = compute_sha256(recorded) != recorded_sha256
        equal = hash_values(recorded) == hash_values(repeated, half)
    example = f"SHA-256 {compute_sha256(repeated)[:12]}, recorded {recorded_sha256[:12]}"
    return Comparison(f"weights of fold {fold}", 1, int(not equal), () if equal else (example,))


def hash_values(weights: Path, half: bool = False) -> str:
    """SHA-256 of names, types, shapes and values of a state_dict, whatever file they lie in; of what it is in half precision, if asked."""
    import torch

    from unet_pipeline.bundle.half_weights import halve_state

    digest = hashlib.sha256()
    state = torch.load(weights, map_location="cpu", weights_only=True)
    for name, tensor in sorted((halve_state(state) if half else state).items()):
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def compare_label_maps(record: EvaluationRunRecord | None, repeated: EvaluationRunRecord | None) -> Comparison:
    """Label maps of a repeated evaluation with the recorded hashes; the bundle need not have the files."""
    before, now = ((one or EvaluationRunRecord()).result.label_maps_sha256 for one in (record, repeated))
    shared = sorted(before.keys() & now.keys())
    different = [case for case in shared if before[case] != now[case]]
    return Comparison("label maps", len(shared), len(different), tuple(different[:_MAX_EXAMPLES]))


def compare_metrics(recorded: Path, repeated: Path, folds: Sequence[int]) -> Comparison:
    """Every number of metrics.csv, as it is written there, for the cases of some folds."""
    before, now = (_read_cells(path, folds) for path in (recorded, repeated))
    differences = [f"{_name(key)} is missing" for key in sorted(before.keys() - now.keys())]
    differences += [f"{_name(key)} is new" for key in sorted(now.keys() - before.keys())]
    num_compared = len(differences)
    for key in sorted(before.keys() & now.keys()):
        for column in before[key].keys() & now[key].keys():
            num_compared += 1
            if before[key][column] != now[key][column]:
                differences.append(f"{_name(key)}, {column}: {now[key][column]}, recorded {before[key][column]}")
    return Comparison(METRICS_FILE, num_compared, len(differences), tuple(sorted(differences)[:_MAX_EXAMPLES]))


def _read_cells(path: Path, folds: Sequence[int]) -> dict[tuple[str, ...], dict[str, str]]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = table[pd.to_numeric(table["fold"]).isin(folds)]
    return {
        tuple(str(row[key]) for key in _KEYS): {str(k): str(v) for k, v in row.items()} for _, row in table.iterrows()
    }


def list_folds(metrics: Path) -> set[int]:
    """Folds whose cases are in a metrics.csv."""
    return {int(fold) for fold in pd.read_csv(metrics, usecols=["fold"])["fold"].dropna()}


def _name(key: tuple[str, ...]) -> str:
    return f"case {key[0]}, {key[1]}"


def compare_summaries(recorded: Path, repeated: Path) -> Comparison:
    """Every value of summary.json that both files have, but for the place of the data and the notes on the bundle's other trainings."""
    before, now = (read_json_object(path) | {"notes": None} for path in (recorded, repeated))
    pairs = [pair for pair in _pair_values(before, now, "") if pair[0] != "dataset/place"]
    differences = [f"{place}: {new}, recorded {old}" for place, old, new in pairs if old != new]
    return Comparison(SUMMARY_FILE, len(pairs), len(differences), tuple(differences[:_MAX_EXAMPLES]))


def _pair_values(before: Any, now: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before.keys() & now.keys():
            yield from _pair_values(before[key], now[key], f"{place}/{key}" if place else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _pair_values(old, new, f"{place}/{index}")
    else:
        yield place, before, now


def find_outside(recorded: Path, repeated: Path, folds: Sequence[int], scored_labels: Sequence[str]) -> tuple[str, ...]:
    """Means of the repeated evaluation that lie outside the 95 % interval of the recorded cases.

    Both are summarized from metrics.csv over the same folds. A mean without an interval, of one case, must be equal.
    """
    before, now = (
        {(row["label"], row["metric"]): row for row in to_records(summarize(table, scored_labels))}
        for table in (_read_table(path, folds) for path in (recorded, repeated))
    )
    outside = []
    for key in before.keys() & now.keys():
        old, new = before[key], now[key]["mean"]
        if old["mean"] == new:
            continue
        if new is None or old["low"] is None or not old["low"] <= new <= old["high"]:
            outside.append(f"{key[1]} of {key[0]}: mean {new}, recorded {old['mean']} ({old['low']} to {old['high']})")
    return tuple(sorted(outside))


def _read_table(path: Path, folds: Sequence[int]) -> pd.DataFrame:
    table = read_rows(path.parent)
    return table[table["fold"].isin(folds)]
