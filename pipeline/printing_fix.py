"""What `check --fix` prints: what was changed in the copy, and what is left to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.printing import list_problems, say, show_path

if TYPE_CHECKING:
    from pipeline.dataset.fix import FixedDataset
    from pipeline.dataset.fix_record import Change

_MAX_FILES = 5  # of one kind that are named; fixes.json has all


def print_fixes(fixed: FixedDataset) -> None:
    """The copy, its changes by kind, what they ask to look at, and the errors that are left with their remedies."""
    from pipeline.dataset.fix_record import FIXES_FILE, KINDS

    shown = show_path(fixed.out)
    say(f"corrected copy  {shown}")
    changes = fixed.record.changes
    for kind, words in KINDS.items():
        if alike := [change for change in changes if change.kind == kind]:
            say(f"  {words}: {_list_files(alike)}")
    if not changes:
        say("  nothing had to be changed; all files were copied as they are")
    say(f"  every change with its values: {show_path(fixed.out / FIXES_FILE)}")
    if left_out := fixed.record.left_out:
        say(f"  not copied (links that lead elsewhere, or no readable files): {_shorten(left_out)}")
    if any(change.kind in ("header-copied", "label-resampled") for change in changes):
        say(f"  see that the outlines fit the images: unet-pipeline check {shown} --out {Path(shown).name}_report")
    if fixed.record.not_fixed:
        say("not corrected")
        _print_remaining(fixed)


def _print_remaining(fixed: FixedDataset) -> None:
    from pipeline.dataset.problems import Problem

    problems = [
        Problem(one.severity, one.file, f"{one.cause}{f' ({one.reason})' if one.reason else ''}", one.remedy, one.code)
        for one in fixed.record.not_fixed
    ]
    for line in list_problems(problems):
        say(f"  {line}")


def _list_files(changes: list[Change]) -> str:
    """The files of changes of one kind; of names their values."""
    if changes[0].kind == "labels-named":
        return ", ".join(f"{name}={value}" for name, value in changes[0].after.items())
    if changes[0].kind == "patients-named":
        return f"{len(set(changes[0].after.values()))} with {len(changes[0].after)} cases"
    if changes[0].kind == "channels-named":
        return ", ".join(changes[0].after)
    return _shorten(
        [change.result or change.file if change.kind == "list-written" else change.file for change in changes]
    )


def _shorten(files: list[str]) -> str:
    more = len(files) - _MAX_FILES
    return ", ".join(files[:_MAX_FILES]) + (f" and {more} more" if more > 0 else "")
