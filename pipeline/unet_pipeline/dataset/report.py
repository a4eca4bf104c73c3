"""Files that a check leaves: problems, fingerprint, manifest, contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.contact_sheet import write_contact_sheet
from unet_pipeline.dataset.dataset import Case
from unet_pipeline.dataset.listing_facts import describe_case
from unet_pipeline.dataset.prepare import PreparedCase
from unet_pipeline.files import write_json, write_together


class ProblemRecord(BaseModel):
    """One problem. `code` names its message in the list of all messages."""

    severity: Literal["error", "warning", "note"]
    code: str
    file: str
    cause: str
    remedy: str


class CheckRecord(BaseModel):
    """What `check --json` writes.

    `channels` to `median_shape` are missing when there are errors. `median_shape` counts voxels or pixels.
    """

    name: str
    layout: str
    num_cases: int
    usable: bool
    channels: list[str] | None = None
    labels: dict[str, int] | None = None
    spatial_dims: int | None = None
    median_shape: list[int] | None = None
    spacing_mm: dict[str, list[float]] | None = None
    problems: list[ProblemRecord]


def describe_report(report: CheckReport) -> CheckRecord:
    """A report as data; `spacing_mm` has the spacing of every case."""
    dataset, fingerprint = report.dataset, report.fingerprint
    record = CheckRecord(
        name=dataset.name,
        layout=dataset.layout,
        num_cases=len(dataset.cases),
        usable=fingerprint is not None,
        problems=_list_problems(report),
    )
    if fingerprint is None:
        return record
    return record.model_copy(
        update={
            "channels": list(fingerprint.channels),
            "labels": fingerprint.labels,
            "spatial_dims": fingerprint.spatial_dims,
            "median_shape": list(fingerprint.median_shape()),
            "spacing_mm": {case.case: list(case.pixel_spacing_mm or case.spacing_mm) for case in fingerprint.cases},
        }
    )


def write_report(report: CheckReport, folder: Path) -> tuple[Path, ...]:
    """Write what was found into `folder`.

    Returns:
        problems.json, and for a usable dataset fingerprint.json and dataset_manifest.json; contact_sheet.png when the
        report has tiles.
    """
    written = [folder / "problems.json"]
    with write_together():  # one folder never describes two datasets
        write_json(written[0], [problem.model_dump() for problem in _list_problems(report)])
        if report.fingerprint is not None:
            written += [folder / "fingerprint.json", folder / "dataset_manifest.json"]
            write_json(written[1], report.fingerprint.model_dump(mode="json"))
            write_json(written[2], build_manifest(report))
        if report.tiles:
            written.append(folder / "contact_sheet.png")
            write_contact_sheet(written[-1], report.tiles, report.problems, report.dataset.labels)
    return tuple(written)


def _list_problems(report: CheckReport) -> list[ProblemRecord]:
    return [ProblemRecord.model_validate(vars(problem)) for problem in report.problems]


def build_manifest(report: CheckReport, prepared: Sequence[PreparedCase] = ()) -> dict[str, object]:
    """The dataset manifest as plain values.

    Every file with its size and SHA-256, in the order of the paths; files and facts of every case; the copies, if any; what the lists say.
    """
    records = sorted(report.manifest, key=lambda record: record.path)
    # no time stamps: the same files have the same manifest everywhere
    files = [{"path": record.path, "num_bytes": record.num_bytes, "sha256": record.sha256} for record in records]
    return {
        "dataset_name": report.dataset.name,
        "layout": report.dataset.layout,
        "num_cases": len(report.dataset.cases),
        "reading": report.options.model_dump(mode="json"),
        "cases": {case.name: _list_files(case) for case in report.dataset.cases},
        "files": files,
        "prepared": [{key: value for key, value in vars(copy).items() if value is not None} for copy in prepared],
        "listing": report.listing.model_dump(mode="json"),
    }


def _list_files(case: Case) -> dict[str, object]:
    """The files and facts of a case; `masks` only where its structures have files of their own."""
    facts = describe_case(case).model_dump(mode="json")
    return {
        **{key: value for key, value in facts.items() if value is not None or key == "label"},
        **(
            {"masks": {mask.structure: mask.path.as_posix() for mask in case.masks or ()}}
            if case.masks is not None
            else {}
        ),
    }
