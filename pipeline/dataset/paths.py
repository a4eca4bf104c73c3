"""Paths that a dataset's own lists name: inside the dataset, or refused."""

from __future__ import annotations

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


def find_names_that_differ_in_case(paths: list[Path]) -> list[Problem]:
    """Paths that one file system keeps apart and another does not."""
    first_of: dict[str, Path] = {}
    problems = []
    for path in sorted(set(paths)):
        first = first_of.setdefault(path.as_posix().casefold(), path)
        if first != path:
            problems.append(ONLY_CASE_DIFFERS.about(path.as_posix(), other=first.as_posix()))
    return problems
