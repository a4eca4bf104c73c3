"""What is decided for all cases of a dataset together, before a corrected copy is written: masks, their values, grey images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unet_pipeline.dataset.case_check import TOO_MANY_VALUES
from unet_pipeline.dataset.check import LABEL_TABLE, TABLE_GAPS, TABLE_SPARSE, TABLE_UNUSABLE, UNDECLARED, CheckReport
from unet_pipeline.dataset.dataset import Case, image_suffix
from unet_pipeline.dataset.fix_images import find_grey_cases
from unet_pipeline.dataset.fix_masks import (
    SMOOTHED_CODES,
    THIRD_VALUE,
    choose_value,
    choose_white,
    find_reason_against_threshold,
    find_white,
    read_grey_mask,
)
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import Problem
from unet_pipeline.types import BACKGROUND

_MASK_CODES = (*SMOOTHED_CODES, TOO_MANY_VALUES.code, UNDECLARED.code)
_TABLE_CODES = (TABLE_GAPS.code, TABLE_SPARSE.code, TABLE_UNUSABLE.code)
_JPEG = (".jpg", ".jpeg")
_OF_ONE_STRUCTURE = {BACKGROUND: 0, "inside": 1}  # whatever the structures' own values in the joined label map


@dataclass(frozen=True)
class MaskRules:
    """How masks are thresholded.

    Attributes:
        wrong: what is wrong with each mask that may be thresholded, by its path.
        white: the value inside; 0 without a mask.
        value: the label value that the inside gets.
        reasons: why a label map is not thresholded, by its path.
    """

    wrong: Mapping[Path, str] = field(default_factory=dict)
    white: float = 0
    value: int = 0
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseRules:
    """What is decided for all cases.

    Attributes:
        root: of the source.
        options: how its files are to be read.
        masks: which label maps get two values.
        grey: names of the cases whose image is grey saved as colours.
    """

    root: Path
    options: ReadOptions
    masks: MaskRules
    grey: set[str]


def settle_rules(
    root: Path, cases: Sequence[Case], report: CheckReport, declared: dict[str, int] | None, options: ReadOptions
) -> CaseRules:
    """The rules for all cases that are kept.

    Args:
        cases: those that are kept.
        declared: the label table that the layout or the user gives.
        options: how the files are to be read.
    """
    if any(case.masks is not None for case in cases):
        declared = _OF_ONE_STRUCTURE
    masks = _settle_masks(root, _find_masks(cases, report.problems), report, declared, options)
    return CaseRules(root, options, masks, find_grey_cases(root, cases, options))


def _find_masks(cases: Sequence[Case], problems: Sequence[Problem]) -> dict[Path, str]:
    """Label files with values that a mask of two values does not have, and what `check` says about them."""
    of_file = {problem.file: problem.cause for problem in problems if problem.code in _MASK_CODES}
    of_table = next((f"{LABEL_TABLE} {problem.cause}" for problem in problems if problem.code in _TABLE_CODES), "")
    masks = {}
    for case in cases:
        for path in case.label_files:
            if wrong := of_file.get(path.as_posix(), of_table):
                masks[path] = wrong
    return masks


def _settle_masks(
    root: Path, wrong_masks: dict[Path, str], report: CheckReport, declared: dict[str, int] | None, options: ReadOptions
) -> MaskRules:
    known = declared or _find_clean_table(report)
    if known is not None and len(known) > 2:
        told = "the label table has" if declared else "the other label maps have"
        return MaskRules(reasons=_refuse(wrong_masks, f"a threshold gives two values, and {told} {len(known)}"))
    whites, reasons = [], {}
    for path in wrong_masks:
        try:
            whites.append(find_white(read_grey_mask(root / path, path.as_posix(), options.pages_as_slices).array))
        except ImageFileError as error:
            reasons[path.as_posix()] = f"a threshold would not be safe: it {error.cause}"
    masks = {path: wrong for path, wrong in wrong_masks.items() if path.as_posix() not in reasons}
    white = choose_white(whites, max(known.values()) if known else None)
    if white is None:
        return MaskRules(reasons=reasons)
    value = choose_value(white, declared)
    if value is None:
        expected = "at most 255" if declared is None else f"{max(declared.values())}, as the label table says"
        return MaskRules(reasons=_refuse(masks, f"its inside has the value {white:g}; expected {expected}") | reasons)
    for path in masks:
        mask = read_grey_mask(root / path, path.as_posix(), options.pages_as_slices)
        if reason := find_reason_against_threshold(mask.array, white, image_suffix(path) in _JPEG):
            reasons[path.as_posix()] = f"a threshold would not be safe: {reason}"
    if declared is None and (third := next((file for file, why in reasons.items() if THIRD_VALUE in why), "")):
        # where one label map has three values, the same values of another one may be smoothed borders of any two of them
        why = f"a threshold would not be safe: {third} has a third value; name the two values with --label if the others have two"
        reasons = _refuse(masks, why) | reasons
    return MaskRules(
        {path: wrong for path, wrong in masks.items() if path.as_posix() not in reasons}, white, value, reasons
    )


def _find_clean_table(report: CheckReport) -> dict[str, int] | None:
    """The label values of the files that nothing is wrong with; None where that is not known."""
    if any(problem.code in (*_TABLE_CODES, TOO_MANY_VALUES.code) for problem in report.problems):
        return None
    return report.dataset.labels


def _refuse(masks: Mapping[Path, str], why: str) -> dict[str, str]:
    return {path.as_posix(): why for path in masks}
