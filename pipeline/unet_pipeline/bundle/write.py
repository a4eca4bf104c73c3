"""Writes a new bundle from a planned dataset, and writes its configs again after an edit of the plan."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from unet_pipeline.bundle.configs import copy_license, write_configs
from unet_pipeline.bundle.data_state import note_seen_files
from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.bundle.metadata import build_metadata
from unet_pipeline.bundle.modules import write_modules
from unet_pipeline.bundle.seal import break_seal
from unet_pipeline.dataset.annotated_labels import list_missing
from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.prepare import PreparedCase
from unet_pipeline.dataset.report import build_manifest
from unet_pipeline.errors import BundleError
from unet_pipeline.files import compute_sha256, stage_folder, write_atomically, write_json, write_text
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.fine_tuning import Start
from unet_pipeline.planning.plan import Plan, read_notes, read_plan
from unet_pipeline.planning.plan_text import write_plan
from unet_pipeline.planning.planner import PlannedBundle
from unet_pipeline.planning.splits import Splits

FIRST_VERSION = "0.1.0"


def write_bundle(
    root: Path,
    planned: PlannedBundle,
    report: CheckReport,
    splits: Splits,
    prepared: tuple[PreparedCase, ...] = (),
    start: Start | None = None,
) -> BundleFolder:
    """Write a complete bundle without weights; the folder appears whole or not at all.

    Args:
        root: does not exist yet, or is empty.
        planned: plan and reasons.
        report: of the dataset that was planned.
        splits: who is trained on and who validates, in every fold.
        prepared: the copies that are trained on instead of the dataset's own files, if any.
        start: the bundle whose weights the training starts from; they are copied.

    Raises:
        BundleError: `root` exists and is not empty.
    """

    def fill(folder: BundleFolder) -> None:
        write_data(folder, planned.plan, report, splits, prepared)
        write_text(folder.docs / "data_license.txt", _describe_data(report, start))
        if start is not None:
            shutil.copyfile(start.weights, folder.initial_weights)

    return write_whole(root, planned, fill, "planned")


def write_whole(root: Path, planned: PlannedBundle, fill: Callable[[BundleFolder], None], change: str) -> BundleFolder:
    """Write plan, configs, modules and metadata of a new bundle; the folder appears whole or not at all.

    Args:
        root: does not exist yet, or is empty.
        planned: plan and reasons.
        fill: adds the rest to the folder, before it gets its name.
        change: line of the changelog.

    Raises:
        BundleError: `root` exists and is not empty.
    """
    require_free(root)
    with stage_folder(root.parent) as place:
        staging = BundleFolder(place)
        for part in (staging.configs, staging.models, staging.docs, staging.evidence):
            part.mkdir(parents=True)
        write_plan(staging.plan, planned.plan, planned.reasons)
        write_configs(staging, planned.plan)
        write_modules(staging, planned.plan)
        metadata = build_metadata(planned.plan, root.name, FIRST_VERSION, {FIRST_VERSION: change}, {})
        write_json(staging.metadata, metadata)
        copy_license(staging)
        fill(staging)
        staging.root.chmod(0o755)  # mkdtemp makes it private
        if root.exists():
            root.rmdir()
        os.replace(staging.root, root)
    return BundleFolder(root)


def require_free(root: Path) -> None:
    """Whether a new bundle may be written there.

    Raises:
        BundleError: `root` exists and is not empty.
    """
    if root.is_symlink() and not root.exists():
        raise BundleError(
            f"{root} is a link to something that does not exist. Choose another folder, or remove the link."
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BundleError(
            f"{root} exists already. Choose another folder, or edit its configs/plan.yaml and run "
            f"`unet-pipeline plan --refresh {shlex.quote(str(root))}`."
        )


def write_data(
    folder: BundleFolder,
    plan: Plan,
    report: CheckReport,
    splits: Splits,
    prepared: tuple[PreparedCase, ...] = (),
) -> None:
    """What a bundle keeps of its dataset: fingerprint, manifest, splits, and further columns of the list of cases."""
    fingerprint = report.require_no_errors()
    write_json(folder.fingerprint, fingerprint.model_dump(mode="json"))
    write_json(folder.dataset_manifest, build_manifest(report, prepared))
    note_seen_files(folder, report)
    _write_splits(folder, plan, report, splits, prepared)
    _write_case_table(folder, report)


def _write_splits(
    folder: BundleFolder, plan: Plan, report: CheckReport, splits: Splits, prepared: tuple[PreparedCase, ...]
) -> None:
    """A data list per fold, and how the split was made with the SHA-256 of each list."""
    copies = {copy.case: copy for copy in prepared}
    entries: dict[str, dict[str, object]] = {}
    for case in report.dataset.cases:
        files = copies.get(case.name)
        entry = {
            "case": case.name,
            "image": files.image if files else case.image.as_posix(),
            "label": files.label if files else case.require_label().as_posix(),
        }
        missing = [plan.label_table[name] for name in list_missing(case, plan.label_table)]
        facts = {"spacing_mm": list(case.spacing_mm or ()), "missing_values": missing}
        entries[case.name] = entry | {name: values for name, values in facts.items() if values}
    for number, fold in enumerate(splits.folds):
        write_json(
            folder.split(number),
            {
                "training": [entries[name] for name in fold.training],
                "validation": [entries[name] for name in fold.validation],
            },
        )
    described = {
        "method": splits.method,
        "seed": plan.seed,
        "patients": splits.patients,
        "test": [entries[name] for name in splits.test],
        "sha256": {f"fold_{number}": compute_sha256(folder.split(number)) for number in range(len(splits.folds))},
    }
    write_json(folder.split_record, described)


def _write_case_table(folder: BundleFolder, report: CheckReport) -> None:
    """Further columns of the dataset's list of cases, where it has some."""
    cases = report.dataset.cases
    names = list(dict.fromkeys(name for case in cases for name in case.columns))
    if not names:
        return
    with write_atomically(folder.case_table) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", *names])
        writer.writerows([case.name, *(case.columns.get(name, "") for name in names)] for case in cases)


def _describe_data(report: CheckReport, start: Start | None) -> str:
    dataset = report.dataset
    earlier = (
        f"The training started from the weights of bundle {start.bundle}, trained on {start.plan.dataset_name}: their terms count too.\n"
        if start is not None
        else ""
    )
    return (
        f"Data set: {dataset.name}\n"
        f"Licence: {dataset.licence or 'not stated by the data set'}\n"
        f"Reference: {dataset.reference or 'not stated by the data set'}\n"
        "The weights were trained on these data; their terms may bind the weights too.\n"
        f"{earlier}"
    )


def refresh_bundle(root: Path, force: bool = False) -> Plan:
    """Write the JSON configs again from the bundle's plan.yaml.

    Raises:
        PlanError: the plan is not valid; nothing was written.
        BundleError: no bundle, or a config was edited by hand and `force` is not set.
    """
    folder = open_bundle(root)
    plan = read_plan(folder.plan)
    write_configs(folder, plan, force)
    break_seal(folder)
    write_modules(folder, plan)
    if read_notes(folder.plan):
        edit_plan(folder.plan, {})
    return plan
