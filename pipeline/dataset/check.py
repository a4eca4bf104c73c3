"""Reads every file of a dataset once; out come all problems, the label table, the fingerprint and the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.dataset.dataset import Case, Dataset, order_labels
from pipeline.dataset.fingerprint import (
    CaseFingerprint,
    Fingerprint,
    IntensityStatistics,
    compute_intensity_statistics,
    sample_foreground,
)
from pipeline.dataset.image import MedicalImage, read_image, read_label_map
from pipeline.errors import DatasetError, ImageFileError
from pipeline.files import compute_sha256, write_json
from pipeline.progress import progress_bar
from pipeline.types import BACKGROUND

ERROR, WARNING = "error", "warning"
# nibabel stores affines as float32; a header rounded on the way differs by less, another grid by more
_AFFINE_TOLERANCE_MM = 1e-3
_MAX_LABEL_VALUES = 64  # a mask that was saved with interpolation has more
_READ_THREADS = 4  # reading waits for the disk and for zlib, which release the interpreter


@dataclass(frozen=True)
class Problem:
    """One finding: how bad, which file (relative to the dataset), the cause, and what to do."""

    severity: str
    file: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.file} {self.cause}. {self.remedy}"


@dataclass(frozen=True)
class FileRecord:
    """One file of the manifest."""

    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `fingerprint` is None when there are errors."""

    dataset: Dataset
    problems: tuple[Problem, ...]
    fingerprint: Fingerprint | None
    manifest: tuple[FileRecord, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == ERROR)

    def require_no_errors(self) -> Fingerprint:
        """The fingerprint, once it is sure that the dataset can be used.

        Raises:
            DatasetError: lists every error.
        """
        if self.fingerprint is None:
            listed = "\n".join(f"  {problem}" for problem in self.errors)
            raise DatasetError(f"Dataset {self.dataset.name} has {len(self.errors)} error(s):\n{listed}")
        return self.fingerprint


@dataclass
class _CaseFindings:
    case: Case
    problems: list[Problem] = field(default_factory=list)
    records: list[FileRecord] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    num_channels: int = 0
    voxels_by_value: dict[int, int] = field(default_factory=dict)
    samples: np.ndarray | None = None

    def add(self, file: Path, cause: str, remedy: str, severity: str = ERROR) -> None:
        self.problems.append(Problem(severity, str(file), cause, remedy))


def check_dataset(dataset: Dataset, labels: dict[str, int] | None = None) -> CheckReport:
    """Read every image and label of `dataset` and compare them.

    Args:
        dataset: as a reader found it.
        labels: names for the label values, when the layout does not give them or they should be other ones.

    Returns:
        All problems, worst first; the dataset with its complete label table; fingerprint and manifest.
    """
    with progress_bar("check", len(dataset.cases)) as bar, ThreadPoolExecutor(_READ_THREADS) as pool:
        findings = []
        for finding in pool.map(lambda case: _examine_case(dataset.root, case), dataset.cases):
            findings.append(finding)
            bar.advance()
    problems = [Problem(ERROR, *problem) for problem in dataset.problems_of_layout]
    problems += [problem for finding in findings for problem in finding.problems]
    readable = [finding for finding in findings if finding.shape]
    problems += _compare_cases(readable)
    labelled = [finding for finding in findings if finding.voxels_by_value]
    table, problems_of_labels = _settle_labels(
        labels or dataset.labels, labelled, complete=len(labelled) == len(findings)
    )
    problems += problems_of_labels
    problems.sort(key=lambda problem: (problem.severity != ERROR, problem.file))
    checked = replace(dataset, labels=table)
    usable = table is not None and not any(problem.severity == ERROR for problem in problems)
    return CheckReport(
        dataset=checked,
        problems=tuple(problems),
        fingerprint=_build_fingerprint(checked, readable) if usable else None,
        manifest=tuple(record for finding in findings for record in finding.records),
    )


def _examine_case(root: Path, case: Case) -> _CaseFindings:
    """Everything that one case tells by itself; a file that cannot be read is a finding, not an exception."""
    findings = _CaseFindings(case)
    image = label = None
    for relative, read in ((case.image, read_image), (case.label, read_label_map)):
        try:
            content = read(root / relative, str(relative))
            findings.records.append(_record_file(root, relative))
        except ImageFileError as problem:
            findings.add(relative, problem.cause, problem.remedy)
            continue
        if read is read_image:
            image = content
        else:
            label = content
    if image is not None:
        _examine_intensities(findings, image)
    if image is not None and label is not None:
        _compare_grids(findings, image, label)
    if label is not None:
        values, counts = np.unique(label.array, return_counts=True)
        if len(values) > _MAX_LABEL_VALUES:
            findings.add(
                case.label,
                f"has {len(values)} distinct values, which no label map has",
                "Save the label map without interpolation and without lossy compression.",
            )
            return findings
        findings.voxels_by_value = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    if image is not None and label is not None and not any(p.severity == ERROR for p in findings.problems):
        findings.shape, findings.spacing_mm = image.spatial_shape, image.spacing_mm
        findings.num_channels = image.array.shape[0]
        findings.samples = sample_foreground(image, label.array[0])
    return findings


def _record_file(root: Path, relative: Path) -> FileRecord:
    path = root / relative
    return FileRecord(relative.as_posix(), path.stat().st_size, compute_sha256(path))


def _examine_intensities(findings: _CaseFindings, image: MedicalImage) -> None:
    file = findings.case.image
    if not np.isfinite(image.array).all():
        count = int(np.size(image.array) - np.isfinite(image.array).sum())
        findings.add(file, f"has {count} voxels that are NaN or infinite", "Replace them, or remove the case.")
    elif image.array.min() == image.array.max():
        findings.add(file, f"is constant ({image.array.flat[0]:g})", "Export it again, or remove the case.")


def _compare_grids(findings: _CaseFindings, image: MedicalImage, label: MedicalImage) -> None:
    case = findings.case
    if image.spatial_shape != label.spatial_shape:
        findings.add(
            case.label,
            f"has shape {label.spatial_shape}, its image {image.spatial_shape}",
            "Draw or export the label on the image's own grid.",
        )
    elif not np.allclose(image.affine, label.affine, rtol=0, atol=_AFFINE_TOLERANCE_MM):
        distance_mm = float(np.abs(image.affine - label.affine).max())
        findings.add(
            case.label,
            f"has another affine than its image (entries differ by up to {distance_mm:.3g} mm)",
            "Copy the image's header to the label if the voxels correspond, otherwise resample the label.",
        )


def _compare_cases(findings: list[_CaseFindings]) -> Iterable[Problem]:
    """Cases whose number of dimensions or channels differs from the majority's."""
    for what, value_of in (
        ("spatial dimensions", lambda finding: len(finding.shape)),
        ("channels", lambda finding: finding.num_channels),
    ):
        values = [value_of(finding) for finding in findings]
        usual = max(set(values), key=values.count, default=None)
        for finding, value in zip(findings, values, strict=True):
            if value != usual:
                yield Problem(
                    ERROR,
                    str(finding.case.image),
                    f"has {value} {what}, most cases have {usual}",
                    "Make all images alike, or remove the case.",
                )


def _settle_labels(
    declared: dict[str, int] | None, findings: list[_CaseFindings], complete: bool
) -> tuple[dict[str, int] | None, list[Problem]]:
    """The label table, given or found, and the files that disagree with it."""
    found = sorted({value for finding in findings for value in finding.voxels_by_value})
    if declared is None:
        if not found:
            return None, []
        if len(found) > 2 and found[-1] >= 2 * len(found):
            shown = ", ".join(map(str, found[:5]))
            return None, [
                Problem(
                    ERROR,
                    "label table",
                    f"is not given, and the files have {len(found)} values with gaps ({shown}, ... {found[-1]})",
                    "Save the label maps without interpolation, or name the values with --label if they are meant.",
                )
            ]
        declared = {BACKGROUND if value == 0 else f"label_{value}": value for value in found}
    try:
        table = order_labels(declared)
    except DatasetError as error:
        return None, [
            Problem(ERROR, "label table", str(error).rstrip("."), "Correct the values, or name them with --label.")
        ]
    problems = []
    for finding in findings:
        if unknown := sorted(set(finding.voxels_by_value) - set(table.values())):
            shown = ", ".join(map(str, unknown[:5]))
            problems.append(
                Problem(
                    ERROR,
                    str(finding.case.label),
                    f"has the undeclared value(s) {shown}; declared are {', '.join(f'{n}={v}' for n, v in table.items())}",
                    "Add them to the label table, or correct the file.",
                )
            )
        elif not any(finding.voxels_by_value.get(value) for name, value in table.items() if value != 0):
            problems.append(
                Problem(
                    WARNING,
                    str(finding.case.label),
                    "has no voxel other than 0",
                    "Make sure that nothing is to be seen.",
                )
            )
    never = [name for name, value in table.items() if value not in found]
    if never and complete:
        problems.append(
            Problem(
                ERROR,
                "label table",
                f"names {', '.join(never)}, which no file contains",
                "Remove the name, or add cases.",
            )
        )
    return table, problems


def _build_fingerprint(dataset: Dataset, findings: list[_CaseFindings]) -> Fingerprint:
    assert dataset.labels is not None
    samples = np.concatenate([finding.samples for finding in findings if finding.samples is not None], axis=1)
    num_channels = findings[0].num_channels
    names = dataset.channels or tuple(f"channel_{index}" for index in range(num_channels))
    if len(names) != num_channels:
        raise DatasetError(
            f"Dataset {dataset.name} names {len(names)} channel(s) ({', '.join(names)}); its images have {num_channels}. "
            "Correct the channel names in dataset.json."
        )
    statistics: tuple[IntensityStatistics, ...] = compute_intensity_statistics(samples)
    return Fingerprint(
        dataset_name=dataset.name,
        layout=dataset.layout,
        suffix=dataset.suffix,
        spatial_dims=len(findings[0].shape),
        channels=names,
        labels=dataset.labels,
        intensities=statistics,
        cases=tuple(
            CaseFingerprint(
                case=finding.case.name,
                shape=finding.shape,
                spacing_mm=finding.spacing_mm,
                num_voxels={name: finding.voxels_by_value.get(value, 0) for name, value in dataset.labels.items()},
            )
            for finding in findings
        ),
    )


def write_report(report: CheckReport, folder: Path) -> tuple[Path, ...]:
    """Write problems.json, and for a usable dataset fingerprint.json and dataset_manifest.json, into `folder`."""
    written = [folder / "problems.json"]
    write_json(written[0], [vars(problem) for problem in report.problems])
    if report.fingerprint is not None:
        written += [folder / "fingerprint.json", folder / "dataset_manifest.json"]
        write_json(written[1], report.fingerprint.model_dump(mode="json"))
        write_json(written[2], build_manifest(report))
    return tuple(written)


def build_manifest(report: CheckReport) -> dict:
    """The dataset manifest as plain values: every file with its size and SHA-256, in the order of the paths."""
    files = sorted((vars(record) for record in report.manifest), key=lambda record: record["path"])
    return {"dataset_name": report.dataset.name, "num_cases": len(report.dataset.cases), "files": files}
