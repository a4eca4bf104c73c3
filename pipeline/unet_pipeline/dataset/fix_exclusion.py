"""Which cases and files a corrected copy leaves out: what an error of `check` is about and the user lists, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.fix_record import Change, hash_source
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.errors import DatasetError, suggest
from unet_pipeline.messages import Problem


@dataclass(frozen=True)
class Excluded:
    """What is left out.

    Attributes:
        cases: names.
        files: all files of these cases, and single files, relative to the dataset.
        changes: for the list of changes.
    """

    cases: set[str]
    files: set[Path]
    changes: list[Change]

    def keep(self, cases: Sequence[Case]) -> list[Case]:
        """The other cases."""
        return [case for case in cases if case.name not in self.cases]


def choose_excluded(report: CheckReport, source: Dataset, listed: Sequence[str]) -> Excluded:
    """What `--exclude` lists, once it is sure that an error is about each of it.

    Args:
        source: with its cases.
        listed: names of cases, or files as the report shows them.

    Raises:
        DatasetError: a name that is neither, or of which the report says nothing as an error.
    """
    names: set[str] = set()
    left_out: set[Path] = set()
    changes: list[Change] = []
    for text in dict.fromkeys(listed):
        case = _find_case(source, text)
        files = [Path(text)] if case is None else [*case.files, *_list_instances(source.root, case)]
        if case is None and not any(problem.file == text for problem in report.errors):
            known = [one.name for one in source.cases] + [problem.file for problem in report.errors]
            raise DatasetError(
                f"--exclude has {text!r}, which is neither a case nor a file that an error names; {suggest(text, known)}. "
                "`check` shows both."
            )
        problems = [problem for problem in report.errors if _is_about(problem, text, files)]
        if not problems:
            raise DatasetError(
                f"--exclude has {text!r}, and `check` finds no error in it. Expected cases with errors only. Leave it out of --exclude, or "
                "remove the case from the dataset yourself."
            )
        if case is not None:
            names.add(case.name)
        left_out.update(files)
        cause = "; ".join(f"{problem.file} {problem.cause}" for problem in problems)
        changes += [_describe(source.root, path, cause) for path in files]
    return Excluded(names, left_out, changes)


def _find_case(source: Dataset, text: str) -> Case | None:
    """The case of that name, or with that file."""
    by_name = next((case for case in source.cases if case.name == text), None)
    return by_name or next((case for case in source.cases if Path(text) in case.files), None)


def _list_instances(root: Path, case: Case) -> list[Path]:
    instances = None if case.label is None else find_instances(root / case.label)
    return [] if instances is None else [instances.relative_to(root)]


def _is_about(problem: Problem, text: str, files: Sequence[Path]) -> bool:
    """Whether an error names a case or one of its files, as the file or as the other one of two."""
    names = [text, *(path.as_posix() for path in files)]
    return problem.file in names or any(
        re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-])", problem.cause) for name in names
    )


def _describe(root: Path, path: Path, cause: str) -> Change:
    return Change(
        file=path.as_posix(),
        kind="excluded",
        wrong=cause,
        done="left out, as listed",
        source_sha256=hash_source(root / path),
    )
