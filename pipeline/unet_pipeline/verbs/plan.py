"""`plan`: from a dataset to a bundle, and from an edited plan to its configs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.audit.trust import open_for_reading
from unet_pipeline.bundle.folder import BundleFolder, require_weights
from unet_pipeline.bundle.write import refresh_bundle, require_free, write_bundle
from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.decisions import apply_decisions
from unet_pipeline.dataset.layouts import read_datasets
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.device.memory import find_memory
from unet_pipeline.files import compute_sha256
from unet_pipeline.planning.fine_tuning import Start
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.planning.planner import PlannedBundle, plan_from_fingerprint
from unet_pipeline.planning.splits import Splits, choose_splits
from unet_pipeline.results import Result
from unet_pipeline.verbs.stores import fetches


@dataclass(frozen=True, repr=False)
class PlannedFolder(Result):
    """A bundle that `plan` wrote; `read_case_s` is what reading one image with its label took, in seconds."""

    bundle: BundleFolder
    plan: Plan
    report: CheckReport
    read_case_s: float = 0.0


@fetches("dataset", stays=True)
def plan(
    dataset: Path | str,
    bundle: Path | str,
    preset: str = "standard",
    folds: int = 5,
    seed: int = 0,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    network: str | None = None,
    padded: bool = False,
    memory_gib: float | str | None = None,
    initial: Path | str | None = None,
    trust: bool = False,
    data_root: Path | str | None = None,
    decisions: Path | str | None = None,
    for_other_sites: bool = False,
    also: Sequence[Path | str] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> PlannedFolder:
    """Check a labelled folder and write a complete bundle for it, without weights yet.

    Files that stock MONAI cannot read are copied into the folder `BUNDLE_data` beside the bundle, in a format that it can.

    Args:
        dataset: the folder, or a table of cases.
        bundle: does not exist yet.
        preset, folds, seed, padded, memory_gib, for_other_sites: see `plan_from_fingerprint`.
        labels, options, data_root, decisions, announce: as in `check`.
        network: a name; None for dynunet, or that of `initial`.
        initial: a trained bundle, a folder or its zip, to start from: its grid, intensities, network, patch and weights are taken over.
        also: further datasets, trained as one with the first; see `join_datasets`.
        trust: take it although its audit finds a danger.

    Raises:
        DatasetError: the dataset has an error.
        PlanError: unknown preset or network, a network for other dimensions, or a dataset that does not fit `initial`.
        BundleError: the folder exists and is not empty, or `initial` needs trust or has no weights.
    """
    root, options = Path(bundle), options or ReadOptions()
    require_free(root)
    with _open_start(initial, trust) as start:
        started_s = time.monotonic()
        reading = (options.layout, options.follow_links, data_root, options.missing_channels)
        read = apply_decisions(read_datasets([dataset, *also], *reading), decisions)
        report = check_dataset(read, labels, options)
        read_case_s = (time.monotonic() - started_s) / len(report.dataset.cases)
        report.require_no_errors()
        choices = {"network": network, "padded": padded, "memory_gib": memory_gib, "for_other_sites": for_other_sites}
        folder, effective = plan_checked(
            root, report, choose_splits(report, folds, seed), preset, seed, start, **choices
        )
    return PlannedFolder(folder, effective, report, read_case_s)


def plan_checked(
    root: Path,
    report: CheckReport,
    splits: Splits,
    preset: str,
    seed: int,
    start: Start | None = None,
    **choices: Any,
) -> tuple[BundleFolder, Plan]:
    """Plan from a report and splits, and write the bundle.

    Args:
        root, preset, seed, choices: as in `plan`.
        start: the bundle whose weights the training starts from.

    Raises:
        DatasetError, PlanError, BundleError: as `plan`.
    """
    data = _place_data(root, report)
    planned = plan_from_fingerprint(
        report.require_no_errors(),
        Path(os.path.relpath(data.resolve(), root.resolve())).as_posix(),
        preset,
        len(splits.folds),
        seed=seed,
        machine_memory=find_memory(),
        start=start,
        **choices,
    )
    return _write(root, planned, report, splits, data, start), planned.plan


def _place_data(root: Path, report: CheckReport) -> Path:
    """Where the files are that the bundle names: the dataset, or copies beside the bundle."""
    return root.resolve().with_name(f"{root.resolve().name}_data") if report.needs_preparation else report.dataset.root


def _write(
    root: Path, planned: PlannedBundle, report: CheckReport, splits: Splits, data: Path, start: Start | None
) -> BundleFolder:
    """Write the bundle and, where they are needed, the copies that stock MONAI can read into `data`; both or none."""
    if not report.needs_preparation:
        return write_bundle(root, planned, report, splits, start=start)
    _, prepared = prepare_dataset(report, data)
    try:
        return write_bundle(root, planned, report, splits, prepared, start)
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)  # what went wrong is told, not what fails after it
        raise


@contextmanager
def _open_start(initial: Path | str | None, trust: bool) -> Iterator[Start | None]:
    """The bundle that a training is to start from, once it has passed its audit; None without one."""
    if initial is None:
        yield None
        return
    with open_for_reading(initial, trust) as folder:
        weights = require_weights(folder)
        yield Start(
            Path(initial).resolve().name.removesuffix(".zip"), read_plan(folder.plan), weights, compute_sha256(weights)
        )


def refresh(bundle: Path | str, force: bool = False) -> Plan:
    """Write the JSON configs of a bundle again from its edited plan.yaml."""
    return refresh_bundle(Path(bundle), force)
