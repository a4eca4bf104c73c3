"""Whether learning curves from at most 100 cases contain the Dice that is measured with all: Task04_Hippocampus or another dataset.

    .venv/bin/python benchmarks/learning_curve.py DATASET --out FOLDER

Writes results/learning_curve.md. The trainings are those of `learning-curve` (resumable: the same command goes on); the fits are made
again from the trainings with the smaller sizes: of each repeat alone, and of each repeat with the two after it, since three repeats are
what `learning-curve` makes if not told otherwise. `--steps 60 --sizes 10,20,40 --repeats 2` is a short form.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import unet_pipeline
from unet_pipeline.evaluation.case_values import ALL_LABELS, tabulate_cases
from unet_pipeline.evaluation.files import read_rows, read_summary
from unet_pipeline.evidence.records.record import describe_machine, read_code_version
from unet_pipeline.files import write_text
from unet_pipeline.studies.learning_curve import CurvePoint
from unet_pipeline.studies.power_law import fit_curve
from unet_pipeline.verbs.learning_curve import CurveDesign

TARGET = Path(__file__).parent / "results" / "learning_curve.md"
SIZES, MOST_CASES = (12, 25, 50, 100), 100
HEAD = ("| repeats | trainings in the fit | told | measured | inside |", "| --- | --- | --- | --- | --- |")


def read_scores(bundle: Path) -> np.ndarray:
    """Dice of every fold in every held-out patient, shape (folds, patients)."""
    folder = bundle / "evidence" / "evaluations" / "validation"
    table = tabulate_cases(read_rows(folder), read_summary(folder).scored_labels)
    series = next(one for one in table.series if (one.metric, one.label) == ("dice", ALL_LABELS))
    cases = table.cases[["fold", "patient"]].assign(score=series.values)
    return cases.groupby(["fold", "patient"])["score"].mean().unstack("patient").to_numpy()


@dataclass(frozen=True)
class Forecast:
    """Dice of a training with all cases, told from those of some repeats with at most 100; `low` and `high` end where Dice does."""

    repeats: tuple[int, ...]
    num_trainings: int
    expected: float
    low: float
    high: float
    measured: float

    @property
    def is_inside(self) -> bool:
        return self.low <= self.measured <= self.high

    def as_row(self) -> str:
        """A line of the table."""
        shown = ", ".join(map(str, self.repeats))
        told = f"{self.expected:.4f} ({self.low:.4f} to {self.high:.4f})"
        return (
            f"| {shown} | {self.num_trainings} | {told} | {self.measured:.4f} | {'yes' if self.is_inside else 'no'} |"
        )


def predict(points: Sequence[CurvePoint], scores: np.ndarray, repeats: tuple[int, ...]) -> Forecast:
    """Fit some repeats up to 100 cases, against the trainings with all."""
    most = max(point.num_cases for point in points)
    own = [point for point in points if point.repeat in repeats and point.num_cases <= min(MOST_CASES, most - 1)]
    fitted = fit_curve(np.array([point.num_cases for point in own]), 1 - scores[[point.fold for point in own]])
    error, *ends = fitted.interval(most, is_measured=True)
    high, low = (float(np.clip(1 - end, 0, 1)) for end in ends)
    measured = float(np.mean([point.score for point in points if point.num_cases == most]))
    return Forecast(repeats, len(own), 1 - error, low, high, measured)


def describe(forecasts: Sequence[Forecast]) -> str:
    """How many contain what was measured, and how wide they are."""
    num_inside, width = sum(one.is_inside for one in forecasts), np.mean([one.high - one.low for one in forecasts])
    return f"{num_inside} of {len(forecasts)} intervals contain what was measured; their mean width is {width:.3f}."


def describe_command(options: argparse.Namespace) -> str:
    """What gives the same table again."""
    steps = f" --steps {options.steps}" if options.steps else ""
    chosen = f"--sizes {options.sizes} --all {options.all} --repeats {options.repeats}{steps}"
    return f"benchmarks/learning_curve.py {options.dataset.name} {chosen}"


def main() -> None:
    """Train what is missing, fit, write the table."""
    parser = argparse.ArgumentParser(description="Learning curves against the Dice measured with all cases.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, default=Path("learning_curve_benchmark"))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--all", type=int, default=166, help="Cases of the largest training.")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    sizes = (*map(int, options.sizes.split(",")), options.all)
    design = CurveDesign(sizes, options.repeats, steps=options.steps)
    curve = unet_pipeline.learning_curve(options.dataset, options.out, design, announce=print, jobs=options.jobs)
    if curve is None:
        return
    scores = read_scores(options.out / "bundle")
    repeats = range(options.repeats)
    alone = [predict(curve.points, scores, (repeat,)) for repeat in repeats]
    by_three = [
        predict(curve.points, scores, tuple((repeat + more) % len(repeats) for more in range(3))) for repeat in repeats
    ]
    machine, code = describe_machine(), read_code_version()
    lines = [
        "# Learning curves from at most 100 cases against all",
        "",
        f"`{describe_command(options)}`, {curve.dataset}, sizes {', '.join(map(str, sizes))}, {options.repeats} nested repeats, "
        f"{curve.num_steps:,} steps each, {curve.num_held_out} held-out cases, {datetime.now(UTC):%Y-%m-%d}, commit {str(code.commit)[:10]}"
        f"{' with changes' if code.changed else ''}, {machine.num_cores} cores {machine.processor}, {curve.hours:.2f} h of trainings.",
        "",
        f"Dice of a training with {curve.num_cases} cases, with its 95 % interval.",
        *(
            line
            for title, forecasts in (("Of one repeat each", alone), ("Of three repeats each", by_three))
            for line in ("", f"## {title}", "", describe(forecasts), "", *HEAD, *(one.as_row() for one in forecasts))
        ),
    ]
    write_text(TARGET, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
