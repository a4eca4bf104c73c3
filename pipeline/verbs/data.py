"""The verbs before a training: check a dataset, plan a bundle for it, describe what was planned."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.boundary import guard
from pipeline.bundle.trust import open_for_reading
from pipeline.bundle.write import refresh_bundle, require_free, write_bundle
from pipeline.bundle_folder import BundleFolder, open_bundle, require_weights
from pipeline.dataset.check import CheckReport, check_dataset
from pipeline.dataset.layouts import read_dataset
from pipeline.dataset.options import ReadOptions
from pipeline.dataset.prepare import prepare_dataset
from pipeline.dataset.report import write_report
from pipeline.files import compute_sha256, write_text
from pipeline.planning.fine_tuning import Start
from pipeline.planning.machine import find_memory
from pipeline.planning.plan import Plan, read_plan
from pipeline.planning.planner import PlannedBundle, plan_from_fingerprint
from pipeline.planning.splits import Splits, choose_splits

if TYPE_CHECKING:
    from pipeline.evidence.network_drawing import Description


@dataclass(frozen=True)
class PlannedFolder:
    """A bundle that `plan` wrote; `read_case_s` is what reading one image with its label took, in seconds."""

    bundle: BundleFolder
    plan: Plan
    report: CheckReport
    read_case_s: float = 0.0


@guard
def check(
    dataset: Path | str,
    out: Path | str | None = None,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    data_root: Path | str | None = None,
) -> CheckReport:
    """Read every file of a labelled folder and report all problems.

    Args:
        dataset: the folder, or a table of cases.
        out: gets problems.json, contact_sheet.png and, for a usable dataset, fingerprint.json and dataset_manifest.json.
        labels: names for the label values, where the layout does not give them.
        options: how the files are to be read.
        data_root: folder that the paths of a list of cases start from; found by looking when None.

    Raises:
        DatasetError: there is no dataset to check.
    """
    options = options or ReadOptions()
    found = read_dataset(dataset, options.layout, options.follow_links, data_root)
    report = check_dataset(found, labels, options, with_tiles=out is not None)
    if out is not None:
        write_report(report, Path(out))
    return report


@guard
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
    memory_gib: float | None = None,
    initial: Path | str | None = None,
    trust: bool = False,
    data_root: Path | str | None = None,
) -> PlannedFolder:
    """Check a labelled folder and write a complete bundle for it, without weights yet.

    Files that stock MONAI cannot read are copied into the folder `BUNDLE_data` beside the bundle, in a format that it can.

    Args:
        dataset: the folder, or a table of cases.
        bundle: does not exist yet.
        preset, folds, seed, padded, memory_gib: see `plan_from_fingerprint`.
        labels: as in `check`.
        options, data_root: as in `check`.
        network: a name; dynunet, or that of `initial`, if None.
        initial: a trained bundle, a folder or its zip, whose weights the training is to start from. Its grid, intensities, network and
            patch are taken over, and its weights are copied.
        trust: take it although its audit finds a danger.

    Raises:
        DatasetError: the dataset has an error.
        PlanError: unknown preset or network, a network for other dimensions, or a dataset that does not fit `initial`.
        BundleError: the bundle's folder exists and is not empty, or `initial` needs trust or has no weights.
    """
    root = Path(bundle)
    options = options or ReadOptions()
    require_free(root)
    with _open_start(initial, trust) as start:
        started_s = time.monotonic()
        report = check_dataset(read_dataset(dataset, options.layout, options.follow_links, data_root), labels, options)
        read_case_s = (time.monotonic() - started_s) / len(report.dataset.cases)
        fingerprint = report.require_no_errors()
        splits = choose_splits(report, folds, seed)
        copies = root.resolve().with_name(f"{root.resolve().name}_data")
        data = copies if report.needs_preparation else report.dataset.root
        planned = plan_from_fingerprint(
            fingerprint,
            Path(os.path.relpath(data.resolve(), root.resolve())).as_posix(),
            preset,
            len(splits.folds),
            seed=seed,
            network=network,
            padded=padded,
            memory_gib=memory_gib,
            found=find_memory(),
            start=start,
        )
        folder = _write(root, planned, report, splits, data, start)
    return PlannedFolder(folder, planned.plan, report, read_case_s)


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


@guard
def refresh(bundle: Path | str, force: bool = False) -> Plan:
    """Write the JSON configs of a bundle again from its edited plan.yaml."""
    return refresh_bundle(Path(bundle), force)


@guard
def describe(bundle: Path | str, svg: Path | str | None = None) -> Description:
    """The network of a bundle: levels, channels, sizes, parameters, receptive field.

    Args:
        bundle: from `plan`; weights are not needed.
        svg: gets a drawing.

    Raises:
        BundleError: no bundle.
        PlanError: its plan cannot be read.
    """
    from pipeline.evidence.network_drawing import describe_network, draw_network

    description = describe_network(read_plan(open_bundle(bundle).plan))
    if svg is not None:
        write_text(Path(svg), draw_network(description))
    return description
