"""Every file of a folder, copied byte for byte, but for those that others stand for or that are left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.dataset.paths import LEAVES
from unet_pipeline.files import write_atomically
from unet_pipeline.progress import progress_bar

_CHUNK_BYTES = 1 << 20


def copy_files(source: Dataset, target: Path, without: set[Path]) -> list[str]:
    """Copy the files of a dataset's folder, and what its cases name, below `target`.

    Links within the folder become the files that they lead to. Those that lead out of it are left out, but for files of cases that `check`
    takes.

    Args:
        source: its folder is read only.
        target: a folder that has what stands for the files of `without`.
        without: images as cases name them, relative to the root; their further files, such as slices, are left out too.

    Returns:
        Files that are not in the copy: links that lead elsewhere, what is no regular file, and files that cannot be read. Hidden files are
        not copied either.

    Raises:
        OSError: a file cannot be written.
    """
    dropped = {file for path in without for file in list_image_files(source.root / path)}
    wanted = [file for case in source.cases for path in case.files for file in list_image_files(source.root / path)]
    files = {file: None for file in [*wanted, *_iterate_files(source.root)] if file not in dropped}
    refused = {source.root / problem.file for problem in source.problems_of_layout if problem.code == LEAVES.code}
    copied = {file for file in wanted if not refused & {file, *file.parents}}
    left_out = []
    with progress_bar("copy", len(files)) as bar:
        for file in files:
            shown = file.relative_to(source.root)
            if (file not in copied and _leads_out(file, source.root)) or not _copy(file, target / shown):
                left_out.append(shown.as_posix())
            bar.advance(note=shown.as_posix())
    return sorted(left_out)


def _iterate_files(root: Path) -> Iterator[Path]:
    """Files of a folder and those below it, in order; neither hidden ones nor those behind links to folders."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _leads_out(file: Path, root: Path) -> bool:
    try:
        return not Path(os.path.realpath(file)).is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link that leads to itself
        return True


def _copy(file: Path, target: Path) -> bool:
    """Copy one file; False where there is none that can be read."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        stream = file.open("rb")
    except OSError:
        return False
    with stream, write_atomically(target) as partial, partial.open("wb") as copy:
        while chunk := stream.read(_CHUNK_BYTES):
            copy.write(chunk)
    return True
