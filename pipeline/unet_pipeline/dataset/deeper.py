"""Looks for a dataset, or for images, in the folders below the one that was named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from unet_pipeline.errors import DatasetError

_MAX_DEPTH = 3
_MAX_FOLDERS = 60  # that are looked into: somebody may name the root of a disk
_MAX_SHOWN = 3


def suggest_deeper(root: Path, is_meant: Callable[[Path], bool]) -> str:
    """Sentence about the nearest folders below `root` that may have been meant; empty where there is none.

    Args:
        root: the folder that was named.
        is_meant: whether a folder is one that can be read.
    """
    folders, num_seen = [root], 0
    for _ in range(_MAX_DEPTH):
        folders = [child for folder in folders for child in _list_folders(folder)][: _MAX_FOLDERS - num_seen]
        num_seen += len(folders)
        meant = [folder for folder in folders if _holds(folder, is_meant)]
        if meant:
            shown = ", ".join(map(str, meant[:_MAX_SHOWN])) + (" and others" if len(meant) > _MAX_SHOWN else "")
            return f"It lies deeper: give {shown}." if len(meant) == 1 else f"They lie deeper: give one of {shown}."
    return ""


def _list_folders(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _holds(folder: Path, is_meant: Callable[[Path], bool]) -> bool:
    with suppress(OSError, DatasetError):
        return is_meant(folder)
    return False
