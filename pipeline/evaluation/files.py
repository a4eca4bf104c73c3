"""The files of an evaluation: metrics.csv with a row per case and label, summary.json with a row per label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.evaluation.summary import SummaryRow, to_records
from pipeline.files import write_atomically, write_json


def write_evaluation(
    target: Path, title: str, rows: pd.DataFrame, summary: Sequence[SummaryRow], excluded: tuple[str, ...]
) -> None:
    """Write both files, each whole or not at all.

    Args:
        target: folder; made when missing.
        title: which cases, which folds.
        rows: from `evaluate_pairs`.
        summary: from `summarize`.
        excluded: cases that were left out.
    """
    with write_atomically(target / "metrics.csv") as partial:
        rows.to_csv(partial, index=False, float_format="%.6f")
    content = {
        "title": title,
        "grid": "native",
        "interval": "95 % percentile bootstrap over cases, 10000 resamples",
        "excluded": list(excluded),
        "rows": to_records(summary),
    }
    write_json(target / "summary.json", content)
