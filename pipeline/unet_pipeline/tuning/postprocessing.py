"""Which post-processing helps: decided label by label on predictions of cases that the network has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unet_pipeline.evaluation.bootstrap import compute_interval

NOTHING, FILL_HOLES, KEEP_LARGEST = "nothing", "fill holes", "keep largest component"
REMOVE_SMALL = "remove objects under {:g}"


@dataclass(frozen=True)
class Decision:
    """One candidate for one label, and whether it is taken.

    Attributes:
        label: name; "all labels" for the removal of small objects, which has one size for all.
        candidate: what was tried.
        n: cases in which either map has the label.
        before: mean Dice without it.
        after: mean Dice with it.
        low: lower end of the 95 % BCa bootstrap interval of the mean difference over cases, patients as clusters.
        high: its upper end.
        taken: the whole interval is above 0.
    """

    label: str
    candidate: str
    n: int
    before: float
    after: float
    low: float
    high: float
    taken: bool


ALL = "all labels"


def decide(
    rows: pd.DataFrame, labels: Sequence[str], patients: Mapping[str, str] | None = None
) -> tuple[Decision, ...]:
    """Compare every candidate with doing nothing, case by case.

    Args:
        rows: columns case, label, candidate, dice (NaN where neither map has the label); `NOTHING` among the candidates.
        labels: that a candidate may change.
        patients: patient of each case that shares one with another case.

    Returns:
        One decision per label and candidate; candidates that concern all labels are judged by the mean over labels.
    """
    scores = rows.set_index(["candidate", "label", "case"])["dice"].sort_index()
    decisions = []
    for candidate, label in rows[["candidate", "label"]].drop_duplicates().itertuples(index=False):
        if candidate in (FILL_HOLES, KEEP_LARGEST) and label in labels:
            before, after = scores[NOTHING, label], scores[candidate, label]
            decisions.append(_compare(label, candidate, before.loc[after.index], after, patients or {}))
    for candidate in [
        name for name in rows["candidate"].drop_duplicates() if name not in (NOTHING, FILL_HOLES, KEEP_LARGEST)
    ]:
        before, after = (scores[name].groupby("case").mean() for name in (NOTHING, candidate))
        decisions.append(_compare(ALL, candidate, before, after, patients or {}))
    return tuple(decisions)


def _compare(label: str, candidate: str, before: pd.Series, after: pd.Series, patients: Mapping[str, str]) -> Decision:
    """Undefined Dice on one side only counts as 1: neither map has the label then, which is right."""
    defined = ~(before.isna() & after.isna())
    first, second = before[defined].fillna(1.0).to_numpy(), after[defined].fillna(1.0).to_numpy()
    low, high = compute_interval(second - first, [patients.get(case, case) for case in before.index[defined]])
    return Decision(
        label=label,
        candidate=candidate,
        n=len(first),
        before=float(first.mean()) if len(first) else np.nan,
        after=float(second.mean()) if len(second) else np.nan,
        low=low,
        high=high,
        taken=bool(len(first) > 1 and low > 0),
    )


def choose_sizes(part_sizes: Sequence[float]) -> tuple[float, ...]:
    """Sizes below which parts might be removed: up to half of the smallest tenth of the reference's parts.

    Args:
        part_sizes: of every connected part in the references, in mm^3 or pixels.

    Returns:
        At most four sizes, each a quarter of the next; empty without parts.
    """
    if not len(part_sizes):
        return ()
    largest = 0.5 * float(np.percentile(part_sizes, 10))
    sizes = sorted({float(f"{largest / 4**power:.2g}") for power in range(4)})
    return tuple(size for size in sizes if size > 0)
