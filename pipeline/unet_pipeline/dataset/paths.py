"""Paths that a dataset's own lists name, inside the dataset or refused; and links, which may lead anywhere or nowhere."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, Message, Problem

LEAVES = Message(
    "path-leaves-dataset",
    ERROR,
    "is a link that leads out of the dataset, to {target}",
    "Follow such links with --follow-links, or copy the file into the dataset.",
)
LINK_BROKEN = Message(
    "link-broken",
    ERROR,
    "is a link to {target}, which does not exist",
    "Fetch the file, with `git annex get`, `datalad get` or `dvc pull` where one of these manages the data, or correct the link.",
)
LINK_LOOP = Message("link-loop", ERROR, "is a link that leads back to itself", "Correct or remove the link.")
NOT_FETCHED = Message(
    "not-fetched", ERROR, "is a pointer of {tool}, not the image itself", "Fetch the images with `{command}`."
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
NO_FILE = Message(
    "no-file",
    ERROR,
    "is {what}; expected a file",
    "Put the file in its place, or remove or rename what has its name.",
)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MOST_POINTER_BYTES = 32768  # git-annex's own limit
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
}


def parse_path(text: str, where: str, root: Path) -> Path:
    """A path of a list, relative to the dataset; separators may be those of Windows.

    An absolute path is taken where it lies inside the dataset, or inside a folder of the dataset's name from where it was moved here.

    Raises:
        DatasetError: it is empty, or leads out of the dataset; names `where` it stands.
    """
    plain = text.strip().replace("\\", "/")
    relative = None if "\0" in plain else _relate(plain, root) if _is_absolute(plain) else posixpath.normpath(plain)
    if not plain or "\0" in plain or relative is None or relative == ".." or relative.startswith("../"):
        raise DatasetError(f"{where}, leads out of the dataset: {text!r}. Expected paths inside the folder.")
    return Path(relative)


def _is_absolute(plain: str) -> bool:
    return PurePosixPath(plain).is_absolute() or bool(PureWindowsPath(plain).drive)


def _relate(plain: str, root: Path) -> str | None:
    """An absolute path from the dataset's root; None where it leads elsewhere."""
    path = PurePosixPath(posixpath.normpath(plain))
    for place in (root.absolute(), root.resolve()):
        if path.is_relative_to(place.as_posix()):
            return path.relative_to(place.as_posix()).as_posix()
    name = root.resolve().name
    for at in [at for at, part in enumerate(path.parts) if part == name][::-1]:
        moved = PurePosixPath(*path.parts[at + 1 :])
        if moved.parts and os.path.lexists(root / moved):
            return moved.as_posix()
    return None


def find_links(root: Path, paths: Iterable[Path], follow: bool) -> list[Problem]:
    """Problems of files, relative to `root`, that are links or lie behind one: broken, in a circle, or leading out of the dataset.

    Args:
        paths: files, and folders of DICOM series.
        follow: links may lead out of the dataset.
    """
    inside = Path(os.path.realpath(root))
    problems = []
    for path in paths:
        for file in _list_files(root, path):
            problem = find_dead_end(root / file, file.as_posix())
            target = Path(os.path.realpath(root / file))
            if problem is None and not follow and not target.is_relative_to(inside):
                problem = LEAVES.about(file.as_posix(), target=target.name)
            problems += [problem] if problem else []
    return problems


def find_dead_end(path: Path, shown: str) -> Problem | None:
    """The problem of a link that leads nowhere; None for a file, and for one that does not exist and is no link."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return LINK_LOOP.about(shown)
        if path.is_symlink():
            return LINK_BROKEN.about(shown, target=path.readlink().name)
    return None


def name_kind(path: Path) -> str:
    """What stands in the place of a file, such as "a pipe"; "" for a file, or nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return next((what for is_kind, what in _KINDS if is_kind(mode)), "")


def require_file(path: Path, shown: str) -> None:
    """Whether a description of a dataset is a file, or is not there at all: it is never passed over for another reason.

    Raises:
        ImageFileError: it is a folder, a pipe, a socket, a device, or a link that leads nowhere.
    """
    if problem := find_dead_end(path, shown):
        raise problem.as_error()
    if what := name_kind(path):
        raise NO_FILE.error(shown, what=what)


def require_fetched(path: Path, shown: str) -> None:
    """Whether a file holds an image rather than the note that stands for one.

    Raises:
        ImageFileError: it is a pointer of Git LFS or git-annex, whose content has not been fetched.
    """
    try:
        if path.stat().st_size > _MOST_POINTER_BYTES:
            return
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError:
        return  # said where it is read
    for begin, (tool, command) in _POINTERS.items():
        if start.startswith(begin):
            raise NOT_FETCHED.error(shown, tool=tool, command=command)


def _list_files(root: Path, path: Path) -> list[Path]:
    """The path itself, and the files of a folder."""
    if not (root / path).is_dir():
        return [path]
    return [path, *(file.relative_to(root) for file in sorted((root / path).iterdir()) if file.is_symlink())]


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
