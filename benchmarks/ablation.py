"""What each part of the training recipe is worth: one training per part switched off, all else equal.

    .venv/bin/python benchmarks/ablation.py DATASET [--epochs 10] [--fold 0] [--jobs 1] [-- plan options, such as --label membrane=0]

Writes results/ablation_DATASET.md, row after row. Every training is an item of the record in the folder of the bundles: the same command
does what is missing. One seed: read differences below the spread of the first two rows as none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

import unet_pipeline
from unet_pipeline.cohort.items import Arguments, Function, Item, Outcome, Share, Work
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.cohort.record import open_record
from unet_pipeline.cohort.run import run_items
from unet_pipeline.device.cores import count_cores
from unet_pipeline.evidence.records.machine import describe_machine, read_code_version
from unet_pipeline.files import compute_sha256, write_text

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


def measure_s() -> float:
    """Processor seconds of this process so far, and of those that it started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def open_variant(arguments: Arguments, share: Share) -> Function:
    """In a worker: train and evaluate a copy of the bundle `base` with the overrides of an item; see `Work`."""

    def measure(item: Arguments, smaller: bool) -> Arguments:
        base = Path(arguments["base"])
        bundle = base.with_name(f"{base.name}_{item['place']}")
        shutil.rmtree(bundle, ignore_errors=True)  # of a training that was cut off
        shutil.copytree(base, bundle)
        before_s = measure_s()
        unet_pipeline.train(bundle, arguments["fold"], overrides=item["overrides"])
        minutes = (measure_s() - before_s) / 60
        summary = unet_pipeline.evaluate(bundle).summary
        row = next(row for row in summary if row.metric == "dice")
        shutil.rmtree(bundle)
        return {"minutes": minutes, **{key: getattr(row, key) for key in ("n", "mean", "low", "high")}}

    return measure


def measure_variants(
    base: Path,
    variants: Mapping[str, Mapping[str, object]],
    epochs: int,
    fold: int,
    jobs: JobOptions,
    write: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Train every variant that has no row yet.

    Args:
        base: the planned bundle; the record and the copies lie beside it.
        write: called with all rows so far, in the order of the variants, whenever there is another one.
    """
    plan = yaml.safe_load((base / "configs" / "plan.yaml").read_text())
    configs = [compute_sha256(base / "configs" / name) for name in ("plan.yaml", "train.json")]
    common = {"num_epochs": epochs, "val_interval": epochs}
    items = []
    for name, changes in variants.items():
        overrides = {**common, **{key: fill(value, plan) for key, value in changes.items()}}
        key = hashlib.sha256(json.dumps([overrides, fold, configs]).encode()).hexdigest()
        items.append(Item(name, key, {"overrides": overrides, "place": re.sub(r"\W+", "_", name)}))
    work = Work("ablation:open_variant", {"base": str(base.absolute()), "fold": fold})
    out = base.with_name(f"{base.name}_record")
    out.mkdir(exist_ok=True)
    with open_record(out) as record:
        engine = jobs.build(jobs.share(count_cores()), len(items), out)
        results = {}

        def enter(outcome: Outcome) -> None:
            results[outcome.attempt.item.name] = outcome.result
            write([{"name": name, **results[name]} for name in variants if name in results])

        for item, row in record.pair(items):
            if row is not None and row.is_finished and row.key == item.key:
                results[item.name] = row.as_result()
        run_items(items, work, engine, record, "ablation", on_finish=enter).require_all("trainings")


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
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    arguments, plan_options = parser.parse_known_args()
    base = arguments.work / arguments.dataset.name
    if not base.is_dir():
        words = ["plan", str(arguments.dataset), str(base), "--preset", "quick"]
        words += [word for word in plan_options if word != "--"]
        subprocess.run([sys.executable, "-m", "unet_pipeline", *words], check=True, stdout=subprocess.DEVNULL)
    machine, code = describe_machine(), read_code_version()
    title = (
        f"# Ablation on {arguments.dataset.name}\n\n`benchmarks/ablation.py {arguments.dataset.name} --epochs {arguments.epochs}`, fold "
        f"{arguments.fold}, preset quick, {datetime.now(UTC):%Y-%m-%d}, commit {str(code.commit)[:10]}, {machine.num_cores} cores "
        f"{machine.processor}, {machine.gpu or 'no GPU'}. Mean Dice over the labels on the native grid; one seed per row."
    )
    target = RESULTS / f"ablation_{arguments.dataset.name}.md"
    workers = JobOptions(arguments.jobs)
    measure_variants(
        base, VARIANTS, arguments.epochs, arguments.fold, workers, lambda rows: write_table(target, rows, title)
    )


if __name__ == "__main__":
    main()
