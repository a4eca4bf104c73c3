"""Names of image files and of label files -> cases: which names belong together, and which channel or structure each is.

Several readings of the names are tried, the plainest first: equal names, names without words such as "seg" or "image", nnU-Net's channel
numbers, and one name followed by a channel or a structure. The reading that places most files is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from unet_pipeline.dataset.file_names import (
    MODALITIES,
    split_case,
    split_channel_number,
    split_image_word,
    strip_label_words,
)

_Split = Callable[[str], tuple[str, str]]
_Groups = Mapping[str, Mapping[str, str]]  # case -> channel or structure ("" for the only one) -> name of the file


@dataclass(frozen=True)
class Pairing:
    """How names belong together.

    Attributes:
        images: by case and channel; the channel "" is the only one.
        labels: by case and structure; the structure "" is a label map of all.
        lone_images: names without label, by the name that the case would have.
        lone_labels: likewise.
        is_loose: images are named as their label and a further word that differs from case to case.
    """

    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lone_images: Mapping[str, str] = field(default_factory=dict)
    lone_labels: Mapping[str, str] = field(default_factory=dict)
    is_loose: bool = False

    @property
    def num_placed(self) -> int:
        """Files that are in a case."""
        return sum(map(len, self.images.values())) + sum(map(len, self.labels.values()))


def pair_names(images: Sequence[str], labels: Sequence[str]) -> Pairing:
    """The reading of the names that places most of them; the plainest of several.

    Args:
        images: distinct names without their suffix.
        labels: likewise.
    """
    best = _join(_group(images, _whole), _group(labels, _whole)) or Pairing()
    for reading in _readings(images, labels):
        if best.num_placed == len(images) + len(labels):
            break
        if reading is not None and reading.num_placed > best.num_placed:
            best = reading
    return _spell(best)


def _readings(images: Sequence[str], labels: Sequence[str]) -> Iterator[Pairing | None]:
    for fold in (str, str.casefold):  # letter case decides only where nothing else pairs the files
        for label_split, image_split in product(
            (_whole, _label_words), (_whole, split_image_word, split_channel_number)
        ):
            yield _join(_group(images, image_split, fold), _group(labels, label_split, fold))
        for label_split in (_whole, _label_words):
            yield _read_channels(images, _group(labels, label_split, fold), fold)
        for image_split, label_split in product((_whole, split_image_word), (_whole, _label_words)):
            yield _read_structures(_group(images, image_split, fold), labels, label_split, fold)


def _spell(pairing: Pairing) -> Pairing:
    """The case names as the images write them, where letter case was left aside."""
    spelled = {}
    for case, parts in pairing.images.items():
        name = next(iter(parts.values()))
        start = name.casefold().find(case)
        spelled[case] = name[start : start + len(case)] if case not in name and start >= 0 else case
    images, labels = ({spelled[case]: files[case] for case in files} for files in (pairing.images, pairing.labels))
    return replace(pairing, images=images, labels=labels)


def _whole(name: str) -> tuple[str, str]:
    return name, ""


def _label_words(name: str) -> tuple[str, str]:
    return strip_label_words(name), ""


def _group(names: Iterable[str], split: _Split, fold: Callable[[str], str] = str) -> _Groups | None:
    """Names by case and channel; None when two names would be the same."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        case, part = split(name)
        parts = groups.setdefault(fold(case), {})
        if part in parts:
            return None
        parts[part] = name
    return groups


def _join(images: _Groups | None, labels: _Groups | None) -> Pairing | None:
    """Groups of one name on both sides."""
    if images is None or labels is None:
        return None
    both = images.keys() & labels.keys()
    return Pairing(
        {case: images[case] for case in both},
        {case: labels[case] for case in both},
        {name: case for case in images.keys() - both for name in images[case].values()},
        {name: case for case in labels.keys() - both for name in labels[case].values()},
    )


def _read_channels(images: Sequence[str], labels: _Groups | None, fold: Callable[[str], str]) -> Pairing | None:
    """Images named as their label and a channel."""
    if labels is None:
        return None
    placed = _place(images, labels, _whole, fold)
    if placed is None:
        return None
    words = set().union(*placed.values())
    is_loose = len(words) > 1 and all(len(files) == 1 for files in placed.values())
    if is_loose and not {word.lower() for word in words} & MODALITIES:
        placed = {case: {"": next(iter(files.values()))} for case, files in placed.items()}
    joined = _join(placed, labels)
    return joined and replace(_with_lone_images(joined, images, fold), is_loose=is_loose)


def _read_structures(
    images: _Groups | None, labels: Sequence[str], split: _Split, fold: Callable[[str], str]
) -> Pairing | None:
    """Label files named as their image and a structure, or all with one further word."""
    if images is None:
        return None
    placed = _place(labels, images, split, fold, strip_label_words)
    if placed is None:
        return None
    words = set().union(*placed.values())
    if len(words) == 1:
        placed = {case: {"": next(iter(files.values()))} for case, files in placed.items()}
    elif all(len(files) == 1 for files in placed.values()):
        return None  # one file per case, each with another word: a date or a name rather than a structure
    joined = _join(images, placed)
    return joined and _with_lone_labels(joined, labels, split, fold)


def _place(
    names: Sequence[str],
    cases: _Groups,
    split: _Split,
    fold: Callable[[str], str],
    clean: Callable[[str], str] = str,
) -> _Groups | None:
    """Names that begin or end with the name of a case; None when one is the case's name itself, which is another reading."""
    placed: dict[str, dict[str, str]] = {}
    for name in names:
        case_and_part = split_case(fold(split(name)[0]), cases.keys())
        if case_and_part is None:
            continue
        case, part = case_and_part[0], clean(case_and_part[1])
        if not part or part in placed.setdefault(case, {}):
            return None
        placed[case][part] = name
    return placed or None


def _with_lone_images(pairing: Pairing, names: Sequence[str], fold: Callable[[str], str]) -> Pairing:
    paired = {name for files in pairing.images.values() for name in files.values()}
    lone = {name: fold(name) for name in names if name not in paired}
    return replace(pairing, lone_images=lone)


def _with_lone_labels(pairing: Pairing, names: Sequence[str], split: _Split, fold: Callable[[str], str]) -> Pairing:
    paired = {name for files in pairing.labels.values() for name in files.values()}
    lone = {name: fold(split(name)[0]) for name in names if name not in paired}
    return replace(pairing, lone_labels=lone)
