"""Reads every file of a dataset once; out come all problems, the label table, the fingerprint and the manifest."""

from __future__ import annotations

import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from unet_pipeline.dataset.annotated_labels import find_partial_problems, list_missing
from unet_pipeline.dataset.case_check import CaseFindings, FileRecord, examine_case
from unet_pipeline.dataset.case_comparison import (
    compare_cases,
    compare_colours,
    find_lone_patient,
    find_patients_across,
    find_patients_alike,
    find_twins,
    report_twins,
)
from unet_pipeline.dataset.dataset import Dataset, image_suffix, is_picture
from unet_pipeline.dataset.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from unet_pipeline.dataset.formats import PICTURE_SUFFIXES, STOCK_SUFFIXES
from unet_pipeline.dataset.held_out_images import find_trained_test_images
from unet_pipeline.dataset.instance_check import OBJECTS, measure_instances, note_instances, sees_instances
from unet_pipeline.dataset.intensities import PooledIntensities, count_samples
from unet_pipeline.dataset.listed_files import record_listing
from unet_pipeline.dataset.listing_facts import Listing
from unet_pipeline.dataset.missing_channels import mark_constant_channels, name_channels, resolve_allowed
from unet_pipeline.dataset.names import CHANNEL, LABEL, REGION, find_names_that_are_syntax, order_labels
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.orientation import find_mirroring_that_matters, find_turning_that_matters
from unet_pipeline.dataset.overlaps import combine_structures
from unet_pipeline.dataset.sites import read_sites
from unet_pipeline.dataset.split import choose_groups
from unet_pipeline.dataset.structure_masks import has_masks, name_structures
from unet_pipeline.dataset.tiles import Tile, choose_tile_pixels, draw_lone_files, order_tiles
from unet_pipeline.dataset.writing import fits_png
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, SEVERITIES, WARNING, Message, Problem, list_problems
from unet_pipeline.progress import progress_bar
from unet_pipeline.results import Result
from unet_pipeline.types import BACKGROUND

_MAX_WORKERS = 4  # threads: inflating and hashing release the interpreter; each holds one case in memory
_MAX_TO_NAME = 64  # label values; a mask with more holds something else
_FULL_SCALE = (255, 65535)  # white, in 8 and 16 bit
LABEL_TABLE = "label table"  # stands for a file in problems that concern all label files

TABLE_GAPS = Message(
    "label-gaps",
    ERROR,
    "is not given, and the files have {count} values with gaps ({shown}, ... {last})",
    "Save the label maps without interpolation, or name the values with --label if they are meant.",
)
TABLE_SPARSE = Message(
    "label-values-sparse",
    WARNING,
    "is not given, and the files have {count} values with gaps ({shown}, ... {last})",
    "Make sure that they are label values; name them with --label.",
)
TABLE_UNUSABLE = Message("label-table", ERROR, "{cause}", "Correct the values, or name them with --label.")
UNDECLARED = Message(
    "undeclared-value",
    ERROR,
    "has the undeclared value(s) {shown}; declared are {declared}",
    "Add them to the label table, or correct the file.",
)
EMPTY_LABEL = Message("empty-label", WARNING, "has no value other than 0", "Make sure that nothing is to be seen.")
UNUSED_LABEL = Message("unused-label", ERROR, "names {names}, which no file contains", "Remove the name, or add cases.")
PREPARED = Message(
    "prepared", NOTE, "{cause}", "`plan` writes copies that stock MONAI reads; the files stay as they are."
)


@dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """What `check` found. `fingerprint` is None when there are errors.

    Attributes:
        dataset: with its complete label table.
        needs_preparation: why the files cannot be trained on as they are; empty when they can.
        patients: patient of each case that shares one with another case.
        sites: site of each case, where a column was named for it.
        listing: what the dataset itself says, without what the user said about it.
        label_values: of all label files that could be read.
    """

    dataset: Dataset
    problems: tuple[Problem, ...]
    fingerprint: Fingerprint | None
    manifest: tuple[FileRecord, ...]
    options: ReadOptions = field(default_factory=ReadOptions)
    needs_preparation: str = ""
    patients: dict[str, str] = field(default_factory=dict)
    sites: dict[str, str] = field(default_factory=dict)
    tiles: tuple[Tile, ...] = ()
    listing: Listing = field(default_factory=Listing)
    label_values: tuple[int, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == ERROR)

    @property
    def unnamed_values(self) -> tuple[int, ...]:
        """Values of the label files that nobody has named, without 0; empty too where there are so many that they are no labels."""
        named = {value for name, value in (self.dataset.labels or {}).items() if name != _name_value(value)}
        values = sorted({*self.label_values} - named - {0, self.dataset.ignore_value})
        return tuple(values) if len(values) <= _MAX_TO_NAME else ()

    def suggest_label_options(self) -> str:
        """Options that name all label values, with NAME where a name is to be put; empty where nothing is to be named."""
        if not self.unnamed_values:
            return ""
        names = {value: name for name, value in (self.dataset.labels or {}).items()}
        names |= dict.fromkeys(self.unnamed_values, "NAME") | (
            {0: names.get(0, BACKGROUND)} if 0 in self.label_values else {}
        )
        return " ".join(f"--label {shlex.quote(f'{name}={value}')}" for value, name in sorted(names.items()))

    def require_no_errors(self) -> Fingerprint:
        """The fingerprint, once it is sure that the dataset can be used.

        Raises:
            DatasetError: lists every kind of error, with the first three files of each.
        """
        if self.fingerprint is None:
            listed = "\n".join(f"  {line}" for line in list_problems(self.errors, most=3))
            raise DatasetError(f"Dataset {self.dataset.name} has {len(self.errors)} error(s):\n{listed}")
        return self.fingerprint


def check_dataset(
    dataset: Dataset,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    with_tiles: bool = False,
) -> CheckReport:
    """Read every image and label of `dataset` and compare them.

    Args:
        dataset: as a reader found it.
        labels: names for the label values, when the layout does not give them or they should be other ones.
        options: how the files are to be read.
        with_tiles: keep a small picture of every case to look at.

    Returns:
        All problems, worst first; the dataset with its complete label table; fingerprint and manifest.

    Raises:
        DatasetError: the pattern for patients does not fit a case name, or see `read_sites`.
    """
    options, listing = options or ReadOptions(), record_listing(dataset)
    dataset = combine_structures(name_structures(dataset, labels), options)
    patients, sites = _name_patients(dataset, options), read_sites(dataset, options.site_column)
    findings, intensities = _examine_cases(dataset, options, with_tiles)
    if sees_instances(dataset, labels, options, findings):
        known = options.model_copy(update={"labels_are_instances": True})
        report = check_dataset(dataset, labels, known, with_tiles)
        return replace(report, problems=(*report.problems, note_instances(findings, LABEL_TABLE)), listing=listing)
    problems = [*dataset.problems_of_layout, *(problem for finding in findings for problem in finding.problems)]
    readable, twins = [finding for finding in findings if finding.shape], find_twins(findings)
    channels = name_channels(dataset, [one for one in readable if one.case.name in _list_planned(dataset)])
    dataset = mark_constant_channels(dataset, readable, channels, options.missing_channels, problems)
    problems += [*compare_cases(dataset, readable), *report_twins(twins), *find_trained_test_images(dataset, findings)]
    problems += [*compare_colours(findings), *find_patients_across(dataset, patients), *find_patients_alike(patients)]
    patients = _join_twins(patients, twins)
    labelled = [finding for finding in findings if finding.voxels_by_value]
    values = {value for finding in labelled for value in finding.voxels_by_value}
    label_table, complete = _choose_labels(dataset, labels, options, values), len(labelled) == len(findings)
    table, problems_of_labels = _settle_labels(label_table, labelled, complete, dataset.ignore_value)
    problems += [*problems_of_labels, *_find_syntax(dataset, table), *find_partial_problems(dataset, table, findings)]
    checked, reason = replace(dataset, labels=table), _find_need_for_preparation(dataset, findings)
    usable = table is not None and bool(readable) and not any(problem.severity == ERROR for problem in problems)
    if usable:
        problems += [PREPARED.about("dataset", cause=reason)] if reason else []
        problems += find_lone_patient(dataset, patients)
    problems = list(dict.fromkeys(problems))  # a broken link is seen by its name and when it is read
    problems.sort(key=lambda problem: (SEVERITIES.index(problem.severity), problem.file))
    return CheckReport(
        dataset=checked,
        problems=tuple(problems),
        fingerprint=_build_fingerprint(checked, readable, intensities, channels, options) if usable else None,
        manifest=tuple(record for finding in findings for record in finding.records),
        options=options,
        needs_preparation=reason,
        patients=patients,
        sites=sites,
        tiles=_collect_tiles(dataset, findings, problems, options) if with_tiles else (),
        listing=listing,
        label_values=tuple(sorted(values)),
    )


def _choose_labels(
    dataset: Dataset, labels: dict[str, int] | None, options: ReadOptions, values: set[int]
) -> dict[str, int] | None:
    """The user's names, those of the dataset, or those of objects that are numbered."""
    label_table = dataset.labels if labels is None or has_masks(dataset) else labels
    if options.labels_are_instances and label_table is None:
        return {name: value for name, value in OBJECTS.items() if value in values}
    return label_table


def _examine_cases(
    dataset: Dataset, options: ReadOptions, with_tiles: bool
) -> tuple[list[CaseFindings], tuple[IntensityStatistics, ...]]:
    """What each case told, and the statistics of those that a plan may see; their samples are not kept."""
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    findings, max_samples = [], count_samples(len(dataset.cases))
    pooled = PooledIntensities(max_samples * len(dataset.cases))
    planned, tile_pixels = _list_planned(dataset), choose_tile_pixels(len(dataset.cases)) if with_tiles else None
    with progress_bar("check", len(dataset.cases), num_at_once=workers) as bar, ThreadPoolExecutor(workers) as pool:
        for finding in pool.map(
            lambda case: examine_case(dataset.root, case, options, tile_pixels, dataset.ignore_value, max_samples),
            dataset.cases,
        ):
            findings.append(finding)
            if finding.samples is not None and finding.case.name in planned:
                pooled.add(finding.samples, finding.constant_channels if options.missing_channels else ())
            finding.samples = None
            bar.advance()
    return findings, pooled.describe()


def _name_patients(dataset: Dataset, options: ReadOptions) -> dict[str, str]:
    """Patient of each case, from the user's pattern or the dataset's own table."""
    if options.patient_pattern is not None:
        return choose_groups([case.name for case in dataset.cases], options.patient_pattern)
    return {case.name: case.patient for case in dataset.cases if case.patient is not None}


def _join_twins(patients: dict[str, str], twins: list[tuple[CaseFindings, CaseFindings]]) -> dict[str, str]:
    """Patients, with cases of the same voxels made one patient."""
    joined = dict(patients)
    for first, later in twins:
        reason = joined.get(first.case.name, f"same content as {first.case.name}")
        replaced = joined.get(later.case.name)
        joined[first.case.name] = joined[later.case.name] = reason
        for name, patient in joined.items():
            if replaced is not None and patient == replaced:
                joined[name] = reason
    return joined


def _find_need_for_preparation(dataset: Dataset, findings: list[CaseFindings]) -> str:
    """Why stock MONAI could not read the files as they are; empty when it can."""
    suffixes = {image_suffix(image) or "DICOM" for case in dataset.cases for image in case.images}
    label_suffixes = {image_suffix(path) or "DICOM" for case in dataset.cases for path in case.label_files}
    if others := sorted((suffixes | label_suffixes) - set(STOCK_SUFFIXES)):
        return f"has {', '.join(others)} files"
    if len(suffixes) > 1:
        return f"mixes the image formats {', '.join(sorted(suffixes))}"
    if any(case.further_channels or case.missing_channels for case in dataset.cases):
        return "has a file per channel"
    if has_masks(dataset):
        return "has a mask file per structure, which are joined into one label map"
    if changed := sum(finding.label_changed for finding in findings):
        return f"has {changed} label map(s) whose grid or form is put right"
    if changed := sum(finding.image_changed for finding in findings):
        return f"has {changed} image(s) whose form is put right"
    return ""


def _collect_tiles(
    dataset: Dataset, findings: list[CaseFindings], problems: list[Problem], options: ReadOptions
) -> tuple[Tile, ...]:
    tiles = [finding.tile for finding in findings if finding.tile is not None]
    return order_tiles([*tiles, *draw_lone_files(dataset, choose_tile_pixels(len(tiles)), options)], problems)


def _settle_labels(
    declared: dict[str, int] | None, findings: list[CaseFindings], complete: bool, ignore_value: int | None
) -> tuple[dict[str, int] | None, list[Problem]]:
    """The label table, given or found, and the files that disagree with it."""
    problems: list[Problem] = []
    label_values = sorted({value for finding in findings for value in finding.voxels_by_value} - {ignore_value})
    if declared is None:
        if not label_values:
            return None, []
        if len(label_values) > 2 and label_values[-1] >= 2 * len(label_values):
            values = {
                "count": len(label_values),
                "shown": ", ".join(map(str, label_values[:5])),
                "last": label_values[-1],
            }
            if label_values[-1] in _FULL_SCALE:  # white, and greys between
                return None, [TABLE_GAPS.about(LABEL_TABLE, **values)]
            problems.append(TABLE_SPARSE.about(LABEL_TABLE, **values))
        declared = {_name_value(value): value for value in label_values}
    try:
        table = order_labels(declared)
        if ignore_value is not None and not 0 < ignore_value <= 255:
            raise DatasetError(
                f"The label table has the value {ignore_value} for what is to be ignored; expected 1 to 255."
            )
    except DatasetError as error:
        return None, [TABLE_UNUSABLE.about(LABEL_TABLE, cause=str(error).removeprefix("The label table ").rstrip("."))]
    known = {*table.values(), ignore_value}
    for finding in findings:
        file = finding.case.require_label().as_posix()
        if unknown := sorted(set(finding.voxels_by_value) - known):
            shown = ", ".join(map(str, unknown[:5]))
            names = ", ".join(f"{name}={value}" for name, value in table.items())
            problems.append(UNDECLARED.about(file, shown=shown, declared=names))
        elif not any(finding.voxels_by_value.get(value) for value in table.values() if value != 0):
            problems.append(EMPTY_LABEL.about(file))
    never = [name for name, value in table.items() if value not in label_values]
    if never and complete:
        problems.append(UNUSED_LABEL.about(LABEL_TABLE, names=", ".join(never)))
    return table, problems


def _name_value(value: int) -> str:
    """Name of a label that nobody has named."""
    return BACKGROUND if value == 0 else f"label_{value}"


def _find_syntax(dataset: Dataset, table: dict[str, int] | None) -> list[Problem]:
    """Names that go into the configs of a bundle and mean something there."""
    names = {LABEL: table or (), REGION: dataset.regions, CHANNEL: dataset.channels or ()}
    return find_names_that_are_syntax(names, "dataset")


def _build_fingerprint(
    dataset: Dataset,
    findings: list[CaseFindings],
    intensities: tuple[IntensityStatistics, ...],
    channels: tuple[str, ...],
    options: ReadOptions,
) -> Fingerprint:
    assert dataset.labels is not None
    planned = _list_planned(dataset)
    findings = [finding for finding in findings if finding.case.name in planned]
    maps = [finding.coarse_map for finding in findings if finding.coarse_map is not None]
    return Fingerprint(
        dataset_name=dataset.name,
        layout=dataset.layout,
        suffix=_settle_suffix(dataset, findings),
        spatial_dims=len(findings[0].shape),
        channels=channels,
        missing_channels=resolve_allowed(options.missing_channels, channels),
        labels=dataset.labels,
        ignore_value=dataset.ignore_value,
        regions=dataset.regions,
        intensities=intensities,
        mirroring_matters=find_mirroring_that_matters(maps) if maps else (),
        turning_matters=find_turning_that_matters(maps),
        instance_sizes=measure_instances(findings),
        modalities=tuple(sorted({finding.modality for finding in findings if finding.modality})),
        cases=tuple(
            CaseFingerprint(
                case=finding.case.name,
                shape=finding.shape,
                spacing_mm=finding.spacing_mm,
                pixel_spacing_mm=_pixel_spacing(finding),
                coarsest_factor=finding.coarsest_factor,
                num_voxels={
                    name: 0 if name in missing else finding.voxels_by_value.get(value, 0)
                    for name, value in dataset.labels.items()
                },
                missing_labels=missing,
            )
            for finding in findings
            for missing in (list_missing(finding.case, dataset.labels),)
        ),
    )


def _list_planned(dataset: Dataset) -> set[str]:
    """Names of the cases whose numbers a plan may see: not the test cases, unless there are no others with a label."""
    labelled = [case for case in dataset.cases if case.label is not None]
    return {case.name for case in labelled if case.split != "test"} or {case.name for case in labelled}


def _settle_suffix(dataset: Dataset, findings: list[CaseFindings]) -> str:
    """Suffix of the images that are trained on: the files' own, or that of the copies which `plan` writes."""
    suffixes = {image_suffix(image) for case in dataset.cases for image in case.images}
    if len(suffixes) == 1 and suffixes <= set(STOCK_SUFFIXES):
        return suffixes.pop()
    pictures = suffixes <= set(PICTURE_SUFFIXES) and len(findings[0].shape) == 2
    fit = all(finding.dtype is not None and fits_png(finding.dtype, finding.num_channels) for finding in findings)
    return ".png" if pictures and fit else ".nii.gz"


def _pixel_spacing(finding: CaseFindings) -> tuple[float, ...] | None:
    """Size of a picture's pixel, where the dataset knows it."""
    spacing_mm = finding.case.spacing_mm
    if spacing_mm is None or not is_picture(finding.case.image):
        return None
    return spacing_mm * len(finding.shape) if len(spacing_mm) == 1 else spacing_mm
