"""Makes the bundles of this folder, and the tables of them in README and docs/results.md.

    .venv/bin/python bundles/build.py DATA [NAME ...]    # trains what has no weights, evaluates, documents, seals
    .venv/bin/python bundles/build.py                    # the tables again, from the bundles' evidence

DATA is the folder with the data sets of data/; the simulated heads are made by `unet-pipeline demo`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import unet_pipeline
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.half_weights import halve_weights, holds_full_weights
from unet_pipeline.errors import PipelineError
from unet_pipeline.evaluation.groups import group_by_fold
from unet_pipeline.evidence.report.model_card import CASE_SHEET
from unet_pipeline.files import replace_between, write_text
from unet_pipeline.messages import name_elements
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.planning.plan_text import read_reasons
from unet_pipeline.quality.fitting import write_contract

HERE = Path(__file__).parent
ROOT = HERE.parent
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
_SHORT = ("bundle", "data", "network", "n", "Dice, 95 % interval")
MARKS = ("<!-- bundles: begin -->", "<!-- bundles: end -->")
DEMO = "mni152_demo"
NOTE = "gaps in thin borders are closed, by this version's configs; weights as before"
MAX_WEIGHTS_BYTES = 12_000_000


@dataclass(frozen=True)
class UseCase:
    """How a bundle is made.

    Attributes:
        card: of the data set, in data/.
        network: a name that `plan --network` takes.
        padded: the paper's network in its form with padding.
        with_labels: whether the label names come from the card, because the layout carries none.
        folds: of the cross-validation; the bundle has the weights of the first.
        preset: of the plan.
        overrides: of the training, as `train BUNDLE KEY=VALUE` takes them.
    """

    card: str
    network: str = "dynunet"
    padded: bool = False
    with_labels: bool = True
    folds: int = 5
    preset: str = "quick"
    overrides: Mapping[str, object] = field(default_factory=dict)


USE_CASES = {
    "hippocampus_mri": UseCase("task04_hippocampus", with_labels=False),
    "membrane_em": UseCase("em_membrane", network="unet2015", padded=True),
    "nuclei_fluorescence": UseCase("nuclei_fluorescence", network="unetplusplus"),
    "nuclei_histology": UseCase("nuclei_histology", network="attention_unet"),
    "fetal_head_ultrasound": UseCase("fetal_head_ultrasound"),
    "lung_xray": UseCase("lung_xray", with_labels=False),
    "brain_tissue_mri": UseCase(
        DEMO,
        network="unet3d2016",
        padded=True,
        with_labels=False,
        folds=8,
        preset="demo",
        overrides={"num_epochs": 60, "val_interval": 20},
    ),
}


def read_card(name: str) -> dict[str, Any]:
    """A card."""
    return yaml.safe_load((ROOT / find_card(name)).read_text(encoding="utf-8"))


def find_card(name: str) -> str:
    """Where a card lies, from the repository's root; that of the demo is no set to download."""
    return f"data/{name}.yaml" if name == DEMO else f"pipeline/unet_pipeline/public_data/cards/{name}.yaml"


def find_data(case: UseCase, data: Path) -> Path:
    """The data set of a use case; the simulated heads are made when they are missing."""
    if case.card != DEMO:
        return data / read_card(case.card)["name"]
    from unet_pipeline.dataset.demo import write_demo_cohort

    return write_demo_cohort(ROOT / "demo").training


def build(name: str, data: Path) -> None:
    """Plan and train a bundle unless that is done, then evaluate, document and seal it."""
    case, bundle = USE_CASES[name], HERE / name
    card = read_card(case.card)
    source = find_data(case, data)
    if not (bundle / "configs").is_dir():
        labels = card["labels"] if case.with_labels else None
        unet_pipeline.plan(
            source, bundle, case.preset, case.folds, labels=labels, network=case.network, padded=case.padded
        )
    folder = BundleFolder(bundle)
    if not folder.weights.is_file():
        unet_pipeline.train(bundle, overrides=case.overrides)
    for fold in folder.trained_folds():
        folder.fold_weights(fold).unlink()  # the first fold's are those of the bundle
    if holds_full_weights(folder.weights):
        halve_weights(folder)  # before anything is measured with them
    rename_elements(folder)
    unet_pipeline.refresh(bundle)  # a bundle that an earlier version trained gets this version's configs and modules
    write_text(folder.docs / "data_license.txt", describe_data(card))
    # the simulated heads are made anew, and their intensities differ in the last digit from processor to processor
    unet_pipeline.evaluate(bundle, check_data=case.card != DEMO)
    if case.card == DEMO:
        unet_pipeline.evaluate(bundle, ROOT / "demo" / "demo_real_head")
    (folder.docs / CASE_SHEET).unlink(missing_ok=True)
    if shows_cases(card):
        unet_pipeline.report(bundle, dataset=source, card_pictures=True)
    for predictions in folder.evaluations.glob("*/predictions*"):
        shutil.rmtree(predictions)  # label maps of the data set's images; without them the report shows no image either
    if not shows_cases(card):
        unet_pipeline.report(bundle)
    write_contract(
        folder, read_plan(folder.plan), group_by_fold(folder, read_plan(folder.plan))[0]
    )  # with this version's properties
    with (
        tempfile.TemporaryDirectory() as temporary
    ):  # the archive and the exports are for releases, the folder for the repository
        unet_pipeline.package(bundle, Path(temporary) / f"{name}.zip", export="none", note=NOTE)


def rename_elements(folder: BundleFolder) -> None:
    """The reasons in the plan of pictures, which an earlier version planned, speak of pixels and areas; no value changes."""
    plan = read_plan(folder.plan)
    if plan.spatial_dims == 2:
        values = plan.model_dump(mode="json")
        edit_plan(
            folder.plan, {name: (values[name], name_elements(why)) for name, why in read_reasons(folder.plan).items()}
        )


def shows_cases(card: Mapping[str, Any]) -> bool:
    """Whether report and model card may show images: the licence allows it with credit, which stands beside them."""
    return re.match(r"CC0|CC BY \d", card["licence"]) is not None


def describe_data(card: dict[str, Any]) -> str:
    """Contents of docs/data_license.txt."""
    citations = "\n".join(f"- {citation}" for citation in card["citation"])
    return (
        f"Data set: {card['name']} ({card['what']})\n"
        f"Address: {card['address']}\n"
        f"Licence: {card['licence']}\n"
        f"Cite:\n{citations}\n\n"
        "The weights were trained on these data; their terms may bind the weights too. Research only.\n"
    )


def describe_bundle(bundle: Path) -> dict[str, str]:
    """One line of the table, from the bundle's evidence."""
    folder = BundleFolder(bundle)
    plan = yaml.safe_load(folder.plan.read_text(encoding="utf-8"))
    summary = json.loads((folder.evaluations / "validation" / "summary.json").read_text(encoding="utf-8"))
    rows = [row for row in summary["rows"] if row["metric"] == "dice" and row["in_mean"]]
    shown = rows[1:] if len(rows) == 2 else rows  # of one label, its mean is the label
    run = read_training(folder)
    network = plan["network_name"] + (", padded" if USE_CASES[bundle.name].padded else "")
    minutes, processor = run["duration_s"] / 60, run["processor_s"] / 60
    machine = run["machine"]["gpu"] or f"{run['machine']['num_cores']} cores {run['machine']['processor']}"
    return {
        "bundle": f"[`{bundle.name}`](bundles/{bundle.name}/docs/README.md)",
        "data": f"[{plan['dataset_name']}]({find_card(USE_CASES[bundle.name].card)}), {plan['spatial_dims']}D",
        "network": network,
        "parameters": f"{unet_pipeline.describe(bundle).num_parameters:,}",
        "n": str(rows[0]["n"]),
        "Dice, 95 % interval": "<br>".join(
            f"{row['label']} {row['mean']:.4f}"
            + ("" if row["low"] is None else f" ({row['low']:.4f} to {row['high']:.4f})")
            for row in shown
        ),
        "training: clock (processor)": f"{minutes:.0f} ({processor:.0f}) min",
        "machine": machine,
        "commit": f"`{str(run['code']['commit'])[:10]}`",
    }


def read_training(folder: BundleFolder) -> dict[str, Any]:
    """Record of the training that the bundle's weights come from.

    Raises:
        PipelineError: there is none.
    """
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.runs.glob("fold_*/run.json"))]
    finished = [record for record in records if record["state"] == "finished"]
    if not finished:
        raise PipelineError(f"{folder.name} has no record of a finished training; expected one in evidence/runs/.")
    return finished[-1]


def build_pages() -> dict[Path, str]:
    """Texts of README and docs/results.md with the table between its marks; the README has the first columns only."""
    lines = [describe_bundle(HERE / name) for name in USE_CASES if (HERE / name / "evidence" / "evaluations").is_dir()]
    short = [{name: line[name] for name in _SHORT} for line in lines]
    pages = {
        README: _join(short),
        RESULTS: _join(lines).replace("](", "](../"),
    }
    return {page: replace_between(page.read_text(encoding="utf-8"), *MARKS, table) for page, table in pages.items()}


def _join(lines: list[dict[str, str]]) -> str:
    heading = list(lines[0])
    table = [heading, ["---"] * len(heading), *(list(line.values()) for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def main() -> None:
    """Build the named bundles, or all, and the table."""
    if len(sys.argv) > 1:
        for name in sys.argv[2:] or USE_CASES:
            build(name, Path(sys.argv[1]))
    for page, text in build_pages().items():
        write_text(page, text)


if __name__ == "__main__":
    main()
