"""`compare`: two evaluations, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import EvaluationError

if TYPE_CHECKING:
    from unet_pipeline.evaluation.comparison import ComparisonRecord


def compare(
    a: Path | str, b: Path | str, metrics: Sequence[str] = (), out: Path | str | None = None
) -> ComparisonRecord:
    """Paired comparison of two evaluations, over the cases that both have.

    Args:
        a: a bundle, whose evaluation of the validation cases is taken, or a folder with metrics.csv and summary.json.
        b: likewise; differences are b minus a.
        metrics: ids such as "dice"; all that both have, if empty.
        out: gets comparison.json and comparison.csv.

    Raises:
        EvaluationError: no evaluation there, or labels, grid or data differ, or no case is in both.
    """
    from unet_pipeline.evaluation.comparison import compare_cases, read_measured_cases, write_comparison

    folders = [_find_evaluation(Path(place)) for place in (a, b)]
    names = [Path(place).resolve().name for place in (a, b)]
    if names[0] == names[1]:
        names = [str(a), str(b)]
    first, second = (read_measured_cases(*one) for one in zip(folders, names, strict=True))
    record = compare_cases(first, second, metrics)
    if out is not None:
        write_comparison(Path(out), record)
    return record


def _find_evaluation(place: Path) -> Path:
    """Folder of metrics.csv: `place` itself, or of a bundle's validation cases."""
    inside = BundleFolder(place).evaluations / "validation"
    for folder in (place, inside):
        if (folder / "metrics.csv").is_file():
            return folder
    others = sorted(path.parent.name for path in BundleFolder(place).evaluations.glob("*/metrics.csv"))
    hint = f" It has the evaluation(s) {', '.join(others)} below evidence/evaluations/." if others else ""
    raise EvaluationError(
        f"{place} has no metrics.csv and is no bundle with an evaluation of its validation cases.{hint} Expected one of both; make "
        "it with `unet-pipeline evaluate BUNDLE`."
    )
