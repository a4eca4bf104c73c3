"""Whether learning curves from at most 100 cases contain the Dice that is measured with all: Task04_Hippocampus or another dataset.

    .venv/bin/python benchmarks/learning_curve.py DATASET --out FOLDER

Writes results/learning_curve.md. The trainings are those of `learning-curve` (resumable: the same command goes on); the fits are made
again for each repeat from its own trainings with the smaller sizes. `--steps 60 --sizes 10,20,40 --repeats 2` is a short form.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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


def read_scores(bundle: Path) -> np.ndarray:
    """Dice of every fold in every held-out patient, shape (folds, patients)."""
    folder = bundle / "evidence" / "evaluations" / "validation"
    table = tabulate_cases(read_rows(folder), read_summary(folder).scored_labels)
    series = next(one for one in table.series if (one.metric, one.label) == ("dice", ALL_LABELS))
    cases = table.cases[["fold", "patient"]].assign(score=series.values)
    return cases.groupby(["fold", "patient"])["score"].mean().unstack("patient").to_numpy()


def predict(points: Sequence[CurvePoint], scores: np.ndarray, repeat: int) -> tuple[str, ...]:
    """A row: the fit of one repeat up to 100 cases, against the trainings with all."""
    most = max(point.num_cases for point in points)
    own = [point for point in points if point.repeat == repeat and point.num_cases <= min(MOST_CASES, most - 1)]
    fitted = fit_curve(np.array([point.num_cases for point in own]), 1 - scores[[point.fold for point in own]])
    error, low, high = fitted.interval(most, is_measured=True)
    measured = float(np.mean([point.score for point in points if point.num_cases == most]))
    inside = "yes" if 1 - high <= measured <= 1 - low else "no"
    return str(repeat), str(len(own)), f"{1 - error:.4f} ({1 - high:.4f} to {1 - low:.4f})", f"{measured:.4f}", inside


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
    rows = [predict(curve.points, scores, repeat) for repeat in range(options.repeats)]
    machine, code = describe_machine(), read_code_version()
    lines = [
        "# Learning curves from at most 100 cases against all",
        "",
        f"`{describe_command(options)}`, {curve.dataset}, sizes {', '.join(map(str, sizes))}, {options.repeats} nested repeats, "
        f"{curve.num_steps:,} steps each, {curve.num_held_out} held-out cases, {datetime.now(UTC):%Y-%m-%d}, commit {str(code.commit)[:10]}"
        f"{' with changes' if code.changed else ''}, {machine.num_cores} cores {machine.processor}, {curve.hours:.2f} h of trainings.",
        "",
        f"The Dice measured with {curve.num_cases} cases lies in the 95 % interval of {sum(row[-1] == 'yes' for row in rows)} of "
        f"{len(rows)} fits.",
        "",
        "| repeat | trainings in the fit | predicted Dice, 95 % interval of a training | measured | inside |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    write_text(TARGET, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
