"""Paths that a dataset's own lists name: inside the dataset, or refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.dataset.problems import ERROR, Message, Problem
from pipeline.errors import DatasetError

LEAVES = Message(
    "path-leaves-dataset",
    ERROR,
    "is a link that leads out of the dataset, to {target}",
    "Copy the file into the dataset.",
)
ONLY_CASE_DIFFERS = Message(
    "names-differ-in-case",
    ERROR,
    "differs from {other} in upper and lower case only, which many file systems take for one name",
    "Rename one of them.",
)
ONLY_UNICODE_DIFFERS = Message(
    "names-differ-in-unicode",
    ERROR,
    "differs from {other} only in how Unicode writes its letters (composed or decomposed), and looks the same",
    "Rename one of them.",
)


def parse_path(text: str, where: str) -> Path:
    """A relative path of a list.

    Raises:
        DatasetError: it is empty, absolute, or leads upwards; names `where` it stands.
    """
    path = PurePosixPath(text.strip().replace("\\", "/"))
    is_drive = len(text) > 1 and text[1] == ":"
    if not text.strip() or "\0" in text or path.is_absolute() or is_drive or ".." in path.parts:
        raise DatasetError(f"{where}, leads out of the dataset: {text!r}. Expected paths inside the folder.")
    return Path(path)


def find_links_outside(root: Path, paths: list[Path]) -> list[Problem]:
    """Files, relative to `root`, that are links to somewhere else."""
    inside = root.resolve()
    problems = []
    for path in paths:
        target = (root / path).resolve()
        if not target.is_relative_to(inside):
            problems.append(LEAVES.about(path.as_posix(), target=target.name))
    return problems


def find_names_that_look_alike(paths: list[Path], cases: Iterable[str]) -> list[Problem]:
    """Paths, and names of cases, that differ in case or in the form of Unicode only: some file systems take both for one."""
    problems = _find_alike(sorted({path.as_posix() for path in paths}))
    named = {Path(problem.file).name for problem in problems}
    return problems + [problem for problem in _find_alike(sorted(set(cases))) if not _names(named, problem.file)]


def _find_alike(names: list[str]) -> list[Problem]:
    first_of: dict[str, str] = {}
    problems = []
    for name in names:
        composed = unicodedata.normalize("NFC", name)
        first = first_of.setdefault(unicodedata.normalize("NFC", composed.casefold()), name)
        if first != name:
            same = unicodedata.normalize("NFC", first) == composed
            problems.append((ONLY_UNICODE_DIFFERS if same else ONLY_CASE_DIFFERS).about(name, other=first))
    return problems


def _names(files: set[str], case: str) -> bool:
    """Whether a case is one of the files that are complained about already."""
    return any(file.startswith(case) for file in files)
