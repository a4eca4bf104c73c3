"""A folder with problems -> a corrected copy of it, with a list of every change; nothing of the source is touched.

Corrected is what needs no choice, or what the user has chosen with an option; all other files are copied byte for byte. What is left is told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unet_pipeline.boundary import show_place
from unet_pipeline.dataset.check import LABEL_TABLE, CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.fix_cases import FixedCase, fix_case, list_changes, list_replaced
from unet_pipeline.dataset.fix_copies import copy_files
from unet_pipeline.dataset.fix_exclusion import Excluded, choose_excluded
from unet_pipeline.dataset.fix_lists import keep_cases, list_list_changes, write_lists
from unet_pipeline.dataset.fix_record import Change, FixRecord, Remaining, write_record
from unet_pipeline.dataset.fix_rules import CaseRules, settle_rules
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.names import order_labels
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.split import choose_groups
from unet_pipeline.dataset.structure_masks import has_masks
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import stage_folder
from unet_pipeline.messages import ERROR
from unet_pipeline.progress import progress_bar
from unet_pipeline.results import Result

_GIVEN = "given with an option"
GREY = "grey"  # name of the one channel that is left of three


@dataclass(frozen=True, repr=False)
class FixedDataset(Result):
    """A corrected copy.

    Attributes:
        out: its folder.
        source: what `check` says about the source.
        copy: what `check` says about the copy.
        record: the contents of fixes.json.
    """

    out: Path
    source: CheckReport
    copy: CheckReport
    record: FixRecord


def fix_dataset(
    dataset: Path | str,
    out: Path,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    exclude: Sequence[str] = (),
    data_root: Path | str | None = None,
) -> FixedDataset:
    """Write a corrected copy of a dataset, whole or not at all. It needs none of the options with which the source was read.

    Args:
        dataset: the folder, or a list of cases.
        out: does not exist yet.
        labels: names for the label values, which the copy then has.
        options: how the source is to be read. What they decide is done in the copy.
        exclude: cases, or files, that `check` names in an error and that are to be left out.
        data_root: as in `check`.

    Raises:
        DatasetError: `out` exists, or lies in the source or around it; nothing to check; `exclude` has what no error is about.
        OSError: something cannot be written.
    """
    options = options or ReadOptions()
    source = read_dataset(dataset, options.layout, options.follow_links, data_root, options.missing_channels)
    _require_place(out, source.root)
    if labels and has_masks(source):
        raise DatasetError(
            f"{source.name} has a mask file per structure, whose names are those of the labels; expected no --label with --fix. Leave it "
            "out here, and give it to `check` and `plan` of the copy."
        )
    table = order_labels(labels) if labels else None
    report = check_dataset(source, table, options)
    excluded = choose_excluded(report, source, exclude)
    rules = settle_rules(source.root, excluded.keep(source.cases), report, table or source.labels, options)
    with stage_folder(out.parent) as staging:
        fixed = _fix_cases(rules, excluded.keep(source.cases), staging)
        left_out = copy_files(source, staging, list_replaced(fixed) | excluded.files)
        expected, of_dataset = _settle_facts(source, rules, fixed, table, options)
        written = write_lists(staging, expected, source)
        copy = check_dataset(written, None, ReadOptions(missing_channels=options.missing_channels))
        reasons = {**rules.masks.reasons, **{file: why for one in fixed for file, why in one.reasons.items()}}
        record = FixRecord(
            source=source.name,
            options={**options.model_dump(mode="json"), "labels": table, "exclude": list(exclude)},
            changes=[*of_dataset, *excluded.changes, *list_changes(fixed), *list_list_changes(staging, source)],
            not_fixed=_list_remaining(source, copy, excluded, reasons),
            left_out=left_out,
        )
        write_record(staging, record)
        staging.chmod(0o755)  # mkdtemp makes it private
        staging.rename(out)
    return FixedDataset(out, report, replace(copy, dataset=replace(copy.dataset, root=out)), record)


def _require_place(out: Path, root: Path) -> None:
    """Whether the copy has a place of its own."""
    there, source = out.resolve(), root.resolve()
    if source.is_relative_to(there):
        what = "is the source" if source == there else "contains the source"
    elif there.is_relative_to(source):
        what = "lies within the source"
    elif os.path.lexists(out):
        what = "exists already"
    else:
        return
    raise DatasetError(
        f"The corrected copy cannot be written to {show_place(out)}, which {what}. Expected the name of a new folder beside the source. "
        "Choose another one."
    )


def _fix_cases(rules: CaseRules, cases: Sequence[Case], staging: Path) -> list[FixedCase]:
    if not cases:
        raise DatasetError("No case is left once all of --exclude are left out. Expected one at least. Exclude fewer.")
    fixed = []
    with progress_bar("fix", len(cases)) as bar:
        for case in cases:
            fixed.append(fix_case(rules, case, staging))
            bar.advance(note=case.name)
    return fixed


# facts about the whole dataset


def _settle_facts(
    source: Dataset,
    rules: CaseRules,
    fixed: Sequence[FixedCase],
    table: dict[str, int] | None,
    options: ReadOptions,
) -> tuple[Dataset, list[Change]]:
    """The dataset that the copy is to be, and what was given for all cases together."""
    changes = []
    patients: Mapping[str, str] = {}
    if options.patient_pattern is not None:
        patients = choose_groups([case.name for case in source.cases], options.patient_pattern)
        before = {case.name: case.patient for case in source.cases if case.patient}
        changes.append(
            _settle("patients-named", "says not which cases are of one patient", _GIVEN, before or None, patients)
        )
    expected = keep_cases(source, [one.case for one in fixed], patients)
    if table is not None and table != source.labels:
        changes.append(
            _settle("labels-named", "has no names, or others, for its label values", _GIVEN, source.labels, table)
        )
        expected = replace(expected, labels=table)
    if rules.grey and source.channels and len(source.channels) == 3:
        expected = replace(expected, channels=(GREY,))
        changes.append(_settle("channels-named", "names three channels", "one is left", source.channels, (GREY,)))
    return expected, changes


def _settle(kind: str, wrong: str, done: str, before: Any, after: Any) -> Change:
    return Change(file="dataset", kind=kind, wrong=wrong, done=done, before=before, after=after)


# what is left


def _list_remaining(
    source: Dataset, copy: CheckReport, excluded: Excluded, reasons: Mapping[str, str]
) -> list[Remaining]:
    """Errors of the copy, and those of the source's folder that a list of cases does not show any more."""
    remaining = list(copy.errors)
    known = {(problem.code, problem.file) for problem in remaining}
    for problem in source.problems_of_layout:
        is_excluded = Path(problem.file) in excluded.files
        if problem.severity == ERROR and not is_excluded and (problem.code, problem.file) not in known:
            remaining.append(problem)
    of_masks = "; ".join(f"{file}: {reason}" for file, reason in list(reasons.items())[:3])
    return [
        Remaining(**vars(problem), reason=reasons.get(problem.file, of_masks if problem.file == LABEL_TABLE else ""))
        for problem in remaining
    ]
