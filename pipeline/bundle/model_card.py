"""docs/README.md of a bundle, its model card: what it is for, what it was trained on, how well it does, how to run it."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle import answers
from pipeline.bundle.drafts import TO_FILL, write_draft
from pipeline.bundle.history import EvaluationRecord, History, format_interval, format_value, title_metric

_TEMPLATE = """\
# {name}

{technology}

## Intended use

{intended_use}

- users and setting: {to_fill}
- authors and contact: {to_fill}

## Data

{data}

- reference standard, who annotated: {to_fill}
- terms of the data: docs/data_license.txt; they may bind the weights too

## Split

{split}

## Training

{model}

{training}

{software}

## Results

{results}

## Limits

{limits}

- known failures in use, and fairness across groups of patients: {to_fill}

## Run it

Needs MONAI, PyTorch, Ignite and the reader of the image format; nothing else. From this folder:

    python -m monai.bundle run --config_file configs/inference.json --dataset_dir DIR --output_dir OUT

Every image `DIR/{pattern}` gives a label map of the same name in OUT, on the image's own grid. The same with mirroring,
a progress bar and checks of the input: `unet-pipeline predict BUNDLE DIR OUT`.

Running a config executes code. Read the configs of a bundle that you did not make before you run it.

## Label values

{label_table}

## Where the numbers come from

`configs/plan.yaml` has every number of the training with its reason; `evidence/` has the dataset manifest (SHA-256 of every
file), the splits, the run records, the results per case and what was verified. Drafts of reporting checklists:
`docs/CLAIM_2024.md`, `docs/TRIPOD_AI.md`.

{hashes}
"""


def write_model_card(history: History) -> Path:
    """Write docs/README.md; one that its authors edited is kept, and the new draft lies beside it."""
    return write_draft(history.folder.docs / "README.md", build_model_card(history))


def build_model_card(history: History) -> str:
    """The model card as Markdown: everything from the record, and a mark where only the authors can know."""
    plan = history.plan
    return _TEMPLATE.format(
        name=history.folder.name,
        to_fill=TO_FILL,
        technology=answers.tell_technology(history),
        intended_use=answers.tell_intended_use(history),
        data=answers.tell_data(history) or TO_FILL,
        split=answers.tell_split(history) or TO_FILL,
        model=answers.tell_model(history),
        training=answers.tell_training(history),
        software=answers.tell_software(history) or f"Software and versions: {TO_FILL}.",
        results="\n\n".join(map(_format_table, history.evaluations))
        or "Not evaluated. Run `unet-pipeline evaluate BUNDLE`.",
        limits=answers.tell_limits(history),
        pattern=f"*{plan.image_suffix}",
        label_table="\n".join(f"- {value}: {label}" for label, value in plan.label_table.items()),
        hashes="\n".join(f"- {name}: SHA-256 `{sha256}`" for name, sha256 in history.hashes.items()),
    )


def _format_table(record: EvaluationRecord) -> str:
    lines = [f"{record.title}, native grid. Interval: {record.interval}.", ""]
    lines += ["| label | metric | n | mean | interval |", "| --- | --- | --- | --- | --- |"]
    for row in record.rows:
        mean = format_value(row["metric"], row["mean"])
        lines.append(f"| {row['label']} | {title_metric(row)} | {row['n']} | {mean} | {format_interval(row)} |")
    return "\n".join(lines)
