"""From what the record of predictions knows of each label map: cases to fit expected Dice on, and columns of predictions.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import LabelMapEntry
from unet_pipeline.errors import EvaluationError
from unet_pipeline.files import write_json
from unet_pipeline.planning.plan import Plan
from unet_pipeline.prediction.doubt import Doubt
from unet_pipeline.quality.contract import OUTSIDE
from unet_pipeline.quality.expected_dice import (
    EXPECTED_DICE_FILE,
    VERSION,
    ExpectedDice,
    ExpectedDiceRecord,
    LabelCase,
    expect_dice,
    fit_labels,
)
from unet_pipeline.quality.sealed import read_sealed

if TYPE_CHECKING:
    import pandas as pd

RANK_COLUMN, EXPECTED_COLUMN, NOTE_COLUMN = "review_rank", "expected_dice", "expected_dice_note"
NOT_FITTED = "the bundle has no expected Dice; `unet-pipeline evaluate BUNDLE` fits it"
OTHER_WEIGHTS = "expected Dice was fitted for other weights; `unet-pipeline evaluate BUNDLE` fits it"
OTHER_RUNTIME = "expected Dice is known with --runtime torch only"
OF_SINGLE_NETWORKS = "expected Dice was fitted for single networks; predict without --ensemble"
WITHOUT_COPIES = "expected Dice was fitted without mirrored copies; predict without --mirror, or fit with `unet-pipeline evaluate --mirror`"
WITH_COPIES = "expected Dice was fitted with mirrored copies; predict with --mirror, or fit without by `unet-pipeline evaluate BUNDLE`"
NOT_LIKE_TRAINING = "the image is outside of the input contract"
_DIGITS = 4


def read_expected_dice(folder: BundleFolder) -> ExpectedDiceRecord | None:
    """The bundle's; None where it has none.

    Raises:
        BundleError: see `read_sealed`.
    """
    return read_sealed(folder, EXPECTED_DICE_FILE, ExpectedDiceRecord, VERSION, "evaluate")


def join_cases(
    rows: pd.DataFrame, doubts: Mapping[str, Doubt], plan: Plan, labels: Sequence[str]
) -> dict[str, list[LabelCase]]:
    """What was known of each label of each case without its reference, and its Dice.

    Args:
        rows: of an evaluation.
        doubts: of its label maps, by case; cases without are left out.
        plan: of the bundle.
        labels: that are asked for.
    """
    by_label: dict[str, list[LabelCase]] = {label: [] for label in labels}
    for row in rows[rows["label"].isin(list(labels))].to_dict("records"):
        case, label = str(row["case"]), str(row["label"])
        doubt = doubts.get(case)
        parts = None if doubt is None else doubt.labels.get(plan.label_table[label])
        if doubt is not None and parts is not None:
            facts = (case, str(row["patient"]), *parts, doubt.voxel_size, doubt.mean_entropy, float(row["dice"]))
            by_label[label].append(LabelCase(*facts))
    return by_label


def list_doubts(entries: Mapping[str, object]) -> dict[str, Doubt]:
    """Of every label map of a record that has it, by the image's name."""
    return {
        name: Doubt.of_record(entry.doubt)
        for name, entry in entries.items()
        if isinstance(entry, LabelMapEntry) and entry.doubt is not None
    }


def list_weights(entries: Mapping[str, object]) -> list[str]:
    """SHA-256 of all weights that label maps of a record were made with."""
    known = (entry.weights_sha256 for entry in entries.values() if isinstance(entry, LabelMapEntry))
    return sorted({sha256 for weights in known for sha256 in weights})


def uses_copies(entries: Iterable[object], plan: Plan) -> bool:
    """Whether label maps of a record are means over mirrored copies; of a network that mirrors no axis there is one copy."""
    options = (entry.options for entry in entries if isinstance(entry, LabelMapEntry))
    return bool(plan.mirrored_axes) and any(bool(one.get("mirror")) for one in options)


def find_mismatch(expected: ExpectedDiceRecord, entry: LabelMapEntry, plan: Plan) -> str:
    """Why a label map is not of the kind that expected Dice was fitted on; empty if it is."""
    if entry.options.get("runtime", "torch") != "torch":
        return OTHER_RUNTIME
    if len(entry.weights_sha256) > 1:
        return OF_SINGLE_NETWORKS
    if not set(entry.weights_sha256) <= set(expected.weights_sha256):
        return OTHER_WEIGHTS
    if uses_copies([entry], plan) == expected.is_mirrored:
        return ""
    return WITH_COPIES if expected.is_mirrored else WITHOUT_COPIES


def require_same_kind(expected: ExpectedDiceRecord, entries: Mapping[str, object], plan: Plan) -> None:
    """Whether expected Dice can be measured on these label maps.

    Raises:
        EvaluationError: they are of another kind than those that it was fitted on.
    """
    known = (entry for entry in entries.values() if isinstance(entry, LabelMapEntry))
    if reason := next(filter(None, (find_mismatch(expected, entry, plan) for entry in known)), ""):
        raise EvaluationError(f"--quality cannot be measured on these label maps: {reason}.")


def list_fitted_labels(plan: Plan) -> list[str]:
    """Labels that Dice is expected of: all but the background; regions join several and have none of their own."""
    return list(plan.label_table)[1:]


def write_expected_dice(
    folder: BundleFolder,
    plan: Plan,
    by_label: Mapping[str, Sequence[LabelCase]],
    folds: Sequence[int],
    entries: Mapping[str, object],
) -> ExpectedDiceRecord:
    """Fit, and write evidence/expected_dice.json; `entries` are of the label maps."""
    num_cases = max((len(cases) for cases in by_label.values()), default=0)
    named = f"fold {folds[0]}" if len(folds) == 1 else f"{len(folds)} folds"
    notes = [] if len(folds) > 1 else ["Of one fold only: the spread between networks is not in the intervals."]
    unit = "pixel" if plan.spatial_dims == 2 else "ml"
    source = f"{num_cases} validation cases of {named}"
    facts = {"weights_sha256": list_weights(entries), "is_mirrored": uses_copies(entries.values(), plan)}
    record = fit_labels(by_label, unit, source, notes).model_copy(update=facts)
    write_json(folder.evidence / EXPECTED_DICE_FILE, record.model_dump(mode="json"))
    return record


def list_doubt_rows(
    entries: Mapping[str, object], plan: Plan, expected: ExpectedDiceRecord | None
) -> dict[str, Mapping[str, object]]:
    """Columns of predictions.csv by the image's name: expected Dice with its interval, volumes, and the rank for a review.

    Rank 1 is what a person should look at first: what is outside of the contract, then what nothing can be said of, then by the lowest end
    of the intervals.
    """
    rows: dict[str, dict[str, object]] = {}
    orders: dict[str, tuple[int, float]] = {}
    for name, doubt in list_doubts(entries).items():
        entry = entries[name]
        if not isinstance(entry, LabelMapEntry):
            raise TypeError(f"{name} has a doubt and no entry")
        is_outside = entry.contract is not None and entry.contract.verdict == OUTSIDE
        mismatch = NOT_FITTED if expected is None else find_mismatch(expected, entry, plan)
        said = _expect(doubt, plan, expected, mismatch or (NOT_LIKE_TRAINING if is_outside else ""))
        rows[name] = _build_row(doubt, plan, said)
        lows = [one.low for one in said if not math.isnan(one.low)]
        orders[name] = (0 if is_outside else 1 if not lows else 2, min(lows, default=0.0))
    for rank, name in enumerate(sorted(orders, key=lambda one: (*orders[one], one)), 1):
        rows[name] = {RANK_COLUMN: rank, **rows[name]}
    return dict(rows)


def show_lowest_interval(row: Mapping[str, str]) -> str:
    """The interval that a row of predictions.csv is ranked by, with its label if there are several; empty where nothing was said."""
    labels = [
        key.removeprefix(f"{EXPECTED_COLUMN}_").removesuffix("_low")
        for key in row
        if key.startswith(f"{EXPECTED_COLUMN}_") and key.endswith("_low")
    ]
    said = {label: row[f"{EXPECTED_COLUMN}_{label}_low"] for label in labels if row[f"{EXPECTED_COLUMN}_{label}_low"]}
    if not said:
        return ""
    lowest = min(said, key=lambda label: float(said[label]))
    interval = f"{float(said[lowest]):.2f} to {float(row[f'{EXPECTED_COLUMN}_{lowest}_high']):.2f}"
    return f"{interval} ({lowest})" if len(labels) > 1 else interval


def _expect(doubt: Doubt, plan: Plan, expected: ExpectedDiceRecord | None, reason: str) -> list[ExpectedDice]:
    if expected is None or reason:
        return [ExpectedDice(label, math.nan, math.nan, math.nan, reason) for label in list_fitted_labels(plan)]
    return [
        expect_dice(
            record,
            LabelCase("", "", *doubt.labels[plan.label_table[record.label]], doubt.voxel_size, doubt.mean_entropy),
        )
        for record in expected.labels
        if plan.label_table.get(record.label) in doubt.labels
    ]


def _build_row(doubt: Doubt, plan: Plan, said: Sequence[ExpectedDice]) -> dict[str, object]:
    means = [one.mean for one in said if not math.isnan(one.mean)]
    row: dict[str, object] = {EXPECTED_COLUMN: _show(sum(means) / len(means)) if means else None}
    for one in said:
        key = f"{EXPECTED_COLUMN}_{one.label}"
        row |= {key: _show(one.mean), f"{key}_low": _show(one.low), f"{key}_high": _show(one.high)}
    for label in list_fitted_labels(plan):
        _, shape = doubt.labels[plan.label_table[label]]
        unit = "pixels" if doubt.size_unit == "pixel" else doubt.size_unit
        row[f"size_{label}_{unit}"] = float(f"{shape.num_voxels * doubt.voxel_size:.6g}")
    reasons = dict.fromkeys(f"{one.label}: {one.reason}" if len(said) > 1 else one.reason for one in said if one.reason)
    if len({one.reason for one in said}) == 1 and said[0].reason:
        reasons = {said[0].reason: None}
    return row | {NOTE_COLUMN: "; ".join(reasons)}


def _show(number: float) -> str | None:
    return None if math.isnan(number) else f"{number:.{_DIGITS}f}"
