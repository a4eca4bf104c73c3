"""Entries of a list in JSON, {"image": PATH or [PATH, ...], "label": PATH}, -> cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unet_pipeline.dataset.dataset import Case, case_name, image_suffix
from unet_pipeline.dataset.listed_paths import name_cases
from unet_pipeline.dataset.nnunet import EXTRA_CHANNEL, NO_CHANNEL
from unet_pipeline.dataset.paths import parse_path
from unet_pipeline.dataset.table_columns import SPLITS
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import Problem

_MOST_CHANNELS = 100


@dataclass(frozen=True)
class ListedCase:
    """One entry.

    Attributes:
        where: names it in messages.
        images: paths as they are written, and once placed relative to the dataset's root; "" for a channel that the case lacks.
        label: likewise.
        split: "train", "validation" or "test".
        named_after: the listed paths, where the files have other names.
    """

    where: str
    images: tuple[str, ...]
    label: str
    split: str = "train"
    named_after: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        return (*filter(None, self.images), self.label)

    def placed(self, root: Path) -> ListedCase:
        """The same with paths relative to the dataset's root.

        Raises:
            DatasetError: a path leads out of the dataset.
        """
        images, label = (
            tuple(text and parse_path(text, self.where, root).as_posix() for text in texts)
            for texts in (self.images, [self.label])
        )
        return replace(self, images=images, label=label[0])


def read_entries(listed: Sequence[object], key: str, name: str) -> list[ListedCase]:
    """The entries of a part of a list, all with image and label.

    Raises:
        DatasetError: one is of another form; names its number.
    """
    return [_read_entry(entry, f"{name}, {key} entry {number}", key) for number, entry in enumerate(listed)]


def read_extra_entries(listed: Sequence[object], key: str, name: str) -> list[ListedCase]:
    """The entries that have a label."""
    return [
        _read_entry(entry, f"{name}, {key} entry {number}", key)
        for number, entry in enumerate(listed)
        if isinstance(entry, dict) and entry.get("label")
    ]


def _read_entry(entry: object, where: str, key: str) -> ListedCase:
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
    images = ["" if path is None else path for path in image] if isinstance(image, list) else [image]
    if isinstance(label, list) and len(label) == 1:
        (label,) = label
    if not any(images) or not all(isinstance(path, str) for path in images) or not isinstance(label, str):
        raise DatasetError(
            f'{where}, is {entry!r}; expected {{"image": PATH, "label": PATH}}, with a list of paths for several channels. '
            "Complete the entry or remove it."
        )
    return ListedCase(where, tuple(map(str, images)), label, SPLITS[key])


def find_first_channels(
    root: Path, entries: Sequence[ListedCase], num_channels: int
) -> tuple[list[ListedCase], list[Problem]]:
    """Entries of nnU-Net's first version with the files of their channels: CASE.ext is listed, and CASE_0000.ext exists.

    Args:
        entries: placed.
        num_channels: that the list names; as many as the cases have when 0.

    Returns:
        The entries, and the problems of those without all of their channels.
    """
    files_of = {position: _find_numbered(root, entry) for position, entry in enumerate(entries)}
    wanted = num_channels or max((max(files, default=-1) + 1 for files in files_of.values()), default=0)
    kept, problems = [], []
    for position, entry in enumerate(entries):
        files = files_of[position]
        if not files:
            kept.append(entry)
            continue
        missing = [number for number in range(wanted) if number not in files]
        for number in missing:
            shown = files[min(files)].as_posix()
            expected = _number(Path(entry.images[0]), number).as_posix()
            problems.append(NO_CHANNEL.about(shown, channel=number, expected=expected))
        problems += [
            EXTRA_CHANNEL.about(path.as_posix(), channel=number, count=wanted, key="modality")
            for number, path in sorted(files.items())
            if number >= wanted
        ]
        paths = tuple(files[number].as_posix() if number in files else "" for number in range(wanted))
        kept.append(replace(entry, images=paths, named_after=entry.images))
    return kept, problems


def _find_numbered(root: Path, entry: ListedCase) -> dict[int, Path]:
    """The files of an entry's channels by their number; empty where the listed file itself exists."""
    path = Path(entry.images[0])
    if len(entry.images) > 1 or os.path.lexists(root / path):
        return {}
    numbered = {number: _number(path, number) for number in range(_MOST_CHANNELS)}
    return {number: file for number, file in numbered.items() if os.path.lexists(root / file)}


def _number(path: Path, number: int) -> Path:
    return path.with_name(f"{case_name(path)}_{number:04d}{image_suffix(path)}")


def name_listed(entries: Sequence[ListedCase], splits: Mapping[str, str]) -> tuple[Case, ...]:
    """Cases of placed entries; `splits` has the part of those that are not for training, by place in the list."""
    names = name_cases([[Path(path) for path in entry.named_after or entry.images if path] for entry in entries])
    cases = []
    for entry, name in zip(entries, names, strict=True):
        first, *others = (Path(path) for path in entry.images if path)
        missing = tuple(place for place, path in enumerate(entry.images) if not path)
        label, split = Path(entry.label), splits.get(entry.where)
        cases.append(Case(name, first, label, tuple(others), split=split, missing_channels=missing))
    return tuple(cases)
