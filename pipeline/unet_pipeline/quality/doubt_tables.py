"""From what the record of predictions knows of each label map: cases to fit expected Dice on, and columns of predictions.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import LabelMapEntry
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


def list_fitted_labels(plan: Plan) -> list[str]:
    """Labels that Dice is expected of: all but the background; regions join several and have none of their own."""
    return list(plan.label_table)[1:]


def write_expected_dice(
    folder: BundleFolder,
    plan: Plan,
    by_label: Mapping[str, Sequence[LabelCase]],
    folds: Sequence[int],
    weights_sha256: Sequence[str],
) -> ExpectedDiceRecord:
    """Fit, and write evidence/expected_dice.json; `weights_sha256` are those of the label maps."""
    num_cases = max((len(cases) for cases in by_label.values()), default=0)
    named = f"fold {folds[0]}" if len(folds) == 1 else f"{len(folds)} folds"
    notes = [] if len(folds) > 1 else ["Of one fold only: the spread between networks is not in the intervals."]
    unit = "pixel" if plan.spatial_dims == 2 else "ml"
    source = f"{num_cases} validation cases of {named}"
    record = fit_labels(by_label, unit, source, notes).model_copy(update={"weights_sha256": list(weights_sha256)})
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
        contract, weights = (entry.contract, entry.weights_sha256) if isinstance(entry, LabelMapEntry) else (None, [])
        is_outside = (contract or {}).get("verdict") == OUTSIDE
        said = _expect(doubt, plan, expected, weights, is_outside)
        rows[name] = _build_row(doubt, plan, said)
        lows = [one.low for one in said if not math.isnan(one.low)]
        orders[name] = (0 if is_outside else 1 if not lows else 2, min(lows, default=0.0))
    for rank, name in enumerate(sorted(orders, key=lambda one: (*orders[one], one)), 1):
        rows[name] = {RANK_COLUMN: rank, **rows[name]}
    return dict(rows)


def _expect(
    doubt: Doubt, plan: Plan, expected: ExpectedDiceRecord | None, weights: Sequence[str], is_outside: bool
) -> list[ExpectedDice]:
    is_of_others = expected is not None and not set(weights) <= set(expected.weights_sha256)
    if expected is None or is_of_others or is_outside:
        reason = NOT_FITTED if expected is None else OTHER_WEIGHTS if is_of_others else NOT_LIKE_TRAINING
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
    row: dict[str, Any] = {EXPECTED_COLUMN: _show(sum(means) / len(means)) if means else None}
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
