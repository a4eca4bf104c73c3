"""What each part of the training recipe is worth: one training per part switched off, all else equal.

    .venv/bin/python benchmarks/ablation.py DATASET [--epochs 10] [--fold 0] [-- plan options, such as --label membrane=0]

Writes results/ablation_DATASET.md, row after row, and goes on where it was interrupted. One seed: read differences below the
spread of the first two rows as none.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import yaml

from unet_pipeline.evidence.records.machine import describe_machine, read_code_version
from unet_pipeline.files import write_json, write_text

RESULTS = Path(__file__).parent / "results"
NO_AUGMENTATION = {
    "augmentation#intensity": None,
    "affine_probability": 0.0,
    "elastic_probability": 0.0,
    "mirror_probability": [0.0, 0.0, 0.0],
}
# name: ids of train.json and their values; numbers of the plan stand in braces
VARIANTS: dict[str, dict[str, object]] = {
    "the recipe": {},
    "the recipe, another seed": {"seed": 1},
    "no augmentation": NO_AUGMENTATION,
    "no rotation, scaling, stretching": {"affine_probability": 0.0},
    "no elastic deformation": {"elastic_probability": 0.0},
    "no change of intensities": {
        f"{kind}_probability": 0.0 for kind in ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma")
    },
    "no mirroring, or with it where the plan has none": {"mirror_probability": "{other_mirroring}"},
    "no deep supervision": {"supervision_weights": "{first_head_only}"},
    "crops anywhere instead of balanced": {"crop_ratios": "{natural_ratios}"},
    "constant learning rate": {"train#lr_scheduler": "{constant_schedule}"},
    "SGD with Nesterov momentum 0.99, rate 0.01": {"train#optimizer": "{sgd}"},
    "learning rate a third": {"learning_rate": "{learning_rate_third}"},
    "a third of the samples rotated and scaled instead of most": {"affine_probability": 0.3},
    "float32 instead of bfloat16": {"train#trainer#iteration_update#autocast": False},
}


def fill(value: object, plan: dict) -> object:
    """A variant's value with the plan's numbers in it."""
    fills = {
        "{other_mirroring}": [0.0 if any(plan["mirror_probability"]) else 0.5] * plan["spatial_dims"],
        "{first_head_only}": [1.0, *[1e-9] * plan["num_supervised_heads"]],
        "{natural_ratios}": [1.0] * len(plan["label_table"]),
        "{learning_rate_third}": plan["learning_rate"] / 3,
        "{constant_schedule}": {
            "_target_": "torch.optim.lr_scheduler.ConstantLR",
            "optimizer": "@train#optimizer",
            "factor": 1.0,
        },
        "{sgd}": {
            "_target_": "torch.optim.SGD",
            "params": "$@network.parameters()",
            "lr": 0.01,
            "momentum": 0.99,
            "nesterov": True,
            "weight_decay": 3e-5,
        },
    }
    return fills.get(value, value) if isinstance(value, str) else value


def run(*words: object) -> None:
    """One verb of the command line in a process of its own."""
    subprocess.run([sys.executable, "-m", "unet_pipeline", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def measure_children_s() -> float:
    """Processor seconds of all processes so far that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(base: Path, name: str, changes: dict[str, object], epochs: int, fold: int) -> dict[str, object]:
    """Train and evaluate one variant."""
    bundle = base.with_name(f"{base.name}_variant")
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(base, bundle)
    plan = yaml.safe_load((bundle / "configs" / "plan.yaml").read_text())
    overrides = {
        "num_epochs": epochs,
        "val_interval": epochs,
        **{key: fill(value, plan) for key, value in changes.items()},
    }
    before_s = measure_children_s()
    run("train", bundle, "--fold", fold, *(f"{key}={value!r}" for key, value in overrides.items()))
    minutes = (measure_children_s() - before_s) / 60
    run("evaluate", bundle)
    summary = json.loads((bundle / "evidence" / "evaluations" / "validation" / "summary.json").read_text())
    row = next(row for row in summary["rows"] if row["metric"] == "dice")
    return {"name": name, "minutes": minutes, **{key: row[key] for key in ("n", "mean", "low", "high")}}


def write_table(target: Path, rows: list[dict], title: str) -> None:
    """The table so far."""
    lines = [
        title,
        "",
        "| part | mean Dice | 95 % interval | difference | n | processor minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        difference = "" if row is rows[0] else f"{row['mean'] - rows[0]['mean']:+.4f}"
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        cells = (row["name"], f"{row['mean']:.4f}", interval, difference, str(row["n"]), f"{row['minutes']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    write_text(target, "\n".join(lines) + "\n")


def main() -> None:
    """Run every variant that has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=10, help="of the 20 of the preset quick")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("ablation"), help="folder for the bundles")
    arguments, plan_options = parser.parse_known_args()
    base = arguments.work / arguments.dataset.name
    if not base.is_dir():
        run("plan", arguments.dataset, base, "--preset", "quick", *[word for word in plan_options if word != "--"])
    machine, code = describe_machine(), read_code_version()
    title = (
        f"# Ablation on {arguments.dataset.name}\n\n`benchmarks/ablation.py {arguments.dataset.name} --epochs {arguments.epochs}`, fold "
        f"{arguments.fold}, preset quick, {datetime.now(UTC):%Y-%m-%d}, commit {str(code.commit)[:10]}, {machine.num_cores} cores "
        f"{machine.processor}, {machine.gpu or 'no GPU'}. Mean Dice over the labels on the native grid; one seed per row."
    )
    record = base.with_suffix(".json")
    rows = json.loads(record.read_text()) if record.is_file() else []
    for name, changes in VARIANTS.items():
        if name not in {row["name"] for row in rows}:
            rows.append(measure(base, name, changes, arguments.epochs, arguments.fold))
            write_json(record, rows)
            write_table(RESULTS / f"ablation_{arguments.dataset.name}.md", rows, title)


if __name__ == "__main__":
    main()
