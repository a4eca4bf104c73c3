"""Whether expected Dice keeps what it says: coverage, width and ranking on out-of-fold cases that were not fitted on.

    .venv/bin/python benchmarks/expected_dice.py DATASET... [--steps 400] [--folds 3] [--jobs 1] [--work FOLDER]

Each data set is planned with the preset quick, all folds are trained for that many steps, and `evaluate --quality` judges each case by
the others. Writes results/expected_dice.md with a row for each label, and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from unet_pipeline.evidence.records.machine import describe_machine, read_code_version
from unet_pipeline.files import write_text
from unet_pipeline.quality.claim import QUALITY_FILE

RESULT = Path(__file__).parent / "results" / "expected_dice.md"
LEAST_COVERAGE, MOST_COVERAGE = 0.85, 0.95


def run(*words: object) -> None:
    """One verb of the command line in a process of its own."""
    subprocess.run([sys.executable, "-m", "unet_pipeline", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def measure(dataset: Path, arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Rows of `evaluate --quality` for a data set."""
    bundle = arguments.work / f"{dataset.name}-{arguments.folds}x{arguments.steps}"
    result = bundle / "evidence" / "evaluations" / "validation" / QUALITY_FILE
    if not result.is_file():
        if not bundle.is_dir():
            run("plan", dataset, bundle, "--preset", "quick", "--folds", arguments.folds, "--no-forecast")
        if not all((bundle / "models" / f"model_fold_{fold}.pt").is_file() for fold in range(arguments.folds)):
            overrides = ("num_epochs=1", f"iterations_per_epoch={arguments.steps}", "val_interval=1")
            run("train", bundle, "--fold", "all", "--jobs", arguments.jobs, *overrides)
        run("evaluate", bundle, "--quality")
    return list(json.loads(result.read_text(encoding="utf-8"))["rows"])


def write_table(rows: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    """The table so far."""
    machine, code = describe_machine(), read_code_version()
    every = [row for of_set in rows.values() for row in of_set]
    num_covered = sum(LEAST_COVERAGE <= row["coverage"] <= MOST_COVERAGE for row in every)
    num_better = sum(row["aurc"] < row["aurc_entropy"] for row in every)
    lines = [
        "# Expected Dice on cases that were not fitted on",
        "",
        f"`benchmarks/expected_dice.py {' '.join(rows)} --steps {arguments.steps} --folds {arguments.folds}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, commit {str(code.commit)[:10]}, {machine.num_cores} cores {machine.processor}, "
        f"{machine.gpu or 'no GPU'}, torch {torch.__version__}. {arguments.folds} folds of {arguments.steps} steps each, preset quick, "
        "one seed; each case judged by a fit on the others; 90 % intervals; risk is 1 - Dice.",
        "",
        f"{num_covered} of {len(every)} labels have 85 to 95 % of their cases within the interval; expected Dice ranks better than mean "
        f"entropy for {num_better} of {len(every)}.",
        "",
        "| data set | label | n | within, 95 % interval | mean width | mean error | AURC | by entropy | random | best | failures, AUROC |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, of_set in rows.items():
        for row in of_set:
            within = f"{row['coverage']:.2f} ({_show(row['coverage_low'])} to {_show(row['coverage_high'])})"
            numbers = [f"{row[key]:.3f}" for key in ("mean_width", "mean_absolute_error")]
            numbers += [f"{row[key]:.4f}" for key in ("aurc", "aurc_entropy", "aurc_random", "aurc_best")]
            failures = f"{row['num_failures']}, {_show(row['auroc'])}"
            lines.append(f"| {name} | {row['label']} | {row['n']} | {within} | {' | '.join(numbers)} | {failures} |")
    write_text(RESULT, "\n".join(lines) + "\n")
    print("\n".join(lines))


def _show(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def main() -> None:
    """Measure every data set that has no result yet, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="folds trained at the same time")
    parser.add_argument("--work", type=Path, default=Path("expected_dice"), help="folder for the bundles")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    for dataset in arguments.datasets:
        rows[dataset.name] = measure(dataset, arguments)
        write_table(rows, arguments)


if __name__ == "__main__":
    main()
