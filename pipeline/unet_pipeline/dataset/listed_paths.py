"""Where the paths of a list start from, and what its cases are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from unet_pipeline.dataset.dataset import case_name
from unet_pipeline.dataset.file_names import remove_common_start, split_image_word
from unet_pipeline.messages import ERROR, NOTE, Message, Problem

_MOST_LEVELS = 3  # a list in lists/ or splits/fold_0/ below the data

DATA_ROOT = Message(
    "data-root",
    NOTE,
    "lists paths that start from the folder {folder}/, not from its own",
    "Say with --data-root where they start, if that is wrong.",
)

DATA_ROOT_UNKNOWN = Message(
    "data-root-unknown",
    ERROR,
    "lists {path}, which exists neither in its own folder nor in those near it",
    "Say with --data-root which folder the paths start from, or correct the list.",
)


def describe_place(
    name: str, folder: Path, place: Path, data_root: Path | None, images: Iterable[Path]
) -> list[Problem]:
    """What is to be said about the folder that the paths of a list start from.

    Args:
        place: where the paths start.
        data_root: the same, if the user said so.
        images: relative to `place`.
    """
    listed = list(images)
    if listed and not any(os.path.lexists(place / path) for path in listed):
        return [DATA_ROOT_UNKNOWN.about(name, path=listed[0].as_posix())]
    if place != folder and data_root is None:
        return [DATA_ROOT.about(name, folder=place.resolve().name)]
    return []


def find_data_root(folder: Path, texts: Sequence[str], exists: tuple[str, ...] = ("",)) -> Path:
    """The folder that the paths of a list start from: its own, the nearest around it or the first within it where the first path exists.

    Args:
        texts: all paths, as the list writes them.
        exists: endings of the stem under which a file may exist, such as "_0000" of nnU-Net's first channel.

    Returns:
        For paths that are all absolute and none of them within `folder`, the folder that holds all; `folder` where no path exists.
    """
    paths = [text.strip().replace("\\", "/") for text in texts if text.strip()]
    if not paths:
        return folder
    if all(PurePosixPath(path).is_absolute() for path in paths):
        return _find_common_folder(folder, paths)
    first = PurePosixPath(paths[0])
    if first.is_absolute() or ".." in first.parts:
        return folder
    around = [folder, *list(folder.resolve().parents)[:_MOST_LEVELS]]
    within = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for place in (*around, *within):
        named = place / first
        stem = case_name(named)
        if any(os.path.lexists(named.with_name(stem + end + named.name[len(stem) :])) for end in exists):
            return place
    return folder


def _find_common_folder(folder: Path, paths: Sequence[str]) -> Path:
    inside = (str(folder), str(folder.resolve()), str(folder.absolute()))
    if any(PurePosixPath(path).is_relative_to(place) for path in paths for place in inside):
        return folder
    common = Path(os.path.commonpath([str(PurePosixPath(path).parent) for path in paths]))
    exist = all(os.path.lexists(path) for path in paths[:2])
    return common if exist and len(common.parts) > 1 and common.is_dir() else folder


def name_cases(images: Sequence[Sequence[Path]]) -> list[str]:
    """A name per case: the stem of its file, what the files of its channels have in common, or the name of its own folder.

    The stem is taken where all stems differ, and the folder where all of those do.
    """
    stems = [_name_of(paths) for paths in images]
    if len(set(stems)) == len(stems):
        return stems
    folders = [paths[0].parent.name for paths in images]
    return folders if len(set(folders)) == len(folders) and all(folders) else stems


def _name_of(paths: Sequence[Path]) -> str:
    stems = [case_name(path) for path in paths]
    rest = remove_common_start(stems)[stems[0]]
    common = stems[0][: len(stems[0]) - len(rest)].rstrip("-_. ")
    return common or (stems[0] if len(stems) == 1 else split_image_word(stems[0])[0])
