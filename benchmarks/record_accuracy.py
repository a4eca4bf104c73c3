"""Puts the evaluation of trained bundles into results/accuracy.csv and the table of docs/results.md.

    .venv/bin/python benchmarks/record_accuracy.py BUNDLE [BUNDLE ...]    # after `unet-pipeline evaluate BUNDLE`
    .venv/bin/python benchmarks/record_accuracy.py                        # the table again

Every number is read from the evidence of the bundle: the summary of its validation folds, and the records of its latest
training of each fold.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from unet_pipeline.files import replace_between, write_text

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "accuracy.csv"
RESULTS_PAGE = ROOT / "docs" / "results.md"
MARKS = ("<!-- accuracy: begin -->", "<!-- accuracy: end -->")
COLUMNS = (
    "data",
    "dimensions",
    "network",
    "preset",
    "folds",
    "n",
    "label",
    "dice",
    "low",
    "high",
    "minutes_per_fold",
    "processor_minutes_per_fold",
    "machine",
    "commit",
    "date",
)
KEY = ("data", "network", "preset", "folds", "label")


def collect(bundle: Path) -> list[dict[str, str]]:
    """A row for the mean of the labels, and one for each label that counts in it."""
    plan = yaml.safe_load((bundle / "configs" / "plan.yaml").read_text(encoding="utf-8"))
    summary = json.loads((bundle / "evidence" / "evaluations" / "validation" / "summary.json").read_text())
    folds = re.search(r"folds? ([\d, ]+) \(?of (\d+)", summary["title"])
    if folds is None:
        raise SystemExit(f"{bundle}: {summary['title']!r} is no evaluation of validation folds")
    numbers = [int(number) for number in folds[1].split(",")]
    runs = [read_latest_run(bundle, number) for number in numbers]
    commits = sorted({str(run["code"]["commit"])[:10] + ("+" if run["code"]["changed"] else "") for run in runs})
    shared = {
        "data": plan["dataset_name"],
        "dimensions": f"{plan['spatial_dims']}D",
        "network": plan["network_name"] + (", padded" if is_variant(plan) else ""),
        "preset": plan["preset"],
        "folds": "all" if len(numbers) == int(folds[2]) else folds[1],
        "minutes_per_fold": average_minutes(runs, "duration_s"),
        "processor_minutes_per_fold": average_minutes(runs, "processor_s"),
        "machine": describe_machine(runs[0]["machine"]),
        "commit": " ".join(commits),
        "date": runs[-1]["ended"][:10],
    }
    rows = [row for row in summary["rows"] if row["metric"] == "dice" and row["in_mean"]]
    return [
        {
            **shared,
            "n": str(row["n"]),
            "label": row["label"],
            **{name: f"{row[source]:.4f}" for name, source in (("dice", "mean"), ("low", "low"), ("high", "high"))},
        }
        for row in rows
    ]


def average_minutes(runs: list[dict[str, Any]], item: str) -> str:
    """Mean of a duration over the trainings."""
    return f"{sum(run[item] for run in runs) / len(runs) / 60:.1f}"


def is_variant(plan: dict[str, Any]) -> bool:
    """Whether a paper's network is in the form with padding and instance normalisation."""
    return plan["network_name"] not in ("dynunet", "resenc") and plan["normalisation"] == "instance"


def read_latest_run(bundle: Path, fold: int) -> dict[str, Any]:
    """Record of the latest finished training of a fold."""
    records = [json.loads(path.read_text()) for path in sorted(bundle.glob(f"evidence/runs/fold_{fold}-*/run.json"))]
    finished = [record for record in records if record["state"] == "finished"]
    if not finished:
        raise SystemExit(f"{bundle}: no finished training of fold {fold}")
    return finished[-1]


def describe_machine(machine: dict[str, Any]) -> str:
    """The GPU, or cores and processor."""
    return machine["gpu"] or f"{machine['num_cores']} cores {machine['processor']}"


def read_rows() -> list[dict[str, str]]:
    """Rows of the CSV file."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(rows: list[dict[str, str]]) -> None:
    """Write the CSV file, sorted by data set."""
    lines = [",".join(COLUMNS)]
    lines += [
        ",".join(quote(row[name]) for name in COLUMNS) for row in sorted(rows, key=lambda row: row["data"].lower())
    ]
    write_text(RESULTS, "\n".join(lines) + "\n")


def quote(text: str) -> str:
    """A field of the CSV file."""
    return f'"{text}"' if "," in text else text


def build_table(rows: list[dict[str, str]]) -> str:
    """The page's table; a sentence while nothing is recorded."""
    if not rows:
        return "None is recorded yet."
    lines = [
        "| data | network, preset | folds | n | label | Dice | 95 % interval | training per fold: clock (processor) | machine | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (
            f"{row['data']}, {row['dimensions']}",
            f"{row['network']}, `{row['preset']}`",
            row["folds"],
            row["n"],
            row["label"],
            row["dice"],
            f"{row['low']} to {row['high']}",
            f"{float(row['minutes_per_fold']):.0f} ({float(row['processor_minutes_per_fold']):.0f}) min",
            row["machine"],
            f"`{row['commit']}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def put_into_page(table: str) -> str:
    """Text of docs/results.md with the table between its marks."""
    return replace_between(RESULTS_PAGE.read_text(encoding="utf-8"), *MARKS, table)


def main() -> None:
    """Record the bundles of the command line."""
    rows = read_rows()
    for name in sys.argv[1:]:
        new = collect(Path(name))
        keys = {tuple(row[part] for part in KEY) for row in new}
        rows = [row for row in rows if tuple(row[part] for part in KEY) not in keys] + new
    write_rows(rows)
    write_text(RESULTS_PAGE, put_into_page(build_table(read_rows())))


if __name__ == "__main__":
    main()
