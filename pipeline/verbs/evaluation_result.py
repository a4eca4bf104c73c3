"""What `evaluate` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.evaluation.files import SummaryRecord
    from pipeline.evaluation.summary import SummaryRow


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        title: which cases, which folds.
        rows: one per case and label.
        summary: one row per label and metric.
        excluded: cases of the dataset that the network was trained on, which were left out.
        folder: has metrics.csv and summary.json.
        predictions: folders of the label maps that were compared.
        record: all that summary.json holds: lines per fold and subgroup, failures, notes.
    """

    title: str
    rows: pd.DataFrame
    summary: tuple[SummaryRow, ...]
    excluded: tuple[str, ...]
    folder: Path
    predictions: tuple[Path, ...]
    record: SummaryRecord
