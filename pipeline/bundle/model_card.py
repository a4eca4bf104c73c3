"""docs/README.md of a bundle: what it was trained on, how well it does, how to run it, what it is not for."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.bundle.metadata import INTENDED_USE
from pipeline.bundle_folder import BundleFolder
from pipeline.files import compute_sha256, write_text
from pipeline.planning.plan import Plan

_TEMPLATE = """\
# {name}

{task}: {labels}. Trained on {dataset} ({num_training} cases, {num_validation} for validation in fold {fold}).

**Intended use:** {intended_use}

## Results

{results}

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
file), the splits, the run records, the results per case and what was verified.

- weights: `models/model.pt`, SHA-256 `{weights}`
- plan: SHA-256 `{plan}`
- dataset manifest: SHA-256 `{manifest}`

## Limits

One data set, one network per fold, no test on data of another origin unless the results say so. The intervals are over the
cases of this data set and say nothing about other scanners, protocols or patients.
"""


def write_model_card(folder: BundleFolder, plan: Plan) -> None:
    """Write docs/README.md from the plan and the evidence."""
    fold = folder.fold_of_weights(plan.fold)
    split = folder.read_split(fold)
    text = _TEMPLATE.format(
        name=folder.name,
        task=f"{plan.spatial_dims}D segmentation",
        labels=", ".join(list(plan.label_table)[1:]),
        dataset=plan.dataset_name,
        num_training=len(split["training"]),
        num_validation=len(split["validation"]),
        fold=fold,
        intended_use=INTENDED_USE,
        results=_describe_results(folder),
        pattern=f"*{plan.image_suffix}",
        label_table="\n".join(f"- {value}: {label}" for label, value in plan.label_table.items()),
        weights=compute_sha256(folder.weights),
        plan=compute_sha256(folder.plan),
        manifest=compute_sha256(folder.dataset_manifest),
    )
    write_text(folder.docs / "README.md", text)


def _describe_results(folder: BundleFolder) -> str:
    tables = [_format_table(path) for path in sorted(folder.evaluations.glob("*/summary.json"))]
    return "\n\n".join(tables) if tables else "Not evaluated. Run `unet-pipeline evaluate BUNDLE`."


def _format_table(path: Path) -> str:
    summary = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"{summary['title']}, native grid, 95 % bootstrap interval over cases:", ""]
    lines += ["| label | metric | n | mean | interval |", "| --- | --- | --- | --- | --- |"]
    for row in summary["rows"]:
        mean = "undefined" if row["mean"] is None else f"{row['mean']:.4f}"
        interval = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        lines.append(f"| {row['label']} | {row['metric']} | {row['n']} | {mean} | {interval} |")
    return "\n".join(lines)
